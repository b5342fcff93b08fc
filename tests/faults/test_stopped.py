"""A server process that is stopped (SIGSTOP) in the middle of a body harms nobody: what others write after it is right."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import wire
from fixtures_server import Server, ServerFactory, eventually

SIZE, SENT = 3_000_000, 1_000_000
TUS = {"Tus-Resumable": "1.0.0"}
BODY = {**TUS, "Content-Type": "application/offset+octet-stream"}


def writer_of(server: Server) -> int | None:
    """The server process that has a blob open for writing."""
    for pid in server.workers():
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if "/blobs/" in os.readlink(entry) and int(flags_of(pid, entry.name), 8) & os.O_RDWR and not Path(entry).is_dir():
                    return pid
            except OSError:
                continue
    return None


def flags_of(pid: int, fd: str) -> str:
    return Path(f"/proc/{pid}/fdinfo/{fd}").read_text().split("flags:\t")[1].split()[0]


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass  # the first process of the server has ended it meanwhile


def test_what_others_write_after_it_is_right(server: ServerFactory) -> None:
    one = server(workers=2, allow_errors=True)
    data = random.Random(9).randbytes(SIZE)
    location = one.request("POST", "/tus/main/", {**TUS, "Upload-Length": str(SIZE), "Upload-Metadata": "filename YS5iaW4="}).header("Location")
    assert location
    with one.connect() as first:
        first.send(wire.head("PATCH", location, {**one.auth, **BODY, "Upload-Offset": "0", "Content-Length": str(SIZE)}) + data[:SENT])
        pid = eventually(lambda: writer_of(one))
        assert pid
        with stopped(pid):
            # It holds the range until it is ended for being silent: until then others are told to come again, and no byte is mixed up.
            answer = eventually(lambda: _go_on(one, location, data), 120)
            assert answer.header("Upload-Offset") == str(SIZE)
    assert one.request("GET", "/files/main/a.bin").body == data


def _go_on(one: Server, location: str, data: bytes) -> wire.Response | None:
    """Send what is missing, as a client that asks first; None where it is told to try again."""
    stands = one.request("HEAD", location, TUS)
    assert stands.status == 200, stands
    offset = int(stands.header("Upload-Offset") or 0)
    answer = one.request("PATCH", location, {**BODY, "Upload-Offset": str(offset)}, data[offset:])
    assert answer.status in (204, 409, 423, 503), answer
    return answer if answer.status == 204 else None
