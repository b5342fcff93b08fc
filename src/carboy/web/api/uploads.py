"""``/api/v1/uploads``: transfers under way."""

from __future__ import annotations

from werkzeug import Response

from carboy.engine.access import actions, authorise
from carboy.errors import NotFound, Unauthenticated
from carboy.model import Progress
from carboy.web import answers, schemas
from carboy.web.asking import query
from carboy.web.call import Call, Doc, Route
from carboy.web.render import json_response, no_content, upload_json


def list_uploads(call: Call) -> Response:
    """Uploads under way: one's own, or with ``admin`` all of the space."""
    asked = query(call, schemas.UploadsQuery)
    rules = call.services.files.rules(asked.space)
    authorise(call.principal, "write", asked.space, rules)
    admin = "admin" in actions(call.principal, asked.space, rules)
    uploads, cursor = call.services.catalog.uploads(space=asked.space, owner=None if admin else call.principal.id or "",
                                                    cursor=asked.cursor, limit=asked.limit)
    return json_response({"uploads": [upload_json(call.services.files, progress) for progress in uploads], "next": cursor})


def get_upload(call: Call, id: str) -> Response:
    """What came and which spans are missing, so that any client can resume."""
    return json_response(upload_json(call.services.files, upload_of(call, id)))


def cancel_upload(call: Call, id: str) -> Response:
    """204; the bytes go. 410 where it was no longer under way."""
    call.services.uploads.cancel(upload_of(call, id).upload)
    return no_content()


def upload_of(call: Call, id: str) -> Progress:
    """Uploads are private to their creator."""
    if call.principal.kind == "nobody":
        raise Unauthenticated("send a token as 'Authorization: Bearer …'")
    progress = call.services.uploads.progress(id)
    upload = progress.upload
    try:
        authorise(call.principal, "write", upload.space, call.services.files.rules(upload.space), owner=upload.owner, owned=True)
    except NotFound:
        raise NotFound("there is no such upload", upload=id) from None
    return progress


_TAG = "Uploads"
_GET = Doc("An upload under way", _TAG, answers={200: answers.Upload})
_CANCEL = Doc("Cancel an upload", _TAG, answers={204: None}, errors=("upload_gone",))
ROUTES = (
    Route("/api/v1/uploads", ("GET",), list_uploads,
          Doc("Uploads under way", _TAG, query=schemas.UploadsQuery, answers={200: answers.UploadPage})),
    Route("/api/v1/uploads/<id>", ("GET",), get_upload, _GET),
    Route("/api/v1/uploads/<id>", ("DELETE",), cancel_upload, _CANCEL),
)
