"""Jobs that do nothing: how many a second, how soon after an upload's answer they begin, and what uploads cost when Redis is stopped."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks import procs
from benchmarks.cases.small_files import put_request
from benchmarks.clients import http
from benchmarks.lab import Lab, Stage, round_name
from benchmarks.outcome import Figure, Outcome, Row, Series, Target
from benchmarks.servers.base import Server
from benchmarks.servers.jobs import CarboyJobs, CeleryWorker, Redis
from carboy.catalog.base import Catalog
from carboy.catalog.sql import open_catalog
from carboy.jobs import Job, JobFilter, Order
from carboy.processing.wakes import Wakes

NAME = "jobs"
TITLE = "Jobs in the background"
_LOOP, _CELERY, _STOPPED = "Carboy, beside the web", "Carboy, Celery on Redis", "Carboy, Celery, Redis stopped"
_UNDER_WAY = ("waiting", "queued", "running")
_APART = 0.02
"""Seconds between two uploads, so that none finds the other's job before its own."""
_PAUSE = 5.0
_COLUMNS = [Figure("upload", "4 KiB upload, ms"), Figure("upload99", "p99, ms"), Figure("rate", "jobs / s", 0), Figure("start", "answer to start, ms"),
            Figure("start99", "p99, ms")]


def run(lab: Lab) -> Outcome:
    """Measure it."""
    jobs, uploads = lab.pick(2000, 200), lab.pick(300, 40)
    with Stage(lab) as stage:
        redis = stage.ours(Redis, "redis")
        loop = stage.ours(CarboyJobs, "jobs-loop")
        celery = stage.ours(lambda folder: CarboyJobs(folder, redis), "jobs-celery")
        worker = stage.ours(lambda folder: CeleryWorker(folder, celery), "jobs-worker")
        found: dict[str, dict[str, list[float]]] = {}
        with closing(Jobs(loop)) as here, closing(Jobs(celery, worker)) as there:
            for number in range(-1, lab.rounds):
                for name, one in ((_LOOP, here), (_CELERY, there)):
                    _note(lab, found, number, name, {"rate": one.rate(jobs), **one.uploads(uploads, follow=True)})
                redis.stop()
                stopped = there.uploads(uploads, follow=False)
                redis.start()
                there.settle()
                _note(lab, found, number, _STOPPED, stopped)
        rows = [Row(name, {key: Series.of(values) for key, values in figures.items()}, _WHAT[name], name == _LOOP) for name, figures in found.items()]
        how = (f"A step that does nothing. Jobs a second: {jobs} that wait, each of a file of its own; SQLite, as many at a time as processors. From answer to start: {uploads} uploads "
               f"over one connection, {_APART * 1000:.0f} ms apart, by the clock of one machine.")
        return Outcome(NAME, TITLE, how, _COLUMNS, rows, _targets(rows), stage.missing, [redis.version], plot="upload")


_WHAT = {_LOOP: "the claim loop in a process of its own", _CELERY: "the id by Redis, the claim in the catalog", _STOPPED: "uploads while nobody delivers"}


def _note(lab: Lab, found: dict[str, dict[str, list[float]]], number: int, name: str, figures: dict[str, float]) -> None:
    lab.say(f"   {round_name(number)}: {name}: " + ", ".join(f"{key} {value:.2f}" for key, value in figures.items()))
    if number >= 0:
        for key, value in figures.items():
            found.setdefault(name, {}).setdefault(key, []).append(value)


def _targets(rows: Sequence[Row]) -> list[Target]:
    figures = {row.name: row.figures for row in rows}
    return [Target("upload with Redis stopped: time / with Redis running", figures[_STOPPED]["upload"].over(figures[_CELERY]["upload"]), 1.2)]


class Jobs:
    """Asks one Carboy for jobs, and its catalog what became of them."""

    def __init__(self, server: CarboyJobs, *others: Server) -> None:
        self._server, self._servers = server, (server, *others)
        self._connection: http.Connection | None = None
        self._used_at = 0.0
        self._wakes = Wakes(server.data / "wakes")
        self._catalog: Catalog = open_catalog(f"sqlite:///{server.data / 'catalog.sqlite3'}", wake=self._wakes.wake)
        self._numbers = iter(range(10**9))
        self._files: list[str] = []

    def rate(self, count: int) -> float:
        """Jobs a second, each of a file of its own, from when those who take them may begin to when the last is done."""
        while len(self._files) < count:
            self._files.append(self._put(f"kept-{len(self._files)}"))
        self.settle()
        order = Order("noop", f"round-{next(self._numbers)}")
        with self._held_up():
            for file in self._files[:count]:
                self._catalog.order(file, [order], now=time.time())
            began = time.time()
        self.settle()
        return count / (max(job.changed_at for job in self._jobs_of(order)) - began)

    def uploads(self, count: int, *, follow: bool) -> dict[str, float]:
        """How long they took, and, if asked to ``follow``, how soon their jobs began: median and p99, in milliseconds."""
        taken: list[float] = []
        answered: dict[str, float] = {}
        for _ in range(count):
            began = time.perf_counter()
            file = self._put(f"small-{next(self._numbers)}")
            answered[file] = time.time()
            taken.append((time.perf_counter() - began) * 1000)
            time.sleep(_APART)
        told = {"upload": _share(taken, 0.5), "upload99": _share(taken, 0.99)}
        if not follow:
            return told
        self.settle()
        starts = self._starts(answered)
        return {**told, "start": _share(starts, 0.5), "start99": _share(starts, 0.99)}

    def settle(self) -> None:
        """Until no job is under way."""
        while self._catalog.jobs(JobFilter(states=_UNDER_WAY), limit=1)[0]:
            time.sleep(0.01)

    def close(self) -> None:
        self._disconnect()
        self._catalog.close()
        self._wakes.close()

    def _put(self, name: str) -> str:
        """The server ends connections on which nobody asks for anything, so one isn't used after a pause."""
        if time.monotonic() - self._used_at > _PAUSE:
            self._disconnect()
        self._connection = self._connection or http.Connection(self._server.host, self._server.port)
        answer = self._connection.exchange(put_request(name, self._server.headers))
        self._used_at = time.monotonic()
        return str(json.loads(answer)["id"])

    def _disconnect(self) -> None:
        if self._connection:
            self._connection.__exit__()
            self._connection = None

    def _jobs_of(self, order: Order) -> list[Job]:
        found, cursor = self._catalog.jobs(JobFilter(step=order.step), limit=1000)
        while cursor:
            more, cursor = self._catalog.jobs(JobFilter(step=order.step), cursor=cursor, limit=1000)
            found += more
        return [job for job in found if job.version == order.version]

    def _starts(self, files: Mapping[str, float]) -> list[float]:
        jobs = [job for file in files for job in self._catalog.jobs(JobFilter(file_id=file))[0]]
        return [max(0.0, (job.started_at or 0.0) - files[job.file_id]) * 1000 for job in jobs]

    @contextmanager
    def _held_up(self) -> Iterator[None]:
        """Those who take jobs, or send their ids, are stopped during the block."""
        takers = [pid for server in self._servers for pid in procs.tree(server.pid)
                  if Path(f"/proc/{pid}/comm").read_text().strip() in ("carboy-jobs", "carboy-dispatch")]
        for pid in takers:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in takers:
                os.kill(pid, signal.SIGCONT)


def _share(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
