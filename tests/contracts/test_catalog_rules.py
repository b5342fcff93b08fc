"""The rules of the catalog that its contract can't say: locks, batches, crashes, plans, schemas."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from catalogs import AsSaid, together
from fixtures_postgres import PostgresServer
from fixtures_server import eventually
from sqlalchemy import NullPool, create_engine
from sqlalchemy.dialects import sqlite as sqlite_dialect

from carboy.catalog import (
    claiming,
    contents,
    files,
    fragments,
    happening,
    jobs,
    leasing,
    ordering,
    placing,
    postgres,
    sql,
    sqlite_writer,
    tables,
    twins,
    upkeep,
    uploads,
)
from carboy.catalog.base import Catalog
from carboy.catalog.sessions import Session, Statement
from carboy.catalog.sql import open_catalog
from carboy.errors import CatalogUnavailable, CommitUnknown, Conflict, SchemaMismatch, StorageFull
from carboy.model import Blob, Placement, Upload, key_for, new_id

HAMMER = """
import os, sys, threading
from carboy.catalog.sql import open_catalog
from carboy.model import Blob, Placement, Upload, Span, key_for, new_id

catalog = open_catalog(sys.argv[1])
failures = []

def place(thread, number):
    id = new_id()
    blob = Blob(id, "local", key_for(id), 1, 1, None, 1.0)
    return catalog.place([Placement("main", f"{sys.argv[2]}/{thread}/{number}", None, "a/b", {}, blob)], now=1.0)

def work(thread):
    try:
        for number in range(int(sys.argv[3])):
            place(thread, number)
            assert catalog.file_at("main", f"{sys.argv[2]}/{thread}/{number}")
            os.write(1, f"{sys.argv[2]}/{thread}/{number}\\n".encode())
    except BaseException as error:
        failures.append(error)

threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
catalog.close()
for failure in failures: print(repr(failure), file=sys.stderr)
sys.exit(bool(failures))
"""


def at(path: str, **changes: Any) -> Placement:
    id = new_id()
    return Placement("main", path, None, "text/plain", changes.pop("metadata", {}), Blob(id, "local", key_for(id), 1, 1, None, 1.0), **changes)


def at_revision(url: str, revision: str) -> None:
    """Make the database what an older Carboy made it."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(sql.__file__).with_name("migrations")))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder}/catalog.sqlite3"


def paths_of(catalog: Catalog) -> set[str]:
    found, cursor = [], None
    while True:
        page = catalog.files("main", cursor=cursor, limit=1000)
        found += [file.path for file in page.files]
        cursor = page.cursor
        if cursor is None:
            return set(found)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    catalog = open_catalog(url_of(tmp_path), plan=AsSaid())
    catalog.migrate()
    yield catalog
    catalog.close()


