"""What upload widgets for browsers speak, at ``/widgets/{name}/{space}``: Dropzone, Resumable.js, Flow.js and FilePond.

Each is served as its own source wants it: field names, tests, answers, and the statuses at which it ends or tries again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carboy.web import answers
from carboy.web.call import Doc, Route
from carboy.web.protocols.widgets import dropzone, filepond, flowjs, resumablejs

_TAG, _TEXT = "Widgets", "text/plain"
_ID = {_TEXT: {"schema": {"type": "string"}}}
_FAILING = ("digest_mismatch", "interrupted", "conflict", "path_conflict", "bytes_differ", "unsupported_type", "upload_gone", "range_busy",
            "storage_full", "quota_exceeded", "storage_read_only", "invalid_name")


def _form(**fields: str) -> Mapping[str, Any]:
    known = {name: {"type": "string", "format": kind} if kind == "binary" else {"type": kind} for name, kind in fields.items()}
    return {"multipart/form-data": {"schema": {"type": "object", "required": ["file"], "properties": {**known, "file": {
        "type": "string", "format": "binary"}}}}}


def _numbered(prefix: str) -> Mapping[str, Any]:
    numbers = {prefix + name: "integer" for name in ("ChunkNumber", "ChunkSize", "CurrentChunkSize", "TotalSize", "TotalChunks")}
    return _form(**numbers, **{prefix + name: "string" for name in ("Type", "Identifier", "Filename", "RelativePath")})


_DROPZONE = _form(dzuuid="string", dzchunkindex="integer", dztotalfilesize="integer", dzchunksize="integer", dztotalchunkcount="integer",
                  dzchunkbyteoffset="integer")
_MADE: Mapping[int, Any] = {200: answers.Upload, 201: answers.Stored, 202: answers.Stored}
_TEST = Doc("Whether a chunk is there", _TAG, answers={200: None, 204: None}, errors=("too_large", "invalid_name"))
_HEADERS = ("Upload-Length", "Upload-Offset")
ROUTES = (
    Route("/widgets/dropzone/<space>", ("POST",), dropzone.post,
          Doc("Dropzone: a file or a chunk", _TAG, body=_DROPZONE, answers=_MADE, errors=_FAILING, problem_type="application/json")),
    Route("/widgets/resumablejs/<space>", ("GET",), resumablejs.get, _TEST),
    Route("/widgets/resumablejs/<space>", ("POST",), resumablejs.post,
          Doc("Resumable.js: a chunk", _TAG, body=_numbered("resumable"), answers=_MADE, errors=_FAILING)),
    Route("/widgets/flowjs/<space>", ("GET",), flowjs.get, _TEST),
    Route("/widgets/flowjs/<space>", ("POST",), flowjs.post,
          Doc("Flow.js: a chunk", _TAG, body=_numbered("flow"), answers=_MADE, errors=_FAILING)),
    Route("/widgets/filepond/<space>", ("POST",), filepond.post,
          Doc("FilePond: a file, or the begin of a transfer", _TAG, body=_form(), answers={201: _ID}, headers=_HEADERS, errors=_FAILING)),
    Route("/widgets/filepond/<space>", ("PATCH",), filepond.patch,
          Doc("FilePond: bytes of a transfer", _TAG, body="application/offset+octet-stream", answers={204: None}, headers=_HEADERS,
              errors=(*_FAILING, "offset_mismatch"))),
    Route("/widgets/filepond/<space>", ("HEAD",), filepond.head, Doc("FilePond: where a transfer stands", _TAG, errors=_FAILING)),
    Route("/widgets/filepond/<space>", ("GET",), filepond.get,
          Doc("FilePond: load a file", _TAG, answers={200: "application/octet-stream"}, errors=("range_not_satisfiable",))),
    Route("/widgets/filepond/<space>", ("DELETE",), filepond.revert,
          Doc("FilePond: revert", _TAG, body=_ID, answers={204: None}, errors=("upload_gone", "body_cut", "too_slow"))),
)
