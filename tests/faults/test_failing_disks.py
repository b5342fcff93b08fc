"""A disk that refuses: failed syncs are final, short writes are continued, a read-only disk takes nothing and loses nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.disk import Disk, until
from faults.journal import Content
from faults.runner import Server
from faults.tracer import Tracer

pytestmark = pytest.mark.usefixtures("faults")

Start = Callable[..., Server]
SMALL, LARGE, OTHER = Content(1, 5000), Content(2, 3 * 2**20), Content(3, 5000)


def blobs(server: Server) -> set[Path]:
    return {path for path in (server.data / "blobs").rglob("*") if path.is_file()}


def test_a_failed_sync_of_the_bytes_is_an_error_and_stores_nothing(start: Start) -> None:
    server = start()
    client = server.client()
    assert client.put("before", SMALL.read()).ok
    with Tracer(server, "fdatasync:error=EIO:when=1") as tracer:
        answer = client.put("failed", LARGE.read())
    assert tracer.injected() > 0
    assert (answer.status, answer.code) == (500, "storage_failed")
    assert client.get("failed").status == 404
    assert client.get("before").body == SMALL.read()
    assert server.audit() == []


def test_a_failed_sync_of_the_folder_is_an_error_and_stores_nothing(start: Start) -> None:
    server = start()
    client = server.client()
    with Tracer(server, "fsync:error=EIO:when=1+", sorted((server.data / "blobs").iterdir())) as tracer:
        answer = client.put("failed", SMALL.read())
    assert tracer.injected() > 0
    assert (answer.status, answer.code) == (500, "storage_failed")
    assert client.get("failed").status == 404
    assert client.put("failed", SMALL.read()).status == 201, "the disk works again, and so does the server"
    assert server.audit() == []


def test_a_form_of_which_one_sync_fails_stores_none_of_its_files(start: Start) -> None:
    server = start()
    client = server.client()
    with Tracer(server, "fdatasync:error=EIO:when=1"):
        answer = client.form("f", [("a", SMALL.read()), ("b", LARGE.read()), ("c", OTHER.read())])
    assert (answer.status, answer.code) == (500, "storage_failed")
    assert [client.get(f"f/{name}").status for name in "abc"] == [404, 404, 404]
    assert server.audit() == []


def test_an_upload_whose_sync_failed_is_over_and_is_never_tried_into_success(start: Start) -> None:
    """After a failed fsync the kernel may have dropped the pages: a later sync that succeeds says nothing about them."""
    server = start()
    client = server.client()
    half = LARGE.size // 2
    assert client.chunk("u", 0, LARGE.read(0, half), offset=0, total=LARGE.size).ok
    blob, = blobs(server)
    with Tracer(server, "fdatasync:error=EIO:when=1", [blob]) as tracer:
        answer = client.chunk("u", 1, LARGE.read(half), offset=half, total=LARGE.size)
    assert tracer.injected() == 1
    assert answer.status == 500
    assert client.get("u").status == 404
    assert "u" not in {upload["path"] for upload in client.uploads()}
    assert not client.complete("u", 2).ok
    assert client.get("u").status == 404
    for index, (begin, end) in enumerate([(0, half), (half, LARGE.size)]):
        assert client.chunk("u", index, LARGE.read(begin, end), offset=begin, total=LARGE.size).ok
    assert client.get("u").body == LARGE.read(), "sent again from the start, it is a new upload with a new file"
    assert server.audit() == []


def test_a_failed_sync_of_the_catalog_is_never_called_stored(start: Start) -> None:
    server = start()
    client = server.client()
    assert client.put("before", SMALL.read()).ok
    with Tracer(server, "fdatasync,fsync:error=EIO:when=1", [server.data / "catalog.sqlite3-wal"]) as tracer:
        answer = client.put("unknown", LARGE.read())
    assert tracer.injected() > 0
    assert answer.status >= 500
    assert client.put("after", OTHER.read()).ok, "the next transaction starts afresh"
    server.kill()
    server.start()
    client = server.client()
    assert client.get("before").body == SMALL.read()
    assert client.get("after").body == OTHER.read()
    unknown = client.get("unknown")
    assert unknown.status == 404 or unknown.body == LARGE.read()
    assert server.audit() == []


@pytest.mark.parametrize("inject", ["pwrite64:error=EINTR:when=1", "pwrite64:retval=0:when=1"])
def test_interrupted_and_empty_writes_are_done_again(inject: str, start: Start) -> None:
    server = start()
    client = server.client()
    with Tracer(server, inject) as tracer:
        assert client.put("x", LARGE.read()).status == 201
    assert tracer.injected() > 0
    assert client.get("x").body == LARGE.read()
    assert server.audit() == []


def test_a_short_write_is_continued_where_it_ended(start: Start) -> None:
    """strace can't shorten a write, only lie about it; so the test is that the next begins where the lie says."""
    server = start()
    with Tracer(server, "pwrite64:retval=1000:when=1") as tracer:
        server.client().put("x", SMALL.read())
    writes = [re.search(r"/blobs/(\S+)>, .*, (\d+), (\d+)\) = (\d+)", line) for line in tracer.lines()]
    told = [(match[1], int(match[2]), int(match[3]), int(match[4])) for match in writes if match]
    first, second = told[:2]
    assert first[1:] == (SMALL.size, 0, 1000)
    assert second == (first[0], SMALL.size - 1000, 1000, SMALL.size - 1000)


def test_a_disk_that_turns_read_only_takes_nothing_more_and_loses_nothing(make_disk: Callable[..., Disk], start: Start) -> None:
    disk = make_disk("ext4", options="errors=remount-ro")
    server = start(disk.root / "data")
    client = server.client()
    assert client.put("before", SMALL.read()).ok
    assert client.chunk("u", 0, LARGE.read(0, 2**20), chunk_size=2**20).ok
    disk.go_read_only()
    for answer in (client.put("after", OTHER.read()), client.chunk("u", 1, LARGE.read(2**20, 2**21), chunk_size=2**20),
                   client.form("f", [("a", OTHER.read())]), client.delete("before")):
        assert answer.status in (500, 503), answer
    assert client.get("before").body == SMALL.read(), "reading goes on"
    server.kill()
    disk.repair()
    server.start()
    client = server.client()
    assert client.get("before").body == SMALL.read()
    assert client.get("after").status == 404
    assert client.get("f/a").status == 404
    for index in (1, 2):
        assert client.chunk("u", index, LARGE.read(index * 2**20, (index + 1) * 2**20), chunk_size=2**20).ok
    assert client.complete("u", 3).ok
    assert client.get("u").body == LARGE.read()
    assert server.audit() == []


def test_a_short_pause_of_the_tracer_is_no_fault(start: Start) -> None:
    """The faults above come from what is injected, not from being traced."""
    server = start()
    client = server.client()
    with Tracer(server, "fdatasync:delay_exit=1000"):
        assert client.put("x", SMALL.read()).ok
    until(lambda: client.get("x").body == SMALL.read(), "the file is there")
