"""A server that is told to end does, whenever it is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_server import Server, eventually

BORN = """
import os, time

def born():
    folder = os.environ["TRACES"]
    open(f"{folder}/{os.getpid()}", "x").close()
    while not os.path.exists(f"{folder}/go"):
        time.sleep(0.01)

os.register_at_fork(after_in_child=born)
"""


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "sitecustomize.py").write_text(BORN)
    (tmp_path / "traces").mkdir()
    return tmp_path / "traces"


def is_pending(pid: int, number: signal.Signals) -> bool:
    lines = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool((int(lines["SigPnd"], 16) | int(lines["ShdPnd"], 16)) >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_hear_of_it_that_are_only_being_born(server: Callable[..., Server], traces: Path, number: signal.Signals) -> None:
    """What they were told before they heeded signals waits for them."""
    live = server(workers=2, env={"TRACES": str(traces), "PYTHONPATH": str(traces.parent / "modules"), "CARBOY_GRACEFUL_TIMEOUT": "600"})
    eventually(lambda: len(list(traces.iterdir())) == 3)
    workers = [pid for pid in map(int, os.listdir(traces)) if pid in live.workers()]
    os.kill(live.pid, number)
    told = signal.SIGTERM if number == signal.SIGTERM else signal.SIGQUIT
    eventually(lambda: sum(is_pending(pid, told) for pid in workers) >= 2)
    (traces / "go").touch()
    eventually(lambda: not live.running)
