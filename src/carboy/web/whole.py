"""A request whose whole body is one file, whichever address it came to."""

from __future__ import annotations

from werkzeug import Response

from carboy.engine.receive import Target
from carboy.web.call import Call
from carboy.web.prefer import stored_response


def receive(call: Call, target: Target) -> Response:
    """The request's body becomes the target's file."""
    services = call.services
    services.receiver.precheck(target, call.length)
    with call.body() as source:
        placed = services.receiver.receive(target, source, digests=call.digests())
    call.stored(placed)
    return stored_response(call, placed)
