"""A file's bytes as an answer to GET and HEAD: conditions, ranges, safe headers, and the cheapest way the bytes can go.

On a disk they leave by ``sendfile``: the body is gunicorn's own ``wsgi.file_wrapper``, standing at the first byte. Behind a
proxy that can, Carboy only names the file (X-Accel-Redirect, X-Sendfile). Other storages stream, or give the bytes themselves at an
address that is signed for this one download.
"""

from __future__ import annotations

import re
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any
from urllib.parse import quote

from werkzeug import Request, Response

from carboy.config import Settings
from carboy.errors import BytesDamaged, PreconditionFailed
from carboy.mediatypes import is_active
from carboy.model import Blob, File, Version
from carboy.storage.base import OnDisk, Redirects
from carboy.web.conditions import Validators, evaluate, range_holds
from carboy.web.http import content_disposition, digest_field, http_date, wanted_digests
from carboy.web.ranges import Multipart, Range, content_range, multipart, parse_range
from carboy.web.stored import PIECE, FileReader, Pieces, Readable, Reader, check_stored, reader

_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?: ?; ?[\w-]+=[\w.+-]+)*", re.ASCII)


DigestOf = Callable[[Blob, str], bytes | None]
"""Finds a blob's digest by its RFC 9530 name, None where it isn't known."""


@dataclass(frozen=True, slots=True)
class _Content:
    """What is sent: the file's current content, or one of its versions."""

    media_type: str
    blob: Blob
    validators: Validators


def known_digest(blob: Blob, algorithm: str) -> bytes | None:
    """What the catalog has: SHA-256 where it was asked for or has been computed since."""
    return blob.sha256 if algorithm == "sha-256" else None


def respond(request: Request, file: File, storage: Readable, *, settings: Settings, version: Version | None = None,
            digest_of: DigestOf = known_digest, attachment: bool = False, name: str | None = None, redirect: bool = True) -> Response:
    """The answer to a GET or HEAD for ``file``, or for one of its older contents. With ``attachment`` it is to be saved, not shown;
    ``name`` is what it is called then. Without ``redirect`` the bytes pass through here in any case.

    Whether the principal may see it has been decided. Nothing is sent before the bytes are known to be there. Raises
    BytesMissing, BytesDamaged, PreconditionFailed, RangeNotSatisfiable, InvalidRequest.
    """
    content = _content(file, version)
    headers = _headers(request, content, name or file.name, public=_is_public(settings, file.space), attachment=attachment)
    outcome = evaluate(request.headers, content.validators)
    if outcome == "failed":
        raise PreconditionFailed("The file is not the one the condition names.", etag=content.validators.etag)
    if outcome == "not_modified":
        return Response(status=304, headers=_without_content(headers))
    if content.blob.damaged_at is not None:
        raise BytesDamaged("The stored bytes are not the ones that were received.", blob=content.blob.id)
    if digests := _digests(request, content.blob, digest_of):
        headers["Repr-Digest"] = digests
    if settings.accel and isinstance(storage, OnDisk) and _proxy_can(request):
        return _accelerated(headers, content, storage, settings)
    ranges = _ranges(request, content)
    if redirect and isinstance(storage, Redirects) and _storage_can(request, content, ranges, "Repr-Digest" in headers):
        address = storage.address(content.blob.key, media_type=headers["Content-Type"], disposition=headers["Content-Disposition"])
        if address:
            return _redirected(headers, address)
    if request.method == "HEAD":
        return _head(headers, content.blob, storage)
    set_idle_limit(request.environ, settings.send_idle)
    return _bytes(request.environ, headers, content, ranges, storage)


def set_idle_limit(environ: Mapping[str, Any], seconds: float) -> None:
    """Cut a client that takes nothing for so long, where the server shows its socket.

    The kernel watches (TCP_USER_TIMEOUT), and the socket stays blocking: a timeout of Python's counts until a third of the send buffer
    is free, which cuts slow readers that do read, and it makes ``sendall`` a race against the clock. Where there is no TCP
    it has to do; the worker makes the socket blocking again before it reads the next request.
    """
    connection = environ.get("gunicorn.socket")
    if connection is None:
        return
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
    except (OSError, AttributeError):
        connection.settimeout(seconds)


# --- the head ------------------------------------------------------------------------------------------------------


def _content(file: File, version: Version | None) -> _Content:
    blob, media_type, changed = file.blob, file.media_type, file.modified_at
    if version is not None:
        blob, media_type, changed = version.blob, version.media_type, version.created_at
    safe = media_type if _MEDIA_TYPE.fullmatch(media_type) else "application/octet-stream"
    return _Content(safe, blob, Validators(f'"{blob.id}"', int(changed)))


def _is_public(settings: Settings, space: str) -> bool:
    rules = settings.spaces.get(space)
    return rules is not None and rules.public == "read"


def _headers(request: Request, content: _Content, name: str, *, public: bool, attachment: bool) -> dict[str, str]:
    attachment = attachment or "download" in request.args or is_active(content.media_type)
    headers = {
        "Content-Type": content.media_type,
        "Content-Disposition": content_disposition(name, attachment),
        "ETag": content.validators.etag,
        "Last-Modified": http_date(content.validators.modified),
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-cache" if public else "private, no-cache",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
    }
    return headers if public else {**headers, "Vary": "Cookie, Authorization"}


def _without_content(headers: Mapping[str, str]) -> dict[str, str]:
    """What a 304 repeats (RFC 9110 section 15.4.5)."""
    return {name: headers[name] for name in ("ETag", "Last-Modified", "Cache-Control", "Vary") if name in headers}


