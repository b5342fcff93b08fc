"""clamd, ClamAV's server: contents are streamed to it over INSTREAM (clamd(8)), from whatever storage."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal, Protocol

from carboy.errors import ConfigError

_CONNECT, _IDLE = 10.0, 60.0
"""Seconds that a connection, and each piece that is sent, may take."""
_LOOK = 0.5
_MOST = 4096
"""Bytes of an answer."""
PIECE = 256 * 2**10


class ClamdAway(Exception):
    """clamd can't be reached, or has ended without an answer. Trying again later is right."""


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What clamd says of a content. ``told`` is the signature that it found, why it could not look, or nothing where it is clean."""

    kind: Literal["clean", "infected", "unscanned"]
    told: str = ""


_NOT_LOOKED = ("Heuristics.Encrypted.", "Heuristics.Limits.Exceeded")
"""What clamd tells as found where it could not look (its options AlertEncrypted and AlertExceedsMax)."""


@dataclass(frozen=True, slots=True)
class Clamd:
    """A clamd, by the setting: ``unix:/run/clamav/clamd.ctl`` or ``tcp:localhost:3310``. Each call is a connection of its own."""

    setting: str

    def check(self) -> None:
        """Raises ConfigError for what is no address."""
        kind, _, rest = self.setting.partition(":")
        host, _, port = rest.rpartition(":")
        if not (kind == "unix" and rest) and not (kind == "tcp" and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ConfigError(f"clamd: {self.setting!r} is no address; write unix:/run/clamav/clamd.ctl or tcp:localhost:3310",
                              setting="clamd")

    def version(self) -> str:
        """The program's and its signatures', such as ``ClamAV 1.4.6/27700/…``. Raises ClamdAway."""
        with self._talking() as talk:
            talk.sendall(b"zVERSION\0")
            return _answer(talk, time.monotonic() + _CONNECT, lambda: None)

    def scan(self, content: Readable, *, patience: float, meanwhile: Callable[[int], None]) -> Verdict:
        """What it says of the bytes. ``meanwhile`` is called with how many were sent, all the time, and may raise; ``patience`` is how many
        seconds the answer may take after the last byte. Raises ClamdAway."""
        with self._talking() as talk:
            sent, all_of_it = _send(talk, content, meanwhile)
            verdict = _verdict(_answer(talk, time.monotonic() + patience, lambda: meanwhile(sent)))
            if verdict.kind == "clean" and not all_of_it:
                raise ClamdAway("clamd answered before it had everything")
            return verdict

    @contextmanager
    def _talking(self) -> Iterator[socket.socket]:
        try:
            with self._connected() as talk:
                yield talk
        except OSError as error:
            raise ClamdAway(f"clamd can't be reached at {self.setting}: {error.strerror or error}") from error

    def _connected(self) -> socket.socket:
        kind, _, rest = self.setting.partition(":")
        if kind == "tcp":
            host, _, port = rest.rpartition(":")
            return socket.create_connection((host.strip("[]"), int(port)), _CONNECT)
        talk = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            talk.settimeout(_CONNECT)
            talk.connect(rest)
        except OSError:
            talk.close()
            raise
        return talk


def _send(talk: socket.socket, content: Readable, meanwhile: Callable[[int], None]) -> tuple[int, bool]:
    """How many bytes were sent, and whether these were all. clamd answers before the end, and closes, where they are too many."""
    talk.settimeout(_IDLE)
    sent = 0
    with suppress(BrokenPipeError, ConnectionResetError):
        talk.sendall(b"zINSTREAM\0")
        while not _says_something(talk, 0):
            piece = content.read(PIECE)
            talk.sendall(len(piece).to_bytes(4, "big") + piece)
            if not piece:
                return sent, True
            sent += len(piece)
            meanwhile(sent)
    return sent, False


def _says_something(talk: socket.socket, seconds: float) -> bool:
    """Whether there is an answer, or an end, to be read within that time."""
    looking = select.poll()
    looking.register(talk, select.POLLIN)
    return bool(looking.poll(seconds * 1000))


def _answer(talk: socket.socket, until: float, meanwhile: Callable[[], None]) -> str:
    """What it says until it says NUL or closes. Raises ClamdAway where that is nothing, or nothing in time."""
    said = b""
    while b"\0" not in said and len(said) < _MOST:
        if time.monotonic() > until:
            raise ClamdAway("clamd takes too long to answer")
        if not _says_something(talk, _LOOK):
            meanwhile()
        elif piece := talk.recv(_MOST):
            said += piece
        else:
            break
    if not said:
        raise ClamdAway("clamd closed the connection without an answer")
    return said.partition(b"\0")[0].decode("utf-8", "replace").strip()


def _verdict(answer: str) -> Verdict:
    """Raises ClamdAway for an error of clamd's own, which says nothing of the content."""
    told = answer.removeprefix("stream: ")
    if told == "OK":
        return Verdict("clean")
    if told.endswith(" FOUND"):
        signature = told.removesuffix(" FOUND")
        return Verdict("unscanned" if signature.startswith(_NOT_LOOKED) else "infected", signature)
    if told.startswith("INSTREAM size limit exceeded"):
        return Verdict("unscanned", "it is larger than clamd takes (StreamMaxLength)")
    raise ClamdAway(f"clamd says: {answer[:200]}")
