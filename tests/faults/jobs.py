"""Uploads whose jobs go on while workers are killed and stopped, dispatchers and web processes killed, Redis flushed and restarted.

    python tests/faults/jobs.py --seconds 60 --mode celery --json jobs.json
    python tests/faults/jobs.py --seconds 60 --mode loop --database postgresql

At the end all jobs have to be over, each with one effect: one end in the log, one derived file, which names the attempt that the catalog has. The
exit status is 1 if a job was lost, or had none or several. How long it took after each strike until what was under way then was over, is told.
"""

from __future__ import annotations

import argparse
import http.client
import json
import platform
import random
import re
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults.plant import Mode, Plant, Worker, send, stopped
from faults.runner import Client
from fixtures_postgres import running_postgres
from fixtures_redis import RedisServer, running_redis

EXPIRY = 2.0
TRACEBACK = re.compile(r"Traceback \(most recent call last\):\n(?:[ \t].*\n)+.*")
"""Celery has some of its own, for children that were killed and connections that broke."""
MOST_OPEN = 40
"""Clients wait while so many jobs are open, so that recovering is not a matter of how many wait."""


@dataclass(slots=True)
class Report:
    """What a run did and found."""

    mode: str
    seconds: float
    seed: int
    uploads: int = 0
    unanswered: int = 0
    jobs: int = 0
    strikes: dict[str, int] = field(default_factory=dict)
    kills: int = 0
    flushes: int = 0
    attempts: dict[int, int] = field(default_factory=dict)
    effects: dict[int, int] = field(default_factory=dict)
    """How many jobs had so many effects."""
    lost: int = 0
    recovered: dict[str, list[float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def times(self) -> list[float]:
        return sorted(seconds for times in self.recovered.values() for seconds in times)


class Uploading:
    """Clients that upload files whose jobs take up to a third of a second."""

    def __init__(self, plant: Plant, seed: int, clients: int) -> None:
        self._plant = plant
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.acknowledged: list[str] = []
        self.unanswered = 0
        self.open: set[str] = set()
        self._threads = [threading.Thread(target=self._run, args=(number, random.Random(f"{seed}/{number}"))) for number in range(clients)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, client: int, chance: random.Random) -> None:
        number = 0
        while not self._stop.wait(chance.uniform(0, 0.1)):
            if len(self.open) < MOST_OPEN:
                number += 1
                self._put(f"{client}/{number}", chance.uniform(0, 0.3))

    def _put(self, name: str, seconds: float) -> None:
        connection = Client(self._plant.server.address, timeout=20)
        try:
            id = self._plant.put(name, connection, seconds=seconds)
        except (OSError, http.client.HTTPException):
            with self._lock:
                self.unanswered += 1
        else:
            with self._lock:
                self.acknowledged.append(id)
        finally:
            connection.close()


@dataclass(slots=True)
class _Struck:
    """A strike, and the jobs that were open then."""

    kind: str
    at: float
    jobs: set[str]
    alone: bool


class Watching:
    """Sees which jobs are open, ten times a second, and when those of a moment are over."""

    def __init__(self, plant: Plant, uploading: Uploading) -> None:
        self._plant, self._uploading = plant, uploading
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._since: list[_Struck] = []
        self.recovered: dict[str, list[float]] = {}
        """After strikes that no other came upon before it was over."""
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def struck(self, kind: str) -> None:
        """From now on, until what is open now is over."""
        with self._lock:
            for one in self._since:
                one.alone = False
            self._since.append(_Struck(kind, time.monotonic(), self._plant.unfinished(), not self._since))

    @property
    def clear(self) -> bool:
        """Whether what was open when it was struck last is over."""
        return not self._since

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            found = self._uploading.open = self._plant.unfinished()
            with self._lock:
                for one in self._since:
                    if one.alone and not one.jobs & found:
                        self.recovered.setdefault(one.kind, []).append(round(time.monotonic() - one.at, 2))
                self._since = [one for one in self._since if one.jobs & found]


class Strikes:
    """Things that happen to those who run jobs, one after another."""

    def __init__(self, plant: Plant, chance: random.Random, watching: Watching) -> None:
        self._plant, self._chance, self._watching = plant, chance, watching
        self.counts: Counter[str] = Counter()
        self._kinds: dict[str, tuple[Callable[[], None], int]] = {
            "kill runner": (self._kill_runner, 4), "kill worker": (self._kill_worker, 2), "kill web": (self._kill_web, 1),
            "stop worker": (self._stop_worker, 1), "kill beside": (self._kill_beside, 2)}
        if plant.mode == "celery":
            self._kinds |= {"kill dispatcher": (self._kill_dispatcher, 2), "flush": (self._flush, 3), "restart redis": (self._restart_redis, 2)}

    def run(self, seconds: float) -> None:
        """Each kind once at least, if there is time. Most wait until what was open at the one before is over, others come upon it."""
        end, waiting = time.monotonic() + seconds, list(self._kinds)
        self._chance.shuffle(waiting)
        while time.monotonic() < end:
            time.sleep(self._chance.uniform(0.3, 2.0))
            waits = self._chance.random() < 0.75
            while waits and not self._watching.clear and time.monotonic() < end:
                time.sleep(0.05)
            kind = waiting.pop() if waiting else self._chance.choices(list(self._kinds), [weight for _, weight in self._kinds.values()])[0]
            self._watching.struck(kind)
            self._kinds[kind][0]()
            self.counts[kind] += 1

    def _worker(self) -> Worker:
        return self._chance.choice(self._plant.workers_)

    def _kill_runner(self) -> None:
        if pids := self._plant.runners():
            send(self._chance.choice(pids), signal.SIGKILL)
        self._plant.mend()

    def _kill_worker(self) -> None:
        worker = self._worker()
        worker.kill()
        time.sleep(self._chance.uniform(0, 1))
        worker.start()

    def _kill_web(self) -> None:
        server = self._plant.server
        send(self._chance.choice([pid for pid in server.processes() if pid not in (server.pid, *self._plant.beside())]), signal.SIGKILL)

    def _kill_beside(self) -> None:
        for pid in self._plant.beside():
            send(pid, signal.SIGKILL)

    def _kill_dispatcher(self) -> None:
        for pid in self._worker().dispatchers():
            send(pid, signal.SIGKILL)

    def _stop_worker(self) -> None:
        with stopped(self._worker().processes()):
            time.sleep(EXPIRY * 2)

    def _flush(self) -> None:
        assert self._plant.redis
        self._plant.redis.say("FLUSHALL")

    def _restart_redis(self) -> None:
        redis = self._plant.redis
        assert redis
        redis.kill()
        time.sleep(self._chance.uniform(0, 2))
        redis.start()


def run(plant: Plant, seconds: float, seed: int, *, clients: int = 4) -> Report:
    """Uploads and strikes for so long; then what came of the jobs. The plant runs before and after."""
    report = Report(plant.mode, seconds, seed)
    before = plant.services.catalog.latest()
    uploading = Uploading(plant, seed, clients)
    watching = Watching(plant, uploading)
    strikes = Strikes(plant, random.Random(seed), watching)
    try:
        uploading.start()
        watching.start()
        strikes.run(seconds)
    finally:
        uploading.stop()
        plant.mend()
        try:
            plant.settle(120)
        finally:
            watching.stop()
    report.strikes, report.recovered = dict(strikes.counts), watching.recovered
    report.kills = sum(count for kind, count in strikes.counts.items() if kind.startswith("kill"))
    report.flushes = strikes.counts["flush"] + strikes.counts["restart redis"]
    report.uploads, report.unanswered = len(uploading.acknowledged), uploading.unanswered
    _judge(plant, report, uploading.acknowledged, plant.ended(before))
    return report


def _judge(plant: Plant, report: Report, files: list[str], ended: Counter[str]) -> None:
    """An effect is an end in the log together with what it derived."""
    report.jobs = len(ended)
    report.effects = dict(Counter(ended.values()))
    report.attempts = dict(sorted(Counter(plant.attempts()[job] for job in ended).items()))
    for file in files:
        report.problems += plant.wrong_with(file)
        report.lost += plant.job(file).id not in ended
    report.problems += [f"{job} ended {count} times" for job, count in ended.items() if count != 1]
    report.problems += plant.audit()
    report.problems += [block for block in TRACEBACK.findall(plant.said()) if "/carboy/" in block]


@contextmanager
def running_plant(mode: Mode, database: str, folder: Path) -> Iterator[Plant]:
    """A server with two web processes, and two workers besides."""
    with ExitStack() as stack:
        redis: RedisServer | None = stack.enter_context(running_redis()) if mode == "celery" else None
        url = stack.enter_context(running_postgres()).new_database() if database == "postgresql" else ""
        yield stack.enter_context(Plant(folder, mode, redis, url, workers=2, web=2))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long uploads and strikes go on")
    parser.add_argument("--mode", choices=["celery", "loop"], default="celery")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--json", type=Path, help="write the report there")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(10**9)
    print(f"seed {seed}, Linux {platform.release()}, Python {platform.python_version()}", flush=True)
    with (tempfile.TemporaryDirectory(prefix="carboy-jobs-", ignore_cleanup_errors=True) as folder,
          running_plant(chosen.mode, chosen.database, Path(folder)) as plant):
        report = run(plant, chosen.seconds, seed, clients=chosen.clients)
    show(report)
    if chosen.json:
        about = {"kernel": platform.release(), "python": platform.python_version(), "database": chosen.database}
        chosen.json.write_text(json.dumps(about | figures(report), indent=1) + "\n")
    return 1 if report.problems or report.lost else 0


def figures(report: Report) -> dict[str, object]:
    """With the time to recover over all strikes."""
    times = report.times
    return {**asdict(report), "recovered_median": statistics.median(times) if times else None, "recovered_worst": max(times, default=None)}


def show(report: Report) -> None:
    """On the terminal."""
    print(f"{report.mode}: {report.uploads} uploads acknowledged, {report.jobs} jobs done, {report.kills} kills, {report.flushes} times Redis was emptied, "
          f"{sum(report.strikes.values())} strikes in all: {report.strikes}")
    print(f"jobs by effects: {report.effects}; by attempts: {report.attempts}; lost: {report.lost}")
    for kind, times in sorted(report.recovered.items()):
        print(f"  over after {kind:16} median {statistics.median(times):6.2f} s, worst {max(times):6.2f} s ({len(times)})")
    if report.times:
        print(f"  over after a strike: median {statistics.median(report.times):.2f} s, worst {max(report.times):.2f} s")
    for problem in report.problems:
        print(f"  PROBLEM {problem}")


if __name__ == "__main__":
    sys.exit(main())
