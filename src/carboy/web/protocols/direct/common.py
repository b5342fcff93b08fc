"""What both kinds of direct routes share: finding an upload, which is private to its creator, and completing it."""

from __future__ import annotations

from collections.abc import Mapping

from carboy.engine.access import authorise
from carboy.engine.uploads import DIRECT
from carboy.errors import NotFound
from carboy.model import Placed, Progress, Upload
from carboy.web.call import Call


def found(call: Call, space: str, id: str) -> Progress:
    """The upload. Raises Unauthenticated, Forbidden, NotFound also for another's."""
    rules = call.services.files.rules(space)
    authorise(call.principal, "write", space, rules)
    missing = NotFound("there is no such upload", upload=id[:100])
    if not (len(id) == 32 and id.isalnum() and id.isascii()):
        raise missing
    progress = call.services.uploads.progress(id)
    if progress.upload.space != space or progress.upload.protocol != DIRECT:
        raise missing
    try:
        authorise(call.principal, "write", space, rules, owner=progress.upload.owner, owned=True)
    except NotFound:
        raise missing from None
    return progress


def complete(call: Call, upload: Upload, named: Mapping[int, str] | None) -> Placed:
    """The file. Raises as :meth:`carboy.engine.direct.DirectUploads.complete`."""
    placed = call.services.direct.complete(upload, named)
    if upload.state != "complete":
        call.stored(placed)
    return placed
