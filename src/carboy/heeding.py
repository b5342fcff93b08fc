"""What a signal has done, in a thread of its own.

A handler runs between any two instructions of the main thread, which may hold the very lock that the handler then waits for, for ever:
that of an Event it has just begun to wait for, or of the list of threads while it starts one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class Heed:
    """A signal handler: has ``act`` done each time, soon, by a thread that is there already."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act
        self._come: SimpleQueue[bool] = SimpleQueue()  # whose put() may come in the midst of another one
        threading.Thread(target=self._run, name="signals", daemon=True).start()

    def __call__(self, *_: object) -> None:
        self._come.put(True)

    def end(self) -> None:
        """Nothing is done any more."""
        self._come.put(False)

    def _run(self) -> None:
        while self._come.get():
            self._act()
