"""Every way a request of Carboy can fail.

Each error has a stable ``code`` and carries facts (what was wrong, what would be right). None knows HTTP: one table in
``carboy.web.http`` turns a code into a status.
"""

from __future__ import annotations

from typing import Any, ClassVar


class CarboyError(Exception):
    """Base of all errors raised on purpose. ``facts`` are JSON values safe to show to the client."""

    code: ClassVar[str] = "error"
    title: ClassVar[str] = "Carboy could not do this"

    def __init__(self, detail: str, **facts: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.facts = facts


# --- what the client sent ------------------------------------------------------------------------------------------


class InvalidRequest(CarboyError):
    """The request contradicts itself or its grammar."""

    code, title = "invalid_request", "The request is malformed"


class InvalidName(InvalidRequest):
    """A name or path breaks the one rule of :mod:`carboy.engine.names`."""

    code, title = "invalid_name", "The name is not allowed"


class DigestMismatch(CarboyError):
    """The bytes are not the ones the client announced; none of this request's bytes were kept."""

    code, title = "digest_mismatch", "The bytes do not match their digest"


class BodyCut(CarboyError):
    """The body ended before its declared length. ``facts['received']`` counts the bytes that came."""

    code, title = "body_cut", "The body ended early"


class Interrupted(BodyCut):
    """The request was asked to end: another one sends the same bytes, the upload was ended, or the server stops. What came is kept
    where it can be. Trying again is right where nobody else does."""

    code, title = "interrupted", "The request was asked to end"


class TooSlow(CarboyError):
    """The body fell under the minimum rate or stayed silent past the idle limit."""

    code, title = "too_slow", "The body came too slowly"


class TooLarge(CarboyError):
    """A file, form, field or header is over its limit. ``facts['limit']`` is the limit in bytes or items."""

    code, title = "too_large", "Too large"


class UnsupportedType(CarboyError):
    """The detected media type is not one the space accepts."""

    code, title = "unsupported_type", "This type of file is not accepted here"


class RangeNotSatisfiable(CarboyError):
    """No byte of the file lies in the ranges asked for. ``facts['size']`` is the file's size."""

    code, title = "range_not_satisfiable", "The range lies outside the file"


class PreconditionFailed(CarboyError):
    """``If-Match``, ``If-None-Match`` or ``If-Unmodified-Since`` did not hold."""

    code, title = "precondition_failed", "The precondition does not hold"


# --- who is asking -------------------------------------------------------------------------------------------------


class Unauthenticated(CarboyError):
    """No principal, or a token that is unknown, expired or revoked."""

    code, title = "unauthenticated", "A token is needed"


class Forbidden(CarboyError):
    """The principal may know of this, but not do it."""

    code, title = "forbidden", "Not allowed"


class NotFound(CarboyError):
    """There is no such thing, or none the principal may see."""

    code, title = "not_found", "Not found"


class BadSignature(Forbidden):
    """An address or a cookie that was not made here, or was altered since."""

    code, title = "bad_signature", "The signature does not fit"


class PasswordNeeded(Forbidden):
    """The link has a password, and none or a wrong one was given."""

    code, title = "password_needed", "A password is needed"


class LinkExpired(CarboyError):
    """The link is expired, revoked or used up. ``facts['reason']`` says which."""

    code, title = "link_expired", "The link is no longer good"


class RateLimited(CarboyError):
    """Too many requests. ``facts['retry_after']`` is in seconds."""

    code, title = "rate_limited", "Too many requests"


# --- the state of things -------------------------------------------------------------------------------------------


class Conflict(CarboyError):
    """What is stored contradicts the request."""

    code, title = "conflict", "This conflicts with what is stored"


class PathConflict(Conflict):
    """A path is a file or a folder, never both."""

    code, title = "path_conflict", "A path is a file or a folder, never both"


class BytesDiffer(Conflict):
    """Bytes already recorded were sent again with another content."""

    code, title = "bytes_differ", "These bytes were already received with another content"


class OffsetMismatch(Conflict):
    """The request's offset is not where the upload stands. ``facts['expected']`` is."""

    code, title = "offset_mismatch", "The offset is not where the upload stands"


class MissingBytes(Conflict):
    """The upload was asked to complete with gaps. ``facts['missing']`` lists them."""

    code, title = "missing_bytes", "Parts of the upload are missing"


class RequestUnderWay(Conflict):
    """The first request with this Idempotency-Key is not answered yet. Try again shortly."""

    code, title = "request_under_way", "The first request with this key is under way"


class KeyReused(CarboyError):
    """The Idempotency-Key was used for another request."""

    code, title = "key_reused", "The key belongs to another request"


class RangeBusy(Conflict):
    """Another request is writing some of these bytes now. Trying again later is right."""

    code, title = "range_busy", "Another request is writing these bytes"


class UploadGone(CarboyError):
    """The upload was cancelled, expired or failed; it takes no more bytes."""

    code, title = "upload_gone", "The upload takes no more bytes"


# --- the machine ---------------------------------------------------------------------------------------------------


class NotSupported(CarboyError):
    """The storage can't do this, or none that could is set up."""

    code, title = "not_supported", "Not supported here"


class AddressRefused(CarboyError):
    """A name stands for an address of this machine or of a private network, where Carboy was to connect to by somebody's wish."""

    code, title = "address_refused", "This address is not public"


class Unreachable(CarboyError):
    """Another server, which Carboy was to connect to, can't be found or doesn't answer."""

    code, title = "unreachable", "The other server can't be reached"


class Busy(CarboyError):
    """All threads for bodies, or for answers that take their time, are taken. Trying again later is right."""

    code, title = "busy", "Too many requests at once"


class StorageFull(CarboyError):
    """No room for these bytes. A resumable upload keeps what it has."""

    code, title = "storage_full", "The storage is full"


class QuotaExceeded(StorageFull):
    """More than the space, or its owner in it, may keep. Facts: ``scope`` (space or owner), ``limit``, ``used`` (of which ``in_trash``
    may be purged) and ``size``, all in bytes."""

    code, title = "quota_exceeded", "The quota does not allow this"


class StorageReadOnly(CarboyError):
    """The storage takes no bytes at present."""

    code, title = "storage_read_only", "The storage is read-only"


class StorageUnavailable(CarboyError):
    """The storage can't be reached, or refuses to serve Carboy at all. Nothing that it had is lost; trying again later is right.
    ``facts['reason']`` is what an operator would look at: connection, busy, keys, bucket, clock, region, certificate, answer."""

    code, title = "storage_unavailable", "The storage is unavailable"


class StorageFailed(CarboyError):
    """The storage failed to keep bytes (a failed fsync, for one). Final for that file: never retried into success."""

    code, title = "storage_failed", "The storage failed"


class BytesMissing(StorageFailed):
    """The catalog names bytes that the storage doesn't have."""

    code, title = "bytes_missing", "The stored bytes are missing"


class BytesDamaged(StorageFailed):
    """A scrub found that the stored bytes are not the ones received. Nobody is given them; another version or a backup may have
    them."""

    code, title = "bytes_damaged", "The stored bytes are damaged"


class Pending(CarboyError):
    """The content is held back until the space's steps are through with it; ``steps`` names those that are not."""

    code, title = "pending", "The file is still being checked"


class Quarantined(CarboyError):
    """A scan found something in the content: nobody is given it."""

    code, title = "quarantined", "The file is in quarantine"


class StepFailed(CarboyError):
    """A step can't do its work on this content. With ``retry`` (seconds, or True for the step's own backoff) it may do so later; else
    trying again would help nothing."""

    code, title = "step_failed", "The step failed"

    def __init__(self, detail: str, *, retry: float | bool = False, **facts: Any) -> None:
        super().__init__(detail, **facts)
        self.retry = retry


class Cancelled(CarboyError):
    """Nothing may come of this job any more: it was cancelled, took too long, or its content is gone."""

    code, title = "cancelled", "The job was cancelled"


class CatalogUnavailable(CarboyError):
    """The catalog could not be asked, and nothing was changed."""

    code, title = "catalog_unavailable", "The catalog is unavailable"


class CommitUnknown(CarboyError):
    """COMMIT itself failed, so whether it happened is unknown: read again before deciding, and delete nothing."""

    code, title = "commit_unknown", "It is unknown whether the change was kept"


class SchemaMismatch(CarboyError):
    """The catalog's schema is newer than this Carboy, or PostgreSQL's is older and wants ``carboy db upgrade``."""

    code, title = "schema_mismatch", "The catalog has another version"


class ConfigError(CarboyError):
    """A setting is wrong; says which, and what would be right."""

    code, title = "config_error", "A setting is wrong"
