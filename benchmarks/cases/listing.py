"""Pages of 100 files, folders and search results in a space of 1,000,000 files against one of 1,000."""

from __future__ import annotations

import json
import sqlite3
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from benchmarks.clients import http
from benchmarks.lab import Lab, Stage, round_name
from benchmarks.outcome import Figure, Outcome, Row, Series, Target
from benchmarks.servers.carboy import Carboy
from carboy.catalog.sql import open_catalog

NAME = "listing"
TITLE = "Lists, folders and search"
_FEW = 1000
_PAGES = 50
_TARGET = "/api/v1/files?space=main&limit=100"
_WHAT = {
    "first": ("first page of 100", _TARGET),
    "sixth": ("sixth page of 100", _TARGET),
    "newest": ("first page, the newest first", f"{_TARGET}&sort=modified&descending=true"),
    "largest": ("first page, the largest first", f"{_TARGET}&sort=size&descending=true"),
    "folders": ("100 folders with counts and sizes", "/api/v1/folders?space=main&prefix=files/&limit=100"),
    "rare": ("search for a word that one file has", f"{_TARGET}&q=0000777"),
    "common": ("search for a word that every file has", f"{_TARGET}&q=report"),
}
"""What is asked: how it is told, and its address."""


def run(lab: Lab) -> Outcome:
    """Measure it."""
    sizes = (lab.pick(1_000_000, 100_000), _FEW)
    times: dict[tuple[int, str], list[float]] = {}
    with Stage(lab) as stage:
        for size in sizes:
            _fill(lab, stage, size)
        spaces = {size: Pages(stage.enter_context(Carboy(_folder(lab, size)))) for size in sizes}
        for number in range(-1, lab.rounds):
            for place in _WHAT:
                for size, taken in _medians(spaces, place).items():
                    lab.say(f"   {round_name(number)}: {place}, {size:,} files: {taken:.2f} ms")
                    if number >= 0:
                        times.setdefault((size, place), []).append(taken)
    return _outcome(times, sizes[0])


def _folder(lab: Lab, size: int) -> Path:
    return lab.folder / f"listing-{size}"


def _fill(lab: Lab, stage: Stage, size: int) -> None:
    """A data folder whose space main has ``size`` files: one is uploaded, the others are copies of its rows."""
    server = stage.ours(Carboy, _folder(lab, size).name)
    with http.Connection(server.host, server.port) as connection:
        connection.exchange(http.head("PUT", "/files/main/files/000/report-0000000.bin", 4, server.headers) + b"data")
    server.stop()
    started = time.perf_counter()
    with sqlite3.connect(server.data / "catalog.sqlite3") as catalog:
        catalog.execute("PRAGMA synchronous = OFF")
        catalog.execute("PRAGMA cache_size = -1000000")
        numbers = f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {size - 1}) "
        scattered = "printf('%08x%024x', (n * 2654435761) % 4294967296, n)"  # ids come in no order
        catalog.execute(numbers + _copies(catalog, "blobs", {"id": scattered, "key": scattered}))
        catalog.execute(numbers + _copies(catalog, "files", {
            "id": scattered, "path": "printf('files/%03d/report-%07d.bin', n % 1000, n)", "blob_id": scattered,
            "modified_at": "t.modified_at - n", "size": "n % 100000"}))
        for statement in sum_up():
            catalog.execute(statement)
    catalog.close()
    index = open_catalog(f"sqlite:///{server.data / 'catalog.sqlite3'}", durable=False)
    while index.read_texts(10_000):
        pass
    index.close()
    lab.say(f"   {size:,} files written to the catalog in {time.perf_counter() - started:.1f} s")


def sum_up() -> list[str]:
    """Statements for what a server would have kept up: sums, and the list of texts to read."""
    return [
        *(f"DELETE FROM {table}" for table in ("folders", "usage", "texts", "unread")),
        "INSERT INTO folders SELECT space, substr(path, 1, 10), count(*), sum(size) FROM files WHERE path LIKE 'files/%/%' GROUP BY 1, 2",
        "INSERT INTO folders SELECT space, 'files/', count(*), sum(size) FROM files GROUP BY 1",
        "INSERT INTO usage SELECT space, '', count(*), sum(size), 0, 0 FROM files GROUP BY 1",
        "INSERT INTO usage SELECT space, '=' || owner, count(*), sum(size), 0, 0 FROM files GROUP BY 1, 2",
        "INSERT INTO unread SELECT id FROM files",
    ]


def _copies(catalog: sqlite3.Connection, table: str, changed: dict[str, str]) -> str:
    """See :func:`copies`."""
    return copies(table, [row[1] for row in catalog.execute(f"PRAGMA table_info({table})")], changed)


def copies(table: str, columns: Sequence[str], changed: Mapping[str, str]) -> str:
    """The statement that copies the only row of ``table`` once for each number ``n``."""
    values = ", ".join(changed.get(column, f"t.{column}") for column in columns)
    return f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM numbers, (SELECT * FROM {table} LIMIT 1) t"


class Pages:
    """Requests for the first and for a later page."""

    def __init__(self, server: Carboy) -> None:
        self._connection, self._headers = http.Connection(server.host, server.port), server.headers
        self._requests = {place: self._request(target) for place, (_, target) in _WHAT.items()}
        target = _TARGET
        for _ in range(5):
            answer = json.loads(self._connection.exchange(self._request(target)))
            assert len(answer["files"]) == 100, answer
            target = f"{_TARGET}&cursor={quote(answer['next'])}"
        self._requests["sixth"] = self._request(target)
        for place, count in {"rare": 1, "common": 100}.items():
            assert len(json.loads(self._connection.exchange(self._requests[place]))["files"]) == count

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
    rows = [Row(f"{what}, {size:,} files", {"time": Series.of(times[size, place])}, ours=size == many)
            for place, (what, _) in _WHAT.items() for size in (many, _FEW)]
    targets = [Target(f"{what} in a space of {many:,} files: time / in one of {_FEW:,}",
                      Series.of(times[many, place]).over(Series.of(times[_FEW, place])), 3) for place, (what, _) in _WHAT.items()]
    how = (f"`GET {_TARGET}` and the like, one server process, one connection, the median of {_PAGES} requests a round. The files lie in "
           "1,000 folders.")
    return Outcome(NAME, TITLE, how, [Figure("time", "ms")], rows, targets)
