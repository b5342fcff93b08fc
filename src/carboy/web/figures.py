"""All the numbers of this machine's processes, and what the catalog, the storages and the kernel say, gathered for ``/metrics``."""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache

from carboy import __version__, metrics
from carboy.bootstrap import Services
from carboy.catalog.base_figures import Standing
from carboy.errors import CarboyError
from carboy.ledgers import Reading, born
from carboy.metrics import METRICS, Labels, Metric
from carboy.model import Usage
from carboy.storage.base import OnDisk

log = logging.getLogger("carboy")

_FRESH = 5.0
_SHARE = 50
"""What the catalog says is asked for again after so many seconds, and after so many times what asking took: it never takes more than a
fiftieth of the time, however large the catalog is. One that doesn't answer is asked again sooner."""
_FAILURES = ("storage_failed", "storage_full", "storage_read_only", "storage_unavailable", "bytes_missing")
_UNDER_WAY = frozenset({"waiting", "queued", "sending"})


@dataclass(slots=True)
class Family:
    """The series of one metric: labels, and as many numbers as it has cells."""

    metric: Metric
    series: dict[Labels, list[float]] = field(default_factory=dict)

    def set(self, value: float, *labels: str) -> None:
        self.series[labels] = [value]


class Looks:
    """What the catalog says, for many who ask. Thread-safe: one looks, the others get what was seen last."""

    def __init__(self, look: Callable[[], Standing], clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: Standing | None = None
        self._fresh_until = 0.0

    def standing(self) -> Standing | None:
        """None where the catalog doesn't answer."""
        if self._clock() >= self._fresh_until and self._lock.acquire(blocking=self._seen is None):
            try:
                if self._clock() >= self._fresh_until:
                    self._look_again()
            finally:
                self._lock.release()
        return self._seen

    def _look_again(self) -> None:
        began = self._clock()
        try:
            self._seen = self._look()
            share = _SHARE
        except CarboyError as error:
            log.warning("the catalog could not be asked how much there is: %s", error.detail)
            self._seen, share = None, 1
        now = self._clock()
        self._fresh_until = now + max(_FRESH, share * (now - began))


def gathered(services: Services, looks: Looks) -> Iterator[Family]:
    """Everything, with the series that there are."""
    readings = services.meter.readings()
    yield from counted(readings, _zeros(services))
    yield from _processes(readings)
    build = Family(metrics.BUILD)
    build.set(1, __version__, platform.python_version())
    yield build
    yield _room(services)
    standing = looks.standing()
    up = Family(metrics.CATALOG_UP)
    up.set(standing is not None)
    yield up
    if standing:
        yield from _standing(standing, time.time())


def _zeros(services: Services) -> Iterator[tuple[Metric, Labels]]:
    """What is there to be seen before it happens: Prometheus can't tell that something grew which wasn't there before."""
    for name in services.storages:
        yield from ((metrics.STORAGE_ERRORS, (name, kind)) for kind in _FAILURES)
    for step in services.runner.steps.known:
        yield from ((metrics.JOB_ATTEMPTS, (step, outcome)) for outcome in ("done", "retried", "dead"))


def counted(readings: Iterable[Reading], zeros: Iterable[tuple[Metric, Labels]] = ()) -> Iterator[Family]:
    """What processes count, added up; gauges of those that live."""
    families = {name: Family(metric) for name, metric in METRICS.items()}
    for metric, labels in zeros:
        families[metric.name].series[labels] = [0.0] * metric.cells
    for reading in readings:
        for (name, labels), cells in reading.values.items():
            family = families[name]
            if reading.alive or family.metric.kind != "gauge":
                before = family.series.get(labels)
                family.series[labels] = [a + b for a, b in zip(before, cells, strict=True)] if before else list(cells)
    yield from families.values()


# --- the catalog and the storages ---


def _standing(standing: Standing, now: float) -> Iterator[Family]:
    files, sizes = Family(metrics.FILES), Family(metrics.FILE_BYTES)
    for space, usage in standing.usage.items():
        files.set(usage.files, space)
        for kind, size in _kinds(usage):
            sizes.set(size, space, kind)
    blobs, stored, apart = Family(metrics.BLOBS), Family(metrics.BLOB_BYTES), Family(metrics.BLOBS_APART)
    for one in standing.stored:
        blobs.set(one.blobs, one.storage)
        stored.set(one.bytes, one.storage)
        for why, count in (("damaged", one.damaged), ("quarantined", one.quarantined), ("held", one.held)):
            apart.set(count, one.storage, why)
    uploads = Family(metrics.OPEN_UPLOADS)
    for protocol, count in standing.receiving.items():
        uploads.set(count, protocol)
    yield from (files, sizes, blobs, stored, apart, uploads, *_jobs(standing, now), *_hooks(standing, now))


def _kinds(usage: Usage) -> Iterable[tuple[str, int]]:
    return (("current", usage.bytes), ("versions", usage.older), ("trash", usage.trash))


def _jobs(standing: Standing, now: float) -> Iterable[Family]:
    jobs, ages, counts = Family(metrics.JOBS), Family(metrics.QUEUE_AGE), Counter[tuple[str, str]]()
    for one in standing.jobs:
        counts[one.step, one.state] += one.count
        if one.state == "queued":
            ages.set(0.0 if one.due_since is None else max(0.0, now - one.due_since), one.queue, one.step)
    for labels, count in counts.items():
        jobs.set(count, *labels)
    return (jobs, ages)


def _hooks(standing: Standing, now: float) -> Iterable[Family]:
    deliveries, ages = Family(metrics.DELIVERIES), Family(metrics.HOOK_AGE)
    for one in standing.hooks:
        deliveries.set(one.count, one.hook, one.state)
        if one.state in _UNDER_WAY:
            before = ages.series.get((one.hook,), [0.0])[0]
            ages.set(max(before, now - one.oldest), one.hook)
    return (deliveries, ages)


def _room(services: Services) -> Family:
    room = Family(metrics.ROOM)
    for name, storage in services.storages.items():
        if isinstance(storage, OnDisk):
            try:
                room.set(storage.room(), name)
            except CarboyError as error:
                log.warning("the room of the storage %s is unknown: %s", name, error.detail)
    return room


# --- the processes ---


def _processes(readings: Iterable[Reading]) -> Iterator[Family]:
    number = Family(metrics.PROCESSES)
    cpu, memory, files = Family(metrics.PROCESS_CPU), Family(metrics.PROCESS_MEMORY), Family(metrics.PROCESS_FILES)
    threads, start = Family(metrics.PROCESS_THREADS), Family(metrics.PROCESS_START)
    for reading in readings:
        if reading.alive:
            number.series.setdefault((reading.role,), [0.0])[0] += 1
        if reading.pid is None:
            continue
        labels = (str(reading.slot), reading.role)
        try:
            with open(f"/proc/{reading.pid}/stat", "rb") as stat:
                fields = stat.read().rpartition(b")")[2].split()
            files.set(len(os.listdir(f"/proc/{reading.pid}/fd")), *labels)
        except OSError:
            continue
        ticks = os.sysconf("SC_CLK_TCK")
        cpu.set((int(fields[11]) + int(fields[12])) / ticks, *labels)
        memory.set(int(fields[21]) * os.sysconf("SC_PAGE_SIZE"), *labels)
        threads.set(int(fields[17]), *labels)
        start.set(_machine_began() + (born(reading.pid) or 0) / ticks, *labels)
    yield from (number, cpu, memory, files, threads, start)


@cache
def _machine_began() -> float:
    try:
        with open("/proc/stat", encoding="ascii") as file:
            return next((float(line.split()[1]) for line in file if line.startswith("btime ")), 0.0)
    except OSError:
        return 0.0
