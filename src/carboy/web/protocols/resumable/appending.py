"""Bytes that go on where an upload stands, and parts of it in any order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from werkzeug import Response
from werkzeug.exceptions import UnsupportedMediaType

from carboy.errors import Conflict, Forbidden, InvalidRequest, MissingBytes, OffsetMismatch, TooLarge, UploadGone
from carboy.model import Placed, Progress, Upload
from carboy.streams import Source, ending_error
from carboy.web.api.uploads import upload_of
from carboy.web.call import Call
from carboy.web.protocols.resumable import fields
from carboy.web.protocols.resumable.common import (
    Asked,
    asked,
    empty,
    finished,
    inconsistent,
    of_request,
    offset,
    over,
    past_the_length,
    resumable,
    state,
    told_limits,
)
from carboy.web.protocols.resumable.interim import Interim

T = TypeVar("T")


@resumable
def patch(call: Call, id: str) -> Response:
    """The body goes on where the upload stands. With ``Upload-Complete: ?1``, or with the last bytes of a known length, the answer is
    that of the address at which the upload was made."""
    request, upload = asked(call), upload_of(call, id).upload
    complete = request.version.unsaid if request.complete is None else request.complete
    at = request.offset
    if at is None or complete is None:
        missing = "Upload-Offset" if at is None else request.version.complete
        raise InvalidRequest(f"an append needs {missing}", field=missing)
    _check_type(call, request)
    request = replace(request, complete=complete)
    _check_takes_bytes(upload, brings=request.comes != 0)
    progress, placed = append(call, request, _measured(call, request, upload, at), at, Interim(call, request.version))
    if placed or progress.upload.state == "complete":
        return finished(call, request.version, progress, placed)
    return empty(request.version.appended, state(call, request.version, progress))


def append(call: Call, request: Asked, upload: Upload, at: int, interim: Interim) -> tuple[Progress, Placed | None]:
    """The request's bytes from ``at``: what is recorded after them, and the file if they were the last."""
    if request.comes == 0:
        progress, placed = _standing_at(call, upload, at), None
    else:
        progress, placed = _write(call, upload, at, interim)
    if placed is None and request.complete and progress.upload.state == "receiving":
        progress = _concluded(call, progress)
    return progress, placed


@resumable
def put(call: Call, id: str) -> Response:
    """A part of the upload at the place that ``Content-Range`` says: in any order, twice, many at once. The answer to the part that was
    missing is that of the address at which the upload was made."""
    request, progress = asked(call), upload_of(call, id)
    start, length, size = fields.content_range(call.header("Content-Range") or "")
    if call.length != length:
        raise InvalidRequest(f"by its Content-Range the part has {length} bytes; its Content-Length must say so", field="Content-Length")
    upload = progress.upload
    if upload.state == "complete":
        return _again(call, request, progress, start)
    _check_takes_bytes(upload, brings=True)
    upload = _with_length(upload, size, call.services.uploads.sized)
    with call.body() as source:
        writing = _guarded(call, upload, lambda: call.services.uploads.write(upload, start, source, digests=of_request(call)))
    if writing.placed or writing.progress.upload.state == "complete":
        return finished(call, request.version, writing.progress, writing.placed)
    return empty(204, state(call, request.version, writing.progress))


def _check_takes_bytes(upload: Upload, *, brings: bool) -> None:
    if upload.state != "receiving":
        raise over(upload, brings)
    if upload.parts:
        raise Forbidden("an upload that is put together from others takes no bytes")


def _check_type(call: Call, request: Asked) -> None:
    if request.version.body and call.environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != request.version.body:
        raise UnsupportedMediaType(f"the body of this request must be {request.version.body}")


# --- lengths -------------------------------------------------------------------------------------------------------


def _measured(call: Call, request: Asked, upload: Upload, at: int) -> Upload:
    """With the length that this request tells. An offset that is wrong is told first: what is wrong with it makes the length wrong."""
    size = request.whole(at)
    if size is None or (size == upload.size and request.comes != 0):
        return upload
    if request.comes == 0:
        _check_gaps(call.services.uploads.progress(upload.id))
    if call.services.uploads.progress(upload.id).offset != at:
        _standing_at(call, upload, at)
    return _with_length(upload, size, lambda *told: call.services.uploads.declare(*told).upload)


