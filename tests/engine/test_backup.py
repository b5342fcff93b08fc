"""Copies of everything: whole, proved, beside whoever writes and deletes, and good for starting again."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import wire
from engine.conftest import Engine, EngineFactory

from carboy.bootstrap import open_carboy
from carboy.engine.holding import Removal
from carboy.errors import ConfigError, Conflict, InvalidRequest, StorageFull
from carboy.streams import BytesSource


def save(engine: Engine, to: Path, **options: Any) -> Counter[str]:
    return Counter(moved.outcome for moved in engine.services.backup.run(to, **options))


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "backup"


@pytest.fixture
def engine(make_engine: EngineFactory) -> Engine:
    """No power is cut here, so it needn't wait for the disk."""
    return make_engine(durability="relaxed")


@pytest.fixture
def elsewhere(tmp_path: Path, engine: Engine) -> Any:
    """``elsewhere(data)``: an engine on another data folder, not prepared."""
    made = []

    def at(data: Path) -> Engine:
        other = Engine.__new__(Engine)
        other.folder, other.now = data.parent, engine.now
        other.settings = engine.settings.model_copy(update={"data": data})
        other.services = open_carboy(other.settings, clock=lambda: engine.now)
        other.blob = lambda key: data / "blobs" / key  # type: ignore[method-assign]
        made.append(other)
        return other

    yield at
    for other in made:
        other.close()


@pytest.fixture
def filled(engine: Engine) -> Engine:
    for number in range(250):
        engine.put(f"{number}", b"%d" % number * 100)
    return engine


# --- making one ----------------------------------------------------------------------------------------------------


def test_a_backup_is_a_data_folder_itself(filled: Engine, to: Path, elsewhere: Any) -> None:
    assert save(filled, to) == {"linked": 250}
    copy = elsewhere(to)
    assert copy.findings() == []
    assert all(copy.read(f"{number}") == b"%d" % number * 100 for number in range(250))
    assert oct(to.stat().st_mode & 0o777) == "0o700"
    assert oct((to / "catalog.sqlite3").stat().st_mode & 0o777) == "0o600"


def test_copies_where_links_are_not_wanted(filled: Engine, to: Path) -> None:
    assert save(filled, to, copy=True) == {"copied": 250}
    key = filled.file("7").blob.key  # type: ignore[union-attr]
    assert not os.path.samefile(to / "blobs" / key, filled.blob(key))


def test_again_brings_only_what_is_new(filled: Engine, to: Path, elsewhere: Any) -> None:
    save(filled, to, copy=True)
    filled.put("new", b"new")
    filled.put("7", b"seven")
    assert save(filled, to, copy=True) == {"kept": 249, "copied": 2}
    copy = elsewhere(to)
    assert (copy.read("new"), copy.read("7")) == (b"new", b"seven")
    assert copy.findings() == []


def test_pruning_removes_what_is_not_needed_any_more(filled: Engine, to: Path, elsewhere: Any) -> None:
    save(filled, to)
    for number in range(100):
        filled.services.catalog.delete_file(filled.file(f"{number}").id, now=filled.now)  # type: ignore[union-attr]
    filled.now += 1000
    filled.services.sweeper.run()
    assert save(filled, to) == {"kept": 150}
    assert save(filled, to, prune=True) == {"kept": 150, "pruned": 100}
    assert elsewhere(to).findings() == []


