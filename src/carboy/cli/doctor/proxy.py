"""What stands before the server: whether a body reaches it while it comes, how large one may be, and what is left of downloads.

Most is found out without a token: a request with a wrong one is refused by Carboy as soon as its head arrives, so an answer that comes
while the rest of the body is still withheld shows that the proxy didn't wait for it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

from carboy.cli.doctor.asking import Address, Answer, Request, Unreachable
from carboy.cli.doctor.finding import Finding, ok, problem, warning
from carboy.cli.doctor.settings import is_loopback

_WRONG = {"Authorization": "Bearer doctor"}
_HALF = bytes(512 * 2**10)
_WITHHELD = 3.0
"""Seconds that an answer may take while the rest of a body is withheld."""
_SIZES = ((2**40, "1 TiB"), (100 * 2**30, "100 GiB"), (5 * 2**30, "5 GiB"), (2**30, "1 GiB"), (100 * 2**20, "100 MiB"),
          (10 * 2**20, "10 MiB"), (2 * 2**20, "2 MiB"), (2**20, "1 MiB"))
_UNBUFFERED = "in nginx: proxy_request_buffering off; proxy_http_version 1.1; client_max_body_size 0;"
_KEPT = ("etag", "last-modified", "accept-ranges", "content-disposition", "x-content-type-options", "content-security-policy")
_SKEW = 5.0
_BREATH = 0.2
_DRIBBLE = [bytes(32_000)] * int(_WITHHELD / _BREATH)


def check(url: str, token: str | None, space: str) -> Iterator[Finding]:
    """Raises ConfigError where ``url`` is none."""
    address = Address(url)
    try:
        health = address.ask("GET", "/healthz")
        yield _reached(address, health)
        if not _is_alive(health):
            return
        yield from _said(address, health)
        yield _streamed("with a length", _early(address, chunked=False))
        yield _streamed("in chunks", _early(address, chunked=True))
        yield _largest(address)
        if token:
            yield from _with_token(address, {"Authorization": f"Bearer {token}"}, space)
    except Unreachable as error:
        yield problem("proxy", f"{address.url}: {error}", "see that the server runs and that the address leads to it")


def _is_alive(health: Answer) -> bool:
    return health.status == 200 and health.json().get("status") == "ok"


def _reached(address: Address, health: Answer) -> Finding:
    if 300 <= health.status < 400:
        return problem("proxy", f"{address.url} leads on to {health.headers.get('location', 'nowhere')}",
                       "give that address: uploads aren't led on")
    if health.status in (502, 503, 504):
        return problem("proxy", f"{address.url} answers {health.status}",
                       "the proxy does not reach the server: see that it runs, and where the proxy looks")
    if not _is_alive(health):
        return problem("proxy", f"{address.url}/healthz is not answered by Carboy ({health.status})",
                       "let the proxy hand on every address")
    return ok("proxy", f"{address.url} is answered by Carboy")


def _said(address: Address, health: Answer) -> Iterator[Finding]:
    if not address.secure and not is_loopback(address.host):
        yield warning("proxy", "the address is not encrypted", "serve it as https")
    try:
        off = parsedate_to_datetime(health.headers["date"]).timestamp() - time.time()
    except (KeyError, ValueError):
        yield warning("proxy", "its answers have no Date", "let the proxy hand it on")
        return
    if abs(off) > _SKEW:
        yield warning("clock", f"the server's clock is {off:+.0f} s off this machine's", "let both be set by a time service")


# --- bodies --------------------------------------------------------------------------------------------------------


def _early(address: Address, *, chunked: bool) -> Answer | None:
    """The refusal that comes while the end of the body is withheld. A little is sent all the while: Caddy hands on the refusal of a body
    only once more of it comes, and where its length isn't known after 256 KiB more."""
    framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(2 * len(_HALF))}
    with Request(address, "PUT", "/files/main/carboy-doctor", {**_WRONG, **framing}) as request:
        for piece in (_HALF, *_DRIBBLE):
            request.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            if answer := request.answer(_BREATH):
                return answer
    return None


def _streamed(framing: str, answer: Answer | None) -> Finding:
    if answer is None:
        return problem("proxy", f"bodies {framing} are buffered: nothing reached Carboy while half of one was withheld", _UNBUFFERED)
    if answer.status == 413 and not answer.is_refusal:
        return problem("proxy", f"the proxy refuses bodies {framing} of 1 MiB (413)", _UNBUFFERED)
    if not answer.is_refusal:
        return problem("proxy", f"the proxy answers a body {framing} itself ({answer.status})", _UNBUFFERED)
    return ok("proxy", f"bodies {framing} reach Carboy while they come")


