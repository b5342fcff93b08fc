"""A server, workers and a Redis, as processes that can be killed, stopped and started again; and what came of the jobs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from faults.disk import until
from faults.runner import CARBOY, Client, Server, environment
from fixtures_redis import RedisServer

from carboy.bootstrap import Services, close, open_carboy
from carboy.config import of_application
from carboy.jobs import Job, JobFilter

Mode = Literal["loop", "celery"]
UNFINISHED = ("waiting", "queued", "running")
TESTS = Path(__file__).resolve().parents[1]


class Worker:
    """``carboy worker``, or another command that is one, in a process group of its own."""

    def __init__(self, log: Path, settings: Mapping[str, object], *options: str, line: Sequence[str] = (*CARBOY, "worker"),
                 ready: str = "worker is ready") -> None:
        self.log = log
        self._line = [*line, *options]
        self._ready = ready
        self._settings = dict(settings)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Worker:
        self.spawn()
        until(self.ready, "the worker is ready")
        return self

    def spawn(self) -> None:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(self._line, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self.log.parent,
                                             env=environment(**self._settings), start_new_session=True)

    def ready(self) -> bool:
        assert self._process and self._process.poll() is None, f"the worker ended:\n{self.said()[-4000:]}"
        return self._ready in self.said()

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def processes(self) -> list[int]:
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if stat_of(pid)[2] == self.pid]

    def runners(self) -> list[int]:
        """The processes that run jobs: a Celery worker's children, or itself."""
        children = [pid for pid in self.processes() if pid != self.pid and name_of(pid) != "carboy-dispatch"]
        return children or [self.pid]

    def dispatchers(self) -> list[int]:
        return [pid for pid in self.processes() if name_of(pid) == "carboy-dispatch"]

    def kill(self) -> None:
        """Its first process alone; the others end by themselves."""
        if self._process:
            self._process.kill()
            self._process.wait()
            until(lambda: not self.processes(), "the killed worker's processes are gone")

    def stop(self, limit: float = 30.0) -> int:
        """SIGTERM, and its exit status."""
        assert self._process
        self._process.terminate()
        return self._process.wait(limit)

    def signal(self, number: int) -> None:
        """To all its processes."""
        for pid in self.processes():
            send(pid, number)


