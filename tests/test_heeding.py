"""What a signal has done may wait for a lock that the main thread held when it came."""

from __future__ import annotations

import os
import signal
import threading

import pytest
import wire

from carboy.heeding import Heed


@pytest.fixture
def taken() -> threading.Lock:
    return threading.Lock()


def test_it_waits_for_what_the_main_thread_holds(taken: threading.Lock) -> None:
    done = threading.Event()

    def act() -> None:
        with taken:
            done.set()

    before = signal.signal(signal.SIGUSR1, heed := Heed(act))
    try:
        with taken:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert not done.wait(0.05)
        assert done.wait(wire.LIMIT)
    finally:
        signal.signal(signal.SIGUSR1, before)
        heed.end()


def test_each_time_until_its_end(taken: threading.Lock) -> None:
    times: list[int] = []
    came = threading.Semaphore(0)
    heed = Heed(lambda: (times.append(1), came.release()))
    for _ in range(3):
        heed()
    for _ in range(3):
        assert came.acquire(timeout=wire.LIMIT)
    heed.end()
    heed()
    assert not came.acquire(timeout=0.05)
    assert len(times) == 3
