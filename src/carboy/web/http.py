"""What HTTP says of Carboy's errors, and the grammar of the header fields that several protocols share.

This is the only place that knows which status an error has. Everything here is pure: values in, values out.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import quote

from werkzeug import Response
from werkzeug.exceptions import HTTPException

from carboy.checksums import DIGEST_SIZES
from carboy.errors import CarboyError, InvalidName, InvalidRequest, TooLarge
from carboy.model import MAX_SIZE, Condition
from carboy.nesting import DEEPEST, parse_json

STATUS: Mapping[str, int] = MappingProxyType({
    "error": 500,
    "invalid_request": 400,
    "invalid_name": 400,
    "digest_mismatch": 400,
    "body_cut": 400,
    "interrupted": 409,
    "too_slow": 408,
    "too_large": 413,
    "unsupported_type": 415,
    "range_not_satisfiable": 416,
    "precondition_failed": 412,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "bad_signature": 403,
    "password_needed": 403,
    "link_expired": 410,
    "rate_limited": 429,
    "conflict": 409,
    "path_conflict": 409,
    "bytes_differ": 409,
    "offset_mismatch": 409,
    "missing_bytes": 409,
    "range_busy": 409,
    "request_under_way": 409,
    "key_reused": 422,
    "upload_gone": 410,
    "not_supported": 501,
    "address_refused": 422,
    "unreachable": 502,
    "busy": 503,
    "storage_full": 507,
    "quota_exceeded": 507,
    "bytes_damaged": 500,
    "pending": 409,
    "quarantined": 403,
    "step_failed": 500,
    "cancelled": 409,
    "storage_read_only": 503,
    "storage_unavailable": 503,
    "storage_failed": 500,
    "bytes_missing": 500,
    "catalog_unavailable": 503,
    "commit_unknown": 500,
    "schema_mismatch": 500,
    "config_error": 500,
})
"""The status of each error code."""

_RETRY_AFTER = {"busy": 5, "range_busy": 1, "request_under_way": 1, "interrupted": 1, "catalog_unavailable": 5, "storage_read_only": 60,
                "storage_unavailable": 10, "rate_limited": 1, "pending": 5}
"""Seconds after which trying again is sensible."""


# --- problems ------------------------------------------------------------------------------------------------------


def problem(error: Exception, request_id: str = "", *, status: int | None = None) -> Response:
    """The error as an ``application/problem+json`` response (RFC 9457).

    Members: type, title, status, detail, code, the request's id where there is one, and the error's facts. A 500 tells only
    title, code and id, whatever the error knows; an exception that isn't Carboy's or Werkzeug's is a 500 that tells nothing.
    ``status`` is that of a protocol which has another one for Carboy's error.
    """
    if isinstance(error, HTTPException) and error.code is not None:
        return _werkzeug_problem(error, error.code, request_id)
    return _carboy_problem(error if isinstance(error, CarboyError) else CarboyError(""), request_id, status)


def _carboy_problem(error: CarboyError, request_id: str, status: int | None) -> Response:
    status = status or STATUS[error.code]
    told = {**error.facts, "detail": error.detail} if status != 500 else {}
    response = _render(status, error.code, error.title, told, request_id)
    for name, value in _fields(error).items():
        response.headers[name] = value
    return response


def _fields(error: CarboyError) -> dict[str, str]:
    fields = {}
    if error.code == "unauthenticated":
        fields["WWW-Authenticate"] = 'Bearer realm="carboy"'
    if error.code in _RETRY_AFTER:
        fields["Retry-After"] = str(error.facts.get("retry_after", _RETRY_AFTER[error.code]))
    if error.code == "rate_limited":
        fields |= {"RateLimit-Limit": str(error.facts["limit"]), "RateLimit-Remaining": "0", "RateLimit-Reset": fields["Retry-After"]}
    if error.code == "range_not_satisfiable" and "size" in error.facts:
        fields["Content-Range"] = f"bytes */{error.facts['size']}"
    return fields


def _werkzeug_problem(error: HTTPException, status: int, request_id: str) -> Response:
    code = re.sub(r"[^a-z]+", "_", error.name.lower()).strip("_")
    told = {"detail": error.description} if error.description and status < 500 else {}
    response = _render(status, code, error.name, told, request_id)
    for name, value in error.get_headers():
        if name.lower() in ("allow", "www-authenticate", "retry-after", "content-range"):
            response.headers[name] = value
    return response


def _render(status: int, code: str, title: str, told: Mapping[str, Any], request_id: str) -> Response:
    members = {**told, "type": f"urn:carboy:problem:{code}", "title": title, "status": status, "code": code}
    if request_id:
        members["request_id"] = request_id
    body = json.dumps(members, default=str) + "\n"
    return Response(body, status, {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
                    content_type="application/problem+json")


# --- the request's head --------------------------------------------------------------------------------------------


def path_of(environ: Mapping[str, Any]) -> str:
    """The request's path, decoded once, without the leading slash. Raises InvalidName where it isn't UTF-8."""
    try:
        return str(environ.get("PATH_INFO", "")).encode("latin-1").decode().removeprefix("/")
    except UnicodeError:
        raise InvalidName("The address is not UTF-8; percent-encode the UTF-8 bytes of the name.", rule="utf8") from None


def content_length(environ: Mapping[str, Any]) -> int | None:
    """The declared length of the body in bytes; None where there is none (chunked, or no body).

    Raises InvalidRequest unless it is digits (RFC 9110 section 8.6), TooLarge past 2^63 - 1.
    """
    value = str(environ.get("CONTENT_LENGTH") or "")
    return count(value, "Content-Length") if value else None


def count(value: str, what: str) -> int:
    """A length or offset given in decimal digits and nothing else. ``what`` names it in the errors.

    Raises InvalidRequest, and TooLarge past 2^63 - 1.
    """
    if not (value.isascii() and value.isdigit()):
        raise InvalidRequest(f"{what} must be a number of bytes in decimal digits.", field=what)
    digits = value.lstrip("0") or "0"
    if len(digits) > 19 or int(digits) > MAX_SIZE:
        raise TooLarge(f"{what} is past the largest size there is.", field=what, limit=MAX_SIZE)
    return int(digits)


def json_object(data: bytes) -> dict[str, Any]:
    """A body as a JSON object. Raises InvalidRequest, also for an escape that stands for no character: a lone surrogate is
    nothing that could be stored or written again."""
    try:
        value = parse_json(data, parse_constant=_no_number)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        raise InvalidRequest(f"the body is not JSON, or is nested deeper than {DEEPEST}") from None
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object")
    return value


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


# --- dates, names --------------------------------------------------------------------------------------------------


def http_date(timestamp: float) -> str:
    """Seconds since 1970 as an IMF-fixdate (RFC 9110 section 5.6.7), whole seconds, rounded down."""
    return formatdate(int(timestamp), usegmt=True)


def parse_http_date(value: str | None) -> int | None:
    """Any of the three formats of RFC 9110 section 5.6.7 as seconds since 1970; None for anything else."""
    try:
        date = parsedate_to_datetime(value or "")
        return int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp())
    except (TypeError, ValueError, OverflowError, IndexError):
        return None


def content_disposition(name: str, attachment: bool) -> str:
    """RFC 6266: an ASCII name that every client understands, and the real one in ``filename*`` (RFC 8187) where they
    differ. No character of the name can end the field or the quoted string."""
    plain = re.sub(r'[^\x20-\x7e]|["\\%/]', "_", re.sub(r"[\u0300-\u036f]", "", unicodedata.normalize("NFKD", name)))
    value = f'{"attachment" if attachment else "inline"}; filename="{plain}"'
    return value if plain == name else f"{value}; filename*=UTF-8''{quote(name, safe='!#$&+-.^_`|~', errors='replace')}"


# --- digests -------------------------------------------------------------------------------------------------------

_KEY = r"[a-z*][a-z0-9_.*-]*"
_ITEM = (r""":[A-Za-z0-9+/=]*:|"(?:[ !#-\[\]-~]|\\["\\])*"|\?[01]|[A-Za-z*][\w!#$%&'*+.^`|~:/-]*|@?-?\d{1,15}(?:\.\d{1,3})?""")
_MEMBER = re.compile(rf"(?a:({_KEY})(?:=({_ITEM}))?(?: *;{{1}} *{_KEY}(?:=(?:{_ITEM}))?)*)")
_COMMA = re.compile(r"[ \t]*,[ \t]*")
_KNOWN = re.compile(r"sha-(?:256|512)", re.IGNORECASE)


