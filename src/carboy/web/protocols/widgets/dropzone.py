"""Dropzone 6: forms of whole files, and chunks (``chunking: true``). Any 2xx is a success; anything else is an error, and its ``error`` is
shown."""

from __future__ import annotations

import json

from werkzeug import Response

from carboy.errors import CarboyError
from carboy.web import http
from carboy.web.call import Call
from carboy.web.protocols.widgets import fields
from carboy.web.protocols.widgets.receiving import Widget, receive
from carboy.web.render import json_response

_WIDGET = Widget("dropzone", fields.dropzone, whole=True)


def post(call: Call, space: str) -> Response:
    """A whole file, several, or a chunk; any order, twice, in parallel."""
    try:
        return receive(call, space, _WIDGET)
    except CarboyError as error:
        if http.STATUS[error.code] == 500:
            raise
        problem = http.problem(error, call.id)
        headers = {name: value for name, value in problem.headers.items() if not name.startswith("Content-")}
        return json_response({**json.loads(problem.get_data()), "error": error.detail}, problem.status_code, headers)
