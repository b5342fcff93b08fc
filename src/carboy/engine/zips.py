"""Zips of many files: asked for once, exact in length before the first byte, the same bytes whenever and from wherever they are read.

Entries are stored and not compressed, so every place in the archive is known beforehand. What isn't known is the CRC-32 of each entry,
which stands behind its bytes and again in the directory at the end: reading from the middle to the end wants the bytes before, too.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any
from zlib import crc32

from zipstream import ZipStream, ZipStreamInfo
from zipstream.ng import ZIP64_ESTIMATE_FACTOR, ZIP64_LIMIT, ZIP_FILECOUNT_LIMIT, sizeEndCentDir64, sizeEndCentDir64Locator

from carboy.catalog.base import Catalog
from carboy.catalog.paths import first_free, numbered
from carboy.config import Settings
from carboy.engine.access import actions
from carboy.engine.availability import is_available, status_of
from carboy.engine.files import Files
from carboy.engine.names import clean_folder, clean_name, clean_path
from carboy.engine.reading import proved
from carboy.errors import BytesDamaged, BytesMissing, InvalidRequest, NotFound, TooLarge, Unauthenticated
from carboy.model import Blob, File, Principal, Span, Zip, ZipEntry, new_id
from carboy.storage.base import OnDisk, Storage

MAX_FILES = 100_000
"""Most files in one zip."""

_PAGE = 1000
_PIECE = 64 * 2**10
_DRIVE = re.compile(r"^([A-Za-z]):")
_HAS_DESCRIPTOR = 1 << 3
_FILE_MODE = 0o100644 << 16
_FIRST, _LAST = datetime(1980, 1, 1, tzinfo=UTC), datetime(2107, 12, 31, 23, 59, 58, tzinfo=UTC)


class Zips:
    """Makes zips and opens them, for the principal who asked for them alone."""

    def __init__(self, settings: Settings, catalog: Catalog, storages: Mapping[str, Storage], files: Files,
                 clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._catalog = catalog
        self._storages = storages
        self._files = files
        self._clock = clock
        self._crcs: dict[str, int] = {}

    def create(self, principal: Principal, space: str, *, paths: Sequence[str] = (), ids: Sequence[str] = (),
               name: str = "files.zip") -> Zip:
        """A zip of these files and folders (with their slash; ``""`` is all of the space) as they are now, and of the files with these
        ids. Raises what authorising raises, NotFound for what isn't there, TooLarge beyond MAX_FILES, InvalidRequest for an empty one.
        What the principal isn't given is left out of folders; named by its path or id it raises Pending, Quarantined."""
        if principal.kind == "nobody":
            raise Unauthenticated("send a token as 'Authorization: Bearer …'")
        name, names = clean_name(name), _Names()
        entries = [entry for path in paths for entry in self._under(principal, space, path, names)]
        entries += [names.entry(names.root(file.name), self._given(principal, file))
                    for file in (self._files.get(principal, id) for id in ids)]
        if not entries:
            raise InvalidRequest("there is nothing to put into the zip; name files by path or id, or folders")
        if len(entries) > MAX_FILES:
            raise TooLarge(f"a zip holds at most {MAX_FILES} files", limit=MAX_FILES)
        now = self._clock()
        made = Zip(new_id(), principal.id, name, tuple(entries), Layout(entries).size, now, now + self._settings.zip_expiry)
        self._catalog.add_zip(made)
        return made

    def open(self, principal: Principal, id: str) -> Archive:
        """The zip, every content of it known now, and where bytes are files every byte of it there. Raises NotFound, also where a file's
        content is gone for good since, BytesMissing, BytesDamaged, Quarantined, Pending."""
        if principal.kind == "nobody":
            raise Unauthenticated("send a token as 'Authorization: Bearer …'")
        found = self._catalog.zip(id)
        if found is None or found.principal != principal.id or found.expires_at <= self._clock():
            raise NotFound("there is no such zip (any more)", id=id)
        blobs = self._catalog.blobs_with_ids([entry.blob_id for entry in found.entries])
        for entry in found.entries:
            self._check(principal, entry, blobs.get(entry.blob_id))
        return Archive(found, lambda entry: self._read(blobs[entry.blob_id]), self._crcs)

    def _under(self, principal: Principal, space: str, path: str, names: _Names) -> Iterator[ZipEntry]:
        if path and not path.endswith("/"):
            file = self._files.at(principal, space, clean_path(path))
            yield names.entry(names.root(file.name), self._given(principal, file))
            return
        folder = clean_folder(path)
        rules, home = self._files.inside(principal, "read", space)
        root = names.root(folder[:-1].rpartition("/")[2] or space)
        number = -1
        for number, file in enumerate(self._within(space, home + folder)):
            if number >= MAX_FILES:
                raise TooLarge(f"a zip holds at most {MAX_FILES} files", limit=MAX_FILES)
            if "read" in actions(principal, space, rules, file=file) and is_available(principal, file, rules):
                yield names.entry(f"{root}/{file.path[len(home + folder):]}", file)
        if number < 0:
            raise NotFound("there is nothing in this folder", space=space, path=path)

    def _within(self, space: str, folder: str) -> Iterator[File]:
        cursor: str | None = None
        while True:
            page = self._catalog.files(space, prefix=folder, cursor=cursor, limit=_PAGE)
            yield from page.files
            cursor = page.cursor
            if cursor is None:
                return

    def _given(self, principal: Principal, file: File) -> File:
        self._files.check(principal, file)
        return file

    def _check(self, principal: Principal, entry: ZipEntry, blob: Blob | None) -> None:
        if blob is None:
            raise NotFound("a file of the zip was replaced or deleted since, and its bytes are gone; ask for a new one", path=entry.path)
        storage = self._storages[blob.storage]
        if isinstance(storage, OnDisk) and (storage.size(blob.key) or 0) < blob.size:
            raise BytesMissing("bytes of the zip are not in their storage", path=entry.path)
        if blob.damaged_at is not None:
            raise BytesDamaged("bytes of the zip are damaged", path=entry.path)
        if status_of(blob) != "ready":
            self._files.check(principal, self._files.get(principal, entry.file_id), blob=blob)

    def _read(self, blob: Blob) -> Iterator[bytes]:
        """A zip takes long to download: a content may have gone to another storage since."""
        if not blob.size:
            return iter(())
        try:
            return self._begin(blob)
        except BytesMissing:
            now = self._catalog.blob(blob.id)
            if now is None or now.key == blob.key:
                raise
            return self._begin(now)

    def _begin(self, blob: Blob) -> Iterator[bytes]:
        storage = self._storages[blob.storage]
        pieces = storage.read(blob.key, Span(0, blob.size))
        pieces = pieces if isinstance(storage, OnDisk) else proved(pieces, blob)
        return chain([next(pieces, b"")], pieces)