@dataclass
class Plant:
    """One server over ``folder`` and what runs its jobs: the process beside the web (and workers, if there are any), or Celery's workers."""

    folder: Path
    mode: Mode
    redis: RedisServer | None = None
    database: str = ""
    workers: int = 1
    web: int = 1
    settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.effects = self.folder / "effects"
        options: dict[str, object] = {"database": self.database} if self.database else {}
        self.options = {"data": self.folder / "data", "lease_expiry": 2.0, "step_modules": ("faults.job_steps",), **options}
        said: dict[str, object] = {"CARBOY_LEASE_EXPIRY": 2, "CARBOY_STEP_MODULES": '["faults.job_steps"]', "CARBOY_GRACEFUL_TIMEOUT": 5,
                                   "PYTHONPATH": TESTS, "EFFECTS": self.effects, **self.settings}
        if self.database:
            said["CARBOY_DATABASE"] = self.database
        if self.mode == "celery":
            assert self.redis
            said["CARBOY_BROKER"] = self.redis.url
        self._said = said
        self.server = Server(self.folder / "data", self.folder / "server.log", workers=self.web, settings=said)
        self.workers_ = [self._worker(f"worker{number}") for number in range(self.workers)]
        self._services: Services | None = None

    def _worker(self, name: str) -> Worker:
        return Worker(self.folder / f"{name}.log", self._said, "--data", str(self.folder / "data"), "--concurrency", "2")

    # --- life ---

    def start(self) -> Plant:
        if self.database:
            done = self.server.run("db", "upgrade")
            assert done.returncode == 0, done.stderr
        self.server.start()
        for worker in self.workers_:
            worker.spawn()
        for worker in self.workers_:
            until(worker.ready, "a worker is ready")
        return self

    def stop(self) -> None:
        if self._services:
            close(self._services)
        for worker in self.workers_:
            worker.kill()
        self.server.kill()

    def __enter__(self) -> Plant:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def services(self) -> Services:
        """For looking: this process's own."""
        if self._services is None:
            self._services = open_carboy(of_application(self.options))
        return self._services

    @contextmanager
    def another_worker(self) -> Iterator[Worker]:
        """One more during the block."""
        worker = self._worker("another")
        try:
            yield worker.start()
            assert worker.stop() == 0
        finally:
            worker.kill()

    def mend(self) -> None:
        """Workers that were killed begin anew, as whatever supervises them would have it."""
        for worker in self.workers_:
            if worker.ended():
                worker.start()

    def said(self) -> str:
        return "\n".join([self.server.said(), *(worker.said() for worker in self.workers_)])

    # --- its processes ---

    def beside(self) -> list[int]:
        """The process beside the web: it runs jobs, or sends their ids."""
        return [pid for pid in self.server.processes() if name_of(pid) == "carboy-jobs"]

    def runners(self) -> list[int]:
        own = self.beside() if self.mode == "loop" else []
        return own + [pid for worker in self.workers_ for pid in worker.runners()]

    # --- jobs ---

    def put(self, name: str, client: Client | None = None, **plan: Any) -> str:
        """Upload a file whose job does this; the file's id."""
        given = json.dumps({"name": name, **plan}).encode()
        client = client or self.server.client()
        answer = client.put(name, given)
        assert answer.status in (200, 201), answer
        return str(answer.json()["id"])

    def job(self, file_id: str) -> Job:
        job, = self.services.catalog.jobs(JobFilter(file_id=file_id, step="effect"))[0]
        return job

    def unfinished(self) -> set[str]:
        found, cursor = self.services.catalog.jobs(JobFilter(states=UNFINISHED), limit=1000)
        ids = {job.id for job in found}
        while cursor:
            found, cursor = self.services.catalog.jobs(JobFilter(states=UNFINISHED), cursor=cursor, limit=1000)
            ids |= {job.id for job in found}
        return ids

    def settle(self, seconds: float = 60.0) -> None:
        """Until all jobs are over."""
        until(lambda: not self.unfinished(), "all jobs are over", seconds)

    def attempts(self) -> Counter[str]:
        """How often each job was begun."""
        return Counter(line.split()[0] for line in self.lines() if line.split()[2] == "begun")

    def lines(self) -> list[str]:
        return self.effects.read_text().splitlines() if self.effects.exists() else []

    def begun(self, file_id: str) -> bool:
        return any(line.startswith(self.job(file_id).id) for line in self.lines())

    def runner_of(self, file_id: str) -> int:
        """The process that began its job last."""
        return [int(line.split()[3]) for line in self.lines() if line.startswith(self.job(file_id).id)][-1]

    def wrong_with(self, file_id: str) -> list[str]:
        """What speaks against its job having had exactly one effect; empty where it had."""
        catalog, job = self.services.catalog, self.job(file_id)
        derived = catalog.derived(job.blob_id)
        found = [] if job.state == "done" else [f"{job.id} is {job.state}: {job.failure}"]
        if len(derived) != 1:
            return [*found, f"{job.id} has {len(derived)} effects"]
        said = b"".join(self.services.storages["local"].read(derived[0].blob.key)).decode()
        if said != f"{job.id} {job.fence}" or job.result != {"fence": job.fence}:
            found.append(f"{job.id}: the effect is {said!r}, the result {job.result}, the fence {job.fence}")
        return found

    def ended(self, after: str) -> Counter[str]:
        """How often each job was ended as done since then, by the log."""
        done: Counter[str] = Counter()
        while True:
            happened, after = self.services.catalog.happened(after)
            if not happened:
                return done
            done.update(one.job_id for one in happened if one.kind == "job.done" and one.job_id)

    def audit(self) -> list[str]:
        """What fsck finds, after a sweep."""
        if not self.database:
            return self.server.audit()
        done = [self.server.run("sweep"), self.server.run("fsck", "--deep")]
        return [line for one in done if one.returncode for line in (one.stdout + one.stderr).splitlines()]


# --- processes ---


def send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def stat_of(pid: int) -> tuple[str, int, int]:
    """State, parent and process group; zeros for one that is gone or a zombie."""
    try:
        state, parent, group = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return "", 0, 0
    return ("", 0, 0) if state == "Z" else (state, int(parent), int(group))


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """SIGSTOP during the block."""
    for pid in pids:
        send(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            send(pid, signal.SIGCONT)


def one_of(chance: random.Random, pids: Callable[[], list[int]]) -> int:
    until(lambda: bool(pids()), "there is such a process")
    return chance.choice(pids())
