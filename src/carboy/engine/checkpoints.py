"""Flushing what came of a long body while it is still coming, off the reading thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future

_LEAST = 2**20
_PATIENCE = 10.0


class Checkpoints:
    """Runs ``save`` in the background after ``every_bytes``, or after ``every_seconds`` if at least 1 MiB came, or after
    10 seconds; never two at once. An error of ``save`` comes out of the next :meth:`tick` or of :meth:`settle`.

    ``prepare`` runs on the reading thread and gives the argument of ``save``.
    """

    def __init__(self, executor: Executor, prepare: Callable[[], object], save: Callable[[object], None], *,
                 every_bytes: int, every_seconds: float) -> None:
        self._executor = executor
        self._prepare = prepare
        self._save = save
        self._every_bytes = every_bytes
        self._every_seconds = every_seconds
        self._at = 0
        self._when = time.monotonic()
        self._running: Future[None] | None = None

    def tick(self, received: int) -> None:
        """Called after each piece with the bytes received so far."""
        fresh = received - self._at
        if fresh < _LEAST and time.monotonic() - self._when < _PATIENCE:
            return
        if fresh < self._every_bytes and time.monotonic() - self._when < self._every_seconds:
            return
        if self._running:
            if not self._running.done():
                return
            self._running.result()
        self._at, self._when = received, time.monotonic()
        self._running = self._executor.submit(self._save, self._prepare())

    def settle(self) -> None:
        """Wait for the one that runs. Raises what it raised."""
        if self._running:
            self._running.result()
            self._running = None
