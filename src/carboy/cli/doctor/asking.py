"""A small HTTP client that can stop in the midst of a body, to see what has arrived by then."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from carboy.errors import ConfigError

LIMIT = 15.0
"""Seconds that an answer may take."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_refusal(self) -> bool:
        """Whether Carboy itself refused, and not what stands before it."""
        return self.status >= 400 and str(self.json().get("type", "")).startswith("urn:carboy:")

    def json(self) -> dict[str, Any]:
        """The body where it is a JSON object, else nothing."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


class Unreachable(Exception):
    """No answer, and why."""


class Address:
    """A public address of Carboy: ``https://files.example.org``, with the path it is mounted under where there is one."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"--url: {url!r} is no address; write it as https://files.example.org")
        self.url = url.rstrip("/")
        self.secure = parts.scheme == "https"
        self.host = parts.hostname
        self._port = parts.port
        self._root = parts.path.rstrip("/")

    def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """One request on a connection of its own. Raises Unreachable."""
        request = Request(self, method, path, {"Content-Length": str(len(body)), **(headers or {})} if body or method in ("PUT", "POST")
                          else headers or {})
        with request:
            request.send(body)
            answer = request.answer(LIMIT)
        if answer is None:
            raise Unreachable(f"no answer to {method} {path} within {LIMIT:g} s")
        return answer

    def connection(self) -> HTTPConnection:
        if self.secure:
            return HTTPSConnection(self.host, self._port, timeout=LIMIT, context=ssl.create_default_context())
        return HTTPConnection(self.host, self._port, timeout=LIMIT)

    def target(self, path: str) -> str:
        return self._root + path


class Request:
    """A request whose body is sent bit by bit. A context manager; the connection is closed at its end."""

    def __init__(self, address: Address, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Sends the head. Raises Unreachable."""
        self._connection = address.connection()
        try:
            self._connection.connect()
            self._connection.putrequest(method, address.target(path), skip_accept_encoding=True)
            for name, value in headers.items():
                self._connection.putheader(name, value)
            self._connection.endheaders()
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise Unreachable(_told(error)) from error

    def __enter__(self) -> Request:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def send(self, data: bytes) -> None:
        """Some of the body. One who refuses it may have closed already: then the answer says so."""
        with suppress(OSError):
            self._connection.send(data)

    def answer(self, limit: float) -> Answer | None:
        """None where none comes within ``limit`` seconds; may be asked for again. Raises Unreachable."""
        assert isinstance(self._connection.sock, socket.socket)
        self._connection.sock.settimeout(limit)
        try:
            answer = self._connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        except TimeoutError:
            return None
        except (OSError, HTTPException) as error:
            raise Unreachable(_told(error)) from error


def _told(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or error})"
    return str(error) or type(error).__name__
