"""The server as a process that can be killed, and a client that says exactly what it was told."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.disk import until

from carboy.bootstrap import close, open_carboy
from carboy.config import load

TOKEN = "fault-tests-0123456789abcdef0123456789abcdef"
CARBOY = (sys.executable, "-c", "from carboy.cli.main import main; main()")
"""The interpreter itself and no start script: strace must see the server's own process."""
BOUNDARY = "----carboy-faults"


def environment(**settings: object) -> dict[str, str]:
    """The environment of a server: its own settings and none of the caller's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CARBOY_")}
    return kept | {"CARBOY_ADMIN_TOKEN": TOKEN} | {name: str(value) for name, value in settings.items()}


class Server:
    """One server over ``data``. Its output goes to ``log``, which must not lie on a disk whose power is cut.

    ``prefix`` runs it under another program (strace, prlimit). ``settings`` are environment variables.
    """

    def __init__(self, data: Path, log: Path, *, workers: int = 2, prefix: Sequence[str] = (),
                 command: Sequence[str] = CARBOY, settings: Mapping[str, object] | None = None) -> None:
        self.data, self.log = data, log
        self._workers = workers
        self._line = [*prefix, *command, "serve", "--port", "0", "--data", str(data), "--workers", str(workers)]
        self._command = list(command)
        self._settings = dict(settings or {})
        self._traced = bool(prefix) and prefix[0] == "strace"
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[Client] = []
        self.address = ("127.0.0.1", 0)

    def spawn(self) -> None:
        """Start it in a process group of its own, without waiting."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(self._line, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                             cwd=self.log.parent, env=environment(**self._settings), start_new_session=True)

    def ready(self) -> bool:
        """Whether it has said so. Raises if it ended instead."""
        said = re.search(r"Carboy is ready at http://([^:\s]+):(\d+)", self.said())
        if said:
            self.address = (said[1], int(said[2]))
        elif self.ended():
            raise RuntimeError(f"the server ended before it was ready:\n{self.said()[-4000:]}")
        return said is not None

    def start(self) -> Server:
        """Returns when it is ready and its workers have begun to answer."""
        self.spawn()
        until(self.ready, "the server is ready")
        until(lambda: len(self.processes()) > self._workers + self._traced, "the workers are there")
        with closing(Client(self.address)) as client:
            client.ask("GET", "/healthz")
        return self

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def processes(self) -> list[int]:
        """Every live process of its group."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _group(pid) == self.pid]

    def kill(self) -> None:
        """``kill -9`` of the whole group at once, and wait until no process of it is left. A tracer writes its log to the
        end first."""
        if self._process is None:
            return
        while self._traced and (traced := [pid for pid in self.processes() if pid != self.pid]):
            for pid in traced:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if not self._traced:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        until(lambda: not self.processes(), "the killed processes are gone")
        while self._clients:
            self._clients.pop().close()

    def stop(self, limit: float = 60) -> int:
        """SIGTERM to the server itself, and the exit status once it has ended."""
        assert self._process is not None
        os.kill(self.master, signal.SIGTERM)
        return self._process.wait(limit)

    @property
    def master(self) -> int:
        """The server's first process, also where a tracer runs it."""
        return next((pid for pid in self.processes() if _stat(pid)[1] == self.pid), self.pid) if self._traced else self.pid

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another command of the program over the same data, as ``run("fsck", "--deep")``."""
        return subprocess.run([*self._command, *arguments, "--data", str(self.data)], capture_output=True, text=True,
                              cwd=self.log.parent, env=environment(**self._settings), timeout=300)

    def audit(self) -> list[str]:
        """Sweep, for bytes of requests that were cut off are orphans until then; then what is wrong, every byte reread: as
        ``carboy sweep`` and ``carboy fsck --deep`` do it, but in this process, which is faster."""
        services = open_carboy(load(data=self.data))
        try:
            services.sweeper.run()
            return [f"{finding.kind} {finding.key}: {finding.detail}" for finding in services.fsck.run(deep=True)]
        finally:
            close(services)

    def client(self, token: str = TOKEN) -> Client:
        """A new connection; closed when the server is killed."""
        self._clients.append(Client(self.address, token=token))
        return self._clients[-1]

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()


def _group(pid: int) -> int:
    """The process group of a live process; 0 for one that is gone or a zombie."""
    return _stat(pid)[2]


def _stat(pid: int) -> tuple[str, int, int]:
    """State, parent and process group; zeros for a process that is gone or a zombie."""
    try:
        state, parent, group = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return "", 0, 0
    return ("", 0, 0) if state == "Z" else (state, int(parent), int(group))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client was told."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The stable code of a problem document."""
        return str(self.json().get("code", ""))