def _digests(request: Request, blob: Blob, digest_of: DigestOf) -> str:
    """``Repr-Digest`` with the most wanted digest that is known; ``""`` where none is wanted or known."""
    for algorithm in wanted_digests(request.headers.get("Want-Repr-Digest")):
        if digest := digest_of(blob, algorithm):
            return digest_field({algorithm: digest})
    return ""


def _ranges(request: Request, content: _Content) -> list[Range] | None:
    """The ranges to serve; None for all. Only GET has ranges (RFC 9110 section 14.2)."""
    field = request.headers.get("Range")
    if field is None or request.method != "GET":
        return None
    if not range_holds(request.headers.get("If-Range"), content.validators, time.time()):
        return None
    return parse_range(field, content.blob.size)


# --- handing over to a proxy ---------------------------------------------------------------------------------------


def _proxy_can(request: Request) -> bool:
    """nginx would compare these two with a tag and a time of its own making, so such answers are sent from here."""
    return "If-Match" not in request.headers and "If-Unmodified-Since" not in request.headers


def _accelerated(headers: dict[str, str], content: _Content, storage: OnDisk, settings: Settings) -> Response:
    """nginx keeps Content-Type, Content-Disposition and Cache-Control of this answer and drops the rest, so its internal
    location must have ``etag off; if_modified_since off;`` and an ``add_header NAME $upstream_http_NAME`` for ETag,
    Last-Modified, Vary, Repr-Digest and the safe headers. Then its ranges, If-Range too, are right."""
    path = storage.path(content.blob.key)
    del headers["Accept-Ranges"]
    if settings.accel == "x-accel-redirect":
        headers["X-Accel-Redirect"] = settings.accel_prefix + quote(path)
    else:
        headers["X-Sendfile"] = str((settings.data / "blobs" / path).absolute())
    return Response(status=200, headers=headers)


# --- handing over to the storage -----------------------------------------------------------------------------------


def _storage_can(request: Request, content: _Content, ranges: list[Range] | None, has_digest: bool) -> bool:
    """Whether the storage's own answer is right, with what the client sends along: the storage knows other tags and times than Carboy, no
    digest, and one range at a time. A tag of If-Range that isn't Carboy's may be the storage's, of an earlier answer."""
    if request.method != "GET" or has_digest or (ranges and len(ranges) > 1) or not content.blob.size:
        return False
    if any(name in request.headers for name in ("If-Match", "If-Unmodified-Since", "If-Modified-Since")):
        return False
    condition = request.headers.get("If-Range", "").strip()
    return not condition or (condition.startswith('"') and condition != content.validators.etag)


def _redirected(headers: Mapping[str, str], address: str) -> Response:
    """Nobody keeps it: the address is as good as the file while it lasts."""
    kept = {name: headers[name] for name in ("Vary", "X-Content-Type-Options", "Referrer-Policy") if name in headers}
    return Response(status=307, headers={**kept, "Location": address, "Cache-Control": "no-store"})


# --- the bytes -----------------------------------------------------------------------------------------------------


def _head(headers: dict[str, str], blob: Blob, storage: Readable) -> Response:
    check_stored(blob, storage.size(blob.key))
    return Response(None, 200, {**headers, "Content-Length": str(blob.size)})


def _bytes(environ: Mapping[str, Any], headers: dict[str, str], content: _Content, ranges: list[Range] | None,
           storage: Readable) -> Response:
    size = content.blob.size
    if ranges and len(ranges) > 1:
        framed = multipart(ranges, size, content.media_type, secrets.token_hex(16))
        headers |= {"Content-Type": framed.content_type, "Content-Length": str(framed.content_length)}
        bytes_of = reader(content.blob, storage)
        return Response(Pieces(bytes_of, _begun(_framed(framed, bytes_of))), 206, headers, direct_passthrough=True)
    part = ranges[0] if ranges else (0, size)
    if ranges:
        headers["Content-Range"] = content_range(part, size)
    headers["Content-Length"] = str(part[1] - part[0])
    body = _body(environ, part, reader(content.blob, storage))
    return Response(body, 206 if ranges else 200, headers, direct_passthrough=True)


def _body(environ: Mapping[str, Any], part: Range, source: Reader) -> Iterable[bytes]:
    if part[1] - part[0] <= PIECE:
        try:
            return [b"".join(source.pieces(part))]
        finally:
            source.close()
    if isinstance(source, FileReader) and _sends_files(environ):
        source.file.seek(part[0])
        return environ["wsgi.file_wrapper"](source.file, PIECE)  # type: ignore[no-any-return]
    return Pieces(source, source.pieces(part))


def _sends_files(environ: Mapping[str, Any]) -> bool:
    """Whether ``wsgi.file_wrapper`` is a sendfile that stops at Content-Length: gunicorn's, on a plain HTTP/1.1 connection.
    Anywhere else a wrapper reads the file to its end, whatever the range."""
    connection = environ.get("gunicorn.socket")
    return (connection is not None and "wsgi.file_wrapper" in environ and not isinstance(connection, ssl.SSLSocket)
            and environ.get("HTTP_VERSION") != "2")


def _framed(framed: Multipart, source: Reader) -> Iterator[bytes]:
    for head, part in framed.parts:
        yield head
        yield from source.pieces(part)
    yield framed.tail


def _begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same, the first two asked for already: a frame's head, and bytes."""
    first = list(islice(pieces, 2))
    return chain(first, pieces)
