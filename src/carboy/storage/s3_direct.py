"""Parts that clients send to S3 themselves, to presigned addresses."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from carboy.errors import Conflict, StorageFailed
from carboy.model import Key
from carboy.storage.base import ClientPart, DriverState, Signed
from carboy.storage.s3_client import Refused
from carboy.storage.s3_multiparts import Multiparts, Part
from carboy.storage.s3_objects import Head
from carboy.storage.s3_parts import plan

LARGEST_COPY = 5 * 10**9
_COPIED = 2**30
"""Bytes of a part that is copied."""


class S3Direct:
    """See :class:`carboy.storage.base.Direct`: that side of the S3 storage.

    A blob is a multipart upload from the start, also where the client makes a single PUT: a presigned PUT of an object would stay good
    after the object was confirmed, and not every server refuses to overwrite. An upload's id is dead once it is joined, on most servers;
    where it isn't (Swift), what was joined is copied by the server to a key for which nothing was ever signed.
    """

    objects: Multiparts
    _late: bool | None = None

    def most_parts(self) -> int:
        return self.objects.most_parts()

    @contextmanager
    def offer(self) -> Iterator[tuple[Key, DriverState]]:
        key = self._new_key()
        try:
            upload = self.objects.create(key, checked=False)  # else the server would want a checksum of each part
            yield key, {"upload": upload, "size": None, **plan(None, self._part_size).state()}
        finally:
            self._forget(key)

    def sign(self, key: Key, state: DriverState, number: int, *, length: int | None, md5: bytes | None, expiry: float) -> Signed:
        """What is signed has to be sent as it is: the length, which clients tell anyway, and ``Content-MD5``."""
        headers = {"Content-MD5": base64.b64encode(md5).decode()} if md5 is not None else {}
        wanted: dict[str, Any] = {"ContentMD5": headers["Content-MD5"]} if headers else {}
        if length is not None:
            wanted["ContentLength"] = length
        client = self.objects.client
        url = client.presigned("upload_part", expiry, Key=client.settings.prefix + key, UploadId=state["upload"], PartNumber=number,
                               **wanted)
        return Signed(url, headers)

    def client_parts(self, key: Key, state: DriverState) -> Sequence[ClientPart] | None:
        try:
            return [ClientPart(part.number, part.size, part.etag.strip('"')) for part in self.objects.parts(key, state["upload"])]
        except Refused:
            return None

    def join(self, key: Key, state: DriverState, parts: Sequence[ClientPart]) -> None:
        """Raises Conflict where the client has sent one again meanwhile, StorageFailed where the server has lost some."""
        try:
            named = [Part(part.number, f'"{part.etag}"', part.size, None) for part in parts]
            self.objects.complete(key, state["upload"], named, exact=True)
        except StorageFailed:
            if self.client_parts(key, state) in (None, parts):
                raise
            raise Conflict("a part was sent again while the upload was completed; complete it once more") from None

    @contextmanager
    def confirmed(self, key: Key, state: DriverState, size: int) -> Iterator[Key]:
        """Raises Conflict where what was joined was changed meanwhile."""
        if not size or not self._takes_late_parts():
            yield key
            return
        copy = self._new_key()
        try:
            self._copy(key, copy, size)
            yield copy
        finally:
            self._forget(copy)

    def _copy(self, source: Key, key: Key, size: int) -> None:
        head = self.objects.head(source)
        same = head is not None and head.size == size and self._copied(source, key, head)
        there = self.objects.head(key) if same else None
        if there is None or there.size != size:
            raise Conflict("parts were sent again after the upload was completed; complete it once more")

    def _copied(self, source: Key, key: Key, head: Head) -> bool:
        if head.size <= LARGEST_COPY:
            return self.objects.copy(source, key, head.etag)
        upload, length = self.objects.create(key), max(_COPIED, -(-head.size // self.most_parts()))
        parts = [self.objects.copy_part(key, upload, number + 1, source, start, min(head.size, start + length), etag=head.etag)
                 for number, start in enumerate(range(0, head.size, length))]
        there = [part for part in parts if part]
        if len(there) == len(parts):
            self.objects.complete(key, upload, there)
        return len(there) == len(parts)

    def _takes_late_parts(self) -> bool:
        """Whether the server takes parts for an upload that is joined already. Found out once, with an object that is thrown away."""
        if self._late is None:
            self._late = self._probe_late_parts()
        return self._late

    def _probe_late_parts(self) -> bool:
        key = Key(f".carboy-probe/{os.urandom(8).hex()}")
        upload = self.objects.create(key, checked=False)
        call = partial(self.objects.client.call, Key=self.objects.client.settings.prefix + key, UploadId=upload)
        try:
            part = call("upload_part", PartNumber=1, Body=b"probe")
            call("complete_multipart_upload", MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
            call("upload_part", expect={"NoSuchUpload", "400", "403", "404", "409", "500"}, PartNumber=1, Body=b"later")
        except Refused:
            return False
        finally:
            self.objects.delete(key)
            self.objects.abort(key, upload)
        return True

    # --- what the storage has ---

    @property
    def _part_size(self) -> int:
        return self.objects.client.settings.part_size

    def _new_key(self) -> Key:
        raise NotImplementedError

    def _forget(self, key: Key) -> None:
        raise NotImplementedError
