"""Answers to GET and HEAD of a file: requests in, status, headers and bytes out. No server; a real storage on a disk."""

from __future__ import annotations

import base64
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gunicorn.http.wsgi import FileWrapper
from werkzeug import Request, Response
from werkzeug.test import EnvironBuilder, run_wsgi_app

from carboy.checksums import crc64nvme
from carboy.config import Settings, SpaceSettings
from carboy.errors import BytesMissing, InvalidRequest, PreconditionFailed, RangeNotSatisfiable, StorageFailed
from carboy.model import Blob, File, Key, Span, Version
from carboy.storage.local import LocalStorage
from carboy.web.download import PIECE, respond
from carboy.web.http import http_date

SMALL = bytes(range(200))
LARGE = os.urandom(3 * PIECE + 17)
MODIFIED = 1_700_000_000.75
SAFE = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox", "Cross-Origin-Resource-Policy": "same-origin",
        "Accept-Ranges": "bytes"}


class Bench:
    """A storage with files in it, and the way to ask for them."""

    def __init__(self, data: Path) -> None:
        self.storage = LocalStorage(data / "blobs", durable=False)
        self.storage.prepare()
        self.settings = Settings(data=data, spaces={"open": SpaceSettings(public="read")}, send_idle=7)
        self.small = self.file(SMALL)
        self.large = self.file(LARGE)
        self.empty = self.file(b"")

    def blob(self, content: bytes) -> Blob:
        with self.storage.stage(len(content)) as (key, writer):
            writer.write(content)
            writer.flush()
        return Blob(key[3:], "local", key, len(content), crc64nvme(content))

    def file(self, content: bytes) -> File:
        return File("f" * 32, "main", "folder/film.mp4", None, "video/mp4", {}, self.blob(content), 1, MODIFIED, MODIFIED)

    def ask(self, file: File, *, method: str = "GET", query: str = "", environ: dict[str, Any] | None = None, storage: Any = None,
            settings: Settings | None = None, version: Version | None = None, **headers: str) -> Response:
        built = EnvironBuilder(method=method, path="/x", query_string=query,
                               headers={name.replace("_", "-"): value for name, value in headers.items()}).get_environ()
        request = Request({**built, **(environ or {})})
        return respond(request, file, storage or self.storage, settings=settings or self.settings, version=version)

    def read(self, response: Response, method: str = "GET") -> bytes:
        """The body as a server sends it, checked against Content-Length."""
        pieces, _, headers = run_wsgi_app(response, EnvironBuilder(method=method).get_environ(), buffered=True)
        body = b"".join(pieces)
        if method == "GET":
            assert headers["Content-Length"] == str(len(body))
        return body


class Bucket:
    """A storage that is no disk: it only streams, in pieces of a size of its own."""

    def __init__(self, content: dict[Key, bytes]) -> None:
        self._content = content

    def size(self, key: Key) -> int | None:
        return len(self._content[key]) if key in self._content else None

    def read(self, key: Key, span: Span | None = None) -> Iterator[bytes]:
        if key not in self._content:
            raise BytesMissing("gone")
        content = self._content[key] if span is None else self._content[key][span.start:span.end]
        return iter([content[at:at + 100_000] for at in range(0, len(content), 100_000)])


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("data"))


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    """A connection as gunicorn shows it to the application."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


def served(connection: socket.socket) -> dict[str, Any]:
    return {"gunicorn.socket": connection, "wsgi.file_wrapper": FileWrapper}


# --- the whole file ---


@pytest.mark.parametrize("name", ["small", "large", "empty"])
def test_get_sends_the_file_with_all_its_headers(bench: Bench, name: str) -> None:
    """200, the bytes, validators, and the headers that keep a browser from running them."""
    file = getattr(bench, name)
    response = bench.ask(file)
    assert response.status_code == 200
    expected = {**SAFE, "Content-Type": "video/mp4", "Content-Length": str(file.size), "ETag": file.etag, "Last-Modified": http_date(MODIFIED),
                "Content-Disposition": 'inline; filename="film.mp4"', "Cache-Control": "private, no-cache", "Vary": "Cookie, Authorization"}
    assert {key: response.headers[key] for key in expected} == expected
    assert "Content-Range" not in response.headers
    assert bench.read(response) == {"small": SMALL, "large": LARGE, "empty": b""}[name]


@pytest.mark.parametrize("name", ["small", "large", "empty"])
@pytest.mark.parametrize("field", ["", "bytes=0-0", "bytes=5000000-"])
def test_head_says_what_get_would(bench: Bench, name: str, field: str) -> None:
    """The same headers, no body; a Range is not for HEAD."""
    file = getattr(bench, name)
    got, head = bench.ask(file), bench.ask(file, method="HEAD", **({"Range": field} if field else {}))
    assert head.status_code == 200
    assert dict(head.headers) == dict(got.headers)
    assert bench.read(head, "HEAD") == b""
    got.close()


def test_public_files_may_be_cached_by_all(bench: Bench) -> None:
    """In a space that anybody reads, answers don't depend on who asks."""
    headers = bench.ask(replace(bench.small, space="open")).headers
    assert headers["Cache-Control"] == "no-cache"
    assert "Vary" not in headers


