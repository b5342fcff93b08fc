"""What Carboy does with objects and multipart uploads of one bucket, each as one call that is sure of its outcome.

Every body is proved by the server: by CRC-64/NVME where it checks that, which is found out once by giving it a wrong one, else by MD5. A
lost answer is found out by asking what is there, never guessed.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from carboy import checksums
from carboy.errors import StorageFailed, StorageUnavailable
from carboy.model import Key
from carboy.storage.s3_client import Answer, Check, Refused, S3Client

GONE = frozenset({"NoSuchKey", "NoSuchUpload", "404"})
CHANGED, BEYOND = frozenset({"PreconditionFailed", "412"}), frozenset({"InvalidRange", "416"})
_OTHER_PARTS = frozenset({"InvalidPart", "InvalidPartOrder"})
MD5 = re.compile(r"[0-9a-f]{32}")
UNKNOWN_REQUEST = frozenset({"NotImplemented", "InvalidRequest", "InvalidArgument", "MalformedXML", "501"})


class Content(Protocol):
    """Bytes on their way to the server: a :class:`carboy.storage.s3_buffers.Block`."""

    size: int
    crc: int

    def body(self) -> Any: ...

    def pieces(self) -> Iterator[memoryview]: ...


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
        self._verifies: bool | None = None
        self._conditional = True

    # --- objects ---

    def put(self, key: Key, content: Content, *, check: Check | None = None) -> Head:
        """A new object; never over another one. Raises StorageFailed where there is one with other bytes."""
        proof, md5 = self._proof(content)
        try:
            answer = self._call_once("put_object", key, expect=CHANGED, check=check, Body=content.body(), **proof,
                                     **self._new())
        except Refused as refused:
            return self._found(key, content.size, content.crc, md5 or _md5(content), refused)
        self._compare(answer, content, md5)
        return Head(content.size, answer["ETag"], content.crc)

    def head(self, key: Key) -> Head | None:
        """None for no such object."""
        try:
            answer = self._call("head_object", key, expect=GONE, ChecksumMode="ENABLED")
        except Refused:
            return None
        whole = answer.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
        return Head(answer["ContentLength"], answer["ETag"], as_number(answer.get("ChecksumCRC64NVME")) if whole else None)

    def get(self, key: Key, start: int, end: int | None, etag: str | None = None) -> Answer | None:
        """The server's answer with a body of ``[start, end)``; None for no such object, or another one than that with the ``etag``. Raises
        Refused where it ends before ``start``."""
        params: dict[str, Any] = {"IfMatch": etag} if etag else {}
        if start or end is not None:
            params["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        try:
            return self._call("get_object", key, expect={*GONE, *CHANGED, *BEYOND}, **params)
        except Refused as refused:
            if refused.code in BEYOND:
                raise
            return None

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

    # --- what the server can ---

    def verifies(self) -> bool:
        """Whether it refuses a body whose CRC-64/NVME is not the one given. Asked when first needed, with a probe that leaves nothing."""
        if self._verifies is None:
            self._verifies = self._probe()
        return self._verifies

    def _probe(self) -> bool:
        key, body = Key(f".carboy-probe/{os.urandom(8).hex()}"), b"probe"
        wrong = as_text(checksums.crc64nvme(body) ^ 1)
        refused = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", *UNKNOWN_REQUEST}
        try:
            self._call("put_object", key, expect=refused, Body=body, ChecksumCRC64NVME=wrong)
        except Refused as error:
            return error.code not in UNKNOWN_REQUEST
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
            return {"ChecksumCRC64NVME": as_text(content.crc)}, None
        md5 = _md5(content)
        return {"ContentMD5": base64.b64encode(bytes.fromhex(md5)).decode()}, md5

    def _compare(self, answer: Answer, content: Content, md5: str | None) -> None:
        """An ETag is the MD5 of what the server has, but where it encrypts with a key of its own, or says nothing."""
        told, crc = bare(answer.get("ETag")), as_number(answer.get("ChecksumCRC64NVME"))
        differs = md5 and MD5.fullmatch(told) and told != md5 and not self._settings.sse.startswith("aws:kms")
        if differs or (crc is not None and crc != content.crc):
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
        return told and bare(head.etag) != etag

    def _key(self, name: str) -> Key:
        return Key(name.removeprefix(self._settings.prefix))


def _md5(content: Content) -> str:
    running = hashlib.md5(usedforsecurity=False)
    for piece in content.pieces():
        running.update(piece)
    return running.hexdigest()


def bare(etag: str | None) -> str:
    return (etag or "").strip('"')


def _is_md5(etag: str) -> bool:
    return bool(re.fullmatch(r"[0-9a-f]{32}(-\d+)?", bare(etag)))


def as_text(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(8, "big")).decode()


def as_number(text: str | None) -> int | None:
    return int.from_bytes(base64.b64decode(text), "big") if text else None