class Client:
    """One kept-alive connection. Nothing is ever sent twice by itself: an OSError or HTTPException means that the
    client was told nothing."""

    def __init__(self, address: tuple[str, int], *, timeout: float = 60, token: str = TOKEN) -> None:
        self._token = token
        self._connection = http.client.HTTPConnection(*address, timeout=timeout)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        sent = {"Authorization": f"Bearer {self._token}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # a refusal may come, and the end, before all was sent
                self._connection.request(method, path, body, sent)
            if self._connection.sock is None:
                raise ConnectionResetError("the server was gone before the request")
            response = self._connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())
        except BaseException:
            self._connection.close()
            raise

    def put(self, path: str, body: bytes, **headers: str) -> Answer:
        return self.ask("PUT", f"/files/main/{path}", body, **headers)

    def get(self, path: str) -> Answer:
        return self.ask("GET", f"/files/main/{path}")

    def delete(self, path: str) -> Answer:
        return self.ask("DELETE", f"/files/main/{path}?permanent=1")

    def form(self, folder: str, files: Sequence[tuple[str, bytes]]) -> Answer:
        """One multipart form whose files go into ``folder``, all or none."""
        body = b"".join(_part(f"file{i}", data, name) for i, (name, data) in enumerate(files)) + _END
        return self.ask("POST", f"/files/main/{folder}/", body, Content_Type=_FORM)

    def chunk(self, file_id: str, index: int, data: bytes, *, md5: str = "", **fields: int) -> Answer:
        """A classic chunk; ``offset``, ``total`` and ``chunk_size`` go before the bytes. ``md5`` is of the whole body."""
        texts = {"file_id": file_id, "index": str(index), **{name: str(value) for name, value in fields.items()}}
        body = b"".join(_part(name, value.encode()) for name, value in texts.items()) + _part("chunk", data, "chunk") + _END
        return self.ask("POST", "/chunk-upload", body, Content_Type=_FORM, **({"Content_MD5": md5} if md5 else {}))

    def complete(self, file_id: str, total_chunks: int) -> Answer:
        body = b"".join(_part(name, value.encode()) for name, value in
                        {"file_id": file_id, "total_chunks": str(total_chunks)}.items()) + _END
        return self.ask("POST", "/chunk-upload/complete", body, Content_Type=_FORM)

    def uploads(self) -> list[dict[str, Any]]:
        """Every upload under way."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self.ask("GET", "/api/v1/uploads?limit=100" + (f"&cursor={cursor}" if cursor else "")).json()
            found += page["uploads"]
            cursor = page.get("next") or ""
            if not cursor:
                return found

    def close(self) -> None:
        self._connection.close()


_FORM = f"multipart/form-data; boundary={BOUNDARY}"
_END = f"--{BOUNDARY}--\r\n".encode()


def _part(name: str, data: bytes, filename: str | None = None) -> bytes:
    file = f'; filename="{filename}"\r\nContent-Type: application/octet-stream' if filename else ""
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data + b"\r\n"


def request_head(method: str, path: str, length: int, **headers: str) -> bytes:
    """The head of a request whose body a test sends by itself, on a socket of its own."""
    lines = {"Host": "localhost", "Authorization": f"Bearer {TOKEN}", "Content-Length": str(length)}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    return (f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n").encode()


def chunk_request(file_id: str, index: int, size: int, **fields: int) -> tuple[bytes, bytes]:
    """What comes before and after the ``size`` bytes of a classic chunk, head included."""
    texts = {"file_id": file_id, "index": str(index), **{name: str(value) for name, value in fields.items()}}
    before, after = b"".join(_part(name, value.encode()) for name, value in texts.items()), b"\r\n" + _END
    before += _part("chunk", b"", "chunk")[:-2]
    head = request_head("POST", "/chunk-upload", len(before) + size + len(after), Content_Type=_FORM)
    return head + before, after


def reset(connection: socket.socket) -> None:
    """Close with a RST, as a client whose network died does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    connection.close()
