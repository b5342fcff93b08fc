"""Flat combining: threads that want the same costly thing at once get it done together by one of them.

After Hendler, Incze, Shavit and Tzafrir, "Flat Combining and the Synchronization-Parallelism Tradeoff" (SPAA 2010).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Request(Generic[T, R]):
    """One thread's wish. The batch function sets ``result`` or ``error``."""

    __slots__ = ("_wake", "error", "lead", "result", "value")

    def __init__(self, value: T) -> None:
        self.value = value
        self.result: R | None = None
        self.error: BaseException | None = None
        self.lead = False
        self._wake = threading.Lock()
        self._wake.acquire()

    def wait(self) -> None:
        self._wake.acquire()

    def wake(self) -> None:
        self._wake.release()


class Combiner(Generic[T, R]):
    """``do(value)`` joins the batch that forms while the batch before it runs.

    ``run`` gets every request that waits and settles each; what it raises goes to all that it left unsettled. A thread
    leads at most one batch, so none serves the others for ever. ``turn`` is entered before the batch is closed, so that
    whoever comes while it waits comes along, and left when all but the leader have been woken.
    """

    def __init__(self, run: Callable[[list[Request[T, R]]], None],
                 turn: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self._run = run
        self._turn = turn
        self._mutex = threading.Lock()
        self._waiting: list[Request[T, R]] = []
        self._led = False

    def do(self, value: T) -> R:
        request: Request[T, R] = Request(value)
        with self._mutex:
            self._waiting.append(request)
            if not self._led:
                self._led = request.lead = True
        if not request.lead:
            request.wait()
        if request.lead:
            self._lead()
        if request.error is not None:
            raise request.error
        return request.result  # type: ignore[return-value]

    def _lead(self) -> None:
        try:
            with self._turn():
                self._settle(self._take(), self._run)
        except BaseException as error:
            failure = error  # the turn did not come, so nobody was served
            self._settle(self._take(), lambda _: _fail(failure))
        finally:
            self._pass_on()

    def _take(self) -> list[Request[T, R]]:
        with self._mutex:
            batch, self._waiting = self._waiting, []
        return batch

    def _settle(self, batch: list[Request[T, R]], run: Callable[[list[Request[T, R]]], None]) -> None:
        try:
            run(batch)
        except BaseException as error:
            for request in batch:
                if request.result is None and request.error is None:
                    request.error = error
        for request in batch:
            if not request.lead:
                request.wake()

    def _pass_on(self) -> None:
        with self._mutex:
            heir = self._waiting[0] if self._waiting else None
            self._led = heir is not None
            if heir:
                heir.lead = True
        if heir:
            heir.wake()


def _fail(error: BaseException) -> None:
    raise error
