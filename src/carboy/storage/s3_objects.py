"""What Carboy does with objects and multipart uploads of one bucket, each as one call that is sure of its outcome.

Every body is proved by the server: by CRC-64/NVME where it checks that, which is found out once by giving it a wrong one, else by MD5. A
lost answer is found out by asking what is there, never guessed.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from carboy import checksums
from carboy.errors import StorageFailed, StorageUnavailable
from carboy.model import Key
from carboy.storage.s3_client import Answer, Check, Refused, S3Client
from carboy.storage.s3_parts import FEW, MAX_NUMBER

GONE = frozenset({"NoSuchKey", "NoSuchUpload", "404"})
_CHANGED, _BEYOND = frozenset({"PreconditionFailed", "412"}), frozenset({"InvalidRange", "416"})
_OTHER_PARTS = frozenset({"InvalidPart", "InvalidPartOrder"})
_MD5 = re.compile(r"[0-9a-f]{32}")
_UNKNOWN_REQUEST = frozenset({"NotImplemented", "InvalidRequest", "InvalidArgument", "MalformedXML", "501"})


class Content(Protocol):
    """Bytes on their way to the server: a :class:`carboy.storage.s3_buffers.Block`."""

    size: int
    crc: int

    def body(self) -> Any: ...

    def pieces(self) -> Iterator[memoryview]: ...


@dataclass(frozen=True, slots=True)
class Part:
    """One part that the server has. ``crc`` is None where neither side has computed it (a copy)."""

    number: int
    etag: str
    size: int
    crc: int | None


@dataclass(frozen=True, slots=True)
class Head:
    """What the server says of an object."""

    size: int
    etag: str
    crc: int | None = None


class Objects:
    """Objects by their keys, under the storage's prefix. Thread-safe."""

    def __init__(self, client: S3Client) -> None:
        self.client = client
        self._settings = client.settings
        self._lock = threading.Lock()
        self._verifies: bool | None = None
        self._most_parts: int | None = None
        self._whole = True
        self._conditional = True

    # --- objects ---

    def put(self, key: Key, content: Content, *, check: Check | None = None) -> Head:
        """A new object; never over another one. Raises StorageFailed where there is one with other bytes."""
        proof, md5 = self._proof(content)
        try:
            answer = self._call_once("put_object", key, expect=_CHANGED, check=check, Body=content.body(), **proof,
                                     **self._new())
        except Refused as refused:
            return self._found(key, content.size, content.crc, md5 or _md5(content), refused)
        self._compare(answer["ETag"], md5)
        return Head(content.size, answer["ETag"], content.crc)

    def head(self, key: Key) -> Head | None:
        """None for no such object."""
        try:
            answer = self._call("head_object", key, expect=GONE, ChecksumMode="ENABLED")
        except Refused:
            return None
        whole = answer.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
        return Head(answer["ContentLength"], answer["ETag"], _number(answer.get("ChecksumCRC64NVME")) if whole else None)

    def get(self, key: Key, start: int, end: int | None, etag: str | None = None) -> Answer | None:
        """The server's answer with a body of ``[start, end)``; None for no such object, or another one than that with the ``etag``. Raises
        Refused where it ends before ``start``."""
        params: dict[str, Any] = {"IfMatch": etag} if etag else {}
        if start or end is not None:
            params["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        try:
            return self._call("get_object", key, expect={*GONE, *_CHANGED, *_BEYOND}, **params)
        except Refused as refused:
            if refused.code in _BEYOND:
                raise
            return None

    def copy(self, source: Key, key: Key, etag: str) -> bool:
        """``key`` becomes a copy of the other object, at most 5 GB, by the server itself. False where that is gone or changed."""
        try:
            self._call("copy_object", key, expect={*GONE, *_CHANGED}, CopySource=self._source(source),
                       CopySourceIfMatch=etag, **self._new())
        except Refused:
            return False
        return True

    def delete(self, key: Key) -> None:
        with suppress(Refused):
            self._call("delete_object", key, expect=GONE)

    def objects(self, prefix: str) -> Iterator[Key]:
        """All objects whose keys begin so, in order."""
        more: dict[str, Any] = {}
        while True:
            answer = self.client.call("list_objects_v2", Prefix=self._settings.prefix + prefix, **more)
            yield from (self._key(found["Key"]) for found in answer.get("Contents", ()))
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    # --- multipart uploads ---

    def create(self, key: Key, *, checked: bool = True) -> str:
        """A new multipart upload; its id. Every part has to come with its checksum where that is ``checked`` and the server can. One that
        a lost answer has left behind is aborted."""
        with_crc = checked and self._whole and self.verifies()
        whole: dict[str, Any] = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"} if with_crc else {}
        try:
            answer = self._call("create_multipart_upload", key, expect=_UNKNOWN_REQUEST if whole else (), **whole, **self._new())
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
        self._compare(answer["ETag"], md5)
        return Part(number, answer["ETag"], content.size, content.crc)

    def copy_part(self, key: Key, upload: str, number: int, source: Key, start: int, end: int, *, etag: str | None = None,
                  crc: int | None = None, check: Check | None = None) -> Part | None:
        """A part that is ``[start, end)`` of another object, at most 5 GiB, copied by the server. None where that is gone or changed."""
        same: dict[str, Any] = {"CopySourceIfMatch": etag} if etag else {}
        try:
            answer = self._call("upload_part_copy", key, expect={"NoSuchKey", "404", *_CHANGED, *_BEYOND}, check=check, UploadId=upload,
                                PartNumber=number, CopySource=self._source(source), CopySourceRange=f"bytes={start}-{end - 1}", **same)
        except Refused:
            return None
        result = answer["CopyPartResult"]
        told = _number(result.get("ChecksumCRC64NVME"))
        if crc is not None and told is not None and crc != told:
            raise StorageFailed("the server copied other bytes than were stored", key=key)
        return Part(number, result["ETag"], end - start, crc if crc is not None else told)

    def complete(self, key: Key, upload: str, parts: Sequence[Part], *, fresh: bool = True) -> None:
        """The parts, in the order of their numbers, are the object. Repeatable: if it is there already, with their size and bytes as
        far as the server tells, all is well. Raises StorageFailed where a part is not what it was, or the upload is gone."""
        size, crc = sum(part.size for part in parts), _crc_of(parts)
        named = [{"PartNumber": part.number, "ETag": part.etag, **self._whole_crc(part.crc)} for part in parts]
        whole = {**self._whole_crc(crc), "ChecksumType": "FULL_OBJECT"} if self._whole_crc(crc) else {}
        try:
            answer = self._call_once("complete_multipart_upload", key, fresh=fresh, expect={*GONE, *_CHANGED, *_OTHER_PARTS},
                                     UploadId=upload, MultipartUpload={"Parts": named}, **whole)
        except Refused as refused:
            self._found(key, size, crc, _etag_of(parts), refused)
            return
        if _bare(answer.get("ETag")) != _etag_of(parts):
            self._found(key, size, crc, None, None)

    def abort(self, key: Key, upload: str) -> None:
        with suppress(Refused):
            self._call("abort_multipart_upload", key, expect=GONE, UploadId=upload)

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
            yield from (Part(found["PartNumber"], found["ETag"], found["Size"], _number(found.get("ChecksumCRC64NVME")))
                        for found in answer.get("Parts", ()))
            if not answer.get("IsTruncated"):
                return
            more = {"PartNumberMarker": answer["NextPartNumberMarker"]}

    # --- what the server can ---

    def verifies(self) -> bool:
        """Whether it refuses a body whose CRC-64/NVME is not the one given. Asked once, with a probe that leaves nothing."""
        if self._verifies is None:
            with self._lock:
                if self._verifies is None:
                    self._verifies = self._probe()
        return self._verifies

    def most_parts(self) -> int:
        """How many parts an object may have. Asked once, with a part of the highest number that is thrown away."""
        if self._most_parts is None:
            with self._lock:
                if self._most_parts is None:
                    self._most_parts = self._count_parts()
        return self._most_parts

    def _count_parts(self) -> int:
        key, body = Key(f".carboy-probe/{os.urandom(8).hex()}"), b"probe"
        upload = self.create(key)
        try:
            self._call("upload_part", key, expect={"InvalidArgument", "InvalidPartNumber"}, UploadId=upload, PartNumber=MAX_NUMBER, Body=body)
        except Refused:
            return FEW
        finally:
            self.abort(key, upload)
        return MAX_NUMBER

    def _probe(self) -> bool:
        key, body = Key(f".carboy-probe/{os.urandom(8).hex()}"), b"probe"
        wrong = _text(checksums.crc64nvme(body) ^ 1)
        refused = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", *_UNKNOWN_REQUEST}
        try:
            self._call("put_object", key, expect=refused, Body=body, ChecksumCRC64NVME=wrong)
        except Refused as error:
            return error.code not in _UNKNOWN_REQUEST
        self.delete(key)
        return False

    # --- inside ---

    def _call(self, operation: str, key: Key, *, expect: Collection[str] = (), check: Check | None = None, **params: Any) -> Answer:
        return self.client.call(operation, expect=expect, check=check, Key=self._settings.prefix + key, **params)

    def _call_once(self, operation: str, key: Key, *, expect: Collection[str], fresh: bool = True, **params: Any) -> Answer:
        """With the condition that there is no such object yet, where the server knows such."""
        if fresh and self._conditional:
            try:
                return self._call(operation, key, expect={*expect, "NotImplemented", "501"}, IfNoneMatch="*", **params)
            except Refused as refused:
                if refused.code not in ("NotImplemented", "501"):
                    raise
                self._conditional = False
        return self._call(operation, key, expect=expect, **params)

    def _new(self) -> dict[str, Any]:
        """How new objects are kept."""
        settings = self._settings
        wanted = {"StorageClass": settings.storage_class, "ServerSideEncryption": settings.sse, "SSEKMSKeyId": settings.sse_kms_key}
        return {name: value for name, value in wanted.items() if value}

    def _proof(self, content: Content) -> tuple[dict[str, Any], str | None]:
        """What the server checks the body by, and its MD5 where that is it."""
        if self.verifies():
            return {"ChecksumCRC64NVME": _text(content.crc)}, None
        md5 = _md5(content)
        return {"ContentMD5": base64.b64encode(bytes.fromhex(md5)).decode()}, md5

    def _whole_crc(self, crc: int | None) -> dict[str, Any]:
        return {"ChecksumCRC64NVME": _text(crc)} if crc is not None and self._whole and self.verifies() else {}

    def _compare(self, etag: str, md5: str | None) -> None:
        """An ETag is the MD5 of what the server has, but where it encrypts with a key of its own, or says nothing."""
        told = _bare(etag)
        if md5 and _MD5.fullmatch(told) and told != md5 and not self._settings.sse.startswith("aws:kms"):
            raise StorageUnavailable("the S3 server has stored other bytes than it was sent", reason="answer")

    def _found(self, key: Key, size: int, crc: int | None, etag: str | None, refused: Refused | None) -> Head:
        """The object that is there, which has to be the one that was to be made. Raises StorageFailed."""
        head = self.head(key)
        why = f" ({refused.code})" if refused else ""
        if head is None:
            raise StorageFailed(f"S3 has lost parts of the file{why}", key=key)
        if head.size != size or self._differs(head, crc, etag):
            raise StorageFailed(f"S3 has other bytes than it was sent{why}", key=key, size=size, stored=head.size)
        return head

    def _differs(self, head: Head, crc: int | None, etag: str | None) -> bool:
        """Whether the server tells that the object has other bytes than those with this CRC, and this ETag where it is an MD5."""
        if head.crc is not None and crc is not None:
            return head.crc != crc
        told = bool(etag and _is_md5(head.etag)) and not self._settings.sse.startswith("aws:kms")
        return told and _bare(head.etag) != etag

    def _source(self, key: Key) -> dict[str, str]:
        return {"Bucket": self.client.bucket, "Key": self._settings.prefix + key}

    def _key(self, name: str) -> Key:
        return Key(name.removeprefix(self._settings.prefix))


def _md5(content: Content) -> str:
    running = hashlib.md5(usedforsecurity=False)
    for piece in content.pieces():
        running.update(piece)
    return running.hexdigest()


def _bare(etag: str | None) -> str:
    return (etag or "").strip('"')


def _is_md5(etag: str) -> bool:
    return bool(re.fullmatch(r"[0-9a-f]{32}(-\d+)?", _bare(etag)))


def _etag_of(parts: Sequence[Part]) -> str | None:
    """What S3 calls an object of these parts."""
    bare = [_bare(part.etag) for part in parts]
    if not all(_MD5.fullmatch(etag) for etag in bare):
        return None
    return f"{hashlib.md5(bytes.fromhex(''.join(bare)), usedforsecurity=False).hexdigest()}-{len(parts)}"


def _crc_of(parts: Sequence[Part]) -> int | None:
    crc = 0
    for part in parts:
        if part.crc is None:
            return None
        crc = checksums.combine(crc, part.crc, part.size)
    return crc


def _text(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(8, "big")).decode()


def _number(text: str | None) -> int | None:
    return int.from_bytes(base64.b64decode(text), "big") if text else None


