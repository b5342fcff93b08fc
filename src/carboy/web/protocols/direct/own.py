"""Carboy's own way for bytes that go from the client straight to S3: begin, ask for addresses, PUT the parts there, complete."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from werkzeug import Response

from carboy.engine.changes import check_metadata
from carboy.engine.names import clean_path
from carboy.errors import InvalidRequest
from carboy.model import Progress
from carboy.storage.base import ClientPart
from carboy.web import asking, http
from carboy.web.call import Call
from carboy.web.prefer import stored_response
from carboy.web.protocols.direct import shapes
from carboy.web.protocols.direct.common import complete, found
from carboy.web.render import address, instant, json_response, no_content, upload_json


def begin(call: Call, space: str) -> Response:
    """201 with the upload; its address is in Location. Nothing is at the path until it is complete. ``If-Match`` and ``If-None-Match``
    are checked then."""
    call.services.files.inside(call.principal, "write", space)
    asked = asking.body(call, shapes.DirectBegin)
    check_metadata(asked.metadata)
    condition = http.condition_of(call.request.headers)
    target = call.services.files.target(call.principal, space, clean_path(asked.path), condition=condition)
    digests = {name: value for name, value in (("sha-256", asked.sha256), ("crc64nvme", asked.crc64nvme)) if value}
    upload = call.services.direct.begin(replace(target, metadata=asked.metadata), size=asked.size, part_size=asked.part_size,
                                        digests=digests)
    return json_response(_shown(call, Progress(upload, ()), ()), 201, {"Location": address(f"/direct/{space}/{upload.id}")})


def get(call: Call, space: str, id: str) -> Response:
    """The upload, with the parts that S3 has: what is not among them is to be sent, or sent again."""
    progress = found(call, space, id)
    parts = call.services.direct.parts(progress.upload) if progress.upload.state == "receiving" else ()
    return json_response(_shown(call, progress, parts))


def sign(call: Call, space: str, id: str) -> Response:
    """Addresses to PUT these parts to. Ask for them when they are to be sent, and again for each that has expired or failed."""
    upload = found(call, space, id).upload
    asked = asking.body(call, shapes.DirectSign, asking.MAX_BULK)
    wanted = {part.number: part.md5 for part in asked.parts}
    if len(wanted) < len(asked.parts):
        raise InvalidRequest("a part is named twice", field="parts")
    direct = call.services.direct
    signed = direct.sign(upload, wanted, {number: bytes.fromhex(md5) for number, md5 in wanted.items() if md5})
    shown = [{"number": number, "method": "PUT", "url": one.url, "headers": dict(one.headers), "size": direct.length(upload, number)}
             for number, one in signed.items()]
    return json_response({"parts": shown, "expires_at": instant(time.time() + call.services.settings.direct_expiry)})


def finish(call: Call, space: str, id: str) -> Response:
    """The file, once Carboy has confirmed with S3 what is there: 201, or 200 where it replaced one. Repeatable: after a lost answer, or
    where reading the file for its checksum takes longer than somebody waits, ask again."""
    upload = found(call, space, id).upload
    asked = asking.body(call, shapes.DirectComplete, asking.MAX_BULK)
    named = None if asked.parts is None else {part.number: part.etag for part in asked.parts}
    return stored_response(call, complete(call, upload, named))


def cancel(call: Call, space: str, id: str) -> Response:
    """204; what was sent goes, and its addresses are no good any more. 410 where it was no longer under way."""
    call.services.uploads.cancel(found(call, space, id).upload)
    return no_content()


def _shown(call: Call, progress: Progress, parts: Sequence[ClientPart]) -> dict[str, Any]:
    shown = upload_json(call.services.files, progress)
    if progress.upload.state == "receiving":
        shown["received"] = sum(part.size for part in parts)
    return {**shown, "part_size": progress.upload.chunk_size,
            "parts": [{"number": part.number, "size": part.size, "etag": part.etag} for part in parts]}