def dictionary(value: str) -> dict[str, str] | None:
    """The members of an RFC 9651 dictionary as they were written, without their parameters; ``?1`` for a bare key. None
    where it is malformed (inner lists count as that: no field here has them)."""
    members: dict[str, str] = {}
    text, at = value.strip(" "), 0
    while at < len(text):
        member = _MEMBER.match(text, at)
        if not member:
            return None
        members[member[1]] = member[2] or "?1"
        if member.end() == len(text):
            return members
        comma = _COMMA.match(text, member.end())
        if not comma or comma.end() == len(text):
            return None
        at = comma.end()
    return members


def parse_digest_field(value: str, field: str = "Repr-Digest") -> dict[str, bytes]:
    """``Content-Digest`` or ``Repr-Digest`` (RFC 9530): sha-256 and sha-512 by name; other algorithms are ignored.

    Raises InvalidRequest where one of those two is named but not given as the field wants it: a client that means to
    have its bytes checked must not be left unchecked.
    """
    members = dictionary(value)
    if members is None:
        if _KNOWN.search(value):
            raise _bad_digest(field)
        return {}
    return {name: _digest(members[name], name, field) for name in ("sha-256", "sha-512") if name in members}


def _digest(item: str, algorithm: str, field: str) -> bytes:
    if len(item) < 2 or item[0] != ":" or item[-1] != ":":
        raise _bad_digest(field, algorithm)
    return _decoded(item[1:-1], DIGEST_SIZES[algorithm], _bad_digest(field, algorithm))