@pytest.fixture
def hammer(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes whose eight threads each place ``count`` files, and print each that was acknowledged."""
    started: list[subprocess.Popen[str]] = []

    def start(name: str, count: int) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", HAMMER, url_of(tmp_path), name, str(count)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def while_flocked(tmp_path: Path) -> Callable[[Callable[[], object]], None]:
    """Calls something while this thread holds the machine's lock, as another process would."""

    def run(call: Callable[[], object]) -> None:
        with (tmp_path / "catalog.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            call()

    return run


def raw(folder: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(folder / "catalog.sqlite3", isolation_level=None))


class TestManyWriters:
    def test_two_processes_and_many_threads_never_meet_a_locked_database(self, catalog: Catalog, hammer: Any) -> None:
        processes = [hammer("one", 60), hammer("two", 60)]
        outputs = [process.communicate(timeout=120) for process in processes]
        assert [(process.returncode, errors) for process, (_, errors) in zip(processes, outputs, strict=True)] == [(0, "")] * 2
        assert paths_of(catalog) == {line for told, _ in outputs for line in told.split()}
        assert len(paths_of(catalog)) == 2 * 8 * 60

    def test_a_killed_process_loses_nothing_acknowledged_and_frees_the_lock(self, catalog: Catalog, hammer: Any,
                                                                           tmp_path: Path) -> None:
        for round in range(3):
            process = hammer(f"round{round}", 100_000)
            told = [process.stdout.readline().strip() for _ in range(200)]
            process.send_signal(signal.SIGKILL)
            told += [line for line in process.stdout.read().split("\n")[:-1] if line]
            process.wait(60)
            catalog.place([at(f"after{round}")], now=1.0)
            missing = set(told) - paths_of(catalog)
            assert len(told) >= 200
            assert not missing
        with raw(tmp_path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []

    def test_the_log_is_kept_short_by_whoever_writes(self, catalog: Catalog, tmp_path: Path) -> None:
        for number in range(40):
            catalog.place([at(f"{number}/{n}") for n in range(400)], now=1.0)
        assert (tmp_path / "catalog.sqlite3-wal").stat().st_size < 3 * sqlite_writer.LONG_WAL


class TestBatches:
    def batch(self, catalog: Catalog, while_flocked: Any, calls: list[Callable[[], object]]) -> list[object]:
        """Run the calls in one batch: all of them wait for the machine's lock, which somebody else holds."""
        outcomes: list[object] = [None] * len(calls)

        def run(number: int) -> None:
            try:
                outcomes[number] = calls[number]()
            except Exception as error:
                outcomes[number] = error

        threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]

        def start() -> None:
            combiner = catalog._database._writers.get()._combiner  # type: ignore[attr-defined]
            for number, thread in enumerate(threads):
                thread.start()
                deadline = time.monotonic() + 60
                while len(combiner._waiting) <= number:
                    assert time.monotonic() < deadline, "the change did not wait for the lock"
                    os.sched_yield()

        while_flocked(start)
        for thread in threads:
            thread.join(60)
        return outcomes

    def test_a_refusal_leaves_its_neighbours_alone(self, catalog: Catalog, while_flocked: Any) -> None:
        catalog.place([at("taken")], now=1.0)
        outcomes = self.batch(catalog, while_flocked, [
            lambda: catalog.place([at("a")], now=1.0), lambda: catalog.place([at("b"), at("taken", on_conflict="refuse")], now=1.0),
            lambda: catalog.place([at("c")], now=1.0), lambda: catalog.place([at("taken/x")], now=1.0), lambda: catalog.place([at("d")], now=1.0)])
        assert [isinstance(outcome, Conflict) for outcome in outcomes] == [False, True, False, True, False]
        assert paths_of(catalog) == {"a", "c", "d", "taken"}

    def test_a_broken_operation_leaves_its_neighbours_alone(self, catalog: Catalog, while_flocked: Any) -> None:
        outcomes = self.batch(catalog, while_flocked, [
            lambda: catalog.place([at("a")], now=1.0), lambda: catalog.place([at("b\ud800")], now=1.0),
            lambda: catalog.set_sha256(object(), b""), lambda: catalog.place([at("c")], now=1.0)])  # type: ignore[arg-type]
        assert [type(outcome).__name__ for outcome in outcomes] == ["list", "UnicodeEncodeError", "CatalogUnavailable", "list"]
        assert paths_of(catalog) == {"a", "c"}

    def test_they_share_one_commit(self, catalog: Catalog, while_flocked: Any) -> None:
        catalog.place([at("first")], now=1.0)
        commits: list[str] = []
        catalog._database._writers.get()._session.connection.set_trace_callback(commits.append)  # type: ignore[attr-defined]
        self.batch(catalog, while_flocked, [lambda n=n: catalog.place([at(f"a{n}")], now=1.0) for n in range(10)])  # type: ignore[misc]
        assert commits.count("COMMIT") == 1
        assert len(paths_of(catalog)) == 11

    def test_a_failed_commit_is_unknown_to_all_and_the_next_works(self, catalog: Catalog, while_flocked: Any) -> None:
        """Deferred foreign keys make COMMIT itself fail."""

        def spoil(session: Session) -> None:
            session.say("PRAGMA defer_foreign_keys = ON")  # type: ignore[attr-defined]
            session.say("INSERT INTO spans VALUES ('nobody', 0, 1, x'0000000000000000')")  # type: ignore[attr-defined]

        outcomes = self.batch(catalog, while_flocked, [
            lambda: catalog.place([at("a")], now=1.0), lambda: catalog._database.write(spoil),  # type: ignore[attr-defined]
            lambda: catalog.place([at("b")], now=1.0)])
        assert [type(outcome) for outcome in outcomes] == [CommitUnknown] * 3
        assert paths_of(catalog) == set()
        catalog.place([at("a")], now=1.0)
        assert paths_of(catalog) == {"a"}

    def test_a_full_catalog_is_told_and_changes_nothing(self, catalog: Catalog) -> None:
        catalog.place([at("first")], now=1.0)
        writer = catalog._database._writers.get()._session  # type: ignore[attr-defined]
        pages = writer.say("PRAGMA page_count")[0]
        writer.say(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageFull):
            catalog.place([at(f"{n:0200}") for n in range(500)], now=1.0)
        assert paths_of(catalog) == {"first"}
        catalog.place([at("after")], now=1.0)


@pytest.mark.skipif(os.getuid() != 0, reason="NOT TESTED: mounting a full disk needs root")
def test_a_full_disk_at_commit_is_unknown_and_passes(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path], check=True)
    catalog = open_catalog(url_of(tmp_path), plan=AsSaid())
    try:
        catalog.migrate()
        catalog.place([at("first")], now=1.0)
        filler = tmp_path / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        refusals = []
        for number in range(200):
            try:
                catalog.place([at(f"{number:0100}")], now=1.0)
            except (CommitUnknown, StorageFull, CatalogUnavailable) as error:
                refusals.append(error)
                break
        assert [type(error) for error in refusals] == [CommitUnknown]
        before = paths_of(catalog)
        assert "first" in before
        filler.unlink()
        catalog.place([at("after")], now=1.0)
        assert paths_of(catalog) == before | {"after"}
    finally:
        catalog.close()
        subprocess.run(["umount", tmp_path], check=True)


class TestUnavailable:
    def test_a_database_somebody_else_locks_is_unavailable(self, catalog: Catalog, tmp_path: Path) -> None:
        catalog.place([at("first")], now=1.0)
        catalog._database._writers.get()._session.say("PRAGMA busy_timeout = 1")  # type: ignore[attr-defined]
        with raw(tmp_path) as intruder:
            intruder.execute("BEGIN IMMEDIATE")
            with pytest.raises(CatalogUnavailable):
                catalog.place([at("a")], now=1.0)
            assert paths_of(catalog) == {"first"}
            intruder.execute("ROLLBACK")
        catalog.place([at("a")], now=1.0)

    def test_no_folder_no_catalog(self, tmp_path: Path) -> None:
        catalog = open_catalog(f"sqlite:///{tmp_path}/none/catalog.sqlite3")
        for call in (catalog.check, catalog.tokens, lambda: catalog.place([at("a")], now=1.0)):
            with pytest.raises(CatalogUnavailable):
                call()

    def test_opening_touches_nothing(self, tmp_path: Path) -> None:
        open_catalog(url_of(tmp_path)).close()
        assert list(tmp_path.iterdir()) == []

    def test_a_forked_child_has_connections_of_its_own(self, catalog: Catalog) -> None:
        catalog.place([at("parent")], now=1.0)
        catalog.close()
        children = [multiprocessing.get_context("fork").Process(target=lambda n=n: catalog.place([at(f"child{n}")], now=1.0))
                    for n in range(3)]
        for child in children:
            child.start()
            catalog.place([at(f"beside {child.name}")], now=1.0)
            catalog.close()
        for child in children:
            child.join(60)
            assert child.exitcode == 0
        assert {"parent", "child0", "child1", "child2"} <= paths_of(catalog)


class TestSchema:
    def test_migrations_make_the_tables(self, catalog: Catalog, tmp_path: Path) -> None:
        """But for the index on an expression, which SQLAlchemy can't read back from SQLite, and the tables of the full-text index."""
        def ours(name: str | None, kind: str, parents: object) -> bool:
            return kind != "table" or not str(name).startswith("texts_found")

        options = {"compare_type": True, "include_name": ours}
        with create_engine(url_of(tmp_path), poolclass=NullPool).connect() as connection, warnings.catch_warnings(action="ignore"):
            assert compare_metadata(MigrationContext.configure(connection, opts=options), tables.metadata) == []

    def test_migrations_make_the_tables_in_postgresql(self, postgres_url: str) -> None:
        """But for the index of trigrams, which SQLite has as a table of its own."""
        def ours(name: str | None, kind: str, parents: object) -> bool:
            return kind != "index" or name != "texts_by_trigrams"

        options = {"compare_type": True, "include_name": ours}
        with create_engine(postgres_url, poolclass=NullPool).connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection, opts=options), tables.metadata) == []

    def test_the_tables_are_of_the_newest_revision(self) -> None:
        script = ScriptDirectory(str(Path(sql.__file__).with_name("migrations")))
        assert script.get_current_head() == tables.SCHEMA
        revisions = [revision.revision for revision in script.walk_revisions()]
        assert revisions == sorted(revisions, reverse=True)

    def test_another_schema_is_refused(self, catalog: Catalog, tmp_path: Path) -> None:
        for unfit in ("UPDATE compatibility SET oldest = '9998'", "DELETE FROM compatibility"):
            with raw(tmp_path) as connection:
                connection.execute("UPDATE alembic_version SET version_num = '9999'")
                connection.execute(unfit)
            for call in (catalog.check, catalog.migrate):
                with pytest.raises(SchemaMismatch, match="newer"):
                    call()
        with raw(tmp_path) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '0000'")
        with pytest.raises(SchemaMismatch, match="older"):
            catalog.check()

    def test_a_newer_schema_that_says_so_is_worked_with(self, catalog: Catalog, tmp_path: Path) -> None:
        with raw(tmp_path) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
            assert connection.execute("SELECT oldest FROM compatibility").fetchall() == [("0003",)]
        catalog.check()
        catalog.migrate()
        catalog.place([at("a")], now=1.0)
        with raw(tmp_path) as connection:
            assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)], "nothing was done about it"

    def test_every_revision_says_whose_code_works_with_it(self) -> None:
        """Not before one that it follows, and none that isn't there."""
        script = ScriptDirectory(str(Path(sql.__file__).with_name("migrations")))
        told = {revision.revision: revision.module.works_with for revision in script.walk_revisions() if revision.revision > "0003"}
        assert "0004" in told
        assert list(told.values()) == sorted(told.values(), reverse=True)
        assert all("0003" <= oldest <= revision for revision, oldest in told.items())

    def test_an_empty_catalog_is_older(self, tmp_path: Path, postgres_server: PostgresServer) -> None:
        for url in (url_of(tmp_path), postgres_server.new_database()):
            catalog = open_catalog(url)
            with pytest.raises(SchemaMismatch, match="older"):
                catalog.check()
            catalog.close()

    def test_an_older_catalog_is_copied_before_it_is_migrated(self, catalog: Catalog, tmp_path: Path) -> None:
        catalog.place([at("kept")], now=1.0)
        with raw(tmp_path) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '0000'")
        with pytest.raises(Exception, match="0000"):  # there is no such revision to migrate from
            catalog.migrate()
        with closing(sqlite3.connect(tmp_path / "catalog.sqlite3.0000")) as copy:
            assert copy.execute("SELECT path FROM files").fetchall() == [("kept",)]

    def test_a_snapshot_is_a_whole_catalog(self, catalog: Catalog, tmp_path: Path) -> None:
        file = catalog.place([at("a")], now=1.0)[0].file
        catalog.snapshot(str(tmp_path / "copy.sqlite3"))
        catalog.place([at("b")], now=1.0)
        copy = open_catalog(f"sqlite:///{tmp_path}/copy.sqlite3")
        copy.check()
        assert copy.file(file.id) == file
        assert paths_of(copy) == {"a"}
        copy.close()
        with pytest.raises(CatalogUnavailable):
            catalog.snapshot(str(tmp_path / "copy.sqlite3"))

    def test_two_who_migrate_at_once(self, tmp_path: Path, postgres_server: PostgresServer) -> None:
        for url in (url_of(tmp_path), postgres_server.new_database()):
            catalogs = [open_catalog(url) for _ in range(4)]
            threads = [threading.Thread(target=catalog.migrate) for catalog in catalogs]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            for catalog in catalogs:
                catalog.check()
                catalog.close()


