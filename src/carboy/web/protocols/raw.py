"""``PUT /files/{space}/{path}``: the body is the file (RFC 9110 section 9.3.4)."""

from __future__ import annotations

from werkzeug import Response

from carboy.engine.names import clean_path
from carboy.errors import InvalidName, InvalidRequest
from carboy.model import Condition
from carboy.web import http
from carboy.web.call import Call
from carboy.web.whole import receive


def put(call: Call, space: str, path: str) -> Response:
    """201 for a new path, 200 for a replaced content. Conditions are checked before the body is read, and again when the
    file takes its place."""
    if not path or path.endswith("/"):
        raise InvalidName("a file's path doesn't end with a slash; put the file's name at the end", rule="slash")
    if call.header("Content-Range"):
        raise InvalidRequest("PUT takes whole files; a Content-Range has no meaning here (RFC 9110 section 14.5)")
    services = call.services
    target = services.files.target(call.principal, space, clean_path(path), condition=_condition(call))
    return receive(call, target)


def _condition(call: Call) -> Condition:
    if "HTTP_IF_MATCH" in call.environ or "HTTP_IF_NONE_MATCH" in call.environ:
        return http.condition_of(call.request.headers)
    return Condition()
