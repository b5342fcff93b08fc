"""How many connections each of the server's processes has, in memory that they share, so that they may come to have as many each.

Whichever process is quicker accepts a connection, so sixteen of them that stay open may all come to one of two processes, which is then
all that the server does. So one that has more than another lets a new connection lie for a moment.
"""

from __future__ import annotations

import mmap
import os
import struct

from carboy.engine.leases import is_running

_ROW = struct.Struct("II")
NO_MORE = 2**32 - 1
"""What a process has that takes none any more."""
_SLACK = 1
"""How many more than another it takes to leave one to it."""


class Balance:
    """Made before the processes are forked. Each has a row: its process id and how many connections it has."""

    def __init__(self, rows: int = 64) -> None:
        self._rows = rows
        self._shared = mmap.mmap(-1, rows * _ROW.size)
        self._mine: int | None = None

    def join(self, number: int) -> None:
        """This process is the server's ``number``-th; it takes the row of one that has gone long ago."""
        self._mine = number % self._rows * _ROW.size

    def tell(self, connections: int) -> None:
        """How many this process has now."""
        if self._mine is not None:
            _ROW.pack_into(self._shared, self._mine, os.getpid(), connections)

    def leave(self) -> None:
        """This process takes no more."""
        if self._mine is not None:
            _ROW.pack_into(self._shared, self._mine, 0, 0)

    def is_anothers(self, connections: int) -> bool:
        """Whether a process that has so many had better leave the next one to another."""
        return any(has + _SLACK < connections and pid not in (0, os.getpid()) and is_running(pid)
                   for pid, has in _ROW.iter_unpack(self._shared[:]))
