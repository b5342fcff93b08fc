"""A page of 100 files in a space of 1,000,000 against one of 1,000."""

from __future__ import annotations

import json
import sqlite3
import statistics
import time
from pathlib import Path
from urllib.parse import quote

from benchmarks.clients import http
from benchmarks.lab import Lab, Stage, round_name
from benchmarks.outcome import Figure, Outcome, Row, Series, Target
from benchmarks.servers.carboy import Carboy

NAME = "listing"
TITLE = "A page of 100 files"
_FEW = 1000
_PAGES = 50
_TARGET = "/api/v1/files?space=main&limit=100"


def run(lab: Lab) -> Outcome:
    """Measure it."""
    sizes = (lab.pick(1_000_000, 100_000), _FEW)
    times: dict[tuple[int, str], list[float]] = {}
    with Stage(lab) as stage:
        for size in sizes:
            _fill(lab, stage, size)
        spaces = {size: Pages(stage.enter_context(Carboy(_folder(lab, size)))) for size in sizes}
        for number in range(-1, lab.rounds):
            for place in ("first", "sixth"):
                for size, taken in _medians(spaces, place).items():
                    lab.say(f"   {round_name(number)}: {place} page of {size:,} files: {taken:.2f} ms")
                    if number >= 0:
                        times.setdefault((size, place), []).append(taken)
    return _outcome(times, sizes[0])


def _folder(lab: Lab, size: int) -> Path:
    return lab.folder / f"listing-{size}"


def _fill(lab: Lab, stage: Stage, size: int) -> None:
    """A data folder whose space main has ``size`` files: one is uploaded, the others are copies of its rows."""
    server = stage.ours(Carboy, _folder(lab, size).name)
    with http.Connection(server.host, server.port) as connection:
        connection.exchange(http.head("PUT", "/files/main/files/template.bin", 4, server.headers) + b"data")
    server.stop()
    started = time.perf_counter()
    with sqlite3.connect(server.data / "catalog.sqlite3") as catalog:
        catalog.execute("PRAGMA synchronous = OFF")
        catalog.execute("PRAGMA cache_size = -1000000")
        numbers = f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {size - 1}) "
        scattered = "printf('%08x%024x', (n * 2654435761) % 4294967296, n)"  # ids come in no order
        catalog.execute(numbers + _copies(catalog, "blobs", {"id": scattered, "key": scattered}))
        catalog.execute(numbers + _copies(catalog, "files", {"id": scattered, "path": "printf('files/%07d.bin', n)", "blob_id": scattered}))
    catalog.close()
    lab.say(f"   {size:,} files written to the catalog in {time.perf_counter() - started:.1f} s")


def _copies(catalog: sqlite3.Connection, table: str, changed: dict[str, str]) -> str:
    """The statement that copies the only row of ``table`` once for each number."""
    columns = [row[1] for row in catalog.execute(f"PRAGMA table_info({table})")]
    values = ", ".join(changed.get(column, f"t.{column}") for column in columns)
    return f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM numbers, (SELECT * FROM {table} LIMIT 1) t"


class Pages:
    """Requests for the first and for a later page."""

    def __init__(self, server: Carboy) -> None:
        self._connection, self._headers = http.Connection(server.host, server.port), server.headers
        self._requests = {"first": self._request(_TARGET)}
        target = _TARGET
        for _ in range(5):
            answer = json.loads(self._connection.exchange(self._request(target)))
            assert len(answer["files"]) == 100, answer
            target = f"{_TARGET}&cursor={quote(answer['next'])}"
        self._requests["sixth"] = self._request(target)

    def _request(self, target: str) -> bytes:
        return http.head("GET", target, 0, self._headers)

    def time(self, place: str) -> float:
        """Milliseconds of one request for the page."""
        started = time.perf_counter()
        self._connection.exchange(self._requests[place])
        return (time.perf_counter() - started) * 1000


def _medians(spaces: dict[int, Pages], place: str) -> dict[int, float]:
    """Of each space; they take turns request by request, as one lasts no longer than a disturbance."""
    taken = [{size: pages.time(place) for size, pages in spaces.items()} for _ in range(_PAGES)]
    return {size: statistics.median(turn[size] for turn in taken) for size in spaces}


def _outcome(times: dict[tuple[int, str], list[float]], many: int) -> Outcome:
    rows = [Row(f"Carboy, space of {size:,} files", {place: Series.of(times[size, place]) for place in ("first", "sixth")}, ours=size == many)
            for size in (many, _FEW)]
    targets = [Target(f"{place} page of 100 in a space of {many:,} files: time / in one of {_FEW:,}",
                      rows[0].figures[place].over(rows[1].figures[place]), 3) for place in ("first", "sixth")]
    how = f"`GET {_TARGET}`, one server process, one connection, the median of {_PAGES} requests a round."
    return Outcome(NAME, TITLE, how, [Figure("first", "first page, ms"), Figure("sixth", "sixth page, ms")], rows, targets)
