"""``/s/…``: what people do who come by a link. They download a file, look through a folder, or put files into one.

What is asked for begins at the address's second part; the first is the link's token. A password comes by the form, by HTTP Basic with any
user name, or was given before: then a cookie for this link alone tells so.
"""

from __future__ import annotations

import base64
import binascii
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from werkzeug import Response

from carboy.engine.availability import status_of
from carboy.engine.links import Opened
from carboy.engine.names import clean_folder, clean_path
from carboy.engine.receive import Around
from carboy.errors import CarboyError, InvalidName, InvalidRequest, NotFound, PasswordNeeded
from carboy.model import File, Page, Placed
from carboy.web import download, http
from carboy.web.browse import limit
from carboy.web.call import Call, Doc, Route
from carboy.web.multipart_form import boundary_of
from carboy.web.page import notes, shown
from carboy.web.page.view import redirect
from carboy.web.protocols import form
from carboy.web.render import instant, json_response
from carboy.web.session import is_secure

_COOKIE = "carboy_link"
_PROVED = 12 * 3600
"""Seconds for which a password need not be given again."""
_HEADERS = {"Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex", "Vary": "Accept, Cookie, Authorization"}


def get(call: Call, token: str, **_: str) -> Response:
    """The file, or a folder's page, or the form of an inbox."""
    path = _path(call)
    try:
        opened = _open(call, token)
    except PasswordNeeded as error:
        return _ask_password(call, error)
    if opened.link.kind == "inbox":
        return _inbox(call, opened, path)
    if opened.link.kind == "folder" and (not path or path.endswith("/")):
        return _folder(call, opened, clean_folder(path))
    return _send(call, opened, call.services.links.file(opened, path))


def post(call: Call, token: str, **_: str) -> Response:
    """The password, or the files for an inbox."""
    if call.environ.get("CONTENT_TYPE", "").lower().startswith("application/x-www-form-urlencoded"):
        return _take_password(call, token)
    opened = _open(call, token)
    _must_be_at_top(_path(call))
    boundary = boundary_of(call.environ.get("CONTENT_TYPE", ""))
    if boundary is None:
        raise InvalidRequest("send a multipart/form-data form, or PUT the file to the address with a slash and its name behind it",
                             field="Content-Type")
    try:
        folder = replace(call.services.links.target(opened, "any"), path=opened.link.path)
        placed = form.receive_form(call, folder, boundary, around=_counted(call, opened))
    except CarboyError as error:
        if not call.is_browser or http.STATUS[error.code] in (404, 410, 500, 503):
            raise
        return _inbox(call, opened, "", error=error)
    return _thanks(call, opened, placed)


def put(call: Call, token: str, **_: str) -> Response:
    """The body is a file for an inbox: 201. It is never put in another's place."""
    opened = _open(call, token)
    path = _path(call)
    if not path or path.endswith("/"):
        raise InvalidName("put the file's name at the end of the address", rule="slash")
    target = call.services.links.target(opened, clean_path(path))
    call.services.receiver.precheck(target, call.length)
    with call.body() as source:
        placed = call.services.receiver.receive(target, source, digests=call.digests(), around=_counted(call, opened))
    return _thanks(call, opened, [placed])


# --- opening -------------------------------------------------------------------------------------------------------


def _path(call: Call) -> str:
    """What follows the token: data, which no routing table may fold or rewrite."""
    return http.path_of(call.environ).removeprefix("s/").partition("/")[2]


def _open(call: Call, token: str) -> Opened:
    """Whoever comes by the link is this request's principal, whoever else they are."""
    password = _password(call)
    with call.guessing() if password is not None else nullcontext():
        opened = call.services.links.open(token, password, proof=call.request.cookies.get(_COOKIE), request=call.id, address=call.address)
    call.principal = opened.principal
    return opened


