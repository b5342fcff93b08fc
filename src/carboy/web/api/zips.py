"""``/api/v1/zip``: many files as one archive, its length told beforehand, resumable by range."""

from __future__ import annotations

import time

from werkzeug import Response

from carboy.engine.zips import Archive
from carboy.errors import PreconditionFailed
from carboy.web import answers, schemas
from carboy.web.api.shapes import zip_json
from carboy.web.asking import MAX_BULK, body
from carboy.web.call import Call, Doc, Route
from carboy.web.conditions import Validators, evaluate, range_holds
from carboy.web.download import set_idle_limit
from carboy.web.http import content_disposition, http_date
from carboy.web.ranges import Range, content_range, parse_range
from carboy.web.render import address, json_response


def create_zip(call: Call) -> Response:
    """The zip, whose address ``Content-Location`` tells; to who accepts JSON rather, only its address and length."""
    asked = body(call, schemas.ZipNew, MAX_BULK)
    made = call.services.zips.create(call.principal, asked.space, paths=asked.paths, ids=asked.ids, name=asked.name)
    where = address(f"/api/v1/zip/{made.id}")
    accept = call.request.accept_mimetypes
    if accept["application/json"] > accept["application/zip"]:
        return json_response(zip_json(made), 201, {"Location": where})
    response = _send(call, call.services.zips.open(call.principal, made.id), None)
    response.headers["Content-Location"] = where
    return response


def get_zip(call: Call, id: str) -> Response:
    """The same bytes, whole or from anywhere. Conditions and ranges as with files, one range at a time."""
    archive = call.services.zips.open(call.principal, id)
    validators = _validators(archive)
    outcome = evaluate(call.request.headers, validators)
    if outcome == "failed":
        raise PreconditionFailed("the zip is not the one the condition names", etag=validators.etag)
    if outcome == "not_modified":
        return Response(status=304, headers={"ETag": validators.etag, "Cache-Control": "private, no-cache",
                                             "Vary": "Cookie, Authorization"})
    ranges = None
    if call.method == "GET" and range_holds(call.header("If-Range"), validators, time.time()):
        ranges = parse_range(call.header("Range"), archive.zip.size)
    return _send(call, archive, ranges[0] if ranges and len(ranges) == 1 else None)


def _send(call: Call, archive: Archive, part: Range | None) -> Response:
    headers = _headers(archive)
    start, end = part or (0, archive.zip.size)
    headers["Content-Length"] = str(end - start)
    if part:
        headers["Content-Range"] = content_range(part, archive.zip.size)
    if call.method == "HEAD":
        return Response(None, 200, headers)
    set_idle_limit(call.environ, call.services.settings.send_idle)
    return Response(archive.pieces(start, end), 206 if part else 200, headers, direct_passthrough=True)


def _headers(archive: Archive) -> dict[str, str]:
    validators = _validators(archive)
    return {"Content-Type": "application/zip", "Content-Disposition": content_disposition(archive.zip.name, True),
            "ETag": validators.etag, "Last-Modified": http_date(validators.modified), "Accept-Ranges": "bytes",
            "Cache-Control": "private, no-cache", "Vary": "Cookie, Authorization", "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; sandbox", "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer"}


def _validators(archive: Archive) -> Validators:
    return Validators(f'"{archive.zip.id}"', int(archive.zip.created_at))


_PATH, _TAG = "/api/v1/zip", "Files"
ROUTES = (
    Route(_PATH, ("POST",), create_zip,
          Doc("Many files as one zip", _TAG, body=schemas.ZipNew, answers={200: "application/zip", 201: answers.Zip},
              errors=("invalid_name", "bytes_missing", "bytes_damaged", "pending", "quarantined"))),
    Route(f"{_PATH}/<id>", ("GET", "HEAD"), get_zip,
          Doc("A zip again, or the rest of it", _TAG, answers={200: "application/zip", 206: "application/zip", 304: None},
              headers=("Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"),
              errors=("range_not_satisfiable", "precondition_failed", "bytes_missing", "bytes_damaged", "pending", "quarantined"))),
)
