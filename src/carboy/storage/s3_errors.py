"""What the errors of an S3 server and of the way to it mean, in Carboy's words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore import exceptions as aws

from carboy.errors import CarboyError, StorageFailed, StorageFull, StorageUnavailable

RETRIED = frozenset({
    "InternalError", "InternalFailure", "ServiceUnavailable", "SlowDown", "SlowDownRead", "SlowDownWrite", "RequestTimeout",
    "RequestTimeoutException", "Throttling", "ThrottlingException", "ThrottledException", "RequestLimitExceeded", "TooManyRequests",
    "BandwidthLimitExceeded", "OperationAborted", "ConditionalRequestConflict", "ConcurrentModification", "IncompleteBody", "BadDigest",
    "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "PriorRequestNotComplete",
})
"""Codes of what may go well the next time. A digest that doesn't fit was spoilt on the way: the same bytes are sent again."""

_KEYS = {
    "InvalidAccessKeyId": "doesn't know the access key", "SignatureDoesNotMatch": "finds the secret key wrong",
    "ExpiredToken": "finds the session's token expired", "ExpiredTokenException": "finds the session's token expired",
    "InvalidToken": "finds the session's token wrong", "TokenRefreshRequired": "finds the session's token expired",
    "AccessDenied": "denies access", "AccountProblem": "denies access", "NotSignedUp": "denies access",
    "403": "denies access", "401": "denies access", "Unauthorized": "denies access", "Forbidden": "denies access",
}
_REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException", "301", "307"}
_FULL = {"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "507"}
_WAY = (aws.ConnectionError, aws.HTTPClientError, aws.ReadTimeoutError, aws.ConnectTimeoutError, aws.ResponseStreamingError,
        aws.IncompleteReadError, OSError)


def is_foreign(error: Exception) -> bool:
    """Whether it comes from the client library or from below it."""
    return isinstance(error, (aws.BotoCoreError, aws.ClientError, OSError))


def code_of(error: Exception) -> str:
    """The code of what the server answered, "" where it answered nothing."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, aws.ClientError) else ""


def status_of(error: Exception) -> int:
    """The HTTP status of its answer, 0 for none."""
    return int(_meta(error).get("HTTPStatusCode") or 0)


def may_pass(error: Exception) -> bool:
    """Whether doing the same again may go well."""
    if isinstance(error, aws.ClientError):
        return code_of(error) in RETRIED or status_of(error) in (429, 500, 502, 503, 504) or _is_transient_denial(error)
    return isinstance(error, _WAY) and not isinstance(error, aws.SSLError)


def translated(error: Exception, operation: str, bucket: str) -> CarboyError:
    """Carboy's error for one that no retry has helped."""
    if isinstance(error, aws.ClientError):
        return _refused(code_of(error), error, operation, bucket)
    if isinstance(error, (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError, aws.TokenRetrievalError,
                          aws.UnauthorizedSSOTokenError, aws.NoAuthTokenError)):
        return unavailable("keys", "no keys for S3 were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role")
    if isinstance(error, aws.SSLError):
        return unavailable("certificate", "the S3 server's certificate is not trusted, or it speaks no TLS: see the storage's `ca` and "
                                          "`endpoint`")
    if isinstance(error, _WAY):
        return unavailable("connection", f"the S3 server can't be reached, or breaks off ({type(error).__name__})")
    return unavailable("answer", f"S3 could not be asked ({type(error).__name__}: {error})")


def unavailable(reason: str, detail: str) -> StorageUnavailable:
    return StorageUnavailable(detail, reason=reason)


def _refused(code: str, error: Exception, operation: str, bucket: str) -> CarboyError:
    if code == "RequestTimeTooSkewed":
        return unavailable("clock", f"this machine's clock is wrong, so S3 refuses it{_skew(error)}: set it by NTP")
    if code in ("NoSuchBucket", "AllAccessDisabled") or (code == "404" and operation == "head_bucket"):
        return unavailable("bucket", f"there is no bucket {bucket!r}: make it, or set the storage's `bucket`, `endpoint` and `region`")
    if code in _KEYS:
        return unavailable("keys", f"S3 {_KEYS[code]} ({code}, {operation})")
    if code in _REGION:
        return unavailable("region", f"the bucket is elsewhere: set the storage's `region` or `endpoint` ({code}{_region(error)})")
    if code in _FULL:
        return StorageFull("there is no room left on the storage")
    if may_pass(error):
        return unavailable("busy", f"S3 fails at present ({code or status_of(error)}, {operation})")
    if code in ("EntityTooSmall", "EntityTooLarge", "InvalidPart", "InvalidPartOrder", "NoSuchUpload", "NoSuchKey"):
        return StorageFailed(f"S3 refused {operation}: {code}")
    return unavailable("answer", f"S3 refused {operation}: {code or status_of(error)} {_message(error)}".rstrip())


def _is_transient_denial(error: Exception) -> bool:
    """A proxy's error page has no code of S3."""
    return code_of(error) in ("", "Unknown") and status_of(error) >= 500


def _meta(error: Exception) -> Mapping[str, Any]:
    return error.response.get("ResponseMetadata", {}) if isinstance(error, aws.ClientError) else {}


def _message(error: Exception) -> str:
    return str(error.response.get("Error", {}).get("Message", ""))[:200] if isinstance(error, aws.ClientError) else ""


def _skew(error: Exception) -> str:
    try:
        there = parsedate_to_datetime(_meta(error)["HTTPHeaders"]["date"])
        return f" by {abs((datetime.now(UTC) - there).total_seconds()):.0f} s"
    except (KeyError, ValueError, TypeError):
        return ""


def _region(error: Exception) -> str:
    region = _meta(error).get("HTTPHeaders", {}).get("x-amz-bucket-region")
    return f", it is in {region}" if region else ""
