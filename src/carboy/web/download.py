"""A file's bytes as an answer to GET and HEAD: conditions, ranges, safe headers, and the cheapest way the bytes can go.

On a disk they leave by ``sendfile``: the body is gunicorn's own ``wsgi.file_wrapper``, standing at the first byte. Behind a
proxy that can, Carboy only names the file (X-Accel-Redirect, X-Sendfile). Other storages stream.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol
from urllib.parse import quote

from werkzeug import Request, Response

from carboy.config import Settings
from carboy.engine.reading import proved
from carboy.errors import BytesDamaged, BytesMissing, PreconditionFailed
from carboy.mediatypes import is_active
from carboy.model import Blob, File, Key, Span, Version
from carboy.storage.base import OnDisk
from carboy.web.conditions import Validators, evaluate, range_holds
from carboy.web.http import content_disposition, digest_field, http_date, wanted_digests
from carboy.web.ranges import Multipart, Range, content_range, multipart, parse_range

PIECE = 64 * 2**10
"""The most that one write to a client carries where sendfile can't, and the size up to which a body is simply read."""

_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?: ?; ?[\w-]+=[\w.+-]+)*", re.ASCII)


class Readable(Protocol):
    """The part of a storage that downloads need; ``OnDisk`` besides, where blobs are files."""

    def read(self, key: Key, span: Span | None = None) -> Iterator[bytes]: ...

    def size(self, key: Key) -> int | None: ...


DigestOf = Callable[[Blob, str], bytes | None]
"""Finds a blob's digest by its RFC 9530 name, None where it isn't known."""


@dataclass(frozen=True, slots=True)
class _Content:
    """What is sent: the file's current content, or one of its versions."""

    name: str
    media_type: str
    blob: Blob
    validators: Validators


def known_digest(blob: Blob, algorithm: str) -> bytes | None:
    """What the catalog has: SHA-256 where it was asked for or has been computed since."""
    return blob.sha256 if algorithm == "sha-256" else None


def respond(request: Request, file: File, storage: Readable, *, settings: Settings, version: Version | None = None,
            digest_of: DigestOf = known_digest, attachment: bool = False) -> Response:
    """The answer to a GET or HEAD for ``file``, or for one of its older contents. With ``attachment`` it is to be saved, not shown.

    Whether the principal may see it has been decided. Nothing is sent before the bytes are known to be there. Raises
    BytesMissing, BytesDamaged, PreconditionFailed, RangeNotSatisfiable, InvalidRequest.
    """
    content = _content(file, version)
    headers = _headers(request, content, public=_is_public(settings, file.space), attachment=attachment)
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
    return _Content(file.name, safe, blob, Validators(f'"{blob.id}"', int(changed)))


def _is_public(settings: Settings, space: str) -> bool:
    rules = settings.spaces.get(space)
    return rules is not None and rules.public == "read"


