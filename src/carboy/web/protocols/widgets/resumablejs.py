"""Resumable.js 1: a test by GET, then chunks as forms or as raw bodies. It ends at 400, 404, 415, 500 and 501, and sends again, a hundred
times and at once, what was refused with any other status. So what can't be right another time is 400 here, whatever it is elsewhere."""

from __future__ import annotations

from functools import partial

from werkzeug import Response

from carboy.errors import CarboyError
from carboy.web import http
from carboy.web.call import Call
from carboy.web.protocols.widgets import fields
from carboy.web.protocols.widgets.receiving import Widget, has, receive
from carboy.web.render import no_content

_FOR_GOOD = frozenset({"conflict", "path_conflict", "bytes_differ", "upload_gone", "precondition_failed", "too_large", "quota_exceeded"})
_WIDGET = Widget("resumablejs", partial(fields.numbered, "resumablejs"))


def get(call: Call, space: str) -> Response:
    """Whether a chunk is there: 200, else 204, and it is sent."""
    return Response(status=200, content_type="text/plain") if has(call, space, _WIDGET) else no_content()


def post(call: Call, space: str) -> Response:
    """One chunk; any order, twice, in parallel."""
    try:
        return receive(call, space, _WIDGET)
    except CarboyError as error:
        if error.code in _FOR_GOOD:
            return http.problem(error, call.id, status=400)
        raise