@pytest.mark.parametrize(("media_type", "query", "kind"), [
    ("image/png", "", "inline"), ("image/png", "download", "attachment"), ("image/png", "download=1", "attachment"), ("application/pdf", "", "inline"),
    ("text/html", "", "attachment"), ("image/svg+xml", "", "attachment"), ("text/xml", "", "attachment"), ("text/javascript", "", "attachment"),
])
def test_active_content_and_wished_downloads_are_attachments(bench: Bench, media_type: str, query: str, kind: str) -> None:
    """Security case 10."""
    response = bench.ask(replace(bench.small, media_type=media_type), query=query)
    assert response.headers["Content-Disposition"].partition(";")[0] == kind
    assert response.headers["Content-Type"] == media_type
    assert {key: response.headers[key] for key in SAFE} == SAFE


@pytest.mark.parametrize("media_type", ["", "x", "text/html\r\nX: y", "a/b/c", "text/plain; x=\x00", "té/xt", "a b/c"])
def test_a_broken_media_type_is_sent_as_bytes(bench: Bench, media_type: str) -> None:
    """What the catalog holds can't break the head."""
    assert bench.ask(replace(bench.small, media_type=media_type)).headers["Content-Type"] == "application/octet-stream"


def test_a_version_has_its_own_bytes_and_validators(bench: Bench) -> None:
    """An older content: its blob, type, tag and time, under the file's name."""
    version = Version(1, bench.blob(b"older"), "text/plain", 1_600_000_000.0)
    response = bench.ask(bench.small, version=version)
    assert bench.read(response) == b"older"
    assert response.headers["ETag"] == f'"{version.blob.id}"'
    assert response.headers["Last-Modified"] == http_date(1_600_000_000)
    assert response.headers["Content-Type"] == "text/plain"
    assert "film.mp4" in response.headers["Content-Disposition"]


# --- ranges ---


@pytest.mark.parametrize(("field", "start", "end"), [
    ("bytes=0-0", 0, 1), ("bytes=-1", len(LARGE) - 1, len(LARGE)), ("bytes=5-", 5, len(LARGE)), ("bytes=10-99", 10, 100), ("bytes=0-", 0, len(LARGE)),
    (f"bytes=7-{7 + PIECE}", 7, 8 + PIECE), (f"bytes=100-{10**30}", 100, len(LARGE)),
])
@pytest.mark.parametrize("kind", ["disk", "bucket"])
def test_one_range(bench: Bench, field: str, start: int, end: int, kind: str) -> None:
    """206 with exactly those bytes, from a disk and from any other storage."""
    storage = Bucket({bench.large.blob.key: LARGE}) if kind == "bucket" else None
    response = bench.ask(bench.large, Range=field, storage=storage)
    assert response.status_code == 206
    assert response.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(LARGE)}"
    assert response.headers["ETag"] == bench.large.etag
    assert bench.read(response) == LARGE[start:end]


