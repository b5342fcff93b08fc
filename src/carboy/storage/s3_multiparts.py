"""Multipart uploads of one bucket: their parts, and how they become objects."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from carboy import checksums
from carboy.errors import BytesDamaged, StorageFailed
from carboy.model import Key
from carboy.storage.s3_client import Check, Refused, S3Client
from carboy.storage.s3_objects import BEYOND, CHANGED, GONE, MD5, UNKNOWN_REQUEST, Content, Objects, as_number, as_text, bare
from carboy.storage.s3_parts import FEW, MAX_NUMBER
from carboy.storage.s3_reading import read

_OTHER_PARTS = frozenset({"InvalidPart", "InvalidPartOrder", "BadDigest"})


@dataclass(frozen=True, slots=True)
class Part:
    """One part that the server has. ``crc`` is None where neither side has computed it (a copy)."""

    number: int
    etag: str
    size: int
    crc: int | None


class Multiparts(Objects):
    """Objects, and multipart uploads that become such. Thread-safe."""

    def __init__(self, client: S3Client) -> None:
        super().__init__(client)
        self._most_parts: int | None = None
        self._whole = True

    def create(self, key: Key, *, checked: bool = True) -> str:
        """A new multipart upload; its id. Every part has to come with its checksum where that is ``checked`` and the server can. One that
        a lost answer has left behind is aborted."""
        with_crc = checked and self._whole and self.verifies()
        whole: dict[str, Any] = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"} if with_crc else {}
        try:
            answer = self._call("create_multipart_upload", key, expect=UNKNOWN_REQUEST if whole else (), **whole, **self._new())
        except Refused:
            self._whole = False
            return self.create(key)
        upload = str(answer["UploadId"])
        if answer["Again"]:
            for other, id in list(self.uploads(key)):
                if other == key and id != upload:
                    self.abort(key, id)
        return upload

    def part(self, key: Key, upload: str, number: int, content: Content, *, check: Check | None = None) -> Part:
        """Raises StorageFailed where the upload is gone."""
        proof, md5 = self._proof(content)
        answer = self._call("upload_part", key, check=check, UploadId=upload, PartNumber=number, Body=content.body(), **proof)
        self._compare(answer, content, md5)
        return Part(number, answer["ETag"], content.size, content.crc)

    def copy_part(self, key: Key, upload: str, number: int, source: Key, start: int, end: int, *, etag: str | None = None,
                  crc: int | None = None, check: Check | None = None) -> Part | None:
        """A part that is ``[start, end)`` of another object, at most 5 GiB, copied by the server. None where that is gone or changed."""
        same: dict[str, Any] = {"CopySourceIfMatch": etag} if etag else {}
        try:
            answer = self._call("upload_part_copy", key, expect={"NoSuchKey", "404", *CHANGED, *BEYOND}, check=check, UploadId=upload,
                                PartNumber=number, CopySource=self._source(source), CopySourceRange=f"bytes={start}-{end - 1}", **same)
        except Refused:
            return None
        result = answer["CopyPartResult"]
        told = as_number(result.get("ChecksumCRC64NVME"))
        if crc is not None and told is not None and crc != told:
            raise StorageFailed("the server copied other bytes than were stored", key=key)
        return Part(number, result["ETag"], end - start, crc if crc is not None else told)

    def copy(self, source: Key, key: Key, etag: str) -> bool:
        """``key`` becomes a copy of the other object, at most 5 GB, by the server itself. False where that is gone or changed."""
        try:
            self._call("copy_object", key, expect={*GONE, *CHANGED}, CopySource=self._source(source), CopySourceIfMatch=etag, **self._new())
        except Refused:
            return False
        return True

    def complete(self, key: Key, upload: str, parts: Sequence[Part], *, fresh: bool = True, exact: bool = False,
                 check: Check | None = None) -> None:
        """The parts, in the order of their numbers, are the object. Repeatable: if it is there already, with their size and bytes as
        far as the server tells, all is well. With ``exact`` they are parts of these ETags and no others: the server's own list is not
        asked. Raises StorageFailed where a part is not what it was, or the upload is gone."""
        size, crc = sum(part.size for part in parts), _crc_of(parts)
        named = [{"PartNumber": part.number, "ETag": part.etag, **self._whole_crc(part.crc)} for part in parts]
        whole = {**self._whole_crc(crc), "ChecksumType": "FULL_OBJECT"} if self._whole_crc(crc) else {}
        try:
            answer = self._call_once("complete_multipart_upload", key, fresh=fresh, expect={*GONE, *CHANGED, *_OTHER_PARTS},
                                     check=check, UploadId=upload, MultipartUpload={"Parts": named}, **whole)
        except Refused as refused:
            if not exact and refused.code in _OTHER_PARTS and (listed := self._listed(key, upload, parts)):
                self.complete(key, upload, listed, fresh=fresh, check=check)
                self._read_back(key, size, crc)
            else:
                self._found(key, size, crc, _etag_of(parts), refused)
            return
        if bare(answer.get("ETag")) != _etag_of(parts):
            self._found(key, size, crc, None, None)

    def abort(self, key: Key, upload: str, *, deadline: float | None = None) -> None:
        """Its parts are gone. Trying ends after ``deadline`` seconds where that is given."""
        with suppress(Refused):
            self._call("abort_multipart_upload", key, expect=GONE, deadline=deadline, UploadId=upload)

    def uploads(self, prefix: str) -> Iterator[tuple[Key, str]]:
        """Key and id of all multipart uploads under way whose keys begin so, in order."""
        more: dict[str, Any] = {}
        while True:
            answer = self.client.call("list_multipart_uploads", Prefix=self._settings.prefix + prefix, **more)
            yield from ((self._key(found["Key"]), found["UploadId"]) for found in answer.get("Uploads", ()))
            if not answer.get("IsTruncated"):
                return
            more = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer.get("NextUploadIdMarker", "")}

    def parts(self, key: Key, upload: str) -> Iterator[Part]:
        """What the server has of a multipart upload, by number. Raises Refused where that is gone."""
        more: dict[str, Any] = {}
        while True:
            answer = self._call("list_parts", key, expect=GONE, UploadId=upload, **more)
            yield from (Part(found["PartNumber"], found["ETag"], found["Size"], as_number(found.get("ChecksumCRC64NVME")))
                        for found in answer.get("Parts", ()))
            if not answer.get("IsTruncated"):
                return
            more = {"PartNumberMarker": answer["NextPartNumberMarker"]}

    def most_parts(self) -> int:
        """How many parts an object may have. Asked once, with a part of the highest number that is thrown away."""
        if self._most_parts is None:
            self._most_parts = self._count_parts()
        return self._most_parts

    def _count_parts(self) -> int:
        key, body = Key(f".carboy-probe/{os.urandom(8).hex()}"), b"probe"
        upload = self.create(key)
        try:
            self._call("upload_part", key, expect={"InvalidArgument", "InvalidPartNumber"}, UploadId=upload, PartNumber=MAX_NUMBER,
                       Body=body)
        except Refused:
            return FEW
        finally:
            self.abort(key, upload)
        return MAX_NUMBER

    # --- inside ---

    def _listed(self, key: Key, upload: str, parts: Sequence[Part]) -> list[Part] | None:
        """The same parts as the server calls them, where it calls some otherwise than it once answered."""
        try:
            there = {part.number: part for part in self.parts(key, upload)}
        except Refused:
            return None
        if any(part.number not in there or there[part.number].size != part.size for part in parts):
            return None
        listed = [replace(part, etag=there[part.number].etag) for part in parts]
        return listed if listed != list(parts) else None

    def _read_back(self, key: Key, size: int, crc: int | None) -> None:
        """All of it is read, since the server's word was not enough. Raises BytesDamaged."""
        found = 0
        for piece in read(self, key, 0, size):
            found = checksums.crc64nvme(piece, found)
        if crc is None or found != crc:
            raise BytesDamaged("S3 has other bytes than it was sent", key=key)

    def _whole_crc(self, crc: int | None) -> dict[str, Any]:
        return {"ChecksumCRC64NVME": as_text(crc)} if crc is not None and self._whole and self.verifies() else {}

    def _source(self, key: Key) -> dict[str, str]:
        return {"Bucket": self.client.bucket, "Key": self._settings.prefix + key}


def _etag_of(parts: Sequence[Part]) -> str | None:
    """What S3 calls an object of these parts."""
    etags = [bare(part.etag) for part in parts]
    if not all(MD5.fullmatch(etag) for etag in etags):
        return None
    return f"{hashlib.md5(bytes.fromhex(''.join(etags)), usedforsecurity=False).hexdigest()}-{len(parts)}"


def _crc_of(parts: Sequence[Part]) -> int | None:
    crc = 0
    for part in parts:
        if part.crc is None:
            return None
        crc = checksums.combine(crc, part.crc, part.size)
    return crc
