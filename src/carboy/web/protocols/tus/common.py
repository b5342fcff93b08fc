"""What every request of tus needs: the version, the upload it is about, and answers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps

from werkzeug import Response

from carboy.engine.access import authorise
from carboy.errors import DigestMismatch, NotFound, PreconditionFailed, UploadGone
from carboy.model import File, Progress, Upload
from carboy.web import http
from carboy.web.call import Call, Handler
from carboy.web.protocols.tus import fields
from carboy.web.render import Finished, address

SPACE = "main"
"""The space of addresses that name none."""
ALWAYS: Mapping[str, str] = {"Tus-Resumable": fields.VERSION}


def tus(handler: Handler) -> Handler:
    """Of another version than ours is 412, and of bytes with another checksum 460."""

    @wraps(handler)
    def answer(call: Call, **where: str) -> Response:
        call.always = ALWAYS
        if call.header("Tus-Resumable") != fields.VERSION:
            call.always = {**ALWAYS, "Tus-Version": fields.VERSION}
            raise PreconditionFailed(f"this is tus {fields.VERSION}; send 'Tus-Resumable: {fields.VERSION}'", field="Tus-Resumable")
        try:
            return handler(call, **where)
        except DigestMismatch as error:
            problem = http.problem(error, call.id, status=460)
            problem.status = "460 Checksum Mismatch"
            return problem

    return answer


def found(call: Call, space: str, id: str) -> Progress:
    """The upload, which is private to its creator. Raises Unauthenticated, NotFound, Forbidden."""
    rules = call.services.files.rules(space)
    authorise(call.principal, "write", space, rules)
    progress = call.services.uploads.progress(id)
    if progress.upload.space != space:
        raise NotFound("there is no such upload", upload=id)
    try:
        authorise(call.principal, "write", space, rules, owner=progress.upload.owner, owned=True)
    except NotFound:
        raise NotFound("there is no such upload", upload=id) from None
    return progress


def settled(call: Call, progress: Progress) -> Progress:
    """One that has all its bytes is a file now. Raises what keeps it from becoming one: it must not look as if it had."""
    if not progress.due:
        return progress
    call.services.uploads.complete(progress)
    return call.services.uploads.progress(progress.upload.id)


def living(call: Call, upload: Upload) -> Upload:
    """Raises UploadGone for one that is over without a file, or whose file is gone."""
    gone = upload.file_id is not None and call.services.uploads.file(upload) is None
    if gone or upload.state not in ("receiving", "complete"):
        raise UploadGone(f"the upload is {'deleted' if gone else upload.state}", state=upload.state, failure=upload.failure)
    return upload


def offset(progress: Progress) -> int:
    """Where the next byte belongs."""
    upload = progress.upload
    return upload.size or 0 if upload.state == "complete" else progress.offset


def told(upload: Upload, file: File | None) -> dict[str, str]:
    """Until when it takes bytes, or what it has become."""
    if file:
        return {"Carboy-File": file.id}
    return {"Upload-Expires": http.http_date(upload.expires_at)} if upload.state == "receiving" else {}


def upload_address(space: str, id: str) -> str:
    """Its path, so that it holds whatever host and scheme the client knows."""
    return address(f"/tus/{space}/{id}")


def empty(status: int, headers: Mapping[str, str]) -> Response:
    """An answer without a body, which no cache keeps."""
    length = {} if status == 204 else {"Content-Length": "0"}
    response = Finished([], status, {"Cache-Control": "no-store", **headers, **length})
    del response.headers["Content-Type"]
    return response
