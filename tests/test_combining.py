"""Flat combining: every thread gets its own answer, whichever thread did the work."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import wire
from fixtures_server import eventually

from carboy.combining import Combiner, Request


def doubled(requests: list[Request[int, int]]) -> None:
    for request in requests:
        if request.value < 0:
            request.error = ValueError(request.value)
        else:
            request.result = request.value * 2


def test_one_alone_gets_its_result() -> None:
    combiner = Combiner(doubled)
    assert [combiner.do(number) for number in range(5)] == [0, 2, 4, 6, 8]


def test_an_error_of_one_is_raised_to_that_one() -> None:
    combiner = Combiner(doubled)
    with pytest.raises(ValueError, match="-7"):
        combiner.do(-7)
    assert combiner.do(7) == 14


def test_thousands_by_sixteen_threads_each_get_their_own() -> None:
    batches: list[int] = []

    def run(requests: list[Request[int, int]]) -> None:
        batches.append(len(requests))
        doubled(requests)

    combiner = Combiner(run)
    start = threading.Barrier(16)

    def work(number: int) -> bool:
        start.wait()
        for turn in range(250):
            value = number * 1000 + turn
            if turn % 10 == 9:
                with pytest.raises(ValueError, match=str(-value)):
                    combiner.do(-value)
            elif combiner.do(value) != value * 2:
                return False
        return True

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(work, range(16)))
    assert sum(batches) == 16 * 250
    assert max(batches) <= 16


class Gate:
    """A batch function that waits to be let through, and says which values each batch had."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = threading.Semaphore(0)
        self.leaders: list[str] = []

    def __call__(self, requests: list[Request[int, int]]) -> None:
        self.batches.append([request.value for request in requests])
        self.leaders.append(threading.current_thread().name)
        assert self.open.acquire(timeout=wire.LIMIT)
        for request in requests:
            request.result = request.value


def test_what_comes_while_a_batch_runs_is_the_next_batch() -> None:
    gate = Gate()
    combiner = Combiner(gate)
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(combiner.do, 0)
        eventually(lambda: gate.batches)
        rest = [threads.submit(combiner.do, number) for number in range(1, 8)]
        eventually(lambda: len(combiner._waiting) == 7)
        gate.open.release(2)
        assert first.result(wire.LIMIT) == 0
        assert [one.result(wire.LIMIT) for one in rest] == list(range(1, 8))
    assert [sorted(batch) for batch in gate.batches] == [[0], list(range(1, 8))]


def test_nobody_serves_the_others_for_ever() -> None:
    """The thread that led a batch has its answer although more keep coming: the next batch has another leader."""
    gate = Gate()
    combiner = Combiner(gate)
    with ThreadPoolExecutor(8) as threads:
        waiting = threads.submit(combiner.do, 0)
        for number in range(1, 8):
            eventually(lambda: len(gate.batches) == number)  # noqa: B023 - asked at once
            later = threads.submit(combiner.do, number)
            eventually(lambda: len(combiner._waiting) == 1)
            gate.open.release()
            assert waiting.result(wire.LIMIT) == number - 1
            waiting = later
        gate.open.release()
        assert waiting.result(wire.LIMIT) == 7
    assert gate.batches == [[number] for number in range(8)]


def test_what_the_batch_raises_reaches_all_that_it_left_unsettled() -> None:
    gate = Gate()

    def run(requests: list[Request[int, int]]) -> None:
        if len(requests) == 1:
            gate(requests)
            return
        requests[0].result = 100
        requests[1].error = KeyError("mine")
        raise OSError("all others'")

    combiner = Combiner(run)
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(combiner.do, 0)
        eventually(lambda: gate.batches)
        rest = [threads.submit(combiner.do, number) for number in range(1, 7)]
        eventually(lambda: len(combiner._waiting) == 6)
        gate.open.release()
        assert first.result(wire.LIMIT) == 0
        errors = [one.exception(wire.LIMIT) for one in rest]
    assert sorted(type(error).__name__ for error in errors) == ["KeyError", "NoneType", *["OSError"] * 4]
    assert Combiner(doubled).do(1) == 2


def test_a_batch_that_fails_does_not_stop_the_next() -> None:
    turns = iter([OSError("first"), None])

    def run(requests: list[Request[int, int]]) -> None:
        if error := next(turns):
            raise error
        doubled(requests)

    combiner = Combiner(run)
    with pytest.raises(OSError, match="first"):
        combiner.do(1)
    assert combiner.do(2) == 4
