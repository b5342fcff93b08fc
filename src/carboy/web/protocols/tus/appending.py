"""Bytes that go on where an upload stands, and the checksums that they must have."""

from __future__ import annotations

from werkzeug import Response
from werkzeug.exceptions import UnsupportedMediaType

from carboy.engine.receive import Digests
from carboy.engine.writing import Writing
from carboy.errors import Forbidden, InvalidRequest, OffsetMismatch, TooLarge
from carboy.model import File, Progress, Upload
from carboy.streams import Source, ending_error
from carboy.web import http
from carboy.web.body import trailers
from carboy.web.call import Call
from carboy.web.protocols.tus import fields
from carboy.web.protocols.tus.common import SPACE, empty, found, offset, told, tus


@tus
def patch(call: Call, id: str, space: str = SPACE) -> Response:
    """The body goes on where the upload stands. 204 tells where that is now; with the last bytes, which file it became."""
    progress = found(call, space, id)
    if progress.upload.parts:
        raise Forbidden("a final upload takes no bytes")
    if not brings_bytes(call):
        raise UnsupportedMediaType(f"the body of this request must be {fields.BODY}")
    at = http.count(call.header("Upload-Offset") or "", "Upload-Offset")
    progress, file = append(call, _declared(call, progress), at)
    return empty(204, {"Upload-Offset": str(offset(progress)), **told(progress.upload, file)})


def brings_bytes(call: Call) -> bool:
    """Whether the request's body are the upload's bytes. Raises UnsupportedMediaType for a body of another type."""
    if call.environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() == fields.BODY:
        return True
    if call.has_body:
        raise UnsupportedMediaType(f"the body of this request must be {fields.BODY}")
    return False


def append(call: Call, progress: Progress, at: int) -> tuple[Progress, File | None]:
    """The request's bytes from ``at``: what is recorded after them, and the file if they were the last."""
    if progress.upload.state == "complete":
        _must_add_nothing(call, progress.upload, at)
        return progress, call.services.uploads.file(progress.upload)
    with call.body() as source:
        writing = (_write_before_checksum if _awaits_checksum(call) else _write)(call, progress.upload, at, source)
    if writing.placed is None:
        return writing.progress, None
    call.stored(writing.placed)
    return writing.progress, writing.placed.file


def digests(call: Call) -> Digests:
    """What the request's body must hash to: Upload-Checksum, and the fields that any request may have. Raises InvalidRequest."""
    checksum = call.header("Upload-Checksum")
    return [*call.digests(), *([fields.parse_checksum(checksum)] if checksum is not None else [])]


def _declared(call: Call, progress: Progress) -> Progress:
    """With the length that had been deferred, where it is told now."""
    length = call.header("Upload-Length")
    if length is None or progress.upload.state != "receiving":
        return progress
    size = http.count(length, "Upload-Length")
    return progress if size == progress.upload.size else call.services.uploads.declare(progress.upload, size)


def _write(call: Call, upload: Upload, at: int, source: Source) -> Writing:
    return call.services.uploads.write(upload, at, source, digests=digests(call), exact=True)


def _write_before_checksum(call: Call, upload: Upload, at: int, source: Source) -> Writing:
    """The checksum comes behind the bytes: nothing is kept before. They are read back then where they can be, which costs less than
    computing all that might be asked for."""
    uploads = call.services.uploads
    with uploads.writing(upload, at, None, source, digests=digests(call), late=True, exact=True) as writing:
        for piece in source.lend():
            writing.feed(piece)
        failure = ending_error(source, writing.received)
        if failure:
            raise failure
        writing.verify([fields.parse_checksum(_trailer(call))])
        writing.end()
    return writing


def _awaits_checksum(call: Call) -> bool:
    """Whether the request says that its checksum comes behind its body (RFC 9110 section 6.6.2)."""
    return "upload-checksum" in [name.strip().lower() for name in (call.header("Trailer") or "").split(",")]


def _trailer(call: Call) -> str:
    """Raises InvalidRequest: a client that means to have its bytes checked is not left unchecked."""
    came = trailers(call.environ)
    if came is None:
        raise InvalidRequest("this server sees no trailers; send Upload-Checksum before the body", field="Trailer")
    if "upload-checksum" not in came:
        raise InvalidRequest("the Upload-Checksum that Trailer announced did not come", field="Upload-Checksum")
    return came["upload-checksum"]


def _must_add_nothing(call: Call, upload: Upload, at: int) -> None:
    """A complete upload may be told once more that there are no more bytes."""
    size = upload.size or 0
    if at != size:
        raise OffsetMismatch(f"the upload stands at {size}", expected=size, provided=at)
    if call.has_body:
        with call.body() as source:
            if any(len(piece) for piece in source.lend()):
                raise TooLarge(f"bytes come past the declared size of {size}", limit=size)
