"""The classic tutorial's endpoints, with its fields, messages and status codes, on Carboy's engine.

``/upload``, ``/stream-upload`` and ``/upload-s3`` take a form's ``file``. ``/chunk-upload`` takes ``chunk``, ``index`` and ``file_id``.
With ``offset``, or ``chunk_size``, before the chunk, a chunk goes straight to its place; a bare ``index`` has no known place, so it is a
piece, and ``/chunk-upload/complete`` joins pieces inside the kernel. ``total`` declares the file's size in bytes. ``/async-upload`` names
a task, and ``/tasks/{id}`` tells of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any
from urllib.parse import parse_qsl

from werkzeug import Response

from carboy.engine import limits
from carboy.engine.names import classic_name
from carboy.engine.receive import Digests, Target
from carboy.engine.writing import Piece
from carboy.errors import CarboyError, InvalidRequest, MissingBytes, NotFound, NotSupported, TooLarge
from carboy.model import Placed, Progress, Upload
from carboy.processing.tasks import task_of
from carboy.web import answers, http
from carboy.web.call import Call, Doc, Handler, Route
from carboy.web.multipart_form import Event, FormReader, Part, boundary_of, drained, part_data
from carboy.web.render import json_response

_MAX_BODY = 64 * 2**10
_MAX_CHUNKS = 1_000_000
_REPEATS = 300.0
"""How long, in seconds, a chunk of a complete upload with the same ``total`` counts as one that was sent again."""


def _messages(handler: Handler) -> Handler:
    """Errors as the tutorial's clients expect them: ``{"message": …}``, with the error's own status, headers and facts."""

    @wraps(handler)
    def answer(call: Call, **arguments: str) -> Response:
        try:
            return handler(call, **arguments)
        except CarboyError as error:
            if http.STATUS[error.code] == 500:
                raise
            problem = http.problem(error)
            headers = {name: value for name, value in problem.headers.items() if not name.startswith("Content-")}
            return json_response({"message": error.detail, "code": error.code, **error.facts}, problem.status_code, headers)

    return answer


@_messages
def upload(call: Call) -> Response:
    """``POST /upload`` and ``/stream-upload``: the form's ``file``, stored under its name, replacing."""
    placed = _store(call, _folder(call))
    return json_response({"message": f"File {placed.file.name} uploaded successfully"})


@_messages
def upload_s3(call: Call) -> Response:
    """``POST /upload-s3``: the same, into a space whose storage is in S3. 501 where there is none."""
    placed = _store(call, call.services.files.target(call.principal, _space_in_s3(call), ""))
    return json_response({"message": f"File {placed.file.name} uploaded to S3"})


@_messages
def async_upload(call: Call) -> Response:
    """``POST /async-upload``: as ``/upload``; what the file goes through in the background is the task ``task_id``."""
    placed = _store(call, _folder(call))
    task_id = call.services.tasks.begin(placed.file, call.id)
    return json_response({"message": f"File {placed.file.name} uploaded", "task_id": task_id})


@_messages
def task(call: Call, id: str) -> Response:
    """``GET /tasks/{id}``: how far the task is, in the words of Celery's tutorials."""
    if call.services.settings.classic == "off":
        raise NotFound("the classic endpoints are switched off")
    job = call.services.work.get(call.principal, id)
    found = task_of(job, call.services.work.siblings(call.principal, job))
    return json_response({"task_id": found.id, "state": found.state, "status": found.state, "ready": found.is_ready,
                          "successful": found.state == "SUCCESS" if found.is_ready else None, "progress": found.progress,
                          "phrase": found.phrase, "result": found.result})


def _store(call: Call, folder: Target) -> Placed:
    boundary = boundary_of(call.environ.get("CONTENT_TYPE", ""))
    if boundary is None:
        raise InvalidRequest("No file uploaded")
    with call.body() as source, call.services.receiver.delivery(call.principal.id, source.remaining) as delivery:
        events = FormReader(source, boundary, call.services.settings, call.digests()).files()
        part = _find(events, "file")
        if part is None:
            raise InvalidRequest("No file uploaded")
        if not part.filename:
            raise InvalidRequest("No selected file" if call.environ["PATH_INFO"] == "/upload" else "No file uploaded")
        incoming = delivery.open(replace(folder, path=folder.path + classic_name(part.filename)), digests=part.digests())
        for data in part_data(events):
            incoming.feed(data)
        incoming.end()
        drained(events)
        placed = delivery.publish()[0]
    call.stored(placed)
    return placed


