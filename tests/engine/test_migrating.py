"""Contents go from one storage to another beside whoever reads, writes and deletes; nothing is lost or left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fixtures_server import eventually
from fixtures_stores import EngineOver, Stores

from carboy.engine.opening import open_blob
from carboy.errors import CommitUnknown, InvalidRequest, NotFound, StorageUnavailable
from carboy.model import TRUSTED

WAYS = [("local", "one"), ("one", "local"), ("one", "two")]
BIG = os.urandom(9 * 2**20)


def migrate(engine: Stores, space: str, to: str, **options: Any) -> Counter[str]:
    return Counter(moved.outcome for moved in engine.services.migrator.run(space, to, **options))


@pytest.fixture
def engine(stores: EngineOver) -> Stores:
    return stores()


@pytest.mark.parametrize(("source", "target"), WAYS)
def test_everything_a_space_has_goes(engine: Stores, source: str, target: str) -> None:
    services = engine.services
    contents = {"empty": b"", "small": b"small", "big": BIG, "in/folder": b"x" * 70_000}
    for path, data in contents.items():
        engine.add(path, data, source)
    engine.add("small", b"newer", source)
    engine.add("trashed", b"trashed", source)
    trashed = engine.file("trashed", source)
    assert trashed
    services.changes.delete(TRUSTED, trashed)
    with services.staging.delivery() as delivery:
        incoming = delivery.open(services.staging.target(source, "staged"))
        incoming.feed(b"staged")
        incoming.end()
        [staged] = services.staging.stage(delivery)
    before = {path: engine.file(path, source) for path in contents}
    assert migrate(engine, source, target, dry_run=True) == {"due": 7}
    assert services.migrator.left(source, target).blobs == 7
    assert migrate(engine, source, target) == {"copied": 7}
    assert migrate(engine, source, target) == {}
    assert (services.migrator.left(source, target).blobs, services.migrator.left(source, target).uploads) == (0, 0)
    for path, data in {**contents, "small": b"newer"}.items():
        assert engine.read(path, source) == data
        file, old = engine.file(path, source), before[path]
        assert file and old and (file.blob.storage, file.etag, file.version, file.modified_at) == (target, old.etag, old.version, old.modified_at)
    small = engine.file("small", source)
    assert small
    [older] = services.catalog.versions(small.id)
    assert engine.bytes(older.blob.storage, older.blob.key) == b"small"
    back = services.changes.restore(TRUSTED, trashed.id)
    assert engine.read(back.path, source) == b"trashed"
    lying = services.catalog.shelved(staged.file.id)
    assert lying and engine.bytes(target, lying.file.blob.key) == b"staged"
    assert len(engine.keys(source)) == 7, "whoever reads them now goes on"
    engine.swept()
    assert engine.keys(source) == set()
    assert engine.findings() == []


@pytest.mark.parametrize(("source", "target"), WAYS)
def test_downloads_under_way_end_as_they_began(engine: Stores, source: str, target: str) -> None:
    engine.add("big", BIG, source)
    file = engine.file("big", source)
    assert file
    with open_blob(file.blob, engine.services.storages[source]) as content:
        first = content.read(1000)
        assert migrate(engine, source, target) == {"copied": 1}
        assert first + content.read() == BIG


def test_a_content_of_two_spaces_goes_along(engine: Stores) -> None:
    engine.add("a", b"shared", "local")
    file = engine.file("a", "local")
    assert file
    copy = engine.services.changes.copy(TRUSTED, file, "copy", space="two").file
    assert copy.blob.storage == "local"
    assert migrate(engine, "local", "one") == {"copied": 1}
    assert migrate(engine, "local", "one") == {}
    assert engine.read("copy", "two") == b"shared"
    engine.swept()
    assert engine.read("copy", "two") == b"shared"
    assert engine.findings() == []


def test_what_is_damaged_or_missing_is_told_and_stays(engine: Stores) -> None:
    for name in ("damaged", "missing", "known", "sound"):
        engine.add(name, name.encode(), "local")
    found = {name: engine.file(name, "local") for name in ("damaged", "missing", "known", "sound")}
    assert all(found.values())
    blobs = {name: file.blob for name, file in found.items() if file}
    engine.blob(blobs["damaged"].key).write_bytes(b"DAMAGED")
    engine.blob(blobs["missing"].key).unlink()
    engine.services.catalog.set_damaged(blobs["known"].id, 1.0)
    told = {moved.name: (moved.outcome, moved.reason) for moved in engine.services.migrator.run("local", "one")}
    assert {name: told[f"local:{blob.key}"][0] for name, blob in blobs.items()} == {
        "damaged": "left out", "missing": "left out", "known": "left out", "sound": "copied"}
    assert "not the ones that were received" in told[f"local:{blobs['damaged'].key}"][1]
    assert engine.services.migrator.left("local", "one").blobs == 3
    assert len(engine.keys("one")) == 1


def test_what_is_deleted_or_replaced_meanwhile_is_nobodys_loss(engine: Stores) -> None:
    for number in range(40):
        engine.add(f"{number}", b"%d" % number * 1000, "local")
    ended = threading.Event()

    def change() -> None:
        for number in range(40):
            file = engine.file(f"{number}", "local")
            assert file
            if number % 3 == 0:
                engine.services.changes.delete(TRUSTED, file, permanent=True)
            elif number % 3 == 1:
                engine.add(f"{number}", b"new %d" % number, "local")
            engine.services.sweeper.run(grace=0)
        ended.set()

    changing = threading.Thread(target=change)
    changing.start()
    outcomes = migrate(engine, "local", "one")
    changing.join()
    assert ended.is_set()
    assert outcomes["left out"] == 0
    migrate(engine, "local", "one")
    for number in range(40):
        if number % 3 == 0:
            assert engine.file(f"{number}", "local") is None
        else:
            assert engine.read(f"{number}", "local") == (b"new %d" % number if number % 3 == 1 else b"%d" % number * 1000)
    engine.swept()
    assert engine.keys("local") == set()
    assert engine.findings() == []


def test_two_at_once_move_each_content_once(engine: Stores, stores: EngineOver) -> None:
    for number in range(30):
        engine.add(f"{number}", b"%d" % number, "local")
    other, outcomes = stores(), []
    both = [threading.Thread(target=lambda one=one: outcomes.append(migrate(one, "local", "one"))) for one in (engine, other)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sum(outcomes, Counter()) == {"copied": 30}
    engine.swept()
    assert (len(engine.keys("one")), engine.keys("local")) == (30, set())
    assert engine.findings() == []


def test_a_lost_answer_to_the_commit_is_found_out(engine: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.add("a", b"bytes", "local")
    catalog = engine.services.catalog
    switch = catalog.switch_blob

    def lost(*args: Any, **how: Any) -> bool:
        switch(*args, **how)
        raise CommitUnknown("the connection broke")

    monkeypatch.setattr(catalog, "switch_blob", lost)
    assert migrate(engine, "local", "one") == {"copied": 1}
    monkeypatch.undo()
    assert engine.read("a", "local") == b"bytes"


def test_where_it_stays_unknown_nothing_is_removed(engine: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.add("a", b"bytes", "local")

    def lost(*args: Any, **how: Any) -> bool:
        raise CommitUnknown("the connection broke")

    with monkeypatch.context() as patched:
        patched.setattr(engine.services.catalog, "switch_blob", lost)
        with pytest.raises(CommitUnknown):
            migrate(engine, "local", "one")
    assert len(engine.keys("one")) == 1
    assert migrate(engine, "local", "one") == {"copied": 1}
    engine.swept()
    assert (len(engine.keys("one")), engine.keys("local")) == (1, set())


def test_names_that_are_none(engine: Stores) -> None:
    with pytest.raises(NotFound):
        migrate(engine, "nowhere", "one")
    with pytest.raises(InvalidRequest, match="local, one, two"):
        migrate(engine, "local", "nowhere")


def test_a_storage_that_cant_be_reached_ends_it(stores: EngineOver) -> None:
    engine = stores(storage={"deadline": 1})
    engine.add("a", b"bytes", "local")
    engine.s3.client().delete_bucket(Bucket=engine.buckets["two"])
    with pytest.raises(StorageUnavailable, match="bucket"):
        migrate(engine, "local", "two")
    assert engine.read("a", "local") == b"bytes"
    assert [finding.kind for finding in engine.services.fsck.run()] == ["unreachable"]
    assert engine.services.sweeper.run(grace=0).deleted == 0


@pytest.mark.parametrize(("source", "target"), WAYS)
def test_killed_in_the_middle_it_goes_on(engine: Stores, source: str, target: str, tmp_path: Path) -> None:
    contents = {f"{number}": os.urandom(200_000) for number in range(40)}
    for path, data in contents.items():
        engine.add(path, data, source)
    (tmp_path / "carboy.toml").write_text(engine.config())
    command = [sys.executable, "-m", "carboy.cli.main", "migrate", "--space", source, "--to", target, "--config", str(tmp_path / "carboy.toml")]
    running = subprocess.Popen([*command, "--rate", "2MB"], env={**os.environ, **engine.s3.env}, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    eventually(lambda: len(contents) - engine.services.migrator.left(source, target).blobs > 3)
    running.kill()
    running.communicate()
    moved = len(contents) - engine.services.migrator.left(source, target).blobs
    assert 3 < moved < len(contents), "it was killed in the middle"
    for path, data in contents.items():
        assert engine.read(path, source) == data
    done = subprocess.run(command, env={**os.environ, **engine.s3.env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"copied {len(contents) - moved:>13}" in done.stdout
    assert f"nothing of '{source}' is left outside of '{target}'" in done.stdout
    assert f"set spaces.{source}.storage = \"{target}\"" in done.stdout
    for path, data in contents.items():
        assert engine.read(path, source) == data

    engine.now = time.time() + 60

    def nothing_is_left_over() -> bool:
        """What the killed one had begun goes once it is taken for dead."""
        engine.swept()
        return (len(engine.keys(target)), engine.keys(source)) == (len(contents), set())

    eventually(nothing_is_left_over)
    assert engine.findings() == []


def test_asked_to_stop_it_gives_up_what_is_on_its_way(engine: Stores, tmp_path: Path) -> None:
    engine.add("big", BIG, "local")
    for number in range(20):
        engine.add(f"{number}", os.urandom(1000), "local")
    (tmp_path / "carboy.toml").write_text(engine.config())
    command = [sys.executable, "-m", "carboy.cli.main", "migrate", "--space", "local", "--to", "one", "--config", str(tmp_path / "carboy.toml")]
    running = subprocess.Popen([*command, "--rate", "100kB"], env={**os.environ, **engine.s3.env}, stdout=subprocess.PIPE, text=True)
    eventually(lambda: engine.services.catalog.instances())
    running.send_signal(signal.SIGINT)
    told, _ = running.communicate(timeout=60)
    left = engine.services.migrator.left("local", "one").blobs
    assert (running.returncode, left > 0) == (1, True), "all of it takes 90 s"
    assert f"{left} contents of 'local' are still elsewhere: run it again" in told
    assert subprocess.run(command, env={**os.environ, **engine.s3.env}, check=False).returncode == 0
    assert engine.read("big", "local") == BIG
