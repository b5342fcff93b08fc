"""Files that go from the client straight to S3, at ``/direct/{space}``: by Carboy's own routes, and by those of Uppy's AWS S3 plugin below
``s3/``. Carboy signs, and confirms with S3 what came; no byte passes through it."""

from __future__ import annotations

from carboy.web import answers
from carboy.web.call import Doc, Route
from carboy.web.protocols.direct import own, shapes, uppy

_TAG, _UPPY = "Direct to S3", "Direct to S3: Uppy"
_BEGIN = ("invalid_name", "too_large", "quota_exceeded", "storage_full", "storage_unavailable", "not_supported")
_ONGOING = ("upload_gone", "storage_unavailable")
_END = ("missing_bytes", "conflict", "path_conflict", "precondition_failed", "too_large", "unsupported_type", "digest_mismatch",
        "quota_exceeded", "upload_gone", "storage_unavailable")
_OWN, _MULTI = "/direct/<space>", "/direct/<space>/s3/multipart"
ROUTES = (
    Route(_OWN, ("POST",), own.begin,
          Doc("Begin an upload straight to S3", _TAG, body=shapes.DirectBegin, answers={201: shapes.DirectUpload},
              headers=("If-Match", "If-None-Match"), errors=_BEGIN)),
    Route(f"{_OWN}/<id>", ("GET",), own.get, Doc("What S3 has of it", _TAG, answers={200: shapes.DirectUpload}, errors=_ONGOING)),
    Route(f"{_OWN}/<id>", ("DELETE",), own.cancel, Doc("Cancel it", _TAG, answers={204: None}, errors=("upload_gone",))),
    Route(f"{_OWN}/<id>/parts", ("POST",), own.sign,
          Doc("Addresses for parts", _TAG, body=shapes.DirectSign, answers={200: shapes.DirectSigned}, errors=(*_ONGOING, "too_large"))),
    Route(f"{_OWN}/<id>/complete", ("POST",), own.finish, Doc("All parts are sent", _TAG, body=shapes.DirectComplete,
                                                              answers={200: answers.Stored, 201: answers.Stored, 202: answers.Stored},
                                                              headers=("Prefer",), errors=_END)),
    Route(f"{_OWN}/s3/params", ("GET",), uppy.params, Doc("Uppy: a single PUT", _UPPY, query=shapes.UppyParams,
                                                          answers={200: shapes.UppyPut}, errors=_BEGIN)),
    Route(_MULTI, ("POST",), uppy.create, Doc("Uppy: begin an upload in parts", _UPPY, body=shapes.UppyBegin,
                                              answers={200: shapes.UppyUpload}, errors=_BEGIN)),
    Route(f"{_MULTI}/<id>", ("GET",), uppy.parts, Doc("Uppy: the parts that are there", _UPPY, query=shapes.UppyKey,
                                                      answers={200: shapes.UPPY_PARTS}, errors=_ONGOING)),
    Route(f"{_MULTI}/<id>", ("DELETE",), uppy.abort, Doc("Uppy: cancel", _UPPY, query=shapes.UppyKey, errors=("upload_gone",))),
    Route(f"{_MULTI}/<id>/<int:number>", ("GET",), uppy.sign, Doc("Uppy: an address for a part", _UPPY, query=shapes.UppyKey,
                                                                  answers={200: shapes.UppyAddress}, errors=(*_ONGOING, "too_large"))),
    Route(f"{_MULTI}/<id>/batch", ("GET",), uppy.batch,
          Doc("Uppy: addresses for parts", _UPPY, query=shapes.UppyBatch, answers={200: shapes.UppyAddresses},
              errors=(*_ONGOING, "too_large"))),
    Route(f"{_MULTI}/<id>/complete", ("POST",), uppy.finish,
          Doc("Uppy: all parts are sent", _UPPY, body=shapes.UppyComplete, query=shapes.UppyKey, answers={200: shapes.UppyDone},
              errors=_END)),
)
