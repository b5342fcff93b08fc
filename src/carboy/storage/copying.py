"""Bytes from one open file into another without passing through the program, and hard links of open files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress

from carboy.storage.locks import try_lock

_PIECE = 2**20
_NOFOLLOW = os.O_NOFOLLOW | os.O_CLOEXEC
_COPY_IN_USERSPACE = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOENT, errno.ENOSYS, errno.EOPNOTSUPP}


def copy_bytes(source: int, start: int, target: int, at: int, size: int) -> None:
    """Copy between files, in the kernel where it can: by copy_file_range(2), which shares the blocks (a reflink) on file systems that
    can. Raises OSError, EIO where the source ends early."""
    copy: Callable[..., int] = getattr(os, "copy_file_range", _copy_piece)
    done = 0
    while done < size:
        try:
            copied = copy(source, target, min(size - done, 2**30), start + done, at + done)
        except OSError as error:
            if error.errno not in _COPY_IN_USERSPACE or copy is _copy_piece:
                raise
            copy = _copy_piece
            continue
        if not copied:
            raise OSError(errno.EIO, "the file ended early")
        done += copied


def link_open_file(source: int, name: str, folder: int) -> bool:
    """Give the open file another name in the open folder. It is the file that is open, whatever has its old name by now. False where that
    can't be: another file system, one without links, a file that may not be linked."""
    try:
        os.link(f"/proc/self/fd/{source}", name, dst_dir_fd=folder, follow_symlinks=True)
    except OSError as error:
        if error.errno in _NO_LINK:
            return False
        raise
    return True


def copy_open_file(source: int, name: str, folder: int, durable: bool) -> None:
    """A new file in the open folder with the bytes of the open one, synced where ``durable``."""
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW, 0o600, dir_fd=folder)
    try:
        copy_bytes(source, 0, fd, 0, os.fstat(source).st_size)
        if durable:
            os.fdatasync(fd)
    finally:
        os.close(fd)


def open_held(name: str, folder: int) -> int | None:
    """A descriptor that holds the file's lock. Where it may not be written or somebody holds it already, it is removed: None."""
    with suppress(FileNotFoundError, PermissionError):
        fd = os.open(name, os.O_RDWR | _NOFOLLOW, dir_fd=folder)
        if try_lock(fd):
            return fd
        os.close(fd)
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    return None


def _copy_piece(source: int, target: int, size: int, start: int, at: int) -> int:
    return os.pwrite(target, os.pread(source, min(size, _PIECE), start), at)
