"""``kill -9`` at chosen system calls: an upload whose last byte came is a file afterwards, or resumes; never both, never neither."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults.disk import until
from faults.journal import Content
from faults.runner import Client, Server
from faults.tracer import Tracer

pytestmark = pytest.mark.usefixtures("faults")

Start = Callable[..., Server]
CONTENT = Content(7, 300_000)
HALF = CONTENT.size // 2

BLOB, CATALOG = "blob", "catalog"
MOMENTS = [
    ("pwrite64", BLOB, 1, "before the first byte of the last chunk is written"),
    ("fdatasync", BLOB, 1, "before the last byte is synced"),
    ("pwrite64", CATALOG, 1, "before the commit that records it"),
    ("pwrite64", CATALOG, 2, "in the middle of that commit"),
    ("fdatasync", CATALOG, 1, "before that commit is synced"),
    ("fdatasync", CATALOG, 2, "before the commit that makes the file is synced"),
    ("sendto", None, 1, "before the answer"),
]


def told_nothing(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except (OSError, http.client.HTTPException):
        return True
    return False


def kill_at(server: Server, call: str, where: str | None, when: int, ask: Callable[[Client], object]) -> None:
    """The whole server dies when a thread that serves ``ask`` enters its ``when``-th such call."""
    client = server.client()
    client.get("nothing")
    paths = {BLOB: [path for path in (server.data / "blobs").rglob("*") if path.is_file()],
             CATALOG: [server.data / "catalog.sqlite3-wal"], None: None}[where]
    with Tracer(server, f"{call}:signal=KILL:when={when}", paths) as tracer:
        assert told_nothing(lambda: ask(client)), "it was to die before it answered"
        until(tracer.somebody_died, "the worker was killed")
    server.kill()


def state(client: Client) -> tuple[bool, dict[str, Any]]:
    """Whether the file is there, and the upload under way, at one moment."""
    there = client.get("u").status == 200
    while True:
        upload = next((upload for upload in client.uploads() if upload["path"] == "u"), {})
        before, there = there, client.get("u").status == 200
        if before == there:
            return there, upload


@pytest.mark.parametrize(("call", "where", "when", "moment"), MOMENTS, ids=[moment[3] for moment in MOMENTS])
def test_a_crash_after_the_last_byte_leaves_a_file_or_an_upload(call: str, where: str | None, when: int, moment: str,
                                                               start: Start) -> None:
    server = start()
    first = server.client().chunk("u", 0, CONTENT.read(0, HALF), offset=0, total=CONTENT.size)
    assert first.ok
    kill_at(server, call, where, when, lambda client: client.chunk("u", 1, CONTENT.read(HALF), offset=HALF, total=CONTENT.size))
    server.start()
    client = server.client()
    there, upload = state(client)
    assert there != bool(upload), "it is a file or an upload under way"
    if upload:
        assert upload["offset"] >= HALF, "the chunk that was acknowledged"
        answer = client.chunk("u", 1, CONTENT.read(HALF), offset=HALF, total=CONTENT.size)
        assert answer.ok or (upload["missing"] == [] and answer.status == 410), "the server may have completed it meanwhile"
    assert client.complete("u", 2).ok
    assert client.get("u").body == CONTENT.read()
    assert client.uploads() == []
    assert server.audit() == []


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync", "openat", "fsync"])
def test_a_crash_under_a_put_that_replaces_leaves_one_of_the_two(call: str, start: Start) -> None:
    server = start()
    old, new = Content(1, 50_000), Content(2, 60_000)
    assert server.client().put("x", old.read()).ok
    kill_at(server, call, None, 1, lambda client: client.put("x", new.read()))
    server.start()
    assert server.client().get("x").body in (old.read(), new.read())
    assert server.audit() == []
    assert [path.stat().st_size for path in Path(server.data / "blobs").rglob("*") if path.is_file()].count(60_000) <= 1


@pytest.mark.parametrize("when", [1, 3, 6])
def test_a_crash_under_a_form_leaves_all_of_it_or_none(when: int, start: Start) -> None:
    server = start()
    files = [(str(n), Content(n + 1, 20_000).read()) for n in range(5)]
    kill_at(server, "pwrite64", None, when, lambda client: client.form("f", files))
    server.start()
    client = server.client()
    there = [client.get(f"f/{name}").body == data for name, data in files]
    assert all(there) or not any(there)
    assert [client.get(f"f/{name}").status for name, _ in files] == [200 if there[0] else 404] * 5
    assert server.audit() == []


def test_a_worker_that_is_killed_takes_nobody_with_it(start: Start) -> None:
    server = start()
    client = server.client()
    assert client.put("before", CONTENT.read()).ok
    with Tracer(server, "fdatasync:signal=KILL:when=1") as tracer:
        assert told_nothing(lambda: client.put("x", CONTENT.read()))
        until(tracer.somebody_died, "the worker was killed")
    until(lambda: not told_nothing(lambda: server.client().get("before")), "another worker answers")
    client = server.client()
    assert client.get("before").body == CONTENT.read()
    assert client.get("x").status == 404
    assert client.put("x", CONTENT.read()).ok
