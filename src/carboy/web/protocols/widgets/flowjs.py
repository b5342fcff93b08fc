"""Flow.js 2: as Resumable.js, of which it came. It ends at the first error unless ``maxChunkRetries`` says otherwise, and then at 404, 413,
415, 500 and 501 still; 200, 201 and 202 are successes."""

from __future__ import annotations

from functools import partial

from werkzeug import Response

from carboy.web.call import Call
from carboy.web.protocols.widgets import fields
from carboy.web.protocols.widgets.receiving import Widget, has, receive
from carboy.web.render import no_content

_WIDGET = Widget("flowjs", partial(fields.numbered, "flowjs"))


def get(call: Call, space: str) -> Response:
    """Whether a chunk is there: 200, else 204, and it is sent."""
    return Response(status=200, content_type="text/plain") if has(call, space, _WIDGET) else no_content()


def post(call: Call, space: str) -> Response:
    """One chunk; any order, twice, in parallel."""
    return receive(call, space, _WIDGET)
