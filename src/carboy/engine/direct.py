"""Uploads whose bytes go from the client straight to the storage: addresses signed for one part each, and what the storage has of them.

Everything is a multipart upload there, also what is sent by a single PUT: once it is joined nobody can overwrite what was confirmed, and
the storage's own list says what came before anything becomes of it. The order is: list, compare, join, prove, place. Each step finds out
whether it was done before, so completing can be asked for as often as it takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import cast

from carboy import checksums
from carboy.catalog.base import Catalog
from carboy.config import Settings, SpaceSettings
from carboy.engine import limits, quotas
from carboy.engine.receive import Target
from carboy.engine.uploads import DIRECT, Uploads
from carboy.errors import CarboyError, CommitUnknown, Conflict, InvalidRequest, MissingBytes, NotSupported, TooLarge, UploadGone
from carboy.model import Blob, Key, Placed, Progress, Span, Upload
from carboy.storage.base import FEW_PARTS, MAX_PART, MIN_PART, ClientPart, Direct, Signed, Storage, Vouches

PART = 16 * 2**20
"""How long parts are, in bytes, where nobody asks for another length and they suffice."""
_STEP = 256 * 2**20
"""After so many bytes read for their checksum it is recorded how far they are."""
_WATCHED = 2.0
"""For how many lives of an address, after the last was signed, somebody looks whether all has come."""


class DirectUploads:
    """Begins, signs and completes uploads straight to the storage. Safe from any thread and process."""

    def __init__(self, settings: Settings, catalog: Catalog, storages: Mapping[str, Storage], uploads: Uploads,
                 clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._catalog = catalog
        self._storages = storages
        self._uploads = uploads
        self._clock = clock

    def begin(self, target: Target, *, size: int | None = None, part_size: int | None = None, id: str | None = None,
              digests: Mapping[str, str] | None = None) -> Upload:
        """A new upload, durable before this returns. ``part_size`` is how long all parts but the last will be, at least 5 MiB; where only
        the ``size`` is known it is chosen here, and where nothing is, parts are as long as they come. An empty file is complete at once.

        Raises NotSupported where the space's storage takes nothing from clients, TooLarge, QuotaExceeded, InvalidRequest.
        """
        storage = self._storage(target.rules)
        length = _part_size(size, part_size, storage.most_parts)
        return self._uploads.begin(target, protocol=DIRECT, size=size, chunk_size=length, id=id, digests=digests,
                                   begin=storage.offer).upload

    def sign(self, upload: Upload, numbers: Iterable[int], md5: Mapping[int, bytes] | None = None) -> dict[int, Signed]:
        """Where the parts with these numbers are to be PUT. To be asked for when they are wanted, and again when an address has expired
        or a part has to be sent once more. Where a part's length is known, or its MD5, the storage takes nothing else. Raises UploadGone,
        TooLarge for a part behind the end."""
        self._must_receive(upload)
        storage = self._storage_of(upload)
        signed = {}
        for number in numbers:
            length = self.length(upload, number)
            signed[number] = storage.sign(upload.key, upload.driver_state, number, length=length, md5=(md5 or {}).get(number),
                                          expiry=self._settings.direct_expiry)
        self._touch(upload)
        return signed

    def length(self, upload: Upload, number: int) -> int | None:
        """How long the part is in bytes, where that is known. Raises TooLarge behind the end, InvalidRequest."""
        most = self._most(upload, number)
        if not 1 <= number <= most:
            raise InvalidRequest(f"parts have numbers from 1 to {most}", field="number")
        length = upload.chunk_size or MIN_PART
        start = (number - 1) * length
        end = upload.size if upload.size is not None else limits.largest(self._settings, self._rules(upload))
        if number > 1 and start >= end:
            raise TooLarge(f"part {number} would begin behind the end, which is at {end} bytes", limit=end, number=number)
        return min(length, end - start) if upload.size is not None and upload.chunk_size else None

    def parts(self, upload: Upload) -> Sequence[ClientPart]:
        """What the storage has, by number; none once they are joined. Raises UploadGone."""
        self._must_receive(upload)
        return self._storage_of(upload).client_parts(upload.key, upload.driver_state) or ()

    def complete(self, upload: Upload, named: Mapping[int, str] | None = None) -> Placed:
        """The file, once its parts are joined, their size and checksum confirmed. ``named`` are the parts' ETags as the client has them: it
        must name those that there are. Repeatable; where it takes long (see :meth:`_prove`) it goes on where it was.

        Raises MissingBytes, Conflict, TooLarge, QuotaExceeded, UnsupportedType, DigestMismatch, UploadGone.
        """
        progress = self._uploads.progress(upload.id)
        if progress.upload.state == "complete":
            return self._again(progress.upload)
        self._must_receive(progress.upload)
        if progress.covered:
            return self._uploads.complete(progress)
        try:
            return self._placed(progress.upload, self._joined(progress.upload, named))
        except UploadGone:  # perhaps because another request has completed it meanwhile
            upload = self._uploads.progress(upload.id).upload
            if upload.state != "complete":
                raise
            return self._again(upload)

    def settle(self) -> int:
        """Complete what has come in full though nobody said so: a single PUT tells only the storage. How many there were."""
        done, cursor = 0, None
        while any(isinstance(storage, Direct) for storage in self._storages.values()):
            page, cursor = self._catalog.uploads(cursor=cursor, limit=1000)
            for progress in page:
                if self._is_watched(progress.upload):
                    with suppress(CarboyError):
                        done += self._settled(progress.upload)
            if cursor is None:
                break
        return done

    # --- confirming ---

    def _joined(self, upload: Upload, named: Mapping[int, str] | None) -> int:
        """The bytes are one object, of this size."""
        storage = self._storage_of(upload)
        parts = storage.client_parts(upload.key, upload.driver_state)
        if parts is None:
            size = self._plain(upload).size(upload.key)
            if size is None:
                raise UploadGone("the storage has nothing of this upload any more", state="failed")
            self._check_size(upload, size)
        else:
            size = sum(part.size for part in _named(parts, named))
            self._check_size(upload, size)
            if size:
                storage.join(upload.key, upload.driver_state, parts)
        return size

    def _placed(self, upload: Upload, size: int) -> Placed:
        """The file, of bytes whose checksum is known and which no client can change."""
        placed, key, fence = None, upload.key, self._plain(upload).fence()
        try:
            with self._storage_of(upload).confirmed(upload.key, upload.driver_state, size) as key:
                if key == upload.key:
                    self._prove(upload, size)
                    return self._uploads.complete(self._uploads.written(upload))
                placed = self._uploads.complete(self._uploads.receiving(upload.id), blob=self._copy(upload, key, size), fence=fence)
        except CommitUnknown:
            raise
        except CarboyError:
            self._discard(upload, key, placed)
            raise
        self._discard(upload, key, placed)
        return placed

    def _copy(self, upload: Upload, key: Key, size: int) -> Blob:
        """The copy for which no address was ever signed."""
        crc = self._vouched(upload, key)
        return Blob(key[3:], upload.storage, key, size, self._read(upload, key, 0, size).crc if crc is None else crc, None, self._clock())

    def _discard(self, upload: Upload, key: Key, placed: Placed | None) -> None:
        """A copy that became nothing goes: the file was refused, or another request has made it."""
        if key != upload.key and (placed is None or placed.file.blob.key != key):
            self._plain(upload).delete(key)

    def _check_size(self, upload: Upload, size: int) -> None:
        """Raises MissingBytes, TooLarge, QuotaExceeded, before anything is joined."""
        if upload.size is not None and size < upload.size:
            raise MissingBytes(f"{size} bytes came of the declared {upload.size}", missing=[[size, upload.size]], size=upload.size)
        rules = self._rules(upload)
        largest = limits.largest(self._settings, rules)
        limits.check_size(size, largest if upload.size is None else min(largest, upload.size))
        room = quotas.room_at(self._catalog, upload.space, upload.path, upload.owner, rules)
        if room:
            room.check(size)

    def _prove(self, upload: Upload, size: int) -> None:
        """Record the joined object's checksum: the one that the storage vouches for, else computed by reading all of it once. How far
        that is is recorded, so a request that was cut costs nothing and a second one helps."""
        crc = self._vouched(upload, upload.key) if size else None
        progress = self._record(upload, [] if crc is None else [Span(0, size, crc)], size)
        while (at := progress.offset) < size and progress.upload.state == "receiving":
            progress = self._record(upload, [self._read(upload, upload.key, at, min(size, at + _STEP))], size)

    def _vouched(self, upload: Upload, key: Key) -> int | None:
        storage = self._plain(upload)
        return storage.vouched(key) if isinstance(storage, Vouches) else None

    def _read(self, upload: Upload, key: Key, start: int, end: int) -> Span:
        crc = 0
        for piece in self._plain(upload).read(key, Span(start, end)):
            crc = checksums.crc64nvme(piece, crc)
        return Span(start, end, crc)

    def _record(self, upload: Upload, spans: Sequence[Span], size: int) -> Progress:
        """Another request may have recorded the same meanwhile."""
        with suppress(Conflict):
            self._uploads.record(upload, spans, size=size)
        return self._uploads.written(upload)

    # --- inside ---

    def _most(self, upload: Upload, number: int) -> int:
        """How many parts there may be; the server is asked where it matters."""
        return FEW_PARTS if number <= FEW_PARTS else self._storage_of(upload).most_parts()

    def _must_receive(self, upload: Upload) -> None:
        if upload.state != "receiving":
            raise UploadGone(f"the upload is {upload.state}", state=upload.state, failure=upload.failure)

    def _again(self, upload: Upload) -> Placed:
        file = self._uploads.file(upload)
        if file is None:
            raise UploadGone("the uploaded file was deleted", state=upload.state)
        return Placed(file, created=False)

    def _touch(self, upload: Upload) -> None:
        """Whoever asks for addresses is at work: the upload lives on, and what it has reserved."""
        settings = self._settings
        if self._clock() - upload.touched_at > min(settings.reservation_expiry, settings.upload_expiry, settings.direct_expiry) / 3:
            self._uploads.record(upload, [])

    def _is_watched(self, upload: Upload) -> bool:
        return upload.protocol == DIRECT and self._clock() - upload.touched_at < _WATCHED * self._settings.direct_expiry

    def _settled(self, upload: Upload) -> bool:
        """Whether it is a file now. What is long is left to whoever asks for it."""
        parts = self._storage_of(upload).client_parts(upload.key, upload.driver_state)
        if parts is not None and not _is_whole(upload, parts):
            return False
        size = self._plain(upload).size(upload.key) if parts is None else sum(part.size for part in parts)
        if size is None or size > MAX_PART:
            return False
        self.complete(upload)
        return True

    def _rules(self, upload: Upload) -> SpaceSettings:
        rules = self._settings.spaces.get(upload.space)
        if rules is None:
            raise UploadGone(f"there is no space {upload.space!r} any more", state=upload.state)
        return rules

    def _storage(self, rules: SpaceSettings) -> Direct:
        storage = self._storages[rules.storage]
        if not isinstance(storage, Direct):
            raise NotSupported("this space's files are not in S3: send them to Carboy itself", storage=rules.storage)
        return storage

    def _storage_of(self, upload: Upload) -> Direct:
        return cast(Direct, self._storages[upload.storage])

    def _plain(self, upload: Upload) -> Storage:
        return self._storages[upload.storage]


def _part_size(size: int | None, wish: int | None, most: Callable[[], int]) -> int | None:
    """How long parts are. Raises InvalidRequest where it can't be what was wished, TooLarge for what no parts can be."""
    wanted = wish or PART
    numbers = FEW_PARTS if (size or 0) <= FEW_PARTS * wanted else most()
    least = max(MIN_PART, -(-(size or 0) // numbers))
    if least > MAX_PART:
        raise TooLarge(f"S3 takes {numbers} parts of {MAX_PART} bytes from a client", limit=numbers * MAX_PART, size=size)
    if wish is None:
        return None if size is None else max(PART, least)
    if not least <= wish <= MAX_PART:
        raise InvalidRequest(f"parts of this file have {least} to {MAX_PART} bytes", field="part_size", least=least, most=MAX_PART)
    return wish


def _named(parts: Sequence[ClientPart], named: Mapping[int, str] | None) -> Sequence[ClientPart]:
    """The storage's own list, once it has no gap and is the client's. Raises MissingBytes that lists numbers, Conflict."""
    if not parts:
        raise MissingBytes("S3 has no part of it yet", missing=[1])
    there = {part.number: part.etag for part in parts}
    last = max([*there, *(named or ())], default=0)
    missing = [number for number in range(1, last + 1) if number not in there]
    if missing:
        raise MissingBytes(f"{len(missing)} of {last} parts are missing", missing=missing[:1000])
    short = [part.number for part in parts[:-1] if part.size < MIN_PART]
    if short:
        raise InvalidRequest(f"parts but the last have at least {MIN_PART} bytes; send these again", field="parts", parts=short[:1000],
                             least=MIN_PART)
    others = [number for number, etag in there.items() if named is not None and named.get(number, "").strip('"') != etag]
    if others:
        raise Conflict("the storage has other parts than you name; send these again, or name them", parts=others[:1000])
    return parts


def _is_whole(upload: Upload, parts: Sequence[ClientPart]) -> bool:
    """Whether nothing more can come: the declared size is there, or a last part that is shorter than the others are to be."""
    if not parts or [part.number for part in parts] != list(range(1, len(parts) + 1)):
        return False
    if upload.size is not None:
        return sum(part.size for part in parts) == upload.size
    return upload.chunk_size is not None and parts[-1].size < upload.chunk_size
