"""Parts that clients send to S3 themselves, to presigned addresses."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from carboy.errors import Conflict, StorageFailed
from carboy.model import Key
from carboy.storage.base import ClientPart, DriverState, Signed
from carboy.storage.s3_client import Refused
from carboy.storage.s3_objects import Objects, Part
from carboy.storage.s3_parts import plan


class S3Direct:
    """See :class:`carboy.storage.base.Direct`: that side of the S3 storage.

    A blob is a multipart upload from the start, also where the client makes a single PUT: a presigned PUT of an object would stay good
    after the object was confirmed, and not every server refuses to overwrite. An upload's id is dead once it is joined.
    """

    objects: Objects

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
            self.objects.complete(key, state["upload"], [Part(part.number, f'"{part.etag}"', part.size, None) for part in parts])
        except StorageFailed:
            if self.client_parts(key, state) in (None, parts):
                raise
            raise Conflict("a part was sent again while the upload was completed; complete it once more") from None

    # --- what the storage has ---

    @property
    def _part_size(self) -> int:
        return self.objects.client.settings.part_size

    def _new_key(self) -> Key:
        raise NotImplementedError

    def _forget(self, key: Key) -> None:
        raise NotImplementedError
