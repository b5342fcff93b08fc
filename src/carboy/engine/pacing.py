"""Reading no faster than is wanted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Stopped(Exception):
    """The one who reads was asked to end."""


class Rate:
    """Waits so that no more than ``rate`` bytes a second go by (None: any number), however many threads read. Raises Stopped once ``stop``
    is set."""

    def __init__(self, rate: int | None, stop: threading.Event, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._stop, self._clock = rate, stop, clock
        self._lock = threading.Lock()
        self._free_at = clock()

    def __call__(self, size: int) -> None:
        with self._lock:
            now = self._clock()
            self._free_at = max(now, self._free_at) + (size / self._rate if self._rate else 0.0)
            pause = self._free_at - now
        if self._stop.is_set() or (pause > 0 and self._stop.wait(pause)):
            raise Stopped
