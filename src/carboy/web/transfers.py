"""Uploads under way that only whoever began them may see, found by what a route names."""

from __future__ import annotations

from carboy.engine.access import authorise
from carboy.errors import NotFound
from carboy.model import Progress
from carboy.web.call import Call


def own(call: Call, space: str, id: str, protocol: str) -> Progress:
    """The upload of this protocol in the space. Raises Unauthenticated, Forbidden, NotFound also for another's."""
    rules = call.services.files.rules(space)
    authorise(call.principal, "write", space, rules)
    missing = NotFound("there is no such upload", upload=id[:100])
    if not (len(id) == 32 and id.isalnum() and id.isascii()):
        raise missing
    progress = call.services.uploads.progress(id)
    if progress.upload.space != space or progress.upload.protocol != protocol:
        raise missing
    try:
        authorise(call.principal, "write", space, rules, owner=progress.upload.owner, owned=True)
    except NotFound:
        raise missing from None
    return progress