@pytest.mark.parametrize("kind", ["disk", "bucket"])
def test_several_ranges(bench: Bench, kind: str) -> None:
    """multipart/byteranges whose length is known beforehand, parts in the client's order."""
    wanted = [(0, 1), (PIECE, 3 * PIECE), (5, 10), (len(LARGE) - 2, len(LARGE))]
    storage = Bucket({bench.large.blob.key: LARGE}) if kind == "bucket" else None
    response = bench.ask(bench.large, Range="bytes=" + ", ".join(f"{start}-{end - 1}" for start, end in wanted), storage=storage)
    assert response.status_code == 206
    assert "Content-Range" not in response.headers
    boundary = response.headers["Content-Type"].removeprefix("multipart/byteranges; boundary=")
    parts = bench.read(response).split(f"\r\n--{boundary}".encode())
    assert parts[0] == b""
    assert parts[-1] == b"--\r\n"
    for part, (start, end) in zip(parts[1:-1], wanted, strict=True):
        assert part == f"\r\nContent-Type: video/mp4\r\nContent-Range: bytes {start}-{end - 1}/{len(LARGE)}\r\n\r\n".encode() + LARGE[start:end]


@pytest.mark.parametrize("field", ["bytes=9-0", "items=0-1", "bytes=x", "bytes=" + ",".join(["0-0"] * 1000), "bytes=0-,0-"])
def test_a_range_that_is_not_served_gets_all(bench: Bench, field: str) -> None:
    """Malformed or abusive: 200 (security case 33)."""
    response = bench.ask(bench.small, Range=field)
    assert (response.status_code, bench.read(response)) == (200, SMALL)


@pytest.mark.parametrize("field", ["bytes=200-", "bytes=-0", "bytes=999999-9999999"])
def test_a_range_past_the_file_is_refused(bench: Bench, field: str) -> None:
    """416 with the size."""
    with pytest.raises(RangeNotSatisfiable) as refused:
        bench.ask(bench.small, Range=field)
    assert refused.value.facts["size"] == 200


# --- conditions ---


@pytest.mark.parametrize(("headers", "status"), [
    ({"If-None-Match": "ETAG"}, 304), ({"If-None-Match": "W/ETAG"}, 304), ({"If-None-Match": "*"}, 304), ({"If-None-Match": '"x"'}, 200),
    ({"If-Modified-Since": http_date(MODIFIED)}, 304), ({"If-Modified-Since": http_date(MODIFIED - 1)}, 200), ({"If-Match": "ETAG"}, 200),
    ({"If-Match": "ETAG", "Range": "bytes=0-0"}, 206), ({"If-None-Match": "ETAG", "Range": "bytes=0-0"}, 304),
    ({"If-None-Match": "ETAG", "Range": "bytes=999-"}, 304), ({"If-None-Match": '"x"', "Range": "bytes=0-0"}, 206),
    ({"If-Range": "ETAG", "Range": "bytes=0-0"}, 206), ({"If-Range": '"x"', "Range": "bytes=0-0"}, 200), ({"If-Range": "W/ETAG", "Range": "bytes=0-0"}, 200),
    ({"If-Range": http_date(MODIFIED), "Range": "bytes=0-0"}, 206), ({"If-Range": http_date(MODIFIED + 1), "Range": "bytes=0-0"}, 200),
    ({"If-Range": '"x"', "Range": "bytes=999-"}, 200), ({"If-Range": '"x"'}, 200), ({"If-Match": "ETAG", "If-Range": "ETAG", "Range": "bytes=0-0"}, 206),
])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_conditions_and_ranges_together(bench: Bench, method: str, headers: dict[str, str], status: int) -> None:
    """RFC 9110 section 13.2.2, for both methods; HEAD answers 200 where GET would answer 206."""
    given = {name: value.replace("ETAG", bench.small.etag) for name, value in headers.items()}
    response = bench.ask(bench.small, method=method, **given)
    assert response.status_code == (200 if method == "HEAD" and status == 206 else status)
    assert bench.read(response, "HEAD" if status == 304 else method) == (b"" if method == "HEAD" else {200: SMALL, 206: SMALL[:1], 304: b""}[status])