def _with_length(upload: Upload, size: int | None, declare: Callable[[Upload, int], Upload]) -> Upload:
    if size is None or size == upload.size:
        return upload
    if upload.size is not None:
        raise inconsistent(f"the length is {upload.size}, not {size}")
    try:
        return declare(upload, size)
    except Conflict as error:
        raise inconsistent(error.detail) from None


def _standing_at(call: Call, upload: Upload, at: int) -> Progress:
    """Raises OffsetMismatch where the upload doesn't stand there once whoever writes has let go."""
    progress = call.services.uploads.standing(upload.id)
    if offset(progress) != at:
        raise OffsetMismatch(f"the upload stands at {offset(progress)}", expected=offset(progress), provided=at)
    return progress


def _check_gaps(progress: Progress) -> None:
    """Raises MissingBytes where parts came that lie beyond missing ones."""
    if progress.spans and progress.spans[-1].end > progress.offset:
        raise MissingBytes("parts of the upload are missing", missing=[list(gap) for gap in progress.missing[:1000]],
                           size=progress.upload.size)


# --- bytes ---------------------------------------------------------------------------------------------------------


def _write(call: Call, upload: Upload, at: int, interim: Interim) -> tuple[Progress, Placed | None]:
    with call.body() as source:
        return _guarded(call, upload, lambda: _pass_on(call, upload, at, source, interim))


def _pass_on(call: Call, upload: Upload, at: int, source: Source, interim: Interim) -> tuple[Progress, Placed | None]:
    with call.services.uploads.writing(upload, at, source.remaining, source, digests=of_request(call), exact=True) as writing:
        for piece in source.lend():
            writing.feed(piece)
            interim.progress(writing.progress.offset)
        failure = ending_error(source, writing.received)
        if failure:
            raise failure
        writing.end()
    return writing.progress, writing.placed


def _guarded(call: Call, upload: Upload, write: Callable[[], T]) -> T:
    """What came past the upload's length makes it invalid. What is refused though all of it came is told as such: to send it again
    wouldn't help."""
    try:
        return write()
    except TooLarge as error:
        if upload.size is None:
            call.always = {**call.always, **told_limits(call, fields.version(call.header(fields.VERSION_FIELD)), upload)}
            raise
        raise past_the_length(call, upload, error) from None
    except UploadGone:
        raise over(upload_of(call, upload.id).upload, brings=True) from None
    except Exception:
        tell_if_all_came(call, upload)
        raise


def tell_if_all_came(call: Call, upload: Upload) -> None:
    """What is answered says so where every byte of the upload is there."""
    known = call.services.catalog.upload(upload.id)
    if known and (known.covered or known.upload.failure == "digest_mismatch"):
        version = fields.version(call.header(fields.VERSION_FIELD))
        call.always = {**call.always, **fields.told_completeness(version, True)}


def _concluded(call: Call, progress: Progress) -> Progress:
    """The request said that this was all. Raises what keeps it from becoming a file."""
    uploads, upload = call.services.uploads, progress.upload
    if upload.size is None:
        _check_gaps(progress)
        progress = uploads.declare(upload, progress.offset)
    return settled(call, progress)


def settled(call: Call, progress: Progress) -> Progress:
    """One that has all its bytes is a file now. Raises what keeps it from becoming one: it must not look as if it had."""
    if not progress.due:
        return progress
    tell_if_all_came(call, progress.upload)
    call.services.uploads.complete(progress)
    return call.services.uploads.progress(progress.upload.id)


def _again(call: Call, request: Asked, progress: Progress, start: int) -> Response:
    """A part of an upload that is complete meanwhile came once more: it is compared. Raises BytesDiffer."""
    upload = progress.upload
    if call.services.uploads.file(upload) is None:
        raise over(upload, brings=True)
    with call.body() as source, call.services.uploads.repeating(upload, start) as pump:
        for piece in source.lend():
            pump.feed(piece)
        failure = ending_error(source, pump.received)
        if failure:
            raise failure
    return empty(204, state(call, request.version, progress))
