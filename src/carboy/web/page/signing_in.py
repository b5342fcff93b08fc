"""``/``, ``/login`` and ``/logout``: a token, given once, becomes a cookie session."""

from __future__ import annotations

import re
from urllib.parse import quote

from werkzeug import Response

from carboy.engine.access import actions
from carboy.errors import Unauthenticated
from carboy.web import forgery
from carboy.web.call import Call
from carboy.web.page.view import redirect

_OURS = re.compile(r"/(?:files|page)/[^\\\x00-\x20\x7f]*")


def home(call: Call) -> Response:
    """On to the first space that the principal may look into; to the sign-in where there is none."""
    for action in ("read", "write"):
        for name, rules in call.services.settings.spaces.items():
            if action in actions(call.principal, name, rules) and not (action == "write" and call.session is None):
                return redirect(call, f"/files/{quote(name)}/")
    return redirect(call, "/login")


def form(call: Call) -> Response:
    """The form that asks for a token; whoever has signed in goes on."""
    if call.session and "next" not in call.query:
        return redirect(call, "/")
    return _page(call, _next(call.query.get("next", "")))


def login(call: Call) -> Response:
    """Where another site could sign somebody in as itself, what that one uploads would go to it: so this wants our own form."""
    forgery.must_be_own(call.environ)
    go_on = _next(call.fields.get("next", ""))
    response = redirect(call, go_on or "/")
    try:
        with call.guessing():
            call.web.sessions.begin(response, call.environ, call.fields.get("token", "").strip())
    except Unauthenticated:
        return _page(call, go_on, wrong=True, status=401)
    return response


def logout(call: Call) -> Response:
    """The browser forgets the session. The token itself lives on."""
    if call.session:
        _ = call.principal  # checks that the form is our own
    response = redirect(call, "/login")
    call.web.sessions.end(response, call.environ)
    return response


def _page(call: Call, go_on: str, *, wrong: bool = False, status: int = 200) -> Response:
    return call.web.pages.html(call, "login.html", status, go_on=go_on, wrong=wrong)


def _next(address: str) -> str:
    """The address, if it is one of this server's pages; else ``""``: nobody is sent elsewhere from here."""
    return address if _OURS.fullmatch(address) else ""