def _password(call: Call) -> str | None:
    scheme, _, given = (call.header("Authorization") or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(given, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        raise InvalidRequest("the password of HTTP Basic is base64 of user:password in UTF-8", field="Authorization") from None


def _take_password(call: Call, token: str) -> Response:
    try:
        with call.guessing():
            opened = call.services.links.open(token, call.fields.get("password", ""), request=call.id, address=call.address)
    except PasswordNeeded as error:
        return _ask_password(call, error, wrong=True)
    response = redirect(call, f"/{quote(http.path_of(call.environ))}")
    proof = call.services.links.proof(opened, expires_at=time.time() + _PROVED)
    response.set_cookie(_COOKIE, proof, max_age=_PROVED, path=f"{call.root}/s/{token}", httponly=True, samesite="Lax",
                        secure=is_secure(call.environ))
    return response


def _ask_password(call: Call, error: PasswordNeeded, *, wrong: bool = False) -> Response:
    if not call.is_browser:
        raise error
    return _page(call, "shared_password.html", 403, wrong=wrong)


# --- showing -------------------------------------------------------------------------------------------------------


def _page(call: Call, template: str, status: int = 200, **context: Any) -> Response:
    response = call.web.pages.html(call, template, status, **context)
    response.headers.update(_HEADERS)
    return response


def _folder(call: Call, opened: Opened, prefix: str) -> Response:
    links, token = call.services.links, _token(call)
    page = links.page(opened, prefix, cursor=call.query.get("cursor"), limit=limit(call))
    if prefix and not page.files and not page.folders:
        raise NotFound("there is no such folder here", path=prefix)
    if not call.is_browser:
        return json_response(_folder_json(call, opened, page), headers=_HEADERS)
    return _page(call, "shared_folder.html", link=opened.link, token=token, prefix=prefix, page=page,
                 title=_title(opened, prefix), shown_path=lambda file: links.shown(opened, file), first="cursor" not in call.query)


def _folder_json(call: Call, opened: Opened, page: Page) -> dict[str, Any]:
    files = [{"path": call.services.links.shown(opened, file), "name": file.name, "size": file.size, "media_type": file.media_type,
              "status": status_of(file.blob), "etag": file.etag, "modified_at": instant(file.modified_at),
              "url": _address(call, call.services.links.shown(opened, file))}
             for file in page.files]
    return {"kind": "folder", "name": opened.link.name, "files": files, "folders": list(page.folders), "next": page.cursor}


def _send(call: Call, opened: Opened, file: File) -> Response:
    """A download that begins at the file's first byte is one use of the link; what goes on from elsewhere, and HEAD, is none. Where uses
    are limited the bytes pass through here: an address of the storage could be used again."""
    storage = call.services.files.storage(opened.principal, file)
    response = download.respond(call.request, file, storage, settings=call.services.settings,
                                attachment=opened.link.kind == "file", redirect=opened.link.max_uses is None)
    if call.method == "GET" and _begins(call, response):
        try:
            call.services.links.count(opened)
        except CarboyError:
            response.close()
            raise
    response.headers.update({"X-Robots-Tag": "noindex", "Vary": "Cookie, Authorization"})
    return response


def _begins(call: Call, response: Response) -> bool:
    if response.status_code == 206:
        told = response.headers.get("Content-Range")
        return told is None or told.startswith("bytes 0-")
    handed_over = response.status_code == 307 or "X-Accel-Redirect" in response.headers or "X-Sendfile" in response.headers
    asked = call.header("Range") if handed_over else None  # the proxy, or the storage, makes the ranges
    return response.status_code in (200, 307) and (asked is None or asked.startswith(("bytes=0", "bytes=-")) or "," in asked)


def _address(call: Call, path: str) -> str:
    return f"{call.root}/s/{_token(call)}/{quote(path)}"


def _token(call: Call) -> str:
    return http.path_of(call.environ).removeprefix("s/").partition("/")[0]


def _title(opened: Opened, prefix: str) -> str:
    inside = (opened.link.path if opened.link.kind == "folder" else "") + prefix
    return prefix[:-1].rpartition("/")[2] or opened.link.name or inside[:-1].rpartition("/")[2] or "Files"


# --- taking --------------------------------------------------------------------------------------------------------


def _counted(call: Call, opened: Opened) -> Around:
    """Counts what is about to be kept, and counts it back where it isn't."""

    def around(files: int, size: int) -> AbstractContextManager[object]:
        return call.services.links.counted(opened, uses=files, received=size)

    return around


def _inbox(call: Call, opened: Opened, path: str, *, error: CarboyError | None = None) -> Response:
    _must_be_at_top(path)
    link = opened.link
    if not call.is_browser:
        told = {"kind": "inbox", "name": link.name, "max_size": link.max_size, "max_bytes": link.max_bytes, "max_uses": link.max_uses}
        return json_response(told, headers=_HEADERS)
    return _page(call, "shared_inbox.html", http.STATUS[error.code] if error else 200, link=link, rules=opened.rules, error=error,
                 action=f"{call.root}/s/{_token(call)}")


def _must_be_at_top(path: str) -> None:
    if path:
        raise NotFound("there is nothing to be seen here")


def _thanks(call: Call, opened: Opened, placed: list[Placed]) -> Response:
    """What came is told to who sent it, and nothing of where it lies."""
    for one in placed:
        call.stored(one)
    if call.is_browser:
        size = shown.size(sum(one.file.size for one in placed))
        note = notes.Note(f"{shown.count(len(placed), 'file')} received, {size}. Thank you.")
        return notes.leave(call, redirect(call, f"/s/{_token(call)}"), note)
    told = [{"name": one.file.name, "size": one.file.size, "crc64nvme": f"{one.file.blob.crc64nvme:016x}"} for one in placed]
    return json_response({"files": told}, 201, _HEADERS)


_TAG = "Links"
_DOWN = ("Range", "If-Range", "If-None-Match", "If-Modified-Since")
_ERRORS = ("bad_signature", "password_needed", "forbidden", "not_found", "link_expired")
_HELD_BACK = ("pending", "quarantined")
_GET = Doc("What a link leads to", _TAG, answers={200: None, 206: None, 304: None, 307: None}, headers=_DOWN,
           errors=(*_ERRORS, *_HELD_BACK), open=True)
_POST = Doc("Send files by a form, or give the password", _TAG, answers={201: None, 303: None}, errors=_ERRORS, open=True)
_PUT = Doc("Send a file", _TAG, body="application/octet-stream", answers={201: None}, errors=_ERRORS, open=True)
ROUTES = (
    Route("/s/<token>", ("GET", "HEAD"), get, _GET),
    Route("/s/<token>", ("POST",), post, _POST),
    Route("/s/<token>/<path:path>", ("GET", "HEAD"), get, _GET),
    Route("/s/<token>/<path:path>", ("POST",), post, _POST),
    Route("/s/<token>/<path:path>", ("PUT",), put, _PUT),
)
