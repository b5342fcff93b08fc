"""Blobs as files in 256 folders of one directory.

A blob is written at its final name, which nobody knows before the catalog names it: no rename, no temporary name. Order:
create, fsync(folder), pwrite, fdatasync; the catalog commits after that. Folders are opened once without following
symbolic links, and files are opened relative to them without following any.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from carboy.combining import Combiner, Request
from carboy.errors import (
    BytesMissing,
    CarboyError,
    NotFound,
    RangeBusy,
    StorageFailed,
)
from carboy.measuring import NOTHING, Meter
from carboy.model import Key, Span, key_for, new_id
from carboy.storage.base import DriverState, Fragments
from carboy.storage.copying import copy_open_file, link_open_file, open_held
from carboy.storage.local_writer import Headroom, LocalWriter, Told, storage_error
from carboy.storage.locks import try_lock

_PIECE = 2**20
_BLOB = re.compile(r"[0-9a-f]{32}")
_NOFOLLOW = os.O_NOFOLLOW | os.O_CLOEXEC


class LocalStorage:
    """See :class:`carboy.storage.base.Storage`; blobs are files, so it is also ``OnDisk`` and ``Adopts``."""

    def __init__(self, root: Path, *, name: str = "local", durable: bool = True, meter: Meter = NOTHING) -> None:
        self.name = name
        self._root = root
        self._durable = durable
        self._told = Told(meter, name)
        self._folders: dict[str, int] = {}
        self._opening = threading.Lock()
        self._births: Combiner[None, tuple[Key, int]] = Combiner(self._bear)

    def prepare(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        for number in range(256):
            (self._root / f"{number:02x}").mkdir(mode=0o700, exist_ok=True)
        if self._durable:  # at every start: an earlier one may have been killed after making the folders
            for directory in (self._root, self._root.parent, self._root.parent.parent):
                _sync_directory(directory)

    def close(self) -> None:
        with self._opening:
            folders, self._folders, self._room = self._folders, {}, None
        for fd in folders.values():
            os.close(fd)

    # --- writing ---

    def fence(self) -> str | None:
        return None

    @contextmanager
    def stage(self, size: int | None, most: int | None = None) -> Iterator[tuple[Key, LocalWriter]]:
        key, fd = self._births.do(None)
        writer = LocalWriter(fd, 0, self._headroom(), self._durable, self._open_readable, self._told)
        try:
            yield key, writer
        finally:
            writer.close()

    @contextmanager
    def begin(self, size: int | None) -> Iterator[tuple[Key, DriverState]]:
        with self.stage(size) as (key, writer):
            writer.flush()
            yield key, {}

    @contextmanager
    def writer(self, key: Key, at: int, end: int | None, state: DriverState, fragments: Fragments) -> Iterator[LocalWriter]:
        fd = self._open(key, os.O_RDWR)
        if fd is None:
            raise NotFound("the upload's bytes are gone")
        if not try_lock(fd, at, end):
            os.close(fd)
            raise RangeBusy("another request is writing these bytes", start=at, end=end)
        writer = LocalWriter(fd, at, self._headroom(), self._durable, self._open_readable, self._told)
        try:
            yield writer
        finally:
            writer.close()

    def seal(self, key: Key, size: int, state: DriverState, fragments: Fragments) -> None:
        fd = self._open(key, os.O_RDWR)
        if fd is None:
            raise BytesMissing("the upload's bytes are gone")
        try:
            actual = os.fstat(fd).st_size
            if actual < size:
                raise BytesMissing("the upload's bytes are not all there", size=size, stored=actual)
            if not try_lock(fd, size, None):
                raise RangeBusy("another request still writes past the end", start=size)
            if actual > size:
                self._truncate(fd, size)
        finally:
            os.close(fd)

    def delete(self, key: Key, *, unless: Callable[[Key], bool] | None = None) -> bool:
        fd = self._open(key, os.O_WRONLY)
        if fd is None:
            return True
        try:
            if not try_lock(fd) or (unless and unless(key)):
                return False
            os.unlink(_name(key), dir_fd=self._folder(key))
        except FileNotFoundError:
            return True
        except OSError as error:
            raise self._told.error(error) from error
        finally:
            os.close(fd)
        return True

    # --- taking over files ---

    @contextmanager
    def adopt(self, source: int, *, link: bool = False) -> Iterator[tuple[Key, LocalWriter, bool]]:
        linked = self._linked(source) if link else None
        if linked is None:
            size = os.fstat(source).st_size
            with self.stage(size) as (key, writer):
                try:
                    writer.take(source, 0, size)
                except CarboyError:
                    writer.close()
                    self.delete(key)
                    raise
                yield key, writer, False
            return
        key, fd = linked
        writer = LocalWriter(fd, 0, self._headroom(), self._durable, self._open_readable, self._told)
        try:
            self._sync_folder(key)
            yield key, writer, True
        finally:
            writer.close()

    def put(self, key: Key, source: int, *, link: bool = False) -> bool:
        folder, name = self._folder(key), f".{_name(key)}.new"
        try:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
            linked = link and link_open_file(source, name, folder)
            if not linked:
                self._headroom().spend(os.fstat(source).st_size)
                copy_open_file(source, name, folder, self._durable)
            os.replace(name, _name(key), src_dir_fd=folder, dst_dir_fd=folder)
            with suppress(FileNotFoundError):  # renaming a file onto another link of itself does nothing
                os.unlink(name, dir_fd=folder)
        except OSError as error:
            raise self._told.error(error) from error
        return linked

    def sync(self) -> None:
        for number in range(256):
            self._sync_folder(Key(f"{number:02x}/"))

    # --- reading ---

    def read(self, key: Key, span: Span | None = None) -> Iterator[bytes]:
        file = self.open(key)
        return _pieces(file, span, self._told)

    def open(self, key: Key) -> BinaryIO:
        return os.fdopen(self._open_readable(key), "rb", buffering=0)

    def path(self, key: Key) -> str:
        return key

    def size(self, key: Key) -> int | None:
        try:
            return os.stat(_name(key), dir_fd=self._folder(key), follow_symlinks=False).st_size
        except FileNotFoundError:
            return None

    def keys(self) -> Iterator[Key]:
        for number in range(256):
            folder = f"{number:02x}"
            with os.scandir(self._folder(Key(f"{folder}/"))) as entries:
                names = [entry.name for entry in entries if _BLOB.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)]
            yield from (Key(f"{folder}/{name}") for name in sorted(names))

    def room(self) -> int:
        return self._headroom().room()

    # --- inside ---

    def _bear(self, requests: list[Request[None, tuple[Key, int]]]) -> None:
        """Create a file for each request, all in one folder, so that one sync of it serves them all."""
        shard = new_id()[:2]
        for request in requests:
            try:
                request.result = self._create(shard)
            except CarboyError as error:
                request.error = error
        try:
            self._sync_folder(Key(f"{shard}/"))
        except StorageFailed as error:
            for request in requests:
                _undo_birth(request, error)

    def _create(self, shard: str) -> tuple[Key, int]:
        """A new file that this descriptor holds. Between its birth and its lock a sweeper may have found and removed it;
        then another one is made."""
        while True:
            key = key_for(shard + new_id()[2:])
            try:
                fd = os.open(_name(key), os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW, 0o600, dir_fd=self._folder(key))
                if try_lock(fd) and os.fstat(fd).st_nlink:
                    return key, fd
            except OSError as error:
                raise self._told.error(error) from error
            os.close(fd)

    def _linked(self, source: int) -> tuple[Key, int] | None:
        """A new link of the open file, and a descriptor that holds it; None where there can't be one, or a
        sweeper found and removed it before it was held."""
        while True:
            key = key_for(new_id())
            folder, name = self._folder(key), _name(key)
            try:
                if not link_open_file(source, name, folder):
                    return None
                fd = open_held(name, folder)
            except OSError as error:
                raise self._told.error(error) from error
            if fd is None or self.size(key) is not None:
                return (key, fd) if fd is not None else None
            os.close(fd)

    def _open(self, key: Key, flags: int) -> int | None:
        try:
            return os.open(_name(key), flags | _NOFOLLOW, dir_fd=self._folder(key))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._told.error(error) from error

    def _open_readable(self, key: Key) -> int:
        fd = self._open(key, os.O_RDONLY)
        if fd is None:
            raise self._told.counted(BytesMissing("the stored bytes are missing", key=key))
        return fd

    def _folder(self, key: Key) -> int:
        shard = key[:2]
        fd = self._folders.get(shard)
        if fd is None:
            with self._opening:
                fd = self._folders.get(shard)
                if fd is None:
                    fd = _open_directory(self._root / shard)
                    self._folders[shard] = fd
        return fd

    def _sync_folder(self, key: Key) -> None:
        if self._durable:
            try:
                self._told.sync(os.fsync, self._folder(key), "folder")
            except OSError as error:
                raise self._told.counted(StorageFailed("the folder of the bytes could not be synced")) from error

    def _headroom(self) -> Headroom:
        if self._room is None:
            self._room = Headroom(self._folder(Key("00/")), self._told)
        return self._room

    _room: Headroom | None = None

    def _truncate(self, fd: int, size: int) -> None:
        try:
            os.ftruncate(fd, size)
            if self._durable:
                os.fdatasync(fd)
        except OSError as error:
            raise self._told.error(error) from error


def _name(key: Key) -> str:
    return key[3:]


def _open_directory(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | _NOFOLLOW)
    except OSError as error:
        raise storage_error(error) from error


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _undo_birth(request: Request[None, tuple[Key, int]], error: CarboyError) -> None:
    if request.result is not None:
        os.close(request.result[1])
        request.result = None
    request.error = request.error or error


def _pieces(file: BinaryIO, span: Span | None, told: Told) -> Iterator[bytes]:
    with file:
        at = span.start if span else 0
        left = span.length if span else None
        while left is None or left > 0:
            try:
                piece = os.pread(file.fileno(), _PIECE if left is None else min(left, _PIECE), at)
            except OSError as error:
                raise told.error(error) from error
            if not piece:
                return
            yield piece
            at += len(piece)
            left = None if left is None else left - len(piece)
