"""Range locks on files that the kernel frees when their holder dies.

Linux has open-file-description locks (fcntl(2), ``F_OFD_SETLK``): they belong to one descriptor, so threads exclude one
another too, and closing another descriptor of the file frees nothing. Elsewhere the whole file is locked by flock(2).
"""

from __future__ import annotations

import fcntl
import struct

_OFD_SETLK: int | None = getattr(fcntl, "F_OFD_SETLK", None)
_FLOCK = struct.Struct("@hhqqi4x")


def try_lock(fd: int, start: int = 0, end: int | None = None) -> bool:
    """Take ``[start, end)`` (None: to infinity) for writing on this descriptor, or say False at once.

    The descriptor must be writable. The lock goes with the descriptor.
    """
    try:
        if _OFD_SETLK is None:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            length = 0 if end is None else max(1, end - start)
            fcntl.fcntl(fd, _OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, start, length, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True
