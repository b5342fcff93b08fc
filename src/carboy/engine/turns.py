"""Who may write: a second request for bytes that another is writing asks the first to let go, and takes over.

The storage's range locks decide, between processes too; this only keeps the sources of this process, so that the one in the
way can be told to stop, by this process or, through :mod:`carboy.engine.asks`, by another. It then flushes, records and lets go.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from carboy.engine.asks import Asks
from carboy.errors import RangeBusy
from carboy.model import Key
from carboy.streams import Source

W = TypeVar("W")

_AGAIN = 0.25
"""Seconds after which the other processes are asked again: who was asked may not have had its turn yet."""


_FIRST_PAUSE, _LAST_PAUSE = 0.02, 0.2
"""Seconds between attempts: one may cost a transaction."""


@dataclass(eq=False, slots=True)
class _Turn:
    key: Key
    start: int
    end: int | None
    source: Source

    def overlaps(self, start: int, end: int | None) -> bool:
        return (end is None or self.start < end) and (self.end is None or start < self.end)


class Turns:
    """The writers of this process. Thread-safe."""

    def __init__(self, others: Asks | None = None, patience: float = 5.0) -> None:
        self._others = others
        self._patience = patience
        self._turns: set[_Turn] = set()
        self._changed = threading.Condition()

    @contextmanager
    def take(self, key: Key, start: int, end: int | None, source: Source,
             lock: Callable[[], AbstractContextManager[W]]) -> Iterator[W]:
        """Hold what ``lock()`` gives for the block, having asked those in the way to stop. Raises RangeBusy if they
        have not let go within the patience."""
        turn = _Turn(key, start, end, source)
        if self._others:
            self._others.listen(self.stop_here)
        with self._locked(turn, lock) as held:
            with self._changed:
                self._turns.add(turn)
            try:
                yield held
            finally:
                with self._changed:
                    self._turns.discard(turn)
        with self._changed:
            self._changed.notify_all()

    def stop(self, key: Key) -> None:
        """Ask every writer of the key to end, those of other processes too."""
        self.stop_here(key, 0, None)
        if self._others:
            self._others.ask(key, 0, None)

    def stop_all(self) -> None:
        """Ask every writer to end: the process is about to."""
        with self._changed:
            for turn in self._turns:
                turn.source.stop()

    def close(self) -> None:
        """Be asked by other processes no more. Repeatable; the next writer is heard again."""
        if self._others:
            self._others.close()

    @contextmanager
    def _locked(self, turn: _Turn, lock: Callable[[], AbstractContextManager[W]]) -> Iterator[W]:
        deadline = time.monotonic() + self._patience
        asked, pause = float("-inf"), _FIRST_PAUSE
        while True:
            manager = lock()
            try:
                held = manager.__enter__()
                break
            except RangeBusy:
                now = time.monotonic()
                if now > deadline:
                    raise
                if self._others and now > asked + _AGAIN:
                    asked = now
                    self._others.ask(turn.key, turn.start, turn.end)
                self.stop_here(turn.key, turn.start, turn.end)
                with self._changed:
                    self._changed.wait(pause)
                pause = min(_LAST_PAUSE, 1.5 * pause)
        try:
            yield held
        finally:
            manager.__exit__(None, None, None)

    def stop_here(self, key: Key, start: int, end: int | None) -> None:
        """Ask the writers of this process that are in the way to end."""
        with self._changed:
            for turn in self._turns:
                if turn.key == key and turn.overlaps(start, end):
                    turn.source.stop()
