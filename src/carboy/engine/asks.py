"""How a process asks the others on its machine to let go of a range: a datagram to each of their sockets.

Asking is a courtesy: what the storage's locks say still holds, and an ask that is lost costs a client only patience.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from carboy.model import Key, new_id

Asked = Callable[[Key, int, int | None], None]
"""Called with a key and a range ``[start, end)`` (None: to the end) that another process wants."""

_MOST = 4096


class Asks:
    """Sockets in one folder, one per process that listens. Thread-safe; every process makes its own when it first listens."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listening: tuple[int, str, socket.socket] | None = None
        self._lock = threading.Lock()

    def listen(self, asked: Asked) -> None:
        """Have ``asked`` called, from a thread of its own, for what others ask for from now on. Repeatable."""
        if self._listening and self._listening[0] == os.getpid():
            return
        with self._lock, suppress(OSError):
            if not (self._listening and self._listening[0] == os.getpid()):
                self._begin(asked)

    def ask(self, key: Key, start: int, end: int | None) -> None:
        """Ask all other processes to let go of the range. Waits for none of them."""
        own = self._listening[1] if self._listening else ""
        message = json.dumps([key, start, end]).encode()
        with suppress(OSError), self._opened() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            for name in os.listdir(folder):
                if name != own:
                    _tell(sender, folder, name, message)

    def close(self) -> None:
        """Listen no more. Repeatable."""
        with self._lock:
            listening, self._listening = self._listening, None
        if listening and listening[0] == os.getpid():
            with suppress(OSError):
                os.unlink(self._folder / listening[1])
            with suppress(OSError):
                listening[2].shutdown(socket.SHUT_RDWR)

    def _begin(self, asked: Asked) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name, receiver = new_id(), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with self._opened() as folder:
            receiver.bind(_address(folder, name))
        self._listening = os.getpid(), name, receiver
        threading.Thread(target=_receive, args=(receiver, asked), name="asks", daemon=True).start()

    @contextmanager
    def _opened(self) -> Iterator[int]:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield folder
        finally:
            os.close(folder)


def _address(folder: int, name: str) -> str:
    """A socket's address holds 107 bytes; a folder's path may be longer."""
    return f"/proc/self/fd/{folder}/{name}"


def _tell(sender: socket.socket, folder: int, name: str, message: bytes) -> None:
    try:
        sender.sendto(message, _address(folder, name))
    except ConnectionRefusedError:  # its process is gone
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)
    except OSError:
        pass


def _receive(receiver: socket.socket, asked: Asked) -> None:
    with receiver:
        while message := receiver.recv(_MOST):
            with suppress(ValueError):
                key, start, end = json.loads(message)
                asked(key, start, end)
