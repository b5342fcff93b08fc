"""FilePond 4's server: process, patch, revert, load and restore; fetch is refused.

A form with files stores them; without any, ``Upload-Length`` begins a transfer, whose name comes with its first bytes. A request of a
transfer is kept whole or not at all: FilePond goes on with the chunk after the one in which ``Upload-Offset`` lies.
"""

from __future__ import annotations

from dataclasses import replace

from werkzeug import Response
from werkzeug.exceptions import UnprocessableEntity

from carboy.engine.names import clean_name
from carboy.engine.receive import Target
from carboy.errors import InvalidRequest, NotFound, OffsetMismatch, UploadGone
from carboy.model import File, Progress, Upload, new_id
from carboy.streams import ending_error
from carboy.web import http
from carboy.web.browse import send
from carboy.web.call import Call
from carboy.web.multipart_form import FormReader, Part, boundary_of, drained
from carboy.web.protocols.widgets.receiving import compare, deliver, parts, repeats
from carboy.web.render import address, no_content
from carboy.web.transfers import own

_MOST = 64 * 2**10


def post(call: Call, space: str) -> Response:
    """201 with the id of what was stored, or of a transfer that begins: plain text, which FilePond gives back to the others."""
    folder = call.services.files.target(call.principal, space, "")
    boundary = boundary_of(call.environ.get("CONTENT_TYPE", ""))
    if boundary is None:
        raise InvalidRequest("FilePond sends multipart/form-data")
    with call.body() as source:
        reader = FormReader(source, boundary, call.services.settings, call.digests())
        events = reader.files()
        first = next((event for event in events if isinstance(event, Part)), None)
        length = call.header("Upload-Length")
        if first:
            return _told(space, "load", ",".join(placed.file.id for placed in deliver(call, parts(events, first), folder, reader)))
        drained(events)
    if length is None:
        raise InvalidRequest("the form has no file, and no Upload-Length says that one follows", field="Upload-Length")
    return _told(space, "patch", _begin(call, folder, http.count(length, "Upload-Length"), reader).id)


def patch(call: Call, space: str) -> Response:
    """``?patch=ID``: the body goes where ``Upload-Offset`` says. 204. After the last byte there may be an empty one."""
    upload = _transfer(call, space, call.query.get("patch", "")).upload
    at = http.count(call.header("Upload-Offset") or "", "Upload-Offset")
    if upload.state == "complete":
        if not repeats(call, upload, upload.size or 0):
            raise UploadGone("the transfer is complete", state=upload.state)
        with call.body() as source:
            compare(call, upload, at, source.give())
        return _standing(upload.size or 0, 204)
    size = _size(call, upload)
    upload = _named(call, upload)
    if not size:
        _settled(call, call.services.uploads.declare(upload, 0))
        return _standing(0, 204)
    return _standing(_write(call, upload, at), 204)


def head(call: Call, space: str) -> Response:
    """``?patch=ID``: 200 with Upload-Offset. Whoever still writes is asked to end first. What can't go on, or was refused though all of it
    came, is an error: FilePond takes an offset at the end for a success."""
    if "patch" not in call.query:
        return get(call, space)
    upload = _transfer(call, space, call.query["patch"]).upload
    progress = _settled(call, call.services.uploads.standing(upload.id))
    upload = progress.upload
    gone = upload.state == "complete" and call.services.uploads.file(upload) is None
    if gone or upload.state not in ("receiving", "complete"):
        raise UploadGone(f"the transfer is {'deleted' if gone else upload.state}", state=upload.state)
    return _standing((upload.size or 0) if upload.state == "complete" else progress.offset, 200)


def get(call: Call, space: str) -> Response:
    """``?load=ID`` and ``?restore=ID``: the file, by its id or its transfer's. ``?fetch=ADDRESS`` is 422: a server that fetches what it is
    told can be made to reach what only it can."""
    if "fetch" in call.query:
        raise UnprocessableEntity("Carboy fetches no addresses for others: they might lead to what only this machine can reach.")
    if "patch" in call.query:
        return head(call, space)
    id = call.query.get("load") or call.query.get("restore")
    if not id:
        raise InvalidRequest("the address needs load, restore or patch, with an id")
    return send(call, _file(call, space, id.partition(",")[0]))


