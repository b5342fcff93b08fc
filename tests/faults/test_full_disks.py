"""No room, no inodes, no descriptors: a clear refusal, nothing lost, and everything goes on once there is some again."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from faults.disk import MIB, Disk, until
from faults.journal import Content
from faults.runner import Answer, Client, Server

pytestmark = pytest.mark.usefixtures("faults")

Start = Callable[..., Server]
AT_ONCE = {"CARBOY_DELETE_GRACE": 0, "CARBOY_SWEEP_INTERVAL": 0.2}
"""Deleted bytes go at once, so that a test sees the room come back."""


def fill(client: Client, size: int, most: int = 2000) -> tuple[list[Content], Answer]:
    """Put files ``0``, ``1``, … of ``size`` bytes until one is refused."""
    stored: list[Content] = []
    while len(stored) < most:
        content = Content(len(stored) + 1, size)
        answer = client.put(str(len(stored)), content.read())
        if not answer.ok:
            return stored, answer
        stored.append(content)
    raise AssertionError(f"{most} files of {size} bytes were stored, and the disk is not full")


def test_a_full_disk_is_507_and_deletes_still_work(make_disk: Callable[..., Disk], start: Start) -> None:
    server = start(make_disk("ext4", 48 * MIB).root / "data", **AT_ONCE)
    client = server.client()
    stored, answer = fill(client, 2 * MIB)
    assert (answer.status, answer.code) == (507, "storage_full")
    assert len(stored) > 5
    assert client.get(str(len(stored))).status == 404, "what was refused is not half there"
    for name, content in enumerate(stored):
        assert client.get(str(name)).body == content.read()
    assert client.delete("0").status == 204
    assert client.delete("1").status == 204
    until(lambda: client.put("again", stored[0].read()).ok, "there is room again")
    assert client.get("again").body == stored[0].read()
    assert server.audit() == []


def test_a_form_that_does_not_fit_leaves_none_of_its_files(make_disk: Callable[..., Disk], start: Start) -> None:
    server = start(make_disk("ext4", 48 * MIB).root / "data", **AT_ONCE)
    client = server.client()
    answer = client.form("f", [(str(n), Content(n + 1, 4 * MIB).read()) for n in range(14)])
    assert (answer.status, answer.code) == (507, "storage_full")
    assert [client.get(f"f/{n}").status for n in range(14)] == [404] * 14
    assert client.put("fits", Content(1, 8 * MIB).read()).ok, "the room of the refused form is free again"
    assert server.audit() == []


def test_an_upload_stays_resumable_on_a_full_disk(make_disk: Callable[..., Disk], start: Start) -> None:
    server = start(make_disk("ext4", 48 * MIB).root / "data", **AT_ONCE)
    client = server.client()
    content, step = Content(99, 12 * MIB), 2 * MIB
    assert client.chunk("u", 0, content.read(0, step), chunk_size=step).ok
    fill(client, 2 * MIB)
    refused = client.chunk("u", 1, content.read(step, 2 * step), chunk_size=step)
    assert refused.status == 507
    upload, = client.uploads()
    assert upload["state"] == "receiving"
    assert upload["received"] >= step
    for name in range(7):
        assert client.delete(str(name)).status == 204
    for index in range(1, 6):
        part = content.read(index * step, (index + 1) * step)
        until(lambda index=index, part=part: client.chunk("u", index, part, chunk_size=step).ok, f"chunk {index} fits")
    assert client.complete("u", 6).ok
    assert client.get("u").body == content.read()
    assert server.audit() == []


def test_a_declared_size_that_can_not_fit_is_refused_before_its_body(make_disk: Callable[..., Disk], start: Start) -> None:
    server = start(make_disk("ext4", 48 * MIB).root / "data")
    client = server.client()
    answer = client.chunk("u", 0, bytes(1000), offset=0, total=2**40)
    assert answer.status == 507
    assert client.uploads() == []
    assert client.put("x", bytes(1000)).ok, "declaring a terabyte starves nobody"


@pytest.fixture
def few_inodes(tmp_path: Path, stack: ExitStack) -> Iterator[Path]:
    root = tmp_path / "tmpfs"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=330,size=64m", "tmpfs", str(root)], check=True)
    stack.callback(lambda: until(lambda: subprocess.run(["umount", str(root)], capture_output=True).returncode == 0, "unmounted"))
    yield root


def test_no_inodes_is_a_full_disk(few_inodes: Path, start: Start) -> None:
    server = start(few_inodes / "data", **AT_ONCE)
    client = server.client()
    stored, answer = fill(client, 100)
    assert (answer.status, answer.code) == (507, "storage_full")
    for name, content in enumerate(stored):
        assert client.get(str(name)).body == content.read()
    assert client.delete("0").status == 204
    until(lambda: client.put("again", b"x" * 100).ok, "there is an inode again")
    assert server.audit() == []


def test_no_descriptors_is_busy_and_passes(start: Start) -> None:
    server = start()
    client = server.client()
    assert client.put("before", b"before").ok
    worker = next(pid for pid in server.processes() if pid != server.pid)
    limit_descriptors(worker, 3)  # those that are open stay open
    answer = client.put("refused", b"x" * 1000)
    assert answer.status == 503
    assert answer.code in ("busy", "catalog_unavailable"), "whichever needed a descriptor first"
    assert "Retry-After" in answer.headers
    limit_descriptors(worker, 1000)
    again = server.client()
    assert again.get("refused").status == 404
    assert again.put("refused", b"x" * 1000).status == 201
    assert again.get("before").body == b"before"
    assert server.audit() == []


def limit_descriptors(pid: int, most: int) -> None:
    subprocess.run(["prlimit", "--pid", str(pid), f"--nofile={most}:"], check=True)
