"""A Carboy of one's own that runs jobs: real catalog, real storage, a clock that stands still until told otherwise."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fixtures_server import eventually

from carboy.bootstrap import Services, close, make_ready, open_carboy
from carboy.config import of_application
from carboy.engine.opening import ContentSource
from carboy.engine.receive import Target
from carboy.jobs import Derived, Job, JobFilter, JobState
from carboy.model import Condition, File
from carboy.processing.loop import Loop
from carboy.processing.step import Step, step_of


class Workshop:
    """Services on a folder, with what tests of jobs do all the time."""

    def __init__(self, folder: Path, steps: Iterable[Callable[..., Any] | Step], options: Mapping[str, Any]) -> None:
        self.folder = folder
        self.now = 1_000_000.0
        own = [one if isinstance(one, Step) else step_of(one) for one in steps]
        self.settings = of_application({"data": folder / "data", "durability": "relaxed", "sweep": False, **options})
        self.services: Services = open_carboy(self.settings, clock=lambda: self.now, steps=own)
        make_ready(self.services)

    def close(self) -> None:
        close(self.services)

    def later(self, seconds: float) -> None:
        """The clock moves on."""
        self.now += seconds

    # --- files ---

    def put(self, path: str, data: bytes, space: str = "main", *, owner: str | None = "me") -> File:
        target = Target(space, path, owner, self.settings.spaces[space], condition=Condition())
        return self.services.receiver.receive(target, ContentSource(data)).file

    def file(self, path: str, space: str = "main") -> File:
        """As it is now."""
        file = self.services.catalog.file_at(space, path)
        assert file, f"there is no {path}"
        return file

    def stored(self) -> set[str]:
        """The keys of all bytes on the disk."""
        return set(self.services.storages["local"].keys())

    # --- jobs ---

    def loop(self, *, workers: int = 2) -> Loop:
        services = self.services
        return Loop(services.catalog, services.leases, services.runner, services.wakes, workers=workers, poll=0.05, rests=False,
                    clock=lambda: self.now)

    def drain(self, most: float = 0.0) -> int:
        """Run what is due, here, and say how many attempts it were."""
        return self.loop().drain(most)

    @contextmanager
    def working(self, *, workers: int = 2) -> Iterator[Loop]:
        """Jobs are run in threads during the block."""
        loop = self.loop(workers=workers)
        thread = threading.Thread(target=loop.run, args=(0.0,), daemon=True)
        thread.start()
        try:
            yield loop
        finally:
            loop.stop()
            thread.join(30.0)
            assert not thread.is_alive(), "the loop did not end"

    def order(self, file: File, step: str, **args: Any) -> Job:
        """Have the file's content go through the step."""
        order = self.services.pipeline.order(self.services.pipeline.named(step), file.space, args)
        return next(job for job in self.services.catalog.order(file.id, [order], now=self.now) if job.step == step)

    def jobs(self, file: File) -> dict[str, Job]:
        """Those of the file's content, by step."""
        return {job.step: job for job in self.services.catalog.jobs_of(file.blob.id)}

    def job(self, file: File, step: str) -> Job:
        return self.jobs(file)[step]

    def ran(self, path: str, data: bytes, step: str, **args: Any) -> Job:
        """The job of a new content after its first attempt."""
        file = self.put(path, data)
        self.order(file, step, **args)
        self.drain()
        return self.job(file, step)

    def until(self, file: File, step: str, *states: JobState) -> Job:
        """The job once it is in one of these states; fails the test where that doesn't come."""
        return eventually(lambda: next((job for job in [self.job(file, step)] if job.state in states), None))  # type: ignore[return-value]

    def counts(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        jobs, _ = self.services.catalog.jobs(JobFilter(), limit=1000)
        found: dict[str, int] = {}
        for job in jobs:
            found[job.state] = found.get(job.state, 0) + 1
        return found

    # --- what came of them ---

    def derived(self, file: File) -> dict[str, Derived]:
        """By name."""
        return {one.name: one for one in self.services.catalog.derived(file.blob.id)}

    def content(self, thing: File | Derived) -> bytes:
        return b"".join(self.services.storages[thing.blob.storage].read(thing.blob.key))


Workshops = Callable[..., Workshop]


@pytest.fixture
def make_workshop(tmp_path: Path) -> Iterator[Workshops]:
    """``make_workshop(own_step, …, setting=…)``; the second one on the same folder is another process, as far as the catalog can tell."""
    made: list[Workshop] = []

    def make(*steps: Callable[..., Any] | Step, **options: Any) -> Workshop:
        made.append(Workshop(tmp_path, steps, options))
        return made[-1]

    yield make
    for workshop in made:
        workshop.close()


@pytest.fixture(scope="module")
def make_shared_workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshops]:
    """The same for all tests of a module: they use names of their own in it."""
    made: list[Workshop] = []

    def make(*steps: Callable[..., Any] | Step, **options: Any) -> Workshop:
        made.append(Workshop(tmp_path_factory.mktemp("shared"), steps, options))
        return made[-1]

    yield make
    for workshop in made:
        workshop.close()


@pytest.fixture
def workshop(make_workshop: Workshops) -> Workshop:
    return make_workshop()