def revert(call: Call, space: str) -> Response:
    """The body is an id: of a transfer under way, which ends, or of what was stored, which goes to the trash. 204."""
    call.services.files.target(call.principal, space, "")
    with call.body() as source:
        data = bytearray()
        for piece in source.lend():
            data += piece
            if len(data) > _MOST:
                raise InvalidRequest("the body must be an id")
        failure = ending_error(source, len(data))
        if failure:
            raise failure
    for id in data.decode("latin-1").strip().split(","):
        _revert(call, space, id)
    return no_content()


def _revert(call: Call, space: str, id: str) -> None:
    progress = call.services.catalog.upload(id)
    if progress and progress.upload.state == "receiving":
        call.services.uploads.cancel(_transfer(call, space, id).upload)
    else:
        call.services.changes.delete(call.principal, _file(call, space, id, "delete"))


def _begin(call: Call, folder: Target, size: int, reader: FormReader) -> Upload:
    """An empty one is complete with its first request alone, for before it has no name."""
    id = new_id()
    target = replace(folder, path=folder.path + id, metadata=reader.fields)
    return call.services.uploads.begin(target, protocol="filepond", size=size or None, id=id).upload


def _transfer(call: Call, space: str, id: str) -> Progress:
    """Transfers are private to whoever began them. Raises NotFound."""
    return own(call, space, id, "filepond")


def _named(call: Call, upload: Upload) -> Upload:
    """With the name that comes with the bytes, where it has none yet."""
    name = call.header("Upload-Name")
    if not name or not upload.path.endswith(upload.id):
        return upload
    try:
        plain = name.encode("latin-1").decode()
    except UnicodeError:
        raise InvalidRequest("Upload-Name is not UTF-8", field="Upload-Name") from None
    return call.services.uploads.name(upload, upload.path.removesuffix(upload.id) + clean_name(plain))


def _size(call: Call, upload: Upload) -> int:
    """The transfer's, which the request may not contradict."""
    told = call.header("Upload-Length")
    size = upload.size or 0
    if told is not None and http.count(told, "Upload-Length") != size:
        raise InvalidRequest(f"the transfer was begun with {size} bytes", field="Upload-Length")
    return size


def _write(call: Call, upload: Upload, at: int) -> int:
    """Where the transfer stands afterwards. Raises OffsetMismatch behind a gap: FilePond would never fill it."""
    stands = call.services.uploads.receiving(upload.id).offset
    if at > stands:
        raise OffsetMismatch(f"the transfer stands at {stands}", expected=stands, provided=at)
    uploads, digests = call.services.uploads, call.digests()
    with call.body() as source, uploads.writing(upload, at, source.remaining, source, digests=digests, whole=True) as writing:
        for piece in source.lend():
            writing.feed(piece)
        failure = ending_error(source, writing.received)
        if failure:
            raise failure
        writing.end()
    if writing.placed is None:
        return writing.progress.offset
    call.stored(writing.placed)
    return writing.placed.file.size


def _settled(call: Call, progress: Progress) -> Progress:
    """One that has all its bytes is a file now. Raises what keeps it from becoming one."""
    if not progress.due:
        return progress
    call.stored(call.services.uploads.complete(progress))
    return call.services.uploads.progress(progress.upload.id)


def _file(call: Call, space: str, id: str, action: str = "read") -> File:
    """What was stored under an id of a file, or of a transfer."""
    call.services.files.inside(call.principal, "delete" if action == "delete" else "read", space)
    progress = call.services.catalog.upload(id)
    if progress and progress.upload.owner == call.principal.id and progress.upload.file_id:
        id = progress.upload.file_id
    file = call.services.files.get(call.principal, id, "delete" if action == "delete" else "read")
    if file.space != space:
        raise NotFound("there is no such file", id=id)
    return file


def _told(space: str, action: str, id: str) -> Response:
    where = address(f"/widgets/filepond/{space}?{action}={id}")
    headers = {"Location": where, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(id, 201, headers, content_type="text/plain; charset=utf-8")


def _standing(offset: int, status: int) -> Response:
    response = Response(status=status, headers={"Upload-Offset": str(offset), "Cache-Control": "no-store"})
    del response.headers["Content-Type"]
    return response