@_messages
def chunk(call: Call) -> Response:
    """``POST /chunk-upload``: one chunk, any order, twice, in parallel."""
    folder = _folder(call)
    boundary = boundary_of(call.environ.get("CONTENT_TYPE", ""))
    if boundary is None:
        raise InvalidRequest("Missing parameters")
    with call.body() as source:
        reader = FormReader(source, boundary, call.services.settings, call.digests())
        events = reader.files()
        part = _find(events, "chunk")
        if part is None:
            raise InvalidRequest("Missing parameters")
        chunk = _Chunk(call, folder, reader.fields, part.digests())
        if chunk.has_place:
            chunk.write(events)
        else:
            chunk.keep_piece(events, reader)
    if chunk.finished:
        call.stored(chunk.finished)
    return json_response({"message": f"Chunk {_index(reader.fields)} received"})


@_messages
def complete(call: Call) -> Response:
    """``POST /chunk-upload/complete``: all chunks are there, so the file is. Repeatable. 409 lists the missing ones."""
    folder = _folder(call)
    fields = _fields(call)
    file_id, count = fields.get("file_id"), _number(fields, "total_chunks")
    if not file_id or "\0" in file_id or count is None:
        raise InvalidRequest("Missing parameters")
    _check_count(count)
    if count == 0:
        _begin(call, folder, file_id, 0)  # an empty file has no chunks
    progress = call.services.uploads.named(folder.space, call.principal.id, f"classic:{file_id}")
    gone = progress and progress.upload.state == "complete" and call.services.uploads.file(progress.upload) is None
    if progress is None or gone:
        raise MissingBytes(f"{count} of {count} chunks are missing", missing=list(range(min(count, 1000))))
    if progress.upload.state != "complete":
        placed = call.services.uploads.complete_chunks(progress, count)
        call.stored(placed)
    name = classic_name(file_id)
    return json_response({"message": f"File {name} uploaded successfully", "file_id": file_id, "name": name})


class _Chunk:
    """One chunk of ``/chunk-upload``, as far as the fields before it tell."""

    def __init__(self, call: Call, folder: Target, fields: Mapping[str, str], digests: Digests) -> None:
        self._call = call
        self._folder = folder
        self._fields = fields
        self._digests = digests
        known = fields.get("file_id") and fields.get("index")
        self.has_place = bool(known and (fields.get("offset") or fields.get("chunk_size")))
        self.finished: Placed | None = None

    def write(self, events: Iterator[Event]) -> None:
        """Straight to where the fields say. With the last byte of a declared ``total`` the file is ``finished``."""
        index, stride, offset = _index(self._fields), _number(self._fields, "chunk_size"), _number(self._fields, "offset")
        at = offset if offset is not None else index * (stride or 0)
        limits.check_size(at, limits.largest(self._call.services.settings, self._folder.rules))
        uploads, source = self._call.services.uploads, self._call.source
        before = self._named()
        upload = before.upload if before and self._repeats(before.upload) else self._upload(before)
        if self._repeats(upload):  # complete before, or since another request began it for this very file_id
            self._compare(upload, at, events)
            return
        with uploads.writing(upload, at, None, source, limit=stride, likely=stride or 0, index=index,
                             digests=self._digests, whole=bool(self._call.digests())) as writing:
            for data in part_data(events):
                writing.feed(data)
            drained(events)
            writing.end()
        self.finished = writing.placed

    def _repeats(self, upload: Upload) -> bool:
        """Whether this may be a chunk whose answer was lost while the declared ``total`` came: the file it became is still the
        same, and it hasn't been one for long."""
        if upload.state != "complete" or upload.size != _number(self._fields, "total") or time.time() - upload.touched_at > _REPEATS:
            return False
        file = self._call.services.uploads.file(upload)
        return file is not None and file.blob.key == upload.key

    def _compare(self, upload: Upload, at: int, events: Iterator[Event]) -> None:
        """The same bytes are received once more. Raises BytesDiffer."""
        with self._call.services.uploads.repeating(upload, at) as pump:
            for data in part_data(events):
                pump.feed(data)
            drained(events)

    def keep_piece(self, events: Iterator[Event], reader: FormReader) -> None:
        """Its place isn't known yet: a piece."""
        uploads = self._call.services.uploads
        with uploads.piece(self._folder.rules, self._digests) as piece:
            self._feed(piece, events)
            piece.verify()
            index = _index(reader.fields)
            piece.keep(self._upload(self._named()), index)

    def _feed(self, piece: Piece, events: Iterator[Event]) -> None:
        for data in part_data(events):
            piece.feed(data)
        drained(events)

    def _named(self) -> Progress | None:
        """What is known of this ``file_id``."""
        file_id = self._fields.get("file_id")
        if not file_id:
            raise InvalidRequest("Missing parameters")
        return self._call.services.uploads.named(self._folder.space, self._folder.owner, f"classic:{file_id}")

    def _upload(self, before: Progress | None) -> Upload:
        """The upload of this ``file_id``, begun by whichever chunk comes first."""
        if before and before.upload.state == "receiving":
            return before.upload
        return _begin(self._call, self._folder, self._fields["file_id"], _number(self._fields, "total"),
                      _number(self._fields, "chunk_size")).upload


