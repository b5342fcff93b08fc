"""Trying out whether an S3 server does what Carboy asks of it: everything is done once, on keys of its own, which are removed again."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Literal
from urllib.parse import urlsplit

from carboy import checksums
from carboy.config import S3StorageSettings
from carboy.errors import CarboyError, ConfigError
from carboy.model import Key
from carboy.storage.s3_client import Answer, Refused, S3Client, keys_from
from carboy.storage.s3_multiparts import Multiparts

SKEW = 60.0
"""Seconds that clocks may differ without a word; S3 refuses 900."""
_PATIENCE = 8.0
_LIMIT = 15.0
_NO_RULES = ("NoSuchCORSConfiguration", "NotImplemented", "404", "501", "405", "400")
_CONSISTENT = "Carboy needs a server that shows objects as soon as they are written"
_NO_CORS = ("browsers can't send files to the bucket itself (nothing else needs that): give it a rule with the origins of your pages, the "
            "methods PUT and GET, the headers * and ETag exposed")


@dataclass(frozen=True, slots=True)
class Probed:
    """What one trial showed; ``advice`` is empty where all is well."""

    status: Literal["ok", "warning", "problem"]
    what: str
    advice: str = ""


@dataclass(slots=True)
class _Bytes:
    """A few bytes as a body."""

    data: bytes
    size: int
    crc: int

    def body(self) -> bytes:
        return self.data

    def pieces(self) -> Iterator[memoryview]:
        yield memoryview(self.data)


class Probe:
    """One storage of the settings."""

    def __init__(self, settings: S3StorageSettings) -> None:
        self._settings = settings.model_copy(update={"deadline": min(settings.deadline, _PATIENCE)})
        self._client = S3Client(self._settings)
        self._objects = Multiparts(self._client)
        self._key = Key(f".carboy-doctor/{os.urandom(8).hex()}")
        data = os.urandom(1000)
        self._content = _Bytes(data, len(data), checksums.crc64nvme(data))

    def run(self) -> Iterator[Probed]:
        """Each trial, in order; where the bucket can't be used at all the rest is left out. Leaves nothing behind."""
        for reach in (self._keys, self._bucket):
            found = list(self._tried(reach))
            yield from found
            if any(one.status == "problem" for one in found):
                return
        try:
            for trial in (self._put_and_get, self._conditions, self._checksums, self._multipart, self._lists, self._addresses, self._cors):
                yield from self._tried(trial)
        finally:
            yield from self._tried(self._remove)
            self._client.close()

    def _tried(self, trial: Callable[[], Iterator[Probed]]) -> Iterator[Probed]:
        try:
            yield from trial()
        except ConfigError as error:
            yield Probed("problem", error.detail, "set it right")
        except CarboyError as error:
            yield Probed("problem", error.detail, _ADVICE.get(str(error.facts.get("reason")), "see what the server's log says"))
        except Refused as refused:
            yield Probed("problem", f"the server refuses with {refused.code}", "see what the server's log says")

    def _call(self, operation: str, **params: Any) -> Answer:
        return self._client.call(operation, **params)

    # --- the way there ---

    def _keys(self) -> Iterator[Probed]:
        method = keys_from()
        if method is None:
            yield Probed("problem", "no keys were found", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role")
        else:
            yield Probed("ok", f"keys are found ({_METHODS.get(method, method)})")

    def _bucket(self) -> Iterator[Probed]:
        before = time.time()
        answer = self._call("head_bucket")
        yield Probed("ok", f"the bucket {self._client.bucket!r} answers, {(time.time() - before) * 1000:.0f} ms")
        there = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        if there:
            yield skew(parsedate_to_datetime(there).timestamp() - time.time())

    # --- what is done with objects ---

    def _put_and_get(self) -> Iterator[Probed]:
        self._objects.put(self._key, self._content)
        yield Probed("ok", "an object was written")
        answer = self._objects.get(self._key, 10, 20)
        if answer is None:
            yield Probed("problem", "what was just written can't be read", _CONSISTENT)
            return
        with answer["Body"] as body:
            read = body.read()
        if read == self._content.data[10:20]:
            yield Probed("ok", "a range of it was read")
        else:
            yield Probed("problem", "reading gives other bytes than were asked for", "see whether a proxy stands before the server")

    def _conditions(self) -> Iterator[Probed]:
        try:
            self._call("put_object", Key=self._settings.prefix + self._key, Body=self._content.data, IfNoneMatch="*",
                       expect=("PreconditionFailed", "412", "NotImplemented", "501"))
        except Refused as refused:
            if refused.code in ("PreconditionFailed", "412"):
                yield Probed("ok", "nothing is overwritten (If-None-Match)")
                return
        yield Probed("warning", "the server knows no If-None-Match", "keys are random, so none is used twice; a newer server makes sure")

    def _checksums(self) -> Iterator[Probed]:
        if self._objects.verifies():
            yield Probed("ok", "bytes are checked by CRC-64/NVME, and wrong ones refused")
        elif self._refuses_wrong_md5():
            yield Probed("ok", "bytes are checked by MD5, and wrong ones refused; CRC-64/NVME, which costs less, isn't known there")
        else:
            yield Probed("warning", "the server takes bytes with a wrong checksum",
                         "what is spoilt on the way is found only when it is read; use a server that checks Content-MD5")

    def _refuses_wrong_md5(self) -> bool:
        try:
            self._call("put_object", Key=f"{self._settings.prefix}{self._key}-md5", Body=b"probe", ContentMD5="A" * 22 + "==",
                       expect=("BadDigest", "InvalidDigest", "400"))
        except Refused:
            return True
        self._objects.delete(Key(f"{self._key}-md5"))
        return False

    def _multipart(self) -> Iterator[Probed]:
        key = Key(f"{self._key}-parts")
        upload = self._objects.create(key)
        try:
            part = self._objects.part(key, upload, 1, self._content)
            self._objects.complete(key, upload, [part])
            head = self._objects.head(key)
        finally:
            with suppress(CarboyError):
                self._objects.abort(key, upload)
            self._objects.delete(key)
        if head is None or head.size != self._content.size:
            yield Probed("problem", "a multipart upload was completed and isn't there", _CONSISTENT)
        else:
            yield Probed("ok", f"a multipart upload was made; one may have {self._objects.most_parts()} parts")

    def _lists(self) -> Iterator[Probed]:
        found = self._key in self._objects.objects(self._key)
        list(self._objects.uploads(self._key))
        if found:
            yield Probed("ok", "objects and multipart uploads are listed")
        else:
            yield Probed("warning", "what was just written isn't listed", "what crashes leave behind may be removed late")

    def _remove(self) -> Iterator[Probed]:
        self._objects.delete(self._key)
        if self._objects.head(self._key):
            yield Probed("warning", "what was deleted is still there", "see whether the keys may delete; else nothing is ever freed")
        else:
            yield Probed("ok", "objects are deleted")

    # --- addresses for clients ---

    def _addresses(self) -> Iterator[Probed]:
        where = self._client.presigned("get_object", 60, Key=self._settings.prefix + self._key)
        status, body = self._asked("GET", where)
        if (status, body) != (200, self._content.data):
            yield Probed("problem", f"a signed address for a download answers {status}", "see the storage's `endpoint` and `style`; leave "
                                                                                         "`redirect` off")
            return
        yield Probed("ok", "signed addresses for downloads work")
        yield from self._forged(where)
        yield from self._sent_by_a_client()

    def _forged(self, where: str) -> Iterator[Probed]:
        head, _, signature = where.rpartition("X-Amz-Signature=")
        if self._asked("GET", f"{head}X-Amz-Signature={'0' * 64}{signature[64:]}")[0] == 200:
            yield Probed("warning", "the server takes forged addresses", "whoever reaches it can read everything; it is for tests alone")

    def _sent_by_a_client(self) -> Iterator[Probed]:
        key = Key(f"{self._key}-sent")
        upload = self._objects.create(key)
        try:
            where = self._client.presigned("upload_part", 60, Key=self._settings.prefix + key, UploadId=upload, PartNumber=1)
            status, _ = self._asked("PUT", where, self._content.data)
            there = [part.size for part in self._objects.parts(key, upload)]
        finally:
            self._objects.abort(key, upload)
        if status == 200 and there == [self._content.size]:
            yield Probed("ok", "signed addresses for uploads work")
        else:
            yield Probed("warning", f"a signed address for a part of an upload answers {status}", "clients can't send files to the bucket "
                                                                                                "itself")

    def _asked(self, method: str, address: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body; 0 for no answer."""
        to = urlsplit(address)
        connection = HTTPConnection(to.netloc, timeout=_LIMIT) if to.scheme == "http" else HTTPSConnection(
            to.netloc, timeout=_LIMIT, context=ssl.create_default_context(cafile=self._settings.ca or None))
        try:
            connection.request(method, f"{to.path}?{to.query}", body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, HTTPException):
            return 0, b""
        finally:
            connection.close()

    def _cors(self) -> Iterator[Probed]:
        try:
            rules = self._call("get_bucket_cors", expect=_NO_RULES).get("CORSRules", [])
        except Refused:
            rules = []
        except CarboyError:
            yield Probed("warning", "the bucket's CORS rules can't be asked for", "allow s3:GetBucketCORS, or see to them yourself")
            return
        yield cors(rules)


def skew(seconds: float) -> Probed:
    """How far the server's clock is from this machine's."""
    if abs(seconds) > SKEW:
        return Probed("warning", f"the server's clock is {seconds:+.0f} s off this machine's",
                      "from 900 s on it refuses everything; set both by NTP")
    return Probed("ok", "the server's clock agrees")


def cors(rules: list[dict[str, Any]]) -> Probed:
    """Whether some rule lets a browser send parts and read their tags."""
    for rule in rules:
        exposed = {name.lower() for name in rule.get("ExposeHeaders", ())}
        headers = {name.lower() for name in rule.get("AllowedHeaders", ())}
        allowed = "*" in headers or {"content-type", "content-md5"} <= headers
        if "PUT" in rule.get("AllowedMethods", ()) and "etag" in exposed and allowed:
            return Probed("ok", f"browsers may send files to the bucket, from pages of {', '.join(rule.get('AllowedOrigins', ()))}")
    return Probed("warning", "the bucket has no CORS rule for uploads by browsers", _NO_CORS)


_METHODS = {"env": "in the environment", "shared-credentials-file": "in the credentials file", "config-file": "in the configuration file",
            "iam-role": "the machine's role", "container-role": "the container's role", "assume-role": "an assumed role",
            "assume-role-with-web-identity": "an assumed role, by web identity", "sso": "single sign-on",
            "custom-process": "from a process"}
_ADVICE = {
    "keys": "see the keys, and what their policy allows (docs/storage.md lists what Carboy needs)",
    "connection": "see the storage's `endpoint`, and that the server runs and can be reached from here",
    "bucket": "make the bucket, or set the storage's `bucket`", "clock": "let a time service set this machine's clock",
    "region": "set the storage's `region`", "certificate": "set the storage's `ca` to the file that vouches for the server",
    "busy": "try again later; see the server's load and limits",
}