def _headers(request: Request, content: _Content, *, public: bool, attachment: bool) -> dict[str, str]:
    attachment = attachment or "download" in request.args or is_active(content.media_type)
    headers = {
        "Content-Type": content.media_type,
        "Content-Disposition": content_disposition(content.name, attachment),
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


# --- the bytes -----------------------------------------------------------------------------------------------------


def _head(headers: dict[str, str], blob: Blob, storage: Readable) -> Response:
    _check_stored(blob, storage.size(blob.key))
    return Response(None, 200, {**headers, "Content-Length": str(blob.size)})


def _bytes(environ: Mapping[str, Any], headers: dict[str, str], content: _Content, ranges: list[Range] | None,
           storage: Readable) -> Response:
    size = content.blob.size
    if ranges and len(ranges) > 1:
        framed = multipart(ranges, size, content.media_type, secrets.token_hex(16))
        headers |= {"Content-Type": framed.content_type, "Content-Length": str(framed.content_length)}
        reader = _reader(content.blob, storage)
        return Response(_Pieces(reader, _framed(framed, reader)), 206, headers, direct_passthrough=True)
    part = ranges[0] if ranges else (0, size)
    if ranges:
        headers["Content-Range"] = content_range(part, size)
    headers["Content-Length"] = str(part[1] - part[0])
    body = _body(environ, part, _reader(content.blob, storage))
    return Response(body, 206 if ranges else 200, headers, direct_passthrough=True)


def _body(environ: Mapping[str, Any], part: Range, reader: _Reader) -> Iterable[bytes]:
    if part[1] - part[0] <= PIECE:
        try:
            return [b"".join(reader.pieces(part))]
        finally:
            reader.close()
    if isinstance(reader, _FileReader) and _sends_files(environ):
        reader.file.seek(part[0])
        return environ["wsgi.file_wrapper"](reader.file, PIECE)  # type: ignore[no-any-return]
    return _Pieces(reader, reader.pieces(part))


def _sends_files(environ: Mapping[str, Any]) -> bool:
    """Whether ``wsgi.file_wrapper`` is a sendfile that stops at Content-Length: gunicorn's, on a plain HTTP/1.1 connection.
    Anywhere else a wrapper reads the file to its end, whatever the range."""
    connection = environ.get("gunicorn.socket")
    return (connection is not None and "wsgi.file_wrapper" in environ and not isinstance(connection, ssl.SSLSocket)
            and environ.get("HTTP_VERSION") != "2")


def _framed(framed: Multipart, reader: _Reader) -> Iterator[bytes]:
    for head, part in framed.parts:
        yield head
        yield from reader.pieces(part)
    yield framed.tail


class _Reader(Protocol):
    """One blob's bytes, known to be there."""

    def pieces(self, part: Range) -> Iterator[bytes]: ...

    def close(self) -> None: ...


def _reader(blob: Blob, storage: Readable) -> _Reader:
    return _FileReader(blob, storage) if isinstance(storage, OnDisk) else _StreamReader(blob, storage)


class _FileReader:
    """Reads a file on a disk without moving its position."""

    def __init__(self, blob: Blob, storage: OnDisk) -> None:
        self._blob = blob
        self.file: BinaryIO = storage.open(blob.key)
        try:
            _check_stored(blob, os.fstat(self.file.fileno()).st_size)
        except BytesMissing:
            self.close()
            raise

    def pieces(self, part: Range) -> Iterator[bytes]:
        at, end = part
        while at < end:
            piece = os.pread(self.file.fileno(), min(PIECE, end - at), at)
            if not piece:
                raise _missing(self._blob)
            at += len(piece)
            yield piece

    def close(self) -> None:
        self.file.close()


class _StreamReader:
    """Reads from a storage that isn't a disk."""

    def __init__(self, blob: Blob, storage: Readable) -> None:
        self._blob = blob
        self._storage = storage
        _check_stored(blob, storage.size(blob.key))

    def pieces(self, part: Range) -> Iterator[bytes]:
        left = part[1] - part[0]
        pieces = self._storage.read(self._blob.key, Span(*part)) if left else iter(())
        for piece in proved(pieces, self._blob) if part == (0, self._blob.size) else pieces:
            left -= len(piece)
            for at in range(0, len(piece), PIECE):
                yield piece[at:at + PIECE]
        if left:
            raise _missing(self._blob)

    def close(self) -> None:
        pass


class _Pieces:
    """A body that lets its reader go when the server is done with it, at the end or before."""

    def __init__(self, reader: _Reader, pieces: Iterator[bytes]) -> None:
        self._reader = reader
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        self._reader.close()


def _check_stored(blob: Blob, stored: int | None) -> None:
    if stored is None or stored < blob.size:
        raise _missing(blob)


def _missing(blob: Blob) -> BytesMissing:
    return BytesMissing(f"The blob {blob.id} is not in its storage as the catalog has it.", blob=blob.id)
