"""New uploads: empty ones, ones that begin with bytes or come whole, parts, and those that are put together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from werkzeug import Response

from carboy.engine.receive import AsUpload, Target
from carboy.errors import CarboyError, Forbidden, InvalidRequest
from carboy.model import Condition, File, Placed, Upload, new_id
from carboy.streams import BytesSource
from carboy.web import http
from carboy.web.call import Call
from carboy.web.protocols.tus import fields
from carboy.web.protocols.tus.appending import append, brings_bytes, digests
from carboy.web.protocols.tus.common import empty, offset, settled, told, tus, upload_address


@tus
def create(call: Call, space: str) -> Response:
    """A new upload: ``Upload-Length``, ``Upload-Defer-Length`` or ``Upload-Concat: final``."""
    id, pairs = new_id(), fields.parse_metadata(call.header("Upload-Metadata") or "")
    target = call.services.files.target(call.principal, space, fields.path_in(pairs, id), metadata=fields.as_metadata(pairs),
                                        condition=_condition(call))
    concat = call.header("Upload-Concat")
    parts = fields.parse_concat(concat) if concat is not None else ()
    if parts:
        return _concatenate(call, target, parts, id, concat)
    size, comes = _size(call), brings_bytes(call)
    call.services.receiver.precheck(target, size)
    if concat is None and size is not None and (call.length == size if comes else size == 0):
        return _whole(call, target, id, comes)
    return _begin(call, target, id, size, comes, partial=concat is not None)


def _whole(call: Call, target: Target, id: str, comes: bool) -> Response:
    """All of it comes with this request: one transaction."""
    receiver, as_upload = call.services.receiver, AsUpload(id, "tus")
    if comes:
        with call.body() as source:
            placed = receiver.receive(target, source, digests=digests(call), as_upload=as_upload)
    else:
        placed = receiver.receive(target, BytesSource(b""), digests=digests(call), as_upload=as_upload)
    call.stored(placed)
    return empty(201, {"Location": upload_address(target.space, id), "Upload-Offset": str(placed.file.size),
                       "Carboy-File": placed.file.id})


def _begin(call: Call, target: Target, id: str, size: int | None, comes: bool, *, partial: bool) -> Response:
    """An upload that is to go on. Where its first bytes are refused there is none: its address was never told."""
    uploads = call.services.uploads
    progress = uploads.begin(target, protocol="tus", size=size, partial=partial, id=id)
    if not comes:
        return _created(progress.upload)
    try:
        progress, file = append(call, progress, 0)
    except CarboyError:
        with suppress(CarboyError):
            uploads.cancel(progress.upload)
        raise
    return _created(progress.upload, offset(progress), file)


def _concatenate(call: Call, target: Target, parts: Sequence[str], id: str, given: str | None) -> Response:
    if call.header("Upload-Length") is not None or call.header("Upload-Defer-Length") is not None:
        raise InvalidRequest("a final upload has the length of its parts; send no Upload-Length", field="Upload-Length")
    if brings_bytes(call):
        raise Forbidden("a final upload takes no bytes")
    progress = settled(call, call.services.uploads.concatenate(target, parts, protocol="tus", id=id, given=given))
    file = call.services.uploads.file(progress.upload)
    if file:
        call.stored(Placed(file, created=file.version == 1))
    return _created(progress.upload, offset(progress) if file else None, file)


def _created(upload: Upload, stands: int | None = None, file: File | None = None) -> Response:
    headers = {"Location": upload_address(upload.space, upload.id), **told(upload, file)}
    return empty(201, headers if stands is None else {**headers, "Upload-Offset": str(stands)})


def _size(call: Call) -> int | None:
    """The declared length; None where it is deferred. Raises InvalidRequest, TooLarge."""
    length, deferred = call.header("Upload-Length"), call.header("Upload-Defer-Length")
    if (length is None) == (deferred is None):
        raise InvalidRequest("send either Upload-Length or 'Upload-Defer-Length: 1'", field="Upload-Length")
    if deferred is not None and deferred != "1":
        raise InvalidRequest("Upload-Defer-Length can only be 1", field="Upload-Defer-Length")
    return None if length is None else http.count(length, "Upload-Length")


def _condition(call: Call) -> Condition:
    if "HTTP_IF_MATCH" in call.environ or "HTTP_IF_NONE_MATCH" in call.environ:
        return http.condition_of(call.request.headers)
    return Condition()
