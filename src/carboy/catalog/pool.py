"""A few connections that many threads borrow."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Generic, TypeVar

from carboy.errors import CatalogUnavailable

C = TypeVar("C")


class Pool(Generic[C]):
    """At most ``size`` connections, opened when first needed, the last used first. One thread has each at a time."""

    def __init__(self, connect: Callable[[], C], disconnect: Callable[[C], None], size: int, patience: float = 60.0) -> None:
        self._connect = connect
        self._disconnect = disconnect
        self._patience = patience
        self._turns: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._idle: list[C] = []
        self._size = size
        for _ in range(size):
            self._turns.put(None)

    def take(self) -> C:
        """Wait for a connection. Raises CatalogUnavailable when none comes free in time, and what connecting raises."""
        try:
            self._turns.get(timeout=self._patience)
        except queue.Empty:
            raise CatalogUnavailable("all connections to the catalog are busy") from None
        try:
            return self._idle.pop()
        except IndexError:
            pass
        try:
            return self._connect()
        except BaseException:
            self._turns.put(None)
            raise

    def give(self, connection: C) -> None:
        """Back, ready for the next."""
        self._idle.append(connection)
        self._turns.put(None)

    def discard(self, connection: C) -> None:
        """Back, but broken; and those that are idle are hardly better."""
        self._disconnect(connection)
        self._empty()
        self._turns.put(None)

    def close(self) -> None:
        """Wait for those that are lent, then disconnect all. The next to come connects again."""
        for _ in range(self._size):
            self._turns.get()
        self._empty()
        for _ in range(self._size):
            self._turns.put(None)

    def _empty(self) -> None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return
            self._disconnect(connection)
