"""The catalog in PostgreSQL against SQLite: pages and stat in a space of 100,000 files, and 4 KiB uploads."""

from __future__ import annotations

import json
import sqlite3
import statistics
import time
from urllib.parse import quote

from benchmarks.cases import small_files
from benchmarks.cases.listing import copies, sum_up
from benchmarks.cases.small_files import Sender, put_request
from benchmarks.clients import http
from benchmarks.lab import Lab, Stage, round_name
from benchmarks.outcome import Figure, Outcome, Row, Series, Target
from benchmarks.servers.carboy import Carboy
from benchmarks.servers.postgres import CarboyPostgres, Postgres
from carboy.catalog.sql import open_catalog

NAME = "postgres"
TITLE = "The catalog in PostgreSQL and in SQLite"
_ASKED = 50
_PAGE = "/api/v1/files?space=main&limit=100"
_FIRST = "files/000/report-0000000.bin"
_PLACES = {"first": "first page of 100, ms", "sixth": "sixth page, ms", "folders": "100 folders, ms", "head": "`HEAD` of a file, ms",
           "stat": "stat by the API, ms"}
_SENT = {"rate": "4 KiB uploads / s", "cpu": "CPU ms / upload"}
_POSTGRES, _SQLITE = "Carboy on PostgreSQL", "Carboy on SQLite"


def run(lab: Lab) -> Outcome:
    """Measure it."""
    files, uploads = lab.pick(100_000, 10_000), lab.pick(4000, 500)
    with Stage(lab) as stage:
        postgres = stage.ours(Postgres, "postgres")
        servers: dict[str, Carboy] = {_POSTGRES: stage.ours(lambda folder: CarboyPostgres(folder, postgres), _POSTGRES),
                                      _SQLITE: stage.ours(Carboy, _SQLITE)}
        times = _asked(lab, {name: _filled(lab, name, server, postgres, files) for name, server in servers.items()})
        senders = [Sender(name, server, lambda path, server=server: put_request(path, server.headers), "", True)
                   for name, server in ((_POSTGRES, stage.ours(lambda folder: CarboyPostgres(folder, postgres, 2), "uploads-postgres")),
                                        (_SQLITE, stage.ours(lambda folder: Carboy(folder, 2), "uploads-sqlite")))]
        sent = small_files.take_turns(lab, senders, uploads)
        rows = [Row(row.name, {**times[row.name], **row.figures}, ours=row.name == _POSTGRES) for row in sent]
        how = (f"Pages, folders and stat: a space of {files:,} files in 1,000 folders, one server process, one connection, the median of "
               f"{_ASKED} requests a round. Uploads: {uploads} a round into local storage, two server processes, 16 connections; PostgreSQL's "
               "CPU time is counted too. It is on the same machine, reached by a socket, with fsync and synchronous commits.")
        columns = [Figure(key, heading, 0 if key == "rate" else 2) for key, heading in (_PLACES | _SENT).items()]
        return Outcome(NAME, TITLE, how, columns, rows, _targets(rows), notes=[postgres.version, f"SQLite {sqlite3.sqlite_version}"])


def _targets(rows: list[Row]) -> list[Target]:
    ours, other = (row.figures for row in rows)
    return [Target(f"PostgreSQL: {_PLACES[key].removesuffix(', ms')}: time / on SQLite", ours[key].over(other[key]), 3) for key in _PLACES]


# --- a space with many files ---

def _filled(lab: Lab, name: str, server: Carboy, postgres: Postgres, size: int) -> Asking:
    """One file is uploaded, the others are copies of its rows."""
    with http.Connection(server.host, server.port) as connection:
        connection.exchange(http.head("PUT", f"/files/main/{_FIRST}", 4, server.headers) + b"data")
    server.stop()
    started = time.perf_counter()
    if isinstance(server, CarboyPostgres):
        _fill_postgres(postgres, server.url_of_catalog, size)
        url = server.url_of_catalog
    else:
        url = f"sqlite:///{server.data / 'catalog.sqlite3'}"
        _fill_sqlite(server, size)
    catalog = open_catalog(url, durable=False)
    while catalog.read_texts(10_000):
        pass
    catalog.close()
    if isinstance(server, CarboyPostgres):
        postgres.say("ANALYZE", url=url)
    server.__enter__()
    lab.say(f"   {name}: {size:,} files written to the catalog in {time.perf_counter() - started:.1f} s")
    return Asking(server)