def _begin(call: Call, folder: Target, file_id: str, size: int | None, chunk_size: int | None = None) -> Progress:
    target = replace(folder, path=folder.path + classic_name(file_id))
    return call.services.uploads.begin(target, protocol="classic", name=f"classic:{file_id}", size=size, chunk_size=chunk_size)


def _folder(call: Call) -> Target:
    """The top of the space that ``classic`` names. Raises NotFound where it is off."""
    space = call.services.settings.classic
    if space == "off":
        raise NotFound("the classic endpoints are switched off")
    return call.services.files.target(call.principal, space, "")


def _space_in_s3(call: Call) -> str:
    """The one that ``classic_s3`` names, else the first on a storage in S3. Raises NotSupported."""
    settings = call.services.settings
    if settings.classic == "off":
        raise NotFound("the classic endpoints are switched off")
    found = settings.classic_s3 or next((name for name, space in settings.spaces.items() if space.storage in settings.storages), None)
    if found is None:
        raise NotSupported("No S3 storage configured")
    return found


def _find(events: Iterator[Event], name: str) -> Part | None:
    """Read on to the head of the first file in the field ``name``."""
    for event in events:
        if isinstance(event, Part) and event.name == name:
            return event
    return None


def _index(fields: Mapping[str, str]) -> int:
    index = _number(fields, "index")
    if index is None:
        raise InvalidRequest("Missing parameters")
    _check_count(index + 1)
    return index


def _check_count(chunks: int) -> None:
    if chunks > _MAX_CHUNKS:
        raise TooLarge(f"a file may have {_MAX_CHUNKS} chunks", limit=_MAX_CHUNKS)


def _number(fields: Mapping[str, str], name: str) -> int | None:
    value = fields.get(name)
    return http.count(value, name) if value else None


def _fields(call: Call) -> Mapping[str, str]:
    """The fields of a small body, whichever way it is written: form, URL-encoded or JSON."""
    content_type = call.environ.get("CONTENT_TYPE", "")
    boundary = boundary_of(content_type)
    with call.body() as source:
        if boundary:
            reader = FormReader(source, boundary, call.services.settings)
            drained(reader.files())
            return reader.fields
        data = bytearray()
        for piece in source.lend():
            data += piece
            if len(data) > _MAX_BODY:
                raise TooLarge(f"this body may hold {_MAX_BODY} bytes", limit=_MAX_BODY)
    if "json" in content_type:
        return _json_fields(bytes(data))
    return dict(parse_qsl(data.decode("utf-8", "replace")))


def _json_fields(data: bytes) -> Mapping[str, str]:
    try:
        return {name: str(value) for name, value in http.json_object(data).items()}
    except InvalidRequest:
        raise InvalidRequest("Missing parameters") from None


def _form(required: tuple[str, ...], **fields: str) -> Mapping[str, Any]:
    """A form as OpenAPI writes it: fields by name with their types, ``binary`` for a file."""
    known = {name: {"type": "string", "format": kind} if kind == "binary" else {"type": kind} for name, kind in fields.items()}
    return {"multipart/form-data": {"schema": {"type": "object", "required": list(required), "properties": known}}}


def _doc(summary: str, body: Mapping[str, Any], *errors: str) -> Doc:
    return Doc(summary, "Classic", body=body, answers={200: answers.Message}, problem=answers.Message, problem_type="application/json",
               errors=("digest_mismatch", "unsupported_type", "path_conflict", "storage_full", "quota_exceeded", *errors))


_WHOLE = _doc("Store a file", _form(("file",), file="binary"))
_WHOLE_S3 = _doc("Store a file in S3", _form(("file",), file="binary"), "not_supported", "storage_unavailable")
_CHUNK = _doc("Send a chunk", _form(("file_id", "index", "chunk"), file_id="string", index="integer", offset="integer",
                                    chunk_size="integer", total="integer", chunk="binary"),
              "bytes_differ", "range_busy", "interrupted", "upload_gone", "conflict")
_COMPLETE = _doc("All chunks are there", _form(("file_id", "total_chunks"), file_id="string", total_chunks="integer"),
                 "missing_bytes", "conflict", "upload_gone")
_ASYNC = replace(_WHOLE, summary="Store a file, and process it in the background", answers={200: answers.TaskBegun})
_TASK = Doc("How far a task is", "Classic", answers={200: answers.Task}, problem=answers.Message, problem_type="application/json",
            errors=("not_found", "unauthenticated", "forbidden"))
ROUTES = (
    Route("/upload", ("POST",), upload, _WHOLE),
    Route("/stream-upload", ("POST",), upload, _WHOLE),
    Route("/upload-s3", ("POST",), upload_s3, _WHOLE_S3),
    Route("/async-upload", ("POST",), async_upload, _ASYNC),
    Route("/tasks/<id>", ("GET",), task, _TASK),
    Route("/chunk-upload", ("POST",), chunk, _CHUNK),
    Route("/chunk-upload/complete", ("POST",), complete, _COMPLETE),
)
