"""``/files/{space}/{path}``: files by their location. No routing table finds these, because paths are data that none may fold or
rewrite; so this is what is said of them, and which handler has which method."""

from __future__ import annotations

from carboy.web import answers, schemas
from carboy.web.api.files import delete_at
from carboy.web.call import Doc, Route
from carboy.web.page import folder
from carboy.web.protocols import raw

_PATH, _FOLDER, _TAG = "/files/<space>/<path:path>", "/files/<space>/<path:folder>/", "Files by path"
_STORED = ("invalid_name", "digest_mismatch", "interrupted", "conflict", "path_conflict", "precondition_failed", "unsupported_type",
           "storage_full", "quota_exceeded", "storage_read_only")
_DIGESTS = ("Repr-Digest", "Content-Digest", "Content-MD5")
_FORM = {
    "multipart/form-data": {"schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}},
                                       "required": ["file"], "additionalProperties": {"type": "string"}}},
    "application/octet-stream": {},
}

ROUTES = (
    Route(_PATH, ("GET", "HEAD"), folder.get,
          Doc("The bytes of a file", _TAG, query=schemas.ContentQuery, answers={200: "*/*", 206: "*/*", 304: None, 307: None},
              headers=("Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "Want-Repr-Digest"),
              errors=("invalid_name", "range_not_satisfiable", "precondition_failed", "bytes_missing", "bytes_damaged", "pending",
                      "quarantined"))),
    Route(_PATH, ("PUT",), raw.put,
          Doc("Store a file", _TAG, body="application/octet-stream",
              answers={200: answers.Stored, 201: answers.Stored, 202: answers.Stored},
              headers=("If-Match", "If-None-Match", "Prefer", *_DIGESTS), errors=_STORED)),
    Route(_PATH, ("DELETE",), delete_at,
          Doc("Delete a file", _TAG, query=schemas.DeleteQuery, answers={204: None}, headers=("If-Match",),
              errors=("invalid_name", "precondition_failed"))),
    Route(_FOLDER, ("GET", "HEAD"), folder.get,
          Doc("A folder", _TAG, query=schemas.PageQuery, answers={200: answers.FilePage}, errors=("invalid_name",))),
    Route(_FOLDER, ("POST",), folder.post,
          Doc("Store the files of a form", _TAG, body=_FORM, answers={200: answers.Stored, 201: answers.Files, 202: answers.Files},
              headers=("Content-Disposition", "If-Match", "If-None-Match", "Prefer", *_DIGESTS), errors=_STORED)),
)
"""``{folder}`` may be empty: ``/files/{space}/``."""
