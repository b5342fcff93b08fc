"""What an answer that takes its time needs: a place among those that may, and to know whether anybody still waits for it."""

from __future__ import annotations

import select
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from carboy.config import Settings
from carboy.web.call import Call
from carboy.web.slots import Slots

_EACH = 4
"""One principal may have such a part of all places."""
_LEFT = select.POLLRDHUP | select.POLLHUP | select.POLLERR


def places(settings: Settings) -> Slots:
    """For streams of events and answers that wait: they never take more than a quarter of the threads."""
    total = min(settings.event_streams, max(1, settings.threads // 4))
    return Slots(total, max(1, total // _EACH), "answers that take their time")


def place(call: Call) -> AbstractContextManager[None]:
    """One of them, for the block. Raises Busy."""
    who = f"principal {call.principal.id}" if call.principal.id else f"address {call.address}"
    return call.web.places.hold([who])


def has_left(environ: Mapping[str, Any]) -> bool:
    """Whether the client has closed its connection, where the server shows its socket."""
    connection = environ.get("gunicorn.socket")
    if connection is None:
        return False
    try:
        watched = select.poll()
        watched.register(connection.fileno(), _LEFT)
        return bool(watched.poll(0))
    except (OSError, ValueError):
        return True