def _largest(address: Address) -> Finding:
    """The largest declared size that the proxy doesn't refuse. Only heads are sent."""
    for size, name in _SIZES:
        with Request(address, "PUT", "/files/main/carboy-doctor", {**_WRONG, "Content-Length": str(size)}) as request:
            answer = request.answer(_BREATH)
            request.send(bytes(1000))
            answer = answer or request.answer(_WITHHELD)
        if answer is None or answer.is_refusal:
            if size == _SIZES[0][0]:
                return ok("proxy", "it sets no limit to the size of a body")
            return problem("proxy", f"it lets bodies of {name} through, but not larger ones", "in nginx: client_max_body_size 0;")
    return problem("proxy", f"it refuses bodies of {_SIZES[-1][1]}", "in nginx: client_max_body_size 0;")


# --- with a token --------------------------------------------------------------------------------------------------


def _with_token(address: Address, auth: dict[str, str], space: str) -> Iterator[Finding]:
    yield from _arriving(address, auth)
    path, data = f"/files/{space}/carboy-doctor-{secrets.token_hex(8)}.bin", secrets.token_bytes(3 * 2**20)
    stored = address.ask("PUT", path, auth, data)
    if stored.status not in (200, 201):
        yield problem("proxy", f"a file of 3 MiB was refused ({stored.status} {stored.json().get('code', '')})",
                      "give a token that may read, write and delete there; --space names another space"
                      if stored.is_refusal else _UNBUFFERED)
        return
    try:
        yield _whole(address.ask("GET", path, {**auth, "Accept-Encoding": "gzip"}), data, str(stored.json().get("etag", "")))
        yield _part(address.ask("GET", path, {**auth, "Range": "bytes=1000000-1999999"}), data[1_000_000:2_000_000])
    finally:
        address.ask("DELETE", path + "?permanent=true", auth)


def _arriving(address: Address, auth: dict[str, str]) -> Iterator[Finding]:
    """About half of a chunk is sent; then the server is asked, over another connection, what of it is on its disk."""
    name, boundary = f"carboy-doctor-{secrets.token_hex(8)}.bin", secrets.token_hex(16)
    fields = {"file_id": name, "index": "0", "chunk_size": str(4 * len(_HALF)), "total": str(4 * len(_HALF))}
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()]
    head = "".join([*parts, f'--{boundary}\r\nContent-Disposition: form-data; name="chunk"; filename="chunk"\r\n\r\n']).encode()
    length = len(head) + 4 * len(_HALF) + len(boundary) + 8
    with Request(address, "POST", "/chunk-upload", {**auth, "Content-Type": f"multipart/form-data; boundary={boundary}",
                                                    "Content-Length": str(length)}) as request:
        request.send(head + _HALF + _HALF)
        upload, refused = _seen(address, auth, name, request)
    if upload:
        address.ask("DELETE", f"/api/v1/uploads/{upload['id']}", auth)
        yield ok("proxy", f"of a chunk {upload['received']} bytes were on the server's disk before the rest was sent")
    elif refused is None:
        yield problem("proxy", "half a chunk was sent, and the server has none of it", _UNBUFFERED)
    elif refused.status != 404:
        yield warning("proxy", f"a chunk was refused ({refused.status} {refused.json().get('code', '')})", "give a token that may write")


def _seen(address: Address, auth: dict[str, str], name: str, request: Request) -> tuple[dict[str, Any] | None, Answer | None]:
    """The upload, once the server has recorded some of it, which it does from time to time while bytes come; or its refusal."""
    end = time.monotonic() + 2 * _WITHHELD
    while time.monotonic() < end:
        request.send(bytes(2**10))
        if refused := request.answer(_BREATH):
            return None, refused
        uploads = address.ask("GET", "/api/v1/uploads", auth).json().get("uploads", ())
        if found := next((one for one in uploads if one["path"].endswith(name) and one["received"]), None):
            return dict(found), None
    return None, None


def _whole(answer: Answer, data: bytes, etag: str) -> Finding:
    lost = [name for name in _KEPT if name not in answer.headers]
    if answer.status != 200 or (answer.body != data and "content-encoding" not in answer.headers):
        return problem("proxy", f"the file did not come back as it was sent ({answer.status})", "let the proxy hand answers on as they are")
    if "content-encoding" in answer.headers:
        return problem("proxy", "the proxy compresses downloads", "resuming them breaks; in nginx: gzip off; for Carboy's addresses")
    if lost or answer.headers["etag"] != etag:
        return problem("proxy", f"downloads lose or change {', '.join(lost) or 'etag'}",
                       "hand the fields on; with X-Accel-Redirect use the location in deploy/nginx.conf")
    return ok("proxy", "a download comes back whole, with its fields")


def _part(answer: Answer, data: bytes) -> Finding:
    if answer.status != 206 or answer.body != data:
        return problem("proxy", f"a part of a file is not what was asked for ({answer.status})", "let the proxy hand on Range and If-Range")
    return ok("proxy", "parts of files can be fetched")