def _fill_sqlite(server: Carboy, size: int) -> None:
    numbers = f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {size - 1}) "
    scattered = "printf('%08x%024x', (n * 2654435761) % 4294967296, n)"  # ids come in no order
    catalog = sqlite3.connect(server.data / "catalog.sqlite3")
    with catalog:
        for table, changed in _changed(scattered, "printf('files/%03d/report-%07d.bin', n % 1000, n)").items():
            columns = [row[1] for row in catalog.execute(f"PRAGMA table_info({table})")]
            catalog.execute(numbers + copies(table, columns, changed))
        for statement in sum_up():
            catalog.execute(statement)
    catalog.close()


def _fill_postgres(postgres: Postgres, url: str, size: int) -> None:
    numbers = f"WITH numbers AS (SELECT generate_series(1, {size - 1})::bigint AS n) "
    scattered = "lpad(to_hex((n * 2654435761) % 4294967296), 8, '0') || lpad(to_hex(n), 24, '0')"
    path = "'files/' || lpad((n % 1000)::text, 3, '0') || '/report-' || lpad(n::text, 7, '0') || '.bin'"
    columns = "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = '{}' ORDER BY ordinal_position"
    statements = [numbers + copies(table, [f'"{row[0]}"' for row in postgres.say(columns.format(table), url=url)], {
        f'"{column}"': value for column, value in changed.items()}) for table, changed in _changed(scattered, path).items()]
    postgres.say(*statements, *sum_up(), url=url)


def _changed(scattered: str, path: str) -> dict[str, dict[str, str]]:
    """What differs from row to row, by tables."""
    return {"blobs": {"id": scattered, "key": scattered},
            "files": {"id": scattered, "path": path, "blob_id": scattered, "modified_at": "t.modified_at - n", "size": "n % 100000"}}


# --- asking ---

class Asking:
    """The requests that are timed, over one connection."""

    def __init__(self, server: Carboy) -> None:
        self._connection, self._headers = http.Connection(server.host, server.port), server.headers
        answer, target = self._json(_PAGE), _PAGE
        file = answer["files"][0]["id"]
        for _ in range(5):
            target = f"{_PAGE}&cursor={quote(answer['next'])}"
            answer = self._json(target)
            assert len(answer["files"]) == 100, answer
        self._requests = {"first": self._get(_PAGE), "sixth": self._get(target), "stat": self._get(f"/api/v1/files/{file}"),
                          "folders": self._get("/api/v1/folders?space=main&prefix=files/&limit=100"),
                          "head": self._get(f"/files/main/{_FIRST}", "HEAD")}

    def _get(self, target: str, method: str = "GET") -> bytes:
        return http.head(method, target, 0, self._headers)

    def _json(self, target: str) -> dict:
        return json.loads(self._connection.exchange(self._get(target)))

    def time(self, place: str) -> float:
        """Milliseconds of one request."""
        started = time.perf_counter()
        self._connection.exchange(self._requests[place], bodiless=place == "head")
        return (time.perf_counter() - started) * 1000


def _asked(lab: Lab, asking: dict[str, Asking]) -> dict[str, dict[str, Series]]:
    """Medians of each round; the servers take turns request by request, as one lasts no longer than a disturbance."""
    times: dict[str, dict[str, list[float]]] = {name: {place: [] for place in _PLACES} for name in asking}
    for number in range(-1, lab.rounds):
        for place in _PLACES:
            taken = [{name: one.time(place) for name, one in asking.items()} for _ in range(_ASKED)]
            for name in asking:
                median = statistics.median(turn[name] for turn in taken)
                lab.say(f"   {round_name(number)}: {name}, {place}: {median:.2f} ms")
                if number >= 0:
                    times[name][place].append(median)
    return {name: {place: Series.of(values) for place, values in places.items()} for name, places in times.items()}
