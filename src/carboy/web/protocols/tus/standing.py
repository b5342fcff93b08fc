"""Where an upload stands, what it has become, and its end."""

from __future__ import annotations

from werkzeug import Response

from carboy.errors import NotFound, UploadGone
from carboy.model import Upload
from carboy.web.call import Call
from carboy.web.protocols.tus import fields
from carboy.web.protocols.tus.common import SPACE, empty, found, living, offset, settled, told, tus
from carboy.web.render import location


@tus
def head(call: Call, id: str, space: str = SPACE) -> Response:
    """Where the upload stands. Who writes lets go first, so what is told is where the next bytes belong."""
    known = found(call, space, id)
    progress = settled(call, known if known.upload.parts else call.services.uploads.standing(id))
    upload = living(call, progress.upload)
    headers = {**told(upload, call.services.uploads.file(upload)), **_length(call, upload), **_concat(upload)}
    if metadata := fields.format_metadata(upload.metadata):
        headers["Upload-Metadata"] = metadata
    if upload.state == "complete" or not upload.parts:
        headers["Upload-Offset"] = str(offset(progress))
    return empty(200, headers)


def get(call: Call, id: str, space: str = SPACE) -> Response:
    """The file that the upload became: 303 to where it is."""
    upload = living(call, found(call, space, id).upload)
    file = call.services.uploads.file(upload)
    if file is None:
        raise NotFound("the upload is no file yet", upload=id)
    return empty(303, {"Location": location(call.services.files, file)})


@tus
def terminate(call: Call, id: str, space: str = SPACE) -> Response:
    """The upload ends and its bytes go. Of a complete one the file is deleted, where one may; 410 where that has another content by
    now."""
    upload = found(call, space, id).upload
    file = call.services.uploads.file(upload)
    if file is None:
        call.services.uploads.cancel(upload)
    elif file.blob.key == upload.key:
        call.services.changes.delete(call.principal, file)
    else:
        raise UploadGone("the file has another content by now; delete it where it is", state=upload.state, file=file.id)
    return empty(204, {})


def _length(call: Call, upload: Upload) -> dict[str, str]:
    """The length; of one that waits for its parts the sum of theirs, where that is known."""
    if upload.size is not None:
        return {"Upload-Length": str(upload.size)}
    if not upload.parts:
        return {"Upload-Defer-Length": "1"}
    parts = [call.services.catalog.upload(part) for part in upload.parts]
    sizes = [part.upload.size for part in parts if part and part.upload.size is not None]
    return {"Upload-Length": str(sum(sizes))} if len(sizes) == len(parts) else {}


def _concat(upload: Upload) -> dict[str, str]:
    """As it was received, which tus demands."""
    if upload.parts_given:
        return {"Upload-Concat": upload.parts_given}
    return {"Upload-Concat": "partial"} if upload.partial else {}