def test_not_modified_repeats_what_a_cache_needs(bench: Bench) -> None:
    """ETag, Cache-Control and Vary, and nothing of the content (RFC 9110 section 15.4.5)."""
    response = bench.ask(bench.small, If_None_Match=bench.small.etag)
    _, _, headers = run_wsgi_app(response, EnvironBuilder().get_environ())
    assert dict(headers) == {"ETag": bench.small.etag, "Cache-Control": "private, no-cache", "Vary": "Cookie, Authorization"}


@pytest.mark.parametrize("headers", [{"If-Match": '"x"'}, {"If-Match": "W/ETAG"}, {"If-Unmodified-Since": http_date(MODIFIED - 1)},
                                     {"If-Match": '"x"', "Range": "bytes=999-"}])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_failed_precondition_is_412(bench: Bench, method: str, headers: dict[str, str]) -> None:
    """With the tag that would be right."""
    with pytest.raises(PreconditionFailed) as failed:
        bench.ask(bench.small, method=method, **{name: value.replace("ETAG", bench.small.etag) for name, value in headers.items()})
    assert failed.value.facts["etag"] == bench.small.etag


def test_a_malformed_condition_is_400(bench: Bench) -> None:
    """A tag without quotes."""
    with pytest.raises(InvalidRequest):
        bench.ask(bench.small, If_None_Match="abc")


# --- digests ---


@pytest.mark.parametrize(("wanted", "given"), [
    ("", None), ("sha-256=1", "sha-256"), ("sha-512=10, sha-256=1", "sha-256"), ("sha-512=10", None), ("sha-256=0", None), ("md5=5", None),
])
@pytest.mark.parametrize("field", ["", "bytes=0-0"])
def test_a_wanted_digest_is_given_where_it_is_known(bench: Bench, wanted: str, given: str | None, field: str) -> None:
    """RFC 9530: Repr-Digest is that of the whole file, also beside a part of it."""
    file = replace(bench.small, blob=replace(bench.small.blob, sha256=bytes(32)))
    headers = {name: value for name, value in {"Want-Repr-Digest": wanted, "Range": field}.items() if value}
    expected = f"{given}=:{base64.b64encode(bytes(32)).decode()}:" if given else None
    assert bench.ask(file, **headers).headers.get("Repr-Digest") == expected
    assert "Repr-Digest" not in bench.ask(bench.small, **headers).headers


# --- how the bytes go ---


@pytest.mark.parametrize(("field", "start", "end"), [(None, 0, len(LARGE)), (f"bytes=1000-{1000 + 2 * PIECE}", 1000, 1001 + 2 * PIECE), ("bytes=12-", 12, len(LARGE))])
def test_under_gunicorn_the_body_is_its_file_wrapper_at_the_first_byte(bench: Bench, connection: socket.socket, field: str | None, start: int, end: int) -> None:
    """So sendfile(2) sends it: the very iterable the server sees, its position at the range, its length in Content-Length."""
    environ = served(connection)
    response = bench.ask(bench.large, environ=environ, **({"Range": field} if field else {}))
    body: Any = response.get_app_iter({**EnvironBuilder().get_environ(), **environ})
    assert type(body) is FileWrapper
    assert os.lseek(body.filelike.fileno(), 0, os.SEEK_CUR) == start
    assert response.headers["Content-Length"] == str(end - start)
    body.close()
    assert body.filelike.closed


