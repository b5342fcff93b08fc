"""Templates become answers, with the headers that every page has."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from werkzeug import Response
from werkzeug.utils import cached_property

from carboy.engine.access import actions
from carboy.model import NOBODY, Principal
from carboy.web import forgery
from carboy.web.page import notes, shown
from carboy.web.page.assets import Assets
from carboy.web.render import instant

if TYPE_CHECKING:
    from carboy.web.call import Call

POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "private, no-store",
    "Vary": "Accept, Cookie, Authorization",
}
"""``same-origin`` tells other sites as little as ``no-referrer`` does; but under that one browsers would send ``Origin: null`` with our own
forms, and where they send no Sec-Fetch-Site nothing would tell these from another site's."""


class Pages:
    """All templates and assets, read when first asked for."""

    def __init__(self) -> None:
        self.assets = Assets()

    def html(self, call: Call, template: str, status: int = 200, **context: Any) -> Response:
        """The template as an answer to this request."""
        note, who = notes.left(call) if status < 400 else None, _seen_as(call)
        text = self._templates.get_template(template).render(
            call=call, root=call.root, session=call.session, signed_in=who.kind != "nobody", spaces=_spaces(call, who), csrf=_csrf(call),
            note=note, now=time.time(), asset=lambda file: f"{call.root}/static/{self.assets.named(file)}", **context)
        response = Response(text, status, HEADERS, content_type="text/html; charset=utf-8")
        if note:
            notes.take_away(response)
        return response

    @cached_property
    def _templates(self) -> Environment:
        made = Environment(loader=PackageLoader("carboy.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                           lstrip_blocks=True)
        made.filters |= {"size": shown.size, "name": shown.name, "plain": shown.plain, "moment": shown.moment, "day": shown.day,
                         "instant": instant, "path": quote}
        made.globals |= {"ago": shown.ago, "until": shown.until, "count": shown.count, "kind": shown.kind, "accepted": shown.accepted}
        return made


def redirect(call: Call, address: str) -> Response:
    """303: go and look there. ``address`` begins with a slash, and is this server's, wherever it is mounted."""
    return Response(status=303, headers={"Location": call.root + address, "Cache-Control": "no-store"})


def folder_address(space: str, folder: str) -> str:
    """The page of a folder, whose path has the slash at the end."""
    return f"/files/{quote(space)}/{quote(folder)}"


def _spaces(call: Call, who: Principal) -> Sequence[str]:
    """The spaces that they may look into or put something into."""
    return [name for name, rules in call.services.settings.spaces.items() if actions(who, name, rules)]


def _csrf(call: Call) -> str:
    return forgery.token_for(call.services.signer, call.session.id) if call.session else ""


def _seen_as(call: Call) -> Principal:
    """Who looks at the page. A problem's page is made too where who asks could not be told, or was refused."""
    found: Principal | None = call.__dict__.get("principal")
    if found is not None:
        return found
    return call.session.principal if call.session else NOBODY
