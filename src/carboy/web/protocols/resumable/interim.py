"""``104 Upload Resumption Supported``: interim answers while the body still comes.

Only for clients that speak a version that is served, and only straight to them: proxies (nginx 1.22 for one) take a 104 for the answer.
"""

from __future__ import annotations

import select
import time
from typing import Any

from carboy.web.call import Call
from carboy.web.protocols.resumable import fields
from carboy.web.protocols.resumable.fields import Version
from carboy.web.tls import NOT_YET

_EVERY = 1.0
"""Seconds between two that tell how much is there."""
_PROXIED = ("HTTP_VIA", "HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST", "HTTP_X_REAL_IP")


class Interim:
    """The interim answers of one request; silent where it gets none. Used from the thread that reads the body."""

    def __init__(self, call: Call, version: Version) -> None:
        self._version = version
        self._patience = call.services.settings.send_idle
        self.heard = _may_have(call, version)
        """Whether the client learns of the upload before its body has come; so it is kept, whatever becomes of the connection."""
        self._socket: Any = call.environ["gunicorn.socket"] if self.heard else None
        self._told = 0
        self._due = time.monotonic() + _EVERY

    def announce(self, location: str, limits: dict[str, str]) -> None:
        """The upload's address: whatever happens to this request, it can be resumed there."""
        self._say({"Location": location, **limits})

    def progress(self, offset: int) -> None:
        """So many bytes are on stable storage: the client may forget them."""
        if offset > self._told and self._version.progress and time.monotonic() >= self._due:
            self._told, self._due = offset, time.monotonic() + _EVERY
            self._say({"Upload-Offset": str(offset)})

    def _say(self, headers: dict[str, str]) -> None:
        if self._socket is None:
            return
        lines = [f"{name}: {value}\r\n" for name, value in {fields.VERSION_FIELD: str(self._version.number), **headers}.items()]
        try:
            self._send(f"HTTP/1.1 104 Upload Resumption Supported\r\n{''.join(lines)}\r\n".encode("latin-1"))
        except OSError:
            self._socket = None  # the client is gone, as reading its body will tell

    def _send(self, data: bytes) -> None:
        """All of it: half an answer would spoil what comes behind. Under TLS the socket may be one that doesn't block."""
        while data:
            try:
                data = data[self._socket.send(data):]
            except NOT_YET:
                if not select.select([], [self._socket], [], self._patience)[1]:
                    raise TimeoutError from None


def _may_have(call: Call, version: Version) -> bool:
    environ, wish = call.environ, call.services.settings.send_104
    if version.number is None or wish == "off" or "carboy.worker" not in environ or "gunicorn.socket" not in environ:
        return False
    return environ.get("SERVER_PROTOCOL") == "HTTP/1.1" and (wish == "on" or not any(name in environ for name in _PROXIED))
