"""Where bytes come from in tests of the engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import wire

from carboy.streams import Ending


class SlowSource:
    """A client that gives a piece when told to, and otherwise says nothing until it is stopped."""

    def __init__(self, length: int | None) -> None:
        self.ended: Ending = "open"
        self.remaining = length
        self.asked = threading.Semaphore(0)
        self._pieces: list[bytes | None] = []
        self._more = threading.Condition()

    def say(self, data: bytes | None) -> None:
        """The next piece; None ends the body."""
        with self._more:
            self._pieces.append(data)
            self._more.notify_all()

    def lend(self) -> Iterator[memoryview]:
        while True:
            self.asked.release()
            with self._more:
                assert self._more.wait_for(lambda: self._pieces or self.ended != "open", wire.LIMIT)
                if not self._pieces:
                    return
                data = self._pieces.pop(0)
            if data is None:
                self.ended = "complete"
                return
            if self.remaining is not None:
                self.remaining -= len(data)
            yield memoryview(data)

    def give(self) -> Iterator[bytes]:
        return map(bytes, self.lend())

    def stop(self) -> None:
        with self._more:
            self.ended = "stopped"
            self._more.notify_all()

    def wait_until_asked(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.asked.acquire(timeout=wire.LIMIT)
