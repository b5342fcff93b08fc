"""One piece of work on many things, in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, wait
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def each(executor: Executor, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """What ``work`` gives for each, in their order. However it ends, none is being worked on any more then."""
    running = [executor.submit(work, item) for item in items]
    try:
        return [one.result() for one in running]
    finally:
        for one in running:
            one.cancel()
        wait(running)
