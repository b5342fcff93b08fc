"""What the fault tests are given: servers that are killed at the end, and disks that are unmounted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from faults.disk import Disk, why_not
from faults.runner import Server


def skip_or_fail(reason: str) -> None:
    """A fault that can't be caused here skips its test loudly; where everything must be tested, it fails it."""
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"CI must run this, and it can't: {reason}")
    if reason:
        pytest.skip(reason)


@pytest.fixture
def faults() -> None:
    """Asked for by tests that need root, loop devices and strace."""
    skip_or_fail(why_not("strace", "prlimit"))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def make_disk(faults: None, tmp_path: Path, stack: ExitStack) -> Callable[..., Disk]:
    """``make_disk(kind, size)``: a mounted file system of its own."""
    def make(kind: Any = "ext4", size: int = 48 * 2**20, options: str = "") -> Disk:
        disk = Disk(tmp_path / "disk", kind, size)
        stack.callback(disk.destroy)
        disk.mount(options)
        return disk
    return make


@pytest.fixture
def start(tmp_path: Path, stack: ExitStack) -> Callable[..., Server]:
    """``start(data, CARBOY_…=…)``: a server with one worker that is ready; killed at the end."""
    def begin(data: Path | None = None, *, prefix: tuple[str, ...] = (), **settings: object) -> Server:
        server = Server(data or tmp_path / "data", tmp_path / "server.log", workers=1, prefix=prefix, settings=settings)
        stack.callback(server.kill)
        return server.start()
    return begin
