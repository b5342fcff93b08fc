"""How those who run jobs on this machine learn at once that there is one. Who hears nothing looks from time to time."""

from __future__ import annotations

import threading
from pathlib import Path

from carboy.engine.asks import Asks
from carboy.model import Key


class Wakes:
    """A bell that any process on the data folder rings, and any hears. Thread-safe; nothing waits for anybody."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._asks = Asks(folder)
        self._rung = threading.Event()

    def ring(self) -> None:
        """For this process alone."""
        self._rung.set()

    def wake(self) -> None:
        """For all, this process too."""
        self.ring()
        if self._folder.is_dir():
            self._asks.ask(Key(""), 0, None)

    def wait(self, seconds: float) -> bool:
        """Until somebody rings, or has rung since the last time; no longer than so many seconds. Whether somebody has."""
        self._asks.listen(lambda key, start, end: self._rung.set())
        rung = self._rung.wait(seconds)
        self._rung.clear()
        return rung

    def close(self) -> None:
        self._asks.close()