def test_the_idle_limit_is_the_kernels_on_tcp_and_pythons_elsewhere(bench: Bench, connection: socket.socket) -> None:
    """TCP_USER_TIMEOUT in milliseconds, the socket left blocking; a UNIX socket gets a timeout."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as tcp:
        bench.ask(bench.small, environ=served(tcp))
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
        assert tcp.gettimeout() is None
    bench.ask(bench.small, environ=served(connection))
    assert connection.gettimeout() == 7


@pytest.mark.parametrize("environ", [{"HTTP_VERSION": "2"}, {"wsgi.file_wrapper": None}])
def test_elsewhere_the_range_is_cut_here(bench: Bench, connection: socket.socket, environ: dict[str, Any]) -> None:
    """HTTP/2 and servers without a wrapper: a wrapper would read on to the end of the file."""
    both = {name: value for name, value in {**served(connection), **environ}.items() if value is not None}
    response = bench.ask(bench.large, environ=both, Range=f"bytes=5-{PIECE + 99}")
    assert not isinstance(response.response, FileWrapper)
    assert bench.read(response) == LARGE[5:PIECE + 100]


@pytest.mark.parametrize("field", [None, "bytes=1-", "bytes=0-0,5-100000"])
def test_a_body_let_go_early_closes_its_file(bench: Bench, field: str | None) -> None:
    """A client that leaves costs no file descriptor."""
    before = len(os.listdir("/proc/self/fd"))
    body: Any = bench.ask(bench.large, **({"Range": field} if field else {})).get_app_iter(EnvironBuilder().get_environ())
    next(iter(body))
    assert len(os.listdir("/proc/self/fd")) == before + 1
    body.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("field", [None, "bytes=0-0", "bytes=0-0,5-6"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_missing_bytes_are_told_before_anything_is_sent(bench: Bench, damage: str, method: str, field: str | None) -> None:
    """The catalog names bytes that the storage hasn't: an error, not a body that breaks off."""
    file = bench.file(SMALL)
    path = bench.settings.data / "blobs" / bench.storage.path(file.blob.key)
    if damage == "gone":
        path.unlink()
    else:
        os.truncate(path, 199)
    asked = {"Range": field} if field else {}
    with pytest.raises(BytesMissing):
        bench.ask(file, method=method, **asked)
    bucket = Bucket({} if damage == "gone" else {file.blob.key: SMALL[:199]})
    if damage == "gone" or not field or method == "HEAD":
        with pytest.raises(StorageFailed):
            bench.ask(file, method=method, storage=bucket, **asked)
    else:
        assert SMALL[:1] in bench.read(bench.ask(file, storage=bucket, **asked)), "such a storage isn't asked for more than is wanted"


def test_a_range_past_what_a_bucket_has_is_told_before_anything_is_sent(bench: Bench) -> None:
    file = bench.file(SMALL)
    for content in ({}, {file.blob.key: SMALL[:199]}):
        with pytest.raises(BytesMissing):
            bench.ask(file, storage=Bucket(content), Range="bytes=190-199")


# --- the proxy in front ---


def test_x_accel_redirect(bench: Bench) -> None:
    """The file is named, not sent; ranges are nginx's; the headers that nginx keeps are there."""
    settings = bench.settings.model_copy(update={"accel": "x-accel-redirect", "accel_prefix": "/_inside/"})
    response = bench.ask(bench.large, settings=settings, Range="bytes=0-9")
    assert response.status_code == 200
    assert response.headers["X-Accel-Redirect"] == f"/_inside/{bench.large.blob.key}"
    assert response.headers["ETag"] == bench.large.etag
    assert response.get_data() == b""
    assert {key: response.headers.get(key) for key in SAFE} == {**SAFE, "Accept-Ranges": None}


def test_x_sendfile(bench: Bench) -> None:
    """Apache and lighttpd take the absolute path."""
    settings = bench.settings.model_copy(update={"accel": "x-sendfile"})
    named = Path(bench.ask(bench.large, settings=settings).headers["X-Sendfile"])
    assert named.is_absolute()
    assert named.read_bytes() == LARGE


@pytest.mark.parametrize("headers", [{"If-Match": "*"}, {"If-Unmodified-Since": http_date(MODIFIED)}])
def test_what_nginx_would_get_wrong_is_sent_from_here(bench: Bench, headers: dict[str, str]) -> None:
    """nginx compares these with a tag and a time of its own."""
    settings = bench.settings.model_copy(update={"accel": "x-accel-redirect"})
    response = bench.ask(bench.large, settings=settings, **headers)
    assert "X-Accel-Redirect" not in response.headers
    assert bench.read(response) == LARGE


def test_a_storage_that_is_no_disk_streams_behind_a_proxy_too(bench: Bench) -> None:
    """There is no path to name."""
    settings = bench.settings.model_copy(update={"accel": "x-accel-redirect"})
    response = bench.ask(bench.large, settings=settings, storage=Bucket({bench.large.blob.key: LARGE}))
    assert not re.search("X-Accel|X-Sendfile", str(response.headers))
    assert bench.read(response) == LARGE
