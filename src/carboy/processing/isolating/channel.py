"""What a worker and the process of one job say to each other: messages over a socket, of JSON, bytes and at most one open file."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
from array import array
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from carboy.errors import StepFailed

_HEAD = struct.Struct("!III")
_AT_ONCE = 2**18
MOST = 2**21
"""The most bytes of JSON, or of bytes, that one message has."""


@dataclass(frozen=True, slots=True)
class Message:
    """``file`` is a file descriptor, which is the receiver's to close."""

    kind: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    data: bytes = b""
    file: int | None = None


class Channel:
    """One end. ``wait`` is called with what poll(2) is to wait for, before more can be sent or received: False where nothing will come."""

    def __init__(self, end: socket.socket, wait: Callable[[int], bool], most: int = MOST) -> None:
        self._end = end
        self._wait = wait
        self._most = most
        self._came = bytearray()
        self._files: deque[int] = deque()

    def close(self) -> None:
        """Repeatable."""
        while self._files:
            os.close(self._files.popleft())
        self._end.close()

    def fileno(self) -> int:
        return self._end.fileno()

    def send(self, kind: str, data: bytes = b"", file: int | None = None, **facts: Any) -> None:
        """Raises OSError where nobody listens any more."""
        told = json.dumps({"kind": kind, **facts}, allow_nan=False).encode()
        rest = memoryview(_HEAD.pack(len(told), len(data), file is not None) + told + data)
        files = [] if file is None else [file]
        while rest:
            try:
                sent = send_files(self._end, rest[:_AT_ONCE], files, socket.MSG_DONTWAIT)
            except BlockingIOError:
                if not self._wait(select.POLLOUT):
                    raise BrokenPipeError("nobody listens") from None
            else:
                rest, files = rest[sent:], []

    def receive(self) -> Message | None:
        """The next message; None where nothing will come any more. Raises StepFailed for what is none."""
        while (message := self._whole()) is None:
            if not self._more():
                return None
        return message

    def _more(self) -> bool:
        try:
            data, files = receive_files(self._end, _AT_ONCE, 4, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return self._wait(select.POLLIN)
        except ConnectionError:
            return False
        self._files += files
        self._came += data
        return bool(data)

    def _whole(self) -> Message | None:
        if len(self._came) < _HEAD.size:
            return None
        told, size, has_file = _HEAD.unpack_from(self._came)
        if max(told, size) > self._most:
            raise _nonsense()
        end = _HEAD.size + told + size
        if len(self._came) < end:
            return None
        facts = _facts(bytes(self._came[_HEAD.size:_HEAD.size + told]))
        data = bytes(self._came[end - size:end])
        del self._came[:end]
        return Message(facts.pop("kind"), facts, data, self._file() if has_file else None)

    def _file(self) -> int:
        if not self._files:
            raise _nonsense()
        return self._files.popleft()


def send_files(end: socket.socket, data: bytes | memoryview, files: Sequence[int], flags: int = 0) -> int:
    """How many of the bytes were sent, with the open files. (What :mod:`socket` has for it forgets the flags.)"""
    return end.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", files))] if files else [], flags)


def receive_files(end: socket.socket, size: int, most: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """Up to so many bytes, and open files, which no program that is started inherits."""
    files = array("i")
    data, extras, _, _ = end.recvmsg(size, socket.CMSG_LEN(most * files.itemsize), flags | socket.MSG_CMSG_CLOEXEC)
    for level, kind, extra in extras:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            files.frombytes(extra[:len(extra) - len(extra) % files.itemsize])
    return data, list(files)


def _facts(told: bytes) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        facts = json.loads(told)
        if isinstance(facts, dict) and isinstance(facts.get("kind"), str):
            return facts
    raise _nonsense()


def _nonsense() -> StepFailed:
    return StepFailed("the step's process said what can't be understood", retry=True)
