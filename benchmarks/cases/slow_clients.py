"""2,000 slow uploads held by one worker process, and what a small GET waits meanwhile."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import procs
from benchmarks.clients import http
from benchmarks.lab import MIB, Lab, Stage, round_name
from benchmarks.outcome import Figure, Outcome, Row, Series, Target
from benchmarks.servers.carboy import Carboy

NAME = "slow_clients"
TITLE = "2,000 slow uploads in one process"
_PIECE, _PERIOD = 8192, 0.5
_PAUSE = 0.02
_COLUMNS = [Figure("rss", "RSS, MiB", 0), Figure("p50", "GET p50, ms", 1), Figure("p99", "GET p99, ms", 1), Figure("max", "GET max, ms", 0),
            Figure("threads", "threads", 0), Figure("cpu", "CPU, cores")]


def run(lab: Lab) -> Outcome:
    """Measure it."""
    count, seconds = lab.pick(2000, 200), lab.pick(20, 5)
    figures: dict[str, list[float]] = {}
    with Stage(lab) as stage:
        server = stage.ours(lambda folder: Carboy(folder, 1, "--threads", str(count + 200),
                                                  variables={"CARBOY_UPLOADS_PER_CLIENT": str(count + 1000)}))
        with http.Connection(server.host, server.port) as connection, _crowd(server, count):
            _put_small(server, connection)
            for number in range(-1, lab.rounds):
                seen = _look(server, connection, seconds)
                lab.say(f"   {round_name(number)}: " + ", ".join(f"{key} {value:.1f}" for key, value in seen.items()))
                for key, value in seen.items() if number >= 0 else ():
                    figures.setdefault(key, []).append(value)
    row = Row(f"Carboy, {count} uploads at {_PIECE / _PERIOD / 1000:.0f} kB/s", {key: Series.of(values) for key, values in figures.items()},
              ours=True)
    targets = [Target(f"{count} slow uploads in one process: RSS", row.figures["rss"], 400, 350, unit="MiB"),
               Target(f"{count} slow uploads in one process: p99 of a small GET", row.figures["p99"], 100, unit="ms")]
    how = (f"Each upload sends {_PIECE // 1024} KiB every {_PERIOD} s, evenly spread. In the steady state a GET of 4 KiB is sent "
           f"every {_PAUSE * 1000:.0f} ms for {seconds} s a round. All uploads must still be open at the end.")
    return Outcome(NAME, TITLE, how, _COLUMNS, [row], targets)


@contextmanager
def _crowd(server: Carboy, count: int) -> Iterator[None]:
    """The slow uploads, in a process of their own. Fails unless all of them are still open at the end."""
    command = [sys.executable, "-m", "benchmarks.clients.slow", str(server.port), str(count), str(_PIECE), str(_PERIOD), *server.headers]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        try:
            assert process.stdout.readline() == "steady\n", "the slow uploads never became steady"
            yield
            end = json.loads(process.communicate(timeout=60)[0])
        except BaseException:
            process.kill()
            raise
    assert end["open"] == count, f"only {end['open']} of {count} uploads are still open; {end['ends']}"


def _put_small(server: Carboy, connection: http.Connection) -> None:
    connection.exchange(http.head("PUT", "/files/main/small.bin", 4096, server.headers) + bytes(4096))


def _look(server: Carboy, connection: http.Connection, seconds: int) -> dict[str, float]:
    request, worker = http.head("GET", "/files/main/small.bin", 0, server.headers), server.worker()
    waits, highest = [], 0
    started, before = time.perf_counter(), server.cpu()
    while time.perf_counter() < started + seconds:
        asked = time.perf_counter()
        connection.exchange(request)
        waits.append((time.perf_counter() - asked) * 1000)
        highest = max(highest, procs.rss(worker))
        time.sleep(_PAUSE)
    cores = (server.cpu() - before) / (time.perf_counter() - started)
    return {"rss": highest / MIB, "p50": statistics.median(waits), "p99": statistics.quantiles(waits, n=100)[98], "max": max(waits),
            "threads": procs.threads(worker), "cpu": cores}