class TestStatements:
    def plan(self, catalog: Catalog, statement: Statement) -> str:
        compiled = statement.compile(dialect=sqlite_dialect.dialect())
        database: Any = catalog._database  # type: ignore[attr-defined]
        arguments = [compiled.params[name] for name in compiled.positiontup]  # type: ignore[attr-defined]
        rows = database.read(lambda session: session._cursor.execute(f"EXPLAIN QUERY PLAN {compiled}", arguments).fetchall())
        return "\n".join(row[3] for row in rows)

    @pytest.mark.parametrize("name", ["_FROM", "_BETWEEN"])
    def test_a_page_is_read_in_the_order_of_the_index(self, catalog: Catalog, name: str) -> None:
        plan = self.plan(catalog, getattr(files, name))
        assert "SEARCH files USING INDEX files_by_path (space=? AND path>?" in plan
        assert "SCAN" not in plan and "TEMP B-TREE" not in plan

    @pytest.mark.parametrize("statement", [
        files._BY_ID, files._BY_PATH, files._VERSIONS, placing._in_the_way(4), placing._TAKEN, contents.USES, contents._OLDER,
        contents._CONDEMNED, contents._DROP_JOBS, uploads._BY_ID, uploads._RECEIVING_NAMED, uploads._SPANS, uploads._EXPIRED,
        ordering.OF_BLOB, claiming._due(2, 2, False), claiming._due(2, 0, True), claiming._UNSENT, claiming._LEFT, jobs._DERIVED_ALL,
        jobs._page(frozenset(), 0, True), jobs._page(frozenset({"file_id"}), 0, False), contents._DERIVED_OF, contents._OF_STEP,
        happening._BY_ID, twins._twin(True), uploads._CHUNKS, fragments._ALL, fragments._MET, fragments._DROP, fragments._CONDEMN, leasing._OVERLAPPING, leasing._WANTED, leasing._alive(2),
        leasing._BURY, upkeep._CONDEMNED, upkeep._BLOBS, upkeep._ENDED, upkeep._known(8), upkeep._forget(8)], ids=lambda s: str(s)[:60])
    def test_every_question_has_its_index(self, catalog: Catalog, statement: Statement) -> None:
        plan = self.plan(catalog, statement)
        assert "SEARCH" in plan
        assert "SCAN" not in plan.replace("SCAN (subquery", "").replace("SCAN anon", "").replace("SCAN CONSTANT ROW", ""), plan

    def test_a_folder_is_skipped_whatever_it_holds(self, catalog: Catalog) -> None:
        """Counted in rows read, not in seconds."""
        catalog.place([at(f"{folder}/{n:05}") for folder in "abc" for n in range(3000)], now=1.0)
        read: list[int] = []

        class Counting:
            def __init__(self, session: Session) -> None:
                self.session = session

            def rows(self, statement: Statement, /, **values: Any) -> list[Any]:
                found = self.session.rows(statement, **values)
                read.append(len(found))
                return found

        database: Any = catalog._database  # type: ignore[attr-defined]
        page = database.read(lambda session: files.page(Counting(session), "main", "", None, 100, True))
        assert page.folders == ["a/", "b/", "c/"]
        assert sum(read) < 200

    @pytest.mark.parametrize("url", ["sqlite", "postgresql"])
    def test_blobs_that_are_used_cannot_go(self, catalog: Catalog, tmp_path: Path, url: str, request: pytest.FixtureRequest) -> None:
        if url == "postgresql":
            catalog = open_catalog(request.getfixturevalue("postgres_url"), plan=AsSaid())
        catalog.place([at("a", metadata={"steps": ["digest"]})], now=1.0)
        database: Any = catalog._database  # type: ignore[attr-defined]
        for statement in ("DELETE FROM blobs", "UPDATE files SET blob_id = 'none'", "DELETE FROM jobs", "DELETE FROM blobs"):
            if statement.endswith("jobs"):
                database.write(lambda session: session.say("DELETE FROM jobs"))
                continue
            with pytest.raises(Conflict):
                database.write(lambda session, statement=statement: session.say(statement))
        assert paths_of(catalog) == {"a"}
        catalog.close()


