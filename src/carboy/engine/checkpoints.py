"""Flushing what came of a long body while it is still coming, off the reading thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future

_LEAST = 2**20
_PATIENCE = 10.0


class Checkpoints:
    """Runs a job in the background after ``every_bytes``, or after ``every_seconds`` if at least 1 MiB came, or after
    10 seconds; never two at once. A job's error comes out of the next :meth:`tick` or of :meth:`settle`.

    ``begin`` runs on the reading thread and gives the job.
    """

    def __init__(self, executor: Executor, begin: Callable[[], Callable[[], object]], *, every_bytes: int,
                 every_seconds: float) -> None:
        self._executor = executor
        self._begin = begin
        self._every_bytes = every_bytes
        self._every_seconds = every_seconds
        self._at = 0
        self._when = time.monotonic()
        self._running: Future[object] | None = None

    def tick(self, received: int) -> None:
        """Called after each piece with the bytes received so far."""
        if not self._due(received - self._at, time.monotonic() - self._when):
            return
        if self._running:
            if not self._running.done():
                return
            self._running.result()
        self._at, self._when = received, time.monotonic()
        self._running = self._executor.submit(self._begin())

    def settle(self) -> None:
        """Wait for the job that runs. Raises what it raised."""
        if self._running:
            running, self._running = self._running, None
            running.result()

    def _due(self, size: int, seconds: float) -> bool:
        return (size >= self._every_bytes or (size >= _LEAST and seconds >= self._every_seconds)
                or (size > 0 and seconds >= max(_PATIENCE, self._every_seconds)))
