"""New uploads: any ``PUT`` or ``POST`` to ``/files/…`` that says ``Upload-Complete``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from werkzeug import Response

from carboy.engine.names import clean_folder, clean_name, clean_path
from carboy.engine.receive import AsUpload, Target
from carboy.errors import CarboyError, InvalidName, InvalidRequest, NotFound, TooLarge
from carboy.model import Condition, Upload, new_id
from carboy.web import http
from carboy.web.call import Call
from carboy.web.disposition import name_in
from carboy.web.protocols.resumable import fields
from carboy.web.protocols.resumable.appending import append, settled
from carboy.web.protocols.resumable.common import (
    Asked,
    asked,
    empty,
    finished,
    of_whole,
    resumable,
    state,
    stored,
    told_limits,
    upload_address,
)
from carboy.web.protocols.resumable.interim import Interim

PROTOCOL = "resumable"


def is_meant(call: Call) -> bool:
    """Whether the request creates a resumable upload. Fields that mean nothing are no fields, and a form that comes whole is a form."""
    version = fields.version(call.header(fields.VERSION_FIELD))
    complete = fields.completeness(version, call.header(version.complete))
    is_form = call.environ.get("CONTENT_TYPE", "").lower().startswith("multipart/form-data")
    return complete is not None and not (complete and is_form)


@resumable
def create(call: Call, space: str, path: str) -> Response:
    """With ``?1`` the body is the file, and a client that speaks a version of the draft learns by a 104 where to resume; with ``?0``
    more is to come. Conditions hold when the file takes its place."""
    request, id = asked(call), new_id()
    if call.header("Content-Range"):
        raise InvalidRequest("an upload begins with its first byte; send its parts to its own address", field="Content-Range")
    if call.environ.get("CONTENT_TYPE", "").lower().startswith("multipart/form-data"):
        raise InvalidRequest("a form comes whole; only the bytes of one file can be resumed", field="Content-Type")
    target = _target(call, space, path, id)
    size = request.whole(0)
    try:
        call.services.receiver.precheck(target, size)
        interim, digests = Interim(call, request.version), of_whole(call)
        if request.complete and not interim.heard and "" not in digests.values():
            return _whole(call, request, target, id)
        return _begun(call, request, target, id, size, interim, digests)
    except TooLarge as error:
        call.always = {**call.always, **fields.limits(request.version, error.facts.get("limit", call.services.settings.max_size))}
        raise


def _whole(call: Call, request: Asked, target: Target, id: str) -> Response:
    """All of it comes with this request, or nothing is kept: one transaction."""
    with call.body() as source:
        placed = call.services.receiver.receive(target, source, digests=call.digests(), as_upload=AsUpload(id, PROTOCOL))
    return stored(call, request.version, placed)


def _begun(call: Call, request: Asked, target: Target, id: str, size: int | None, interim: Interim, digests: dict[str, str]) -> Response:
    """An upload that can go on. One whose address was never told goes with the request that fails."""
    uploads = call.services.uploads
    upload = uploads.begin(target, protocol=PROTOCOL, size=size, id=id, digests=digests).upload
    limits = told_limits(call, request.version, upload)
    interim.announce(upload_address(id), limits)
    try:
        progress, placed = (settled(call, uploads.progress(id)), None) if request.comes == 0 else append(call, request, upload, 0, interim)
    except BaseException:
        if not interim.heard:
            _forget(call, upload)
        raise
    if placed or progress.upload.state != "receiving":
        return finished(call, request.version, progress, placed)
    return empty(201, {**state(call, request.version, progress), "Location": upload_address(id)})


def _target(call: Call, space: str, path: str, id: str) -> Target:
    """``PUT`` names the file; a folder's ``POST`` does so by Content-Disposition, else the id is its name."""
    files = call.services.files
    if call.method == "PUT":
        if not path or path.endswith("/"):
            raise InvalidName("a file's path doesn't end with a slash; put the file's name at the end", rule="slash")
        target = files.target(call.principal, space, clean_path(path))
    elif path and not path.endswith("/"):
        raise NotFound("an upload without a name is posted to a folder, with a slash at the end", right=f"/files/{space}/{path}/")
    else:
        folder = files.target(call.principal, space, clean_folder(path))
        target = replace(folder, path=clean_path(folder.path + clean_name(name_in(call.header("Content-Disposition") or "") or id)))
    return replace(target, condition=_condition(call))


def _condition(call: Call) -> Condition:
    if "HTTP_IF_MATCH" in call.environ or "HTTP_IF_NONE_MATCH" in call.environ:
        return http.condition_of(call.request.headers)
    return Condition()


def _forget(call: Call, upload: Upload) -> None:
    with suppress(CarboyError):
        call.services.uploads.cancel(upload)
