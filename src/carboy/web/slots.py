"""How many bodies may be on their way at once: threads for small requests stay free whatever clients do."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from carboy.errors import Busy


class Slots:
    """At most ``total`` bodies (or ``what`` it is) at once, and ``each`` of any one client. Thread-safe."""

    def __init__(self, total: int, each: int, what: str = "bodies") -> None:
        self._what = what
        self.total = total
        self._each = each
        self.held = 0
        """How many there are now."""
        self._clients: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, clients: Sequence[str]) -> Iterator[None]:
        """A slot for the block, counted for each of ``clients`` (a principal, an address). Raises Busy."""
        with self._lock:
            if self.held >= self.total:
                raise Busy(f"too many {self._what} are on their way here; try again")
            if any(self._clients[client] >= self._each for client in clients):
                raise Busy(f"{self._each} of your {self._what} are on their way already; try again when one is done", limit=self._each)
            self.held += 1
            self._clients.update(clients)
        try:
            yield
        finally:
            with self._lock:
                self.held -= 1
                self._clients.subtract(clients)
                for client in clients:
                    if not self._clients[client]:
                        del self._clients[client]