def test_the_manifest_lists_every_content_and_is_vouched_for(filled: Engine, to: Path) -> None:
    save(filled, to)
    lines = [json.loads(line) for line in (to / "manifest.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == sorted(filled.stored())
    blob = filled.file("7").blob  # type: ignore[union-attr]
    assert {"key": blob.key, "size": blob.size, "crc64nvme": f"{blob.crc64nvme:016x}"} in lines
    note = json.loads((to / "backup.json").read_text())
    assert (note["blobs"], note["bytes"], note["at"]) == (250, sum(line["size"] for line in lines), filled.now)


def test_damaged_bytes_are_told_of_and_do_not_replace_good_ones(filled: Engine, to: Path, elsewhere: Any) -> None:
    save(filled, to, copy=True)
    blob, fresh = filled.file("7").blob, filled.put("fresh", b"fresh").file.blob  # type: ignore[union-attr]
    filled.blob(blob.key).write_bytes(b"8" * blob.size)
    filled.blob(fresh.key).write_bytes(b"FRESH")
    told = {moved.name: moved for moved in filled.services.backup.run(to, copy=True) if moved.outcome != "kept"}
    assert {key: (moved.outcome, moved.reason) for key, moved in told.items()} == {
        fresh.key: ("left out", "the bytes are not the ones that were received")}
    assert elsewhere(to).read("7") == b"7" * 100
    assert not (to / "blobs" / fresh.key).exists()


def test_missing_bytes_are_told_of(filled: Engine, to: Path) -> None:
    filled.blob(filled.file("7").blob.key).unlink()  # type: ignore[union-attr]
    assert save(filled, to) == {"linked": 249, "left out": 1}


def test_one_that_was_cut_short_leaves_the_one_before_whole_and_goes_on(filled: Engine, to: Path, elsewhere: Any) -> None:
    save(filled, to, copy=True)
    for number in range(250, 450):
        filled.put(f"{number}", b"later")
    run = filled.services.backup.run(to, copy=True)
    for _ in range(320):
        next(run)
    run.close()
    copy = elsewhere(to)
    assert copy.file("300") is None
    assert copy.read("7") == b"7" * 100
    assert not [finding for finding in copy.findings() if finding[0] != "orphan"]
    copy.close()
    assert save(filled, to, copy=True)["left out"] == 0
    assert elsewhere(to).findings() == []


def test_the_first_one_cut_short_goes_on_and_is_no_backup_yet(filled: Engine, to: Path, elsewhere: Any) -> None:
    run = filled.services.backup.run(to, copy=True)
    for _ in range(120):
        next(run)
    run.close()
    with pytest.raises(InvalidRequest, match="cut short"):
        list(elsewhere(filled.folder / "new").services.restore.run(to))
    told = save(filled, to, copy=True)
    assert told["kept"] >= 100
    assert told["kept"] + told["copied"] == 250


def test_the_root_of_a_new_disk_is_empty(filled: Engine, to: Path, elsewhere: Any) -> None:
    (to / "lost+found").mkdir(parents=True)
    (filled.folder / "restored/lost+found").mkdir(parents=True)
    assert save(filled, to)["linked"] == 250
    assert {moved.outcome for moved in elsewhere(filled.folder / "restored").services.restore.run(to)} == {"copied"}


@pytest.mark.parametrize("leave", ["file", "used", "cut"])
def test_a_folder_that_is_something_else_stays_as_it_is(filled: Engine, to: Path, leave: str, elsewhere: Any) -> None:
    if leave == "file":
        to.mkdir()
        (to / "mine").write_bytes(b"mine")
    else:
        save(filled, to)
    if leave == "used":
        other = elsewhere(to)
        other.services.catalog.delete_file(other.file("7").id, now=1.0)
        other.close()
    if leave == "cut":
        os.truncate(to / "catalog.sqlite3", 5000)
    before = {path: path.read_bytes() for path in to.rglob("*") if path.is_file() and path.name != "backup.lock"}
    with pytest.raises(InvalidRequest, match="neither empty nor a backup" if leave == "file" else "used as a data folder"):
        save(filled, to)
    assert {path: path.read_bytes() for path in to.rglob("*") if path.is_file() and path.name != "backup.lock"} == before


def test_where_no_backup_can_go(engine: Engine, tmp_path: Path) -> None:
    for to in (engine.settings.data, engine.settings.data / "backup", tmp_path):
        with pytest.raises(InvalidRequest, match="folder of its own"):
            save(engine, to)


def test_two_into_one_folder_are_one_too_many(filled: Engine, to: Path) -> None:
    first = filled.services.backup.run(to)
    next(first)
    with pytest.raises(Conflict, match="another backup"):
        save(filled, to)
    first.close()
    assert save(filled, to)["left out"] == 0


def test_a_full_disk_ends_it(filled: Engine, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statvfs = os.statvfs
    monkeypatch.setattr(os, "statvfs", lambda fd: os.statvfs_result((*statvfs(fd)[:3], 0, 0, *statvfs(fd)[5:])))
    with pytest.raises(StorageFull):
        save(filled, to, copy=True)
    monkeypatch.undo()
    assert save(filled, to, copy=True) == {"copied": 250}


def test_postgresql_is_told_what_to_do(engine: Engine, to: Path) -> None:
    settings = engine.settings.model_copy(update={"database": "postgresql://x@127.0.0.1/x"})
    services = open_carboy(settings)
    for run in (services.backup.run(to), services.restore.run(to)):
        with pytest.raises(ConfigError, match="pg_dump"):
            next(run)
    assert not to.exists()


# --- beside others -------------------------------------------------------------------------------------------------


def test_bytes_stay_while_a_backup_holds_their_removal_off(filled: Engine, to: Path) -> None:
    run = filled.services.backup.run(to)
    next(run)
    for number in range(250):
        filled.services.catalog.delete_file(filled.file(f"{number}").id, now=filled.now)  # type: ignore[union-attr]
    filled.now += 1000
    assert filled.services.sweeper.run().deleted == 0
    assert Counter(moved.outcome for moved in run) == {"linked": 249}
    assert filled.services.sweeper.run().deleted == 250


def test_a_backup_waits_for_a_removal_under_way(engine: Engine, to: Path) -> None:
    engine.put("a", b"a")
    removal = Removal(engine.settings.data)
    with ThreadPoolExecutor(1) as pool:
        with removal.allowed() as allowed:
            assert allowed
            running = pool.submit(save, engine, to)
            assert not running.done()
        assert running.result(wire.LIMIT) == {"linked": 1}


def test_files_come_and_go_while_it_runs(make_engine: EngineFactory, to: Path, elsewhere: Any) -> None:
    """With no grace at all: what was there before it began is in it, unless it was deleted meanwhile."""
    engine = make_engine(durability="relaxed", delete_grace=0.0)
    for number in range(300):
        engine.put(f"stays/{number}", b"%d" % number)
    ended = threading.Event()

    def churn(who: int) -> int:
        turn = 0
        while not ended.is_set():
            file = engine.put(f"churn/{who}/{turn % 5}", b"%d" % turn).file
            if turn % 3 == 0:
                engine.services.catalog.delete_file(file.id, now=engine.now)
            turn += 1
        return turn

    def sweep() -> int:
        deleted = 0
        while not ended.is_set():
            deleted += engine.services.sweeper.run().deleted
        return deleted

    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(churn, 0), pool.submit(churn, 1), pool.submit(sweep)]
        told = [save(engine, to, copy=bool(turn % 2), prune=True) for turn in range(6)]
        ended.set()
        assert all(other.result(wire.LIMIT) for other in others)
    assert all(one["left out"] == 0 for one in told)
    copy = elsewhere(to)
    assert copy.findings() == []
    assert all(copy.read(f"stays/{number}") == b"%d" % number for number in range(300))


def test_an_upload_under_way_comes_along_and_goes_on_there(engine: Engine, to: Path, elsewhere: Any) -> None:
    upload = engine.services.uploads.begin(engine.target("big"), protocol="test", size=12).upload
    engine.services.uploads.write(upload, 4, BytesSource(b"efgh"))
    with engine.services.uploads.piece(engine.target("pieces").rules) as piece:
        piece.feed(b"xyz")
        pieces = engine.services.uploads.begin(engine.target("pieces"), protocol="test", name="pieces").upload
        piece.keep(pieces, 0)
    assert save(engine, to) == {"copied": 3}
    engine.services.uploads.write(upload, 0, BytesSource(b"abcd"))
    restored = elsewhere(engine.folder / "restored")
    assert {moved.outcome for moved in restored.services.restore.run(to)} == {"copied"}
    again = restored.services.uploads.progress(upload.id).upload
    restored.services.uploads.write(again, 0, BytesSource(b"ABCD"))
    restored.services.uploads.write(again, 8, BytesSource(b"IJKL"))
    assert restored.read("big") == b"ABCDefghIJKL"
    assert [(chunk.index, chunk.size) for chunk in restored.services.catalog.chunks(pieces.id)] == [(0, 3)]
    assert restored.findings() == []


# --- restoring -----------------------------------------------------------------------------------------------------


def test_what_was_saved_is_restored(filled: Engine, to: Path, elsewhere: Any) -> None:
    save(filled, to)
    restored = elsewhere(filled.folder / "restored")
    assert Counter(moved.outcome for moved in restored.services.restore.run(to)) == {"copied": 250}
    assert restored.findings() == []
    assert all(restored.read(f"{number}") == b"%d" % number * 100 for number in range(250))
    assert restored.file("7") == filled.file("7")
    assert not (filled.folder / "restored/restoring").exists()


def test_the_restored_is_apart_from_the_backup(filled: Engine, to: Path, elsewhere: Any) -> None:
    save(filled, to)
    restored = elsewhere(filled.folder / "restored")
    list(restored.services.restore.run(to))
    key = filled.file("7").blob.key  # type: ignore[union-attr]
    (filled.folder / "restored/blobs" / key).write_bytes(b"changed")
    assert (to / "blobs" / key).read_bytes() == b"7" * 100


def test_nothing_is_restored_over_something(filled: Engine, to: Path, elsewhere: Any) -> None:
    save(filled, to)
    with pytest.raises(InvalidRequest, match="not empty"):
        list(filled.services.restore.run(to))
    other = filled.folder / "other"
    other.mkdir()
    (other / "mine").touch()
    with pytest.raises(InvalidRequest, match="not empty"):
        list(elsewhere(other).services.restore.run(to))
    assert os.listdir(other) == ["mine"]


def test_a_restore_that_was_cut_short_goes_on_and_nothing_starts_on_it(filled: Engine, to: Path, elsewhere: Any) -> None:
    from carboy.bootstrap import prepare

    save(filled, to)
    restored = elsewhere(filled.folder / "restored")
    run = restored.services.restore.run(to)
    for _ in range(120):
        next(run)
    run.close()
    with pytest.raises(ConfigError, match="cut short"):
        prepare(restored.services)
    told = Counter(moved.outcome for moved in restored.services.restore.run(to))
    assert told["kept"] >= 100
    assert restored.findings() == []
    prepare(restored.services)


def test_what_is_damaged_in_the_backup_is_told_of(filled: Engine, to: Path, elsewhere: Any) -> None:
    save(filled, to, copy=True)
    damaged, missing = (filled.file(name).blob for name in ("7", "8"))  # type: ignore[union-attr]
    (to / "blobs" / damaged.key).write_bytes(b"8" * damaged.size)
    (to / "blobs" / missing.key).unlink()
    restored = elsewhere(filled.folder / "restored")
    told = [moved.name for moved in restored.services.restore.run(to) if moved.outcome == "left out"]
    assert sorted(told) == sorted([damaged.key, missing.key])
    assert restored.findings() == sorted([("missing", damaged.key), ("missing", missing.key)])
    assert restored.read("9") == b"9" * 100


@pytest.mark.parametrize("name", ["catalog.sqlite3", "manifest.jsonl", "backup.json"])
def test_a_backup_that_was_tampered_with_is_refused(filled: Engine, to: Path, name: str, elsewhere: Any) -> None:
    save(filled, to)
    data = bytearray((to / name).read_bytes())
    data[len(data) // 2] ^= 1
    (to / name).write_bytes(data)
    data_folder = filled.folder / "restored"
    with pytest.raises(InvalidRequest):
        list(elsewhere(data_folder).services.restore.run(to))
    assert not data_folder.exists()


def test_what_is_no_backup(engine: Engine, tmp_path: Path, elsewhere: Any) -> None:
    with pytest.raises(InvalidRequest, match="no backup"):
        list(elsewhere(tmp_path / "restored").services.restore.run(tmp_path / "nowhere"))


# --- snapshots -----------------------------------------------------------------------------------------------------


def test_a_snapshot_a_day_is_kept_for_a_week(make_engine: EngineFactory) -> None:
    engine = make_engine()
    snapshots = engine.services.snapshots
    for day in range(10):
        assert snapshots.due()
        engine.put(f"day {day}", b"x")
        snapshots.take()
        assert not snapshots.due()
        engine.now += 86400
    assert len(snapshots.all()) == 7
    assert snapshots.all()[-1].name == "catalog-19700121T134640Z.sqlite3"
    assert sorted(os.listdir(engine.settings.data / "snapshots")) == [path.name for path in snapshots.all()]


def test_a_clock_that_was_set_back_stops_no_snapshots(engine: Engine) -> None:
    engine.services.snapshots.take()
    engine.now -= 30 * 86400
    assert engine.services.snapshots.due()


def test_a_full_disk_keeps_its_room_for_the_catalog(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    statvfs = os.statvfs
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((*statvfs(path)[:3], 1000, 1000, *statvfs(path)[5:])))
    with pytest.raises(StorageFull):
        engine.services.snapshots.take()
    assert os.listdir(engine.settings.data / "snapshots") == []


def test_none_where_none_are_wanted(make_engine: EngineFactory) -> None:
    assert not make_engine(snapshot_interval=0).services.snapshots.due()


def test_the_catalog_goes_back_to_a_snapshot(engine: Engine) -> None:
    engine.put("before", b"before")
    snapshot = engine.services.snapshots.take()
    engine.put("after", b"after")
    engine.services.catalog.close()
    aside = engine.services.restore.from_snapshot(snapshot)
    assert engine.read("before") == b"before"
    assert engine.file("after") is None
    assert [kind for kind, _ in engine.findings()] == ["orphan"]
    assert aside.exists()
    with pytest.raises(InvalidRequest, match="no file"):
        engine.services.restore.from_snapshot(engine.folder / "nowhere")
    (engine.folder / "text").write_text("no catalog")
    with pytest.raises(InvalidRequest, match="no catalog"):
        engine.services.restore.from_snapshot(engine.folder / "text")
    assert engine.read("before") == b"before"
