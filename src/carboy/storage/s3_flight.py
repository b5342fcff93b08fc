"""Parts on their way: a few at once for each writer, by threads that all writers of a process share."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from carboy.errors import StorageUnavailable

T = TypeVar("T")


class Threads:
    """The threads of this process; they start when first used, so a fork has its own."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._made: tuple[int, ThreadPoolExecutor] | None = None

    def submit(self, job: Callable[[], T]) -> Future[T]:
        with self._lock:
            if self._made is None or self._made[0] != os.getpid():
                self._made = (os.getpid(), ThreadPoolExecutor(self._most, thread_name_prefix="s3"))
            try:
                return self._made[1].submit(job)
            except RuntimeError:
                raise StorageUnavailable("the process is about to end", reason="busy") from None

    def close(self) -> None:
        """When nothing is under way. Repeatable; they may be used again."""
        with self._lock:
            made, self._made = self._made, None
        if made and made[0] == os.getpid():
            made[1].shutdown()


class Flight(Generic[T]):
    """The jobs of one writer. After one has failed there are no more: its error comes out of everything."""

    def __init__(self, threads: Threads, most: int = 2) -> None:
        self._threads = threads
        self._most = most
        self._lock = threading.Lock()
        self._running: deque[Future[T]] = deque()
        self._done: list[T] = []
        self._failed: BaseException | None = None

    def send(self, job: Callable[[], T]) -> None:
        """Begin it once few enough are under way. Raises what an earlier one failed with."""
        while len(running := self._reap()) >= self._most:
            wait(running, return_when="FIRST_COMPLETED")
        self.check()
        with self._lock:
            self._running.append(self._threads.submit(job))

    def check(self) -> None:
        """Raises what one failed with."""
        self._reap()
        if self._failed is not None:
            raise self._failed

    def done(self) -> list[T]:
        """What the jobs gave that have ended since the last call, those before and after a failed one too."""
        self._reap()
        with self._lock:
            done, self._done = self._done, []
        return done

    def settle(self) -> None:
        """Wait for all. Raises nothing."""
        while running := self._reap():
            wait(running)

    def _reap(self) -> list[Future[T]]:
        """Those that run on."""
        with self._lock:
            ended = [one for one in self._running if one.done()]
            self._running = deque(one for one in self._running if one not in ended)
            for one in ended:
                error = one.exception()
                if error is None:
                    self._done.append(one.result())
                elif self._failed is None:
                    self._failed = error
            return list(self._running)
