"""Where an upload stands, what is served, and its end."""

from __future__ import annotations

from werkzeug import Response

from carboy.engine import limits
from carboy.engine.access import actions
from carboy.errors import InvalidRequest, UploadGone
from carboy.model import Progress
from carboy.web.api.uploads import cancel_upload, upload_of
from carboy.web.call import Call
from carboy.web.protocols.resumable import fields
from carboy.web.protocols.resumable.appending import settled
from carboy.web.protocols.resumable.common import Asked, asked, empty, resumable, state
from carboy.web.render import json_response, upload_json

_METHODS = "OPTIONS, HEAD, GET, PATCH, PUT, DELETE"


@resumable
def head(call: Call, id: str) -> Response:
    """Where the upload stands. Who writes lets go first, so what is told is where the next bytes belong; parts that come in any order are
    left alone."""
    request, progress = _asking(call), upload_of(call, id)
    if progress.upload.state == "receiving" and not (progress.spans and progress.spans[-1].end > progress.offset):
        progress = call.services.uploads.standing(id)
    progress = settled(call, progress)
    _must_live(call, progress)
    return empty(204, state(call, request.version, progress))


@resumable
def get(call: Call, id: str) -> Response:
    """What came and which spans are missing, so that any client can resume. Nobody who writes is asked to stop."""
    request, progress = _asking(call), upload_of(call, id)
    return json_response(upload_json(call.services.files, progress), headers=state(call, request.version, progress))


def delete(call: Call, id: str) -> Response:
    """204; the bytes go, and who writes is cut. 410 where it was no longer under way."""
    return cancel_upload(call, id)


def options(call: Call, id: str) -> Response:
    """What is served, and the limits."""
    return _told(call, fields.version(call.header(fields.VERSION_FIELD)), call.services.settings.max_size, _METHODS)


def options_of_files(call: Call, space: str, path: str) -> Response:
    """``OPTIONS /files/{space}/{path}``: what is served, and the limits of the space."""
    rules = call.services.files.rules(space)
    known = rules if rules and "write" in actions(call.principal, space, rules) else None
    most = limits.largest(call.services.settings, known) if known else call.services.settings.max_size
    methods = "OPTIONS, HEAD, GET, POST" if not path or path.endswith("/") else "OPTIONS, HEAD, GET, PUT, DELETE"
    return _told(call, fields.version(call.header(fields.VERSION_FIELD)), most, methods)


def _told(call: Call, version: fields.Version, most: int, methods: str) -> Response:
    return empty(204, {"Allow": methods, "Accept-Patch": fields.BODY, **fields.limits(version, most)})


def _asking(call: Call) -> Asked:
    """Raises InvalidRequest where it carries what only a request that changes something does."""
    request = asked(call)
    if request.offset is not None or request.complete is not None:
        raise InvalidRequest("this asks where the upload stands; it carries no Upload-Offset and no Upload-Complete", field="Upload-Offset")
    return request


def _must_live(call: Call, progress: Progress) -> None:
    upload = progress.upload
    gone = upload.file_id is not None and call.services.uploads.file(upload) is None
    if gone or upload.state not in ("receiving", "complete"):
        raise UploadGone(f"the upload is {'deleted' if gone else upload.state}", state=upload.state, failure=upload.failure)
