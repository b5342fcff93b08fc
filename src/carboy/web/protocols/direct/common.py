"""What both kinds of direct routes share: finding an upload, which is private to its creator, and completing it."""

from __future__ import annotations

from collections.abc import Mapping

from carboy.engine.uploads import DIRECT
from carboy.model import Placed, Progress, Upload
from carboy.web.call import Call
from carboy.web.transfers import own


def found(call: Call, space: str, id: str) -> Progress:
    """The upload. Raises Unauthenticated, Forbidden, NotFound also for another's."""
    return own(call, space, id, DIRECT)


def complete(call: Call, upload: Upload, named: Mapping[int, str] | None) -> Placed:
    """The file. Raises as :meth:`carboy.engine.direct.DirectUploads.complete`."""
    placed = call.services.direct.complete(upload, named)
    if upload.state != "complete":
        call.stored(placed)
    return placed