def expected_digests(headers: Fields) -> list[tuple[str, bytes]]:
    """What a body or a part must hash to: its Content-Digest, Repr-Digest and Content-MD5, by lower-case names. Raises
    InvalidRequest."""
    expected: list[tuple[str, bytes]] = []
    for field in ("Content-Digest", "Repr-Digest"):
        if value := headers.get(field.lower()):
            expected += parse_digest_field(value, field).items()
    if value := headers.get("content-md5"):
        expected.append(("md5", parse_content_md5(value)))
    return expected


def parse_content_md5(value: str) -> bytes:
    """``Content-MD5`` (RFC 1864): base64 of 16 bytes. Raises InvalidRequest."""
    wrong = InvalidRequest("Content-MD5 must be the base64 of the 16 bytes of the digest.", field="Content-MD5")
    return _decoded(value.strip(), DIGEST_SIZES["md5"], wrong)


def _decoded(text: str, size: int, wrong: InvalidRequest) -> bytes:
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise wrong from None
    if len(digest) != size:
        raise wrong
    return digest


def _bad_digest(field: str, algorithm: str = "sha-256") -> InvalidRequest:
    return InvalidRequest(f"{field} must look like {algorithm}=:<base64 of the {DIGEST_SIZES[algorithm]} bytes of the "
                          "digest>:, with the colons.", field=field, algorithm=algorithm)


def digest_field(digests: Mapping[str, bytes]) -> str:
    """Digests as ``Repr-Digest`` or ``Content-Digest`` write them."""
    return ", ".join(f"{name}=:{base64.b64encode(digest).decode()}:" for name, digest in digests.items())


def wanted_digests(value: str | None) -> list[str]:
    """``Want-Repr-Digest`` and ``Want-Content-Digest`` (RFC 9530 section 4): the algorithms of Carboy that the client
    takes, the most wanted first. A malformed field wants nothing."""
    wants = [(int(weight), name) for name, weight in (dictionary(value or "") or {}).items()
             if name in ("sha-256", "sha-512") and re.fullmatch(r"[1-9]|10", weight)]
    return [name for _, name in sorted(wants, key=lambda want: -want[0])]


class Fields(Protocol):
    """Header fields by name, whatever their case: Werkzeug's, or a dict in tests."""

    def get(self, key: str, /) -> str | None: ...


# --- entity tags ---------------------------------------------------------------------------------------------------

_ETAG = re.compile(r'(?:W/)?"[!#-~\x80-\xff]*"')


def etags(value: str | None, field: str = "If-Match") -> tuple[str, ...] | None:
    """``If-Match`` or ``If-None-Match`` (RFC 9110 section 13.1) as written: ``("*",)`` or the entity tags. None where the
    field is absent.

    Raises InvalidRequest where it is malformed, for a guard that is ignored guards nothing.
    """
    if value is None:
        return None
    if value.strip() == "*":
        return ("*",)
    tags = [tag.strip() for tag in _listed(value) if tag.strip()]
    if not tags or not all(_ETAG.fullmatch(tag) for tag in tags):
        raise InvalidRequest(f'{field} must be * or a list of entity tags in double quotes, such as "abc".', field=field)
    return tuple(tags)


def _listed(value: str) -> list[str]:
    """Split at the commas outside quotes: an entity tag may contain one."""
    return re.findall(r'(?:[^,"]|"[^"]*"?)+', value)


def condition_of(headers: Fields) -> Condition:
    """The precondition of a request that changes a path. Raises InvalidRequest."""
    match = etags(headers.get("If-Match"))
    none_match = etags(headers.get("If-None-Match"), "If-None-Match")
    if none_match == ("*",):
        return Condition(etags=match, absent=True)
    return Condition(etags=match, not_etags=none_match)
