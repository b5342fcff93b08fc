"""The catalog: reachable, of this version, sound."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from carboy.bootstrap import close, database_url, open_carboy
from carboy.catalog.base_jobs import Jobs
from carboy.cli.doctor.disk import is_own
from carboy.cli.doctor.finding import Finding, ok, problem, warning
from carboy.config import Settings
from carboy.errors import CarboyError
from carboy.jobs import JobFilter

_WAL_RESET_FIXED = ((3, 51, 3), (3, 50, 7), (3, 44, 6))
"""The bug's end, and the older lines that got the correction too."""
_PATIENCE = 10.0
_LATE = 300.0
"""Seconds after which a job that nobody has taken shows that nobody will."""


def check(settings: Settings) -> Iterator[Finding]:
    """Nothing is made or changed; a catalog that isn't there yet is no fault."""
    on_sqlite = database_url(settings).startswith("sqlite")
    path = settings.data.absolute() / "catalog.sqlite3"
    if on_sqlite:
        yield sqlite_version(sqlite3.sqlite_version_info)
        if not settings.database and not path.exists():
            yield ok("catalog", "there is none yet; the first start makes it")
            return
        if not settings.database and not is_own(path):
            yield problem("catalog", f"{str(path)!r} is another user's", "run carboy, and its doctor, as its owner")
            return
    yield from _reachable(settings)
    if on_sqlite and not settings.database:
        yield sound(path)


def sqlite_version(version: tuple[int, ...]) -> Finding:
    """Carboy's own order avoids the WAL-reset bug: it writes and checkpoints under one lock. Another program's would not."""
    told = "SQLite " + ".".join(map(str, version))
    fixed = version >= _WAL_RESET_FIXED[0] or any(version[:2] == line[:2] and version >= line for line in _WAL_RESET_FIXED)
    if fixed:
        return ok("catalog", told)
    return warning("catalog", f"{told} has the WAL-reset bug (corrected in 3.51.3), which Carboy's locking avoids",
                   "let no other program write to the catalog")


def _reachable(settings: Settings) -> Iterator[Finding]:
    services = open_carboy(settings)
    kind = "PostgreSQL" if settings.database.startswith("postgresql") else "SQLite"
    try:
        services.catalog.check()
        yield ok("catalog", f"{kind} answers, its schema is one for this version")
        yield from unnamed(services.catalog.stored(), services.storages)
        yield from left_lying(services.catalog, time.time())
    except CarboyError as error:
        advice = "run carboy db upgrade" if "older" in error.detail else "see that the database runs and lets Carboy in"
        yield problem("catalog", " ".join(error.detail.split()), "start the newer Carboy" if "newer" in error.detail else advice)
    finally:
        close(services)


def unnamed(stored: Mapping[str, tuple[int, int]], storages: Collection[str]) -> Iterator[Finding]:
    """Contents that are kept where the settings name nothing: nobody can read them."""
    for name, (count, size) in stored.items():
        if name not in storages:
            yield problem("catalog", f"{count} contents of {size} bytes are kept in the storage {name!r}, which the settings don't name",
                          f"set up storages.{name} again")


def left_lying(catalog: Jobs, now: float) -> Iterator[Finding]:
    """Jobs that nobody runs, and those that nobody has tried anew."""
    queued, _ = catalog.jobs(JobFilter(states=("queued",)), limit=1000)
    late = [job.due_at for job in queued if job.due_at < now - _LATE]
    if late:
        yield warning("catalog", f"{len(late)} jobs have been waiting for a worker, one of them for {(now - min(late)) / 60:.0f} minutes",
                      "see that carboy worker runs, or carboy serve without --no-worker")
    dead, more = catalog.jobs(JobFilter(states=("dead",)), limit=100)
    if dead:
        yield warning("catalog", f"{len(dead)}{' or more' if more else ''} jobs are dead",
                      "see carboy jobs list --state dead, and carboy jobs retry")


def sound(path: Path, patience: float = _PATIENCE) -> Finding:
    """SQLite's own quick check, on a connection that only reads; given up after ``patience`` seconds."""
    end = time.monotonic() + patience
    catalog = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        catalog.set_progress_handler(lambda: time.monotonic() > end, 100_000)
        wrong = [row[0] for row in catalog.execute("PRAGMA quick_check(3)") if row[0] != "ok"]
    except sqlite3.OperationalError as error:
        if "interrupt" in str(error):
            return ok("catalog", f"nothing wrong was found in the {patience:g} s that its check may take")
        return problem("catalog", f"its check failed: {error}", "stop the server, and restore a backup where it stays so")
    except sqlite3.DatabaseError as error:
        return problem("catalog", f"it is damaged: {error}", "stop the server and restore a backup")
    finally:
        catalog.close()
    if wrong:
        return problem("catalog", f"it is damaged: {' '.join(wrong[0].split())}", "stop the server and restore a backup")
    return ok("catalog", "SQLite's quick check finds nothing wrong")