class _Names:
    """Where things go in the archive: never outside of it, whoever unpacks it on whatever system, and no two at one place."""

    def __init__(self) -> None:
        self._roots: set[str] = set()
        self._taken: set[str] = set()

    def root(self, name: str) -> str:
        """A name at the top that none before has."""
        return _free(self._roots, name)

    def entry(self, path: str, file: File) -> ZipEntry:
        safe = "/".join(_DRIVE.sub(r"\1%3A", segment.replace("\\", "%5C")) for segment in path.split("/"))
        return ZipEntry(_free(self._taken, safe), file.id, file.blob.id, file.size, file.modified_at)


def _free(taken: set[str], name: str) -> str:
    if name in taken:
        name = numbered(name, 1 + first_free(lambda number: numbered(name, number + 1) in taken))
    taken.add(name)
    return name


class Layout:
    """Where each entry of an archive begins, where the directory behind them does, and how long the whole is."""

    def __init__(self, entries: Sequence[ZipEntry]) -> None:
        self._stream = _Stream()
        self.starts = [0, *accumulate(self._stream.sized(entry) for entry in entries)]
        self.directory = self.starts[-1]
        self.size = self._stream.length

    def entry_at(self, place: int) -> int:
        """The entry that this byte belongs to; past the last one for the directory."""
        return bisect_right(self.starts, place) - 1


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip whose bytes can be read. ``read`` gives those of an entry; ``crcs`` remembers the CRC-32 of contents for the next who asks."""

    zip: Zip
    read: Callable[[ZipEntry], Iterator[bytes]]
    crcs: dict[str, int]

    def pieces(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes ``[start, end)`` in pieces of some 64 KiB or more. Raises BytesMissing where some are gone meanwhile."""
        end = self.zip.size if end is None else end
        return _gathered(_cut(self._from(start, end), end - start))

    def _from(self, start: int, end: int) -> Iterator[bytes]:
        """From ``start`` on, at least to ``end``."""
        layout = Layout(self.zip.entries)
        first = layout.entry_at(start)
        stream = _Stream(layout.starts[first])
        if end > layout.directory:
            stream = _Stream()
            for entry in self.zip.entries[:first]:
                stream.passed(entry, self._crc(entry))
        for entry in self.zip.entries[first:]:
            stream.add(_Content(entry, self._remembering(entry)), entry.path, size=entry.size)
        yield from _behind(stream.finalize(), start - layout.starts[first])

    def _crc(self, entry: ZipEntry) -> int:
        for _ in self._remembering(entry) if entry.blob_id not in self.crcs else ():
            pass
        return self.crcs[entry.blob_id]

    def _remembering(self, entry: ZipEntry) -> Iterator[bytes]:
        crc = 0
        for piece in self.read(entry):
            crc = crc32(piece, crc)
            yield piece
        if len(self.crcs) > MAX_FILES:
            self.crcs.clear()
        self.crcs[entry.blob_id] = crc


