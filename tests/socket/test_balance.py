"""Connections are shared out among the server's processes."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import wire
from fixtures_server import Server, eventually

from carboy.web.balance import NO_MORE, Balance


def in_child(work: Callable[[], object]) -> int:
    """Run in a process that lives on until it is killed; its id."""
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        work()
        os.write(told, b".")
        while True:
            signal.pause()
    os.close(told)
    assert os.read(ready, 1) == b"."
    os.close(ready)
    return pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_one_is_left_to_a_process_that_has_fewer() -> None:
    balance = Balance()

    def other() -> None:
        balance.join(2)
        balance.tell(3)

    balance.join(1)
    balance.tell(5)
    assert not balance.is_anothers(5), "there is none"
    pid = in_child(other)
    try:
        assert [balance.is_anothers(count) for count in (2, 3, 4, 5, 50)] == [False, False, False, True, True]
    finally:
        end(pid)
    assert not balance.is_anothers(50), "it is gone"


def test_not_to_one_that_takes_no_more() -> None:
    balance = Balance(2)
    balance.join(0)

    def stopping() -> None:
        balance.join(3)
        balance.tell(NO_MORE)

    def gone() -> None:
        balance.join(5)
        balance.tell(0)
        balance.leave()

    for work in (stopping, gone):
        pid = in_child(work)
        try:
            assert not balance.is_anothers(9)
        finally:
            end(pid)


def connections_of(server: Server) -> Counter[int]:
    """How many connections each process that serves has."""
    port = f"{int(re.findall(r':([0-9]+)', server.url)[-1]):04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    inodes = {fields[9] for line in lines if (fields := line.split())[1].endswith(f":{port}") and fields[3] == "01"}
    found: Counter[int] = Counter()
    for pid in server.workers():
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                match = re.fullmatch(r"socket:\[([0-9]+)\]", os.readlink(fd))
                found[pid] += bool(match and match[1] in inodes)
    return found


def test_connections_that_stay_are_spread(server: Callable[..., Server]) -> None:
    """Sooner or later: a process that is slow to come up, or to get its turn on a busy machine, catches up."""
    live = server(workers=2)
    with ExitStack() as stack:
        def spread_out() -> bool:
            for _ in range(20):
                connection = stack.enter_context(live.connect())
                assert connection.request("GET", "/healthz").status == 200
            spread = sorted(connections_of(live).values())
            assert sum(spread) <= 500, spread
            return len(spread) == 2 and spread[0] >= 8 and spread[1] <= spread[0] + 6

        eventually(spread_out)


def test_one_that_is_stopped_keeps_nobody_waiting(server: Callable[..., Server]) -> None:
    live = server(workers=2)
    eventually(lambda: len(live.workers()) == 2)
    stopped = live.workers()[0]
    os.kill(stopped, signal.SIGSTOP)
    try:
        with ExitStack() as stack:
            for _ in range(10):
                connection = stack.enter_context(live.connect(wire.LIMIT))
                assert connection.request("GET", "/healthz").status == 200
    finally:
        os.kill(stopped, signal.SIGCONT)
