"""Links on the page: made, shown to be copied, listed, revoked."""

from __future__ import annotations

import time
from typing import Any

from werkzeug import Response

from carboy.config import parse_size
from carboy.engine.access import actions, authorise
from carboy.engine.names import clean_folder
from carboy.errors import CarboyError, InvalidRequest
from carboy.model import Link
from carboy.web.call import Call
from carboy.web.page import file as file_page
from carboy.web.page import notes, place
from carboy.web.page.notes import Note
from carboy.web.page.view import redirect
from carboy.web.session import is_secure

DAY = 86400
EXPIRIES = (("3600", "an hour"), (str(DAY), "a day"), (str(7 * DAY), "a week"), (str(30 * DAY), "30 days"), (str(365 * DAY), "a year"),
            ("", "it is revoked"))
"""How long a link may live, in seconds, and what the form calls it."""


def for_file(call: Call, id: str) -> Response:
    """A link to download a file."""
    file = call.services.files.get(call.principal, id)
    try:
        link = call.services.links.create(call.principal, kind="file", file=file, **_wishes(call))
    except CarboyError as error:
        return file_page.show(call, file, error=error, form="link")
    return redirect(call, f"/page/link/{link.id}")


def for_folder(call: Call, space: str) -> Response:
    """A link to see a folder, or to put files into it."""
    folder, kind = clean_folder(call.fields.get("folder", "")), call.fields.get("kind", "folder")
    try:
        link = call.services.links.create(call.principal, kind="inbox" if kind == "inbox" else "folder", space=space, folder=folder,
                                          **_wishes(call))
    except CarboyError as error:
        return place.show(call, space, folder, error=error, form=kind)
    return redirect(call, f"/page/link/{link.id}")


def show(call: Call, id: str) -> Response:
    """One link, with its address to be copied."""
    link = call.services.links.get(call.principal, id)
    return call.web.pages.html(call, "link.html", link=link, space=link.space, address=address_of(call, link), about=_about(call, link),
                               may=_may(call, link.space))


def listed(call: Call, space: str) -> Response:
    """The space's links, with what became of them."""
    rules = call.services.settings.spaces.get(space)
    authorise(call.principal, "read", space, rules)
    links, following = call.services.links.list(call.principal, space=space, cursor=call.query.get("cursor"), limit=100)
    return call.web.pages.html(call, "links.html", space=space, rules=rules, links=[(link, _about(call, link)) for link in links],
                               following=following, may=actions(call.principal, space, rules))


def revoke(call: Call, id: str) -> Response:
    """From now on it opens nothing."""
    link = call.services.links.get(call.principal, id)
    call.services.links.revoke(call.principal, id)
    return notes.leave(call, redirect(call, f"/page/links/{link.space}"), Note("The link is revoked: it opens nothing any more."))


def address_of(call: Call, link: Link) -> str:
    """The whole address, as it is sent to others."""
    scheme = "https" if is_secure(call.environ) else "http"
    return f"{scheme}://{call.environ.get('HTTP_HOST', '')}{call.root}/s/{call.services.links.address(link)}"


def _may(call: Call, space: str) -> frozenset[str]:
    return frozenset(actions(call.principal, space, call.services.settings.spaces.get(space)))


def _about(call: Call, link: Link) -> str:
    """What the link opens: the file's path, or the folder's."""
    files = call.services.files
    if link.file_id is None:
        return files.shown(link.space, link.path).removesuffix("/")
    file = call.services.catalog.file(link.file_id)
    return files.shown_path(file) if file else ""


def _wishes(call: Call) -> dict[str, Any]:
    fields = call.fields
    seconds = fields.get("expires", "")
    if seconds not in dict(EXPIRIES):
        raise InvalidRequest("the form has no such time", field="expires")
    return {"name": fields.get("name", "").strip()[:200], "password": fields.get("password", "") or None,
            "expires_at": time.time() + int(seconds) if seconds else None, "max_uses": _number(fields.get("uses", ""), "uses"),
            "max_size": _bytes(fields.get("max_size", ""), "max_size"), "max_bytes": _bytes(fields.get("max_bytes", ""), "max_bytes")}


def _number(text: str, field: str) -> int | None:
    if text.strip() and not (text.strip().isascii() and text.strip().isdigit() and 0 < int(text.strip()[:10]) < 10**9):
        raise InvalidRequest("write a whole number from 1, or nothing for no limit", field=field)
    return int(text) if text.strip() else None


def _bytes(text: str, field: str) -> int | None:
    try:
        return int(parse_size(text.strip())) or None if text.strip() else None
    except ValueError as error:
        raise InvalidRequest(str(error), field=field) from None
