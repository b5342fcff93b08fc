"""Uppy's AWS S3 plugin, as its sources have it (Companion's routes): ``endpoint`` of its version 5, ``companionEndpoint`` of 6.

Its ``key`` and ``uploadId`` are both the upload's id here: what the object is called in the bucket is nobody's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from werkzeug import Response

from carboy.engine.names import clean_name, clean_path
from carboy.errors import InvalidRequest, NotFound
from carboy.model import Upload
from carboy.storage.base import MAX_PART
from carboy.web import asking, forgery
from carboy.web.call import Call
from carboy.web.prefer import stored_json
from carboy.web.protocols.direct import shapes
from carboy.web.protocols.direct.common import complete, found
from carboy.web.render import json_response, location

_NO_PATH = ("", "null", "undefined")
_MOST_METADATA = 100


def params(call: Call, space: str) -> Response:
    """A single PUT. Uppy tells only S3 that it is done: the page completes it, or Carboy finds it by itself."""
    asked = asking.query(call, shapes.UppyParams)
    _must_be_own(call)
    metadata = {name[9:-1]: value for name, value in call.query.items() if name.startswith("metadata[") and name.endswith("]")}
    upload = _begin(call, space, asked.filename, metadata, single=True)
    signed = call.services.direct.sign(upload, [1])[1]
    return json_response({"method": "PUT", "url": signed.url, "fields": {"key": upload.id, "bucket": space},
                          "headers": dict(signed.headers), "expires": _expires(call)})


def create(call: Call, space: str) -> Response:
    """An upload in parts."""
    call.services.files.inside(call.principal, "write", space)
    asked = asking.body(call, shapes.UppyBegin)
    upload = _begin(call, space, asked.filename, asked.metadata or {})
    return json_response({"key": upload.id, "uploadId": upload.id, "bucket": space})


def parts(call: Call, space: str, id: str) -> Response:
    """What S3 has of it."""
    upload = _found(call, space, id)
    there = call.services.direct.parts(upload)
    return json_response([{"PartNumber": part.number, "Size": part.size, "ETag": f'"{part.etag}"'} for part in there])


def sign(call: Call, space: str, id: str, number: int) -> Response:
    """Where a part goes."""
    signed = call.services.direct.sign(_found(call, space, id), [number])[number]
    return json_response({"url": signed.url, "headers": dict(signed.headers), "expires": _expires(call)})


def batch(call: Call, space: str, id: str) -> Response:
    """Where several parts go."""
    asked = asking.query(call, shapes.UppyBatch)
    signed = call.services.direct.sign(_found(call, space, id), dict.fromkeys(map(int, asked.partNumbers.split(","))))
    return json_response({"presignedUrls": {str(number): one.url for number, one in signed.items()}, "expires": _expires(call)})


def finish(call: Call, space: str, id: str) -> Response:
    """The file, once Carboy has confirmed with S3 what is there. Repeatable."""
    upload = _found(call, space, id)
    asked = asking.body(call, shapes.UppyComplete, asking.MAX_BULK)
    placed = complete(call, upload, {part.PartNumber: part.ETag for part in asked.parts})
    files = call.services.files
    return json_response({"location": location(files, placed.file), "key": upload.id, "bucket": space,
                          "file": stored_json(call, placed)})


def abort(call: Call, space: str, id: str) -> Response:
    """What was sent goes. 200 with an empty object, which Uppy reads."""
    call.services.uploads.cancel(_found(call, space, id))
    return json_response({})


def _begin(call: Call, space: str, filename: str, metadata: Mapping[str, Any], *, single: bool = False) -> Upload:
    """A single PUT is one part, which may be as long as a part can be."""
    if len(metadata) > _MOST_METADATA:
        raise InvalidRequest(f"a file may have {_MOST_METADATA} fields of metadata", field="metadata")
    target = call.services.files.target(call.principal, space, _path(filename, metadata), metadata=metadata)
    return call.services.direct.begin(target, part_size=MAX_PART if single else None)


def _path(filename: str, metadata: Mapping[str, Any]) -> str:
    """With the folders of a folder that was chosen. Raises InvalidName."""
    relative = metadata.get("relativePath")
    if isinstance(relative, str) and relative not in _NO_PATH:
        return clean_path(relative.removeprefix("/"))
    return clean_name(filename)


def _found(call: Call, space: str, id: str) -> Upload:
    key = asking.query(call, shapes.UppyKey).key
    upload = found(call, space, id).upload
    if key is not None and key != id:
        raise NotFound("there is no such upload", upload=id[:100])
    return upload


def _must_be_own(call: Call) -> None:
    """A GET that begins something: no page of another site may make a browser send it with its cookie."""
    if call.principal.kind in ("user", "token") and call.header("Authorization") is None:
        forgery.must_be_own(call.environ)


def _expires(call: Call) -> int:
    return int(call.services.settings.direct_expiry)