class _Content:
    """What is put into an archive: the bytes, with what the archive says of them."""

    def __init__(self, entry: ZipEntry, pieces: Iterator[bytes]) -> None:
        self.entry = entry
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces


class _Stream(ZipStream):  # type: ignore[misc]
    """A stream whose every byte follows from the entries: their own times, no clock and no time zone."""

    def __init__(self, position: int = 0) -> None:
        super().__init__(sized=True)
        self._pos = position

    def sized(self, entry: ZipEntry) -> int:
        """Count an entry in; how many bytes it takes before the directory."""
        before = self._size_prog[1]
        self._add_size_from_file(entry.path, entry.size)
        return int(self._size_prog[1] - before)

    @property
    def length(self) -> int:
        """Of the whole. At exactly this number of files the library counts without what it will write."""
        exactly = self._size_prog[0] == ZIP_FILECOUNT_LIMIT and max(self._size_prog[1:]) <= ZIP64_LIMIT
        return len(self) + (sizeEndCentDir64 + sizeEndCentDir64Locator if exactly else 0)

    def passed(self, entry: ZipEntry, crc: int) -> None:
        """An entry that nobody reads any more, but that the directory shall name."""
        info = _info(entry, self._pos)
        info.flag_bits |= _HAS_DESCRIPTOR
        info.FileHeader(self._is_large(entry))
        info.CRC, info.compress_size = crc, entry.size
        self._pos += self.sized(entry)
        self._filelist.append(info)

    def _is_large(self, entry: ZipEntry) -> bool:
        return bool(entry.size * ZIP64_ESTIMATE_FACTOR > ZIP64_LIMIT)

    def _gen_file_entry(self, *, iterable: _Content, **_: Any) -> Iterator[bytes]:
        info = _info(iterable.entry, self._pos)
        for piece in info._file_data(iterable):
            yield self._track(piece)
        if info.file_size != iterable.entry.size:
            raise BytesMissing("bytes of the zip are no longer there", path=iterable.entry.path)
        self._filelist.append(info)


def _info(entry: ZipEntry, position: int) -> Any:
    info = ZipStreamInfo(entry.path, _date(entry.modified_at))
    info.file_size, info.header_offset, info.external_attr = entry.size, position, _FILE_MODE
    return info


@lru_cache(1000)
def _date(seconds: float) -> tuple[int, int, int, int, int, int]:
    """UTC, as zips have no time zones, within what zips can say."""
    date = min(max(_FIRST.timestamp(), seconds), _LAST.timestamp())
    moment = datetime.fromtimestamp(date, UTC)
    return moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second


def _behind(pieces: Iterator[bytes], skip: int) -> Iterator[bytes]:
    for piece in pieces:
        if skip < len(piece):
            yield piece[skip:] if skip else piece
        skip = max(0, skip - len(piece))


def _cut(pieces: Iterator[bytes], length: int) -> Iterator[bytes]:
    for piece in pieces if length else ():
        yield piece[:length]
        length -= len(piece)
        if length <= 0:
            return


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Small pieces joined: each is a write to a client."""
    small: list[bytes] = []
    size = 0
    for piece in pieces:
        if len(piece) >= _PIECE and not small:
            yield piece
            continue
        small.append(piece)
        size += len(piece)
        if size >= _PIECE:
            yield b"".join(small)
            small, size = [], 0
    if small:
        yield b"".join(small)
