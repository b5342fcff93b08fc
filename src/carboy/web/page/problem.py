"""A problem as a page, for browsers. Its status and facts are those of the JSON that others get."""

from __future__ import annotations

import json
from urllib.parse import quote

from werkzeug import Response

from carboy.web import http
from carboy.web.call import Call
from carboy.web.page.view import redirect

_KEPT = ("Retry-After", "Allow", "Content-Range", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")


def is_wanted(call: Call) -> bool:
    """Whether a person is to read it: one who came to the page, or by a link."""
    return call.is_browser and (call.web.page or _by_link(call))


def page(call: Call, problem: Response) -> Response:
    """The problem as a page. Who has to sign in, and only wanted to look, is sent there."""
    if problem.status_code == 401 and call.method == "GET" and call.web.page and call.header("Authorization") is None:
        return redirect(call, f"/login?next={quote(_address(call), safe='')}")
    told = json.loads(problem.get_data())
    response = call.web.pages.html(call, "problem.html", problem.status_code, told=told, home=_has_home(call))
    for name in _KEPT:
        if name in problem.headers:
            response.headers[name] = problem.headers[name]
    return response


def _address(call: Call) -> str:
    query = call.environ.get("QUERY_STRING", "")
    return f"/{quote(http.path_of(call.environ))}{'?' if query else ''}{query}"


def _has_home(call: Call) -> bool:
    """Whether there is a page to go to. Who came by a link has none."""
    return call.web.page and not _by_link(call)


def _by_link(call: Call) -> bool:
    return str(call.environ.get("PATH_INFO", "")).startswith("/s/")