class TestPostgres:
    @pytest.fixture
    def server(self, postgres_server: PostgresServer) -> Iterator[PostgresServer]:
        """A server that the test may stop."""
        yield postgres_server
        if postgres_server.process is None:
            postgres_server.start()

    def test_a_restart_costs_nothing_that_was_acknowledged(self, server: PostgresServer, postgres_url: str,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(postgres, "PATIENCE", 0.2)
        catalog = open_catalog(postgres_url)
        catalog.place([at("before")], now=1.0)
        server.stop()
        for call in (lambda: catalog.place([at("while")], now=1.0), lambda: catalog.file_at("main", "before")):
            with pytest.raises(CatalogUnavailable):
                call()
        server.start()
        assert paths_of(catalog) == {"before"}
        catalog.place([at("after")], now=1.0)
        catalog.close()

    def test_connections_lost_while_idle_are_replaced(self, server: PostgresServer, postgres_url: str) -> None:
        catalog = open_catalog(postgres_url)
        catalog.place([at("before")], now=1.0)
        server.stop()
        server.start()
        catalog.place([at("after")], now=1.0)
        assert paths_of(catalog) == {"before", "after"}
        catalog.close()

    def test_who_comes_while_it_restarts_waits(self, server: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(postgres, "PATIENCE", 120.0)
        catalog = open_catalog(postgres_url)
        catalog.place([at("before")], now=1.0)
        server.stop()
        with ThreadPoolExecutor(3) as pool:
            calls = [pool.submit(catalog.place, [at("while")], now=1.0), pool.submit(catalog.file_at, "main", "before"), pool.submit(catalog.counts)]
            assert not any(call.done() for call in calls)
            server.start()
            assert calls[0].result(60)[0].file.version == 1
            assert calls[1].result(60) == catalog.file_at("main", "before")
            assert calls[2].result(60)["files"] in (1, 2)
        catalog.close()

    def test_a_server_that_was_never_there_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(postgres, "PATIENCE", 1e9)
        with pytest.raises(CatalogUnavailable):
            open_catalog(f"postgresql://carboy@/none?host={tmp_path}").check()

    def test_a_transaction_that_lost_its_connection_is_run_again(self, server: PostgresServer, postgres_url: str) -> None:
        """Before COMMIT nothing of it can be there."""
        catalog = open_catalog(postgres_url)
        database: Any = catalog._database  # type: ignore[attr-defined]
        backends: list[int] = []

        def cut_once(session: Any) -> Any:
            placed = placing.place(session, [at("a", on_conflict="refuse")], 1.0, None)
            backends.append(session.connection.info.backend_pid)
            if len(backends) == 1:
                server.say(f"SELECT pg_terminate_backend({backends[0]}, 10000)")
            return placed, session.say("SELECT 1")

        assert database.write(cut_once)[1] == (1,)
        assert len(set(backends)) == 2
        assert paths_of(catalog) == {"a"}
        catalog.close()

    def test_a_lost_end_of_looking_is_none(self, server: PostgresServer, postgres_url: str) -> None:
        catalog = open_catalog(postgres_url)
        database: Any = catalog._database  # type: ignore[attr-defined]
        seen = []

        def cut(session: Any) -> Any:
            seen.append(session.say("SELECT 1"))
            server.say(f"SELECT pg_terminate_backend({session.connection.info.backend_pid}, 10000)")
            return seen[-1]

        assert database.view(cut) == (1,)
        assert len(seen) == 1
        catalog.close()

    def test_a_connection_lost_at_commit_is_unknown(self, server: PostgresServer, postgres_url: str) -> None:
        catalog = open_catalog(postgres_url)
        database: Any = catalog._database  # type: ignore[attr-defined]

        def cut(session: Any) -> None:
            placing.place(session, [at("a")], 1.0, None)
            server.say(f"SELECT pg_terminate_backend({session.connection.info.backend_pid}, 10000)")

        with pytest.raises(CommitUnknown):
            database.write(cut)
        assert paths_of(catalog) == set()
        catalog.close()

    def test_a_migration_lets_those_pass_who_queue_behind_it(self, server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """It needs a lock on uploads that somebody holds who is about to ask for one himself."""
        monkeypatch.setattr(postgres, "MIGRATING_PATIENCE", 1)
        url = server.new_database()
        at_revision(url, "0003")
        with closing(psycopg.connect(url.replace("+psycopg", ""), autocommit=False)) as slow:
            slow.execute("LOCK TABLE uploads IN ROW EXCLUSIVE MODE")
            catalog = open_catalog(url)
            with ThreadPoolExecutor(1) as pool:
                migrated = pool.submit(catalog.migrate)
                with closing(psycopg.connect(url.replace("+psycopg", ""), autocommit=True)) as other:
                    eventually(lambda: other.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone())
                    other.execute("SET statement_timeout = '60s'")
                    other.execute("INSERT INTO uploads SELECT * FROM uploads")
                assert not migrated.done()
                slow.rollback()
                migrated.result(60)
        catalog.check()
        catalog.close()

    def test_of_many_that_migrate_one_does(self, server: PostgresServer) -> None:
        url = server.new_database()
        at_revision(url, "0003")
        catalogs = [open_catalog(url) for _ in range(4)]
        assert together(*[catalog.migrate for catalog in catalogs]) == [None] * 4
        for catalog in catalogs:
            catalog.check()
            catalog.close()

    def test_many_files_at_once_take_few_locks(self, postgres_url: str) -> None:
        catalog = open_catalog(postgres_url)
        catalog.place([at(f"{n}/{n}") for n in range(500)], now=1.0)
        assert len(paths_of(catalog)) == 500
        catalog.close()


def test_the_index_allows_one_receiving_upload_of_a_name(catalog: Catalog, tmp_path: Path) -> None:
    """Even to those who bypass the look-up, and for uploads that nobody owns."""
    id = new_id()
    catalog.create_upload(Upload(id, "main", "p", None, "tus", "local", key_for(id), name="n"))
    columns = [column.name for column in tables.uploads.c if column.name != "id"]
    with raw(tmp_path) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute(f"INSERT INTO uploads (id, {', '.join(columns)}) SELECT 'x', {', '.join(columns)} FROM uploads")
