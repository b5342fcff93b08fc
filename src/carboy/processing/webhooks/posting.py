"""One message, POSTed once: over a connection of its own, to an address that was looked at, within a time and a size."""

from __future__ import annotations

import io
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from http.client import HTTPException, HTTPResponse
from urllib.parse import urlsplit

from carboy import __version__
from carboy.engine.addresses import Resolve, connect, resolve
from carboy.errors import CarboyError

MAX_ANSWER = 64 * 2**10
"""Bytes of an answer that are read, its head included."""
_SHOWN = 500
_BLOCK = 8192


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt. ``status`` is None where nobody answered. ``wait`` is for how many seconds the receiver asks."""

    status: int | None
    said: str
    wait: float | None = None

    @property
    def is_taken(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        """The receiver wants no such message again."""
        return self.status == 410


class Poster:
    """POSTs without proxies, cookies or redirects. Thread-safe."""

    def __init__(self, ask: Resolve = resolve) -> None:
        self._ask = ask

    def post(self, url: str, headers: Mapping[str, str], body: bytes, *, timeout: float, allow_private: bool = False,
             now: float = 0.0) -> Answer:
        """The answer, or why there is none; raises nothing. All of it takes ``timeout`` seconds at most, resolving the name excepted."""
        until = time.monotonic() + timeout
        try:
            made = self._connected(url, until, allow_private)
        except (CarboyError, OSError, ValueError) as error:
            return Answer(None, _plain(getattr(error, "detail", str(error))))
        try:
            return _exchange(made, _request(url, headers, body), until, now)
        except TimeoutError:
            return Answer(None, f"no answer within {timeout:g} s")
        except (OSError, HTTPException, ValueError) as error:
            return Answer(None, _plain(f"no answer: {error or type(error).__name__}"))
        finally:
            made.close()

    def _connected(self, url: str, until: float, allow_private: bool) -> socket.socket:
        parts = urlsplit(url)
        host = parts.hostname or ""
        secure = parts.scheme == "https"
        made = connect(host, parts.port or (443 if secure else 80), until=until, allow_private=allow_private, ask=self._ask)
        if not secure:
            return made
        try:
            made.settimeout(_left(until))
            return _trust().wrap_socket(made, server_hostname=host)
        except BaseException:
            made.close()
            raise


@cache
def _trust() -> ssl.SSLContext:
    """The system's authorities; names are verified."""
    return ssl.create_default_context()


def _request(url: str, headers: Mapping[str, str], body: bytes) -> bytes:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    fields = {"Host": parts.netloc, "User-Agent": f"Carboy/{__version__}", "Content-Type": "application/json",
              "Content-Length": str(len(body)), "Accept": "*/*", "Connection": "close", **headers}
    return "\r\n".join([f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]).encode("ascii") + body


def _exchange(made: socket.socket, request: bytes, until: float, now: float) -> Answer:
    made.settimeout(_left(until))
    with suppress(ConnectionError):  # it may have answered already, and read no further
        made.sendall(request)
    response = HTTPResponse(_Bounded(made, until))  # type: ignore[arg-type]
    with response:
        response.begin()
        said = b""
        with suppress(OSError, HTTPException, ValueError):  # the answer is known, whatever becomes of its body
            while block := response.read(_BLOCK):
                said += block
        text = _plain(said[:_SHOWN].decode("utf-8", "replace"))
        return Answer(response.status, f"{response.status} {_plain(response.reason)}" + (f": {text}" if text else ""),
                      _retry_after(response.headers.get("Retry-After"), now))


class _Bounded(io.RawIOBase):
    """A socket to be read until a moment, and no further than :data:`MAX_ANSWER` bytes."""

    def __init__(self, made: socket.socket, until: float) -> None:
        self._socket, self._until, self._room = made, until, MAX_ANSWER

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self, _BLOCK)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._room == 0:
            raise OSError(f"the answer has more than {MAX_ANSWER} bytes")
        self._socket.settimeout(_left(self._until))
        count = self._socket.recv_into(buffer[:self._room])
        self._room -= count
        return count


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _retry_after(field: str | None, now: float) -> float | None:
    """RFC 9110, 10.2.3: seconds, or a date. None where it is neither."""
    if field is None:
        return None
    if field.strip().isascii() and field.strip().isdigit():
        return float(field.strip()[:9])
    with suppress(ValueError, TypeError, OverflowError):
        return max(0.0, parsedate_to_datetime(field).timestamp() - now)
    return None


def _plain(text: str) -> str:
    """What others said, fit for a line of a log."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
