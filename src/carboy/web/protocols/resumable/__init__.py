"""Resumable Uploads for HTTP (draft-ietf-httpbis-resumable-upload), interop versions 3 to 10 and as the RFC will be.

Uploads are made at ``/files/…`` and go on at ``/uploads/{id}``. Where one stands is what the catalog has committed, so an
``Upload-Offset`` that was told, in a 104 too, is there after a power cut.
"""

from __future__ import annotations

from carboy.web import answers
from carboy.web.call import Doc, Route
from carboy.web.protocols.resumable import fields
from carboy.web.protocols.resumable.appending import patch, put
from carboy.web.protocols.resumable.creating import create, is_meant
from carboy.web.protocols.resumable.standing import delete, get, head, options, options_of_files

__all__ = ["ROUTES", "create", "is_meant", "options_of_files"]

_TAG, _PATH = "Resumable uploads", "/uploads/<id>"
_FIELDS = ("Upload-Complete", "Upload-Offset", "Upload-Length", "Content-Digest", "Content-MD5", fields.VERSION_FIELD)
_FAILING = ("digest_mismatch", "interrupted", "conflict", "path_conflict", "unsupported_type", "precondition_failed", "storage_full",
            "quota_exceeded", "upload_gone", "range_busy", "storage_read_only", "bytes_differ", "missing_bytes")
ROUTES = (
    Route(_PATH, ("OPTIONS",), options, Doc("What is served", _TAG, answers={204: None}, open=True)),
    Route(_PATH, ("HEAD",), head, Doc("Where an upload stands", _TAG, answers={204: None}, headers=(fields.VERSION_FIELD,),
                                      errors=_FAILING)),
    Route(_PATH, ("GET",), get, Doc("An upload under way", _TAG, answers={200: answers.Upload})),
    Route(_PATH, ("PATCH",), patch, Doc("Go on with an upload", _TAG, body=fields.BODY,
                                        answers={200: answers.Stored, 201: answers.Stored, 202: answers.Stored, 204: None}, headers=_FIELDS,
                                        errors=("offset_mismatch", *_FAILING))),
    Route(_PATH, ("PUT",), put, Doc("Send a part of an upload", _TAG, body="application/octet-stream",
                                    answers={200: answers.Stored, 201: answers.Stored, 202: answers.Stored, 204: None},
                                    headers=("Content-Range", "Content-Digest", "Content-MD5"), errors=_FAILING)),
    Route(_PATH, ("DELETE",), delete, Doc("Cancel an upload", _TAG, answers={204: None}, errors=("upload_gone",))),
)
