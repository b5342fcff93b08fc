"""Several storages at once: upkeep, copies, imports, exports and backups know all of them."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest
from fixtures_stores import STORES, EngineOver, Stores

from carboy.bootstrap import Elsewhere, close, open_carboy
from carboy.errors import StorageUnavailable
from carboy.model import TRUSTED, Principal, key_for, new_id

CONTENTS = {"a": b"first", "in/b": b"x" * 100_000, "empty": b""}
ME = Principal("me", "token", {"*": frozenset({"admin"})})


@pytest.fixture
def engine(stores: EngineOver) -> Stores:
    engine = stores()
    for space in STORES:
        for path, data in CONTENTS.items():
            engine.add(path, data + space.encode() if data else data, space)
    return engine


def test_each_space_keeps_its_bytes_in_its_storage(engine: Stores) -> None:
    assert {name: len(engine.keys(name)) for name in STORES} == dict.fromkeys(STORES, 3)
    assert engine.services.catalog.stored() == {name: (3, 100_005 + 2 * len(name)) for name in STORES}
    assert engine.findings(deep=True) == []


def test_fsck_and_scrub_see_what_is_wrong_in_each(engine: Stores) -> None:
    lost, spoilt = engine.file("a", "one"), engine.file("in/b", "two")
    assert lost and spoilt
    s3 = engine.s3.client()
    s3.delete_object(Bucket=engine.buckets["one"], Key=f"one/{lost.blob.key}")
    s3.put_object(Bucket=engine.buckets["two"], Key=f"two/{spoilt.blob.key}", Body=b"y" * spoilt.size)
    orphan = key_for(new_id())
    s3.put_object(Bucket=engine.buckets["two"], Key=f"two/{orphan}", Body=b"orphan")
    assert sorted((one.storage, one.kind, one.key) for one in engine.services.fsck.run(deep=True)) == [
        ("one", "missing", lost.blob.key), ("two", "damaged", spoilt.blob.key), ("two", "orphan", orphan)]
    assert sorted((one.storage, one.kind) for one in engine.services.scrubber.run()) == [("one", "missing"), ("two", "damaged")]
    assert engine.services.scrubber.blobs == 9
    assert engine.services.sweeper.run(grace=0).orphans == 1


def test_a_scrub_that_is_cut_short_goes_on_in_the_storage_where_it_was(engine: Stores) -> None:
    found, count = engine.services.scrubber, 0
    pace = found._write

    def stopping(position: dict[str, object]) -> None:
        nonlocal count
        pace(position)
        count += 1
        if count == 2:
            raise KeyboardInterrupt

    found._write = stopping  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        list(found.run())
    found._write = pace  # type: ignore[method-assign]
    assert list(found.run()) == []
    assert found.blobs == 3, "one storage was left"


def test_what_is_deleted_goes_from_each(engine: Stores) -> None:
    for space in STORES:
        file = engine.file("a", space)
        assert file
        engine.services.changes.delete(TRUSTED, file, permanent=True)
    assert engine.services.sweeper.run(grace=0).deleted == 3
    assert {name: len(engine.keys(name)) for name in STORES} == dict.fromkeys(STORES, 2)


def test_copies_and_moves_between_spaces_share_the_bytes_where_they_are(engine: Stores) -> None:
    changes = engine.services.changes
    for space, other in zip(STORES, STORES[1:] + STORES[:1], strict=True):
        file = engine.file("a", space)
        assert file
        copy = changes.copy(TRUSTED, file, f"copy of {space}", space=other).file
        assert (copy.blob, engine.read(copy.path, other)) == (file.blob, b"first" + space.encode())
        moved = changes.move(TRUSTED, file, f"moved from {space}", space=other)
        assert (moved.blob, engine.read(moved.path, other)) == (file.blob, b"first" + space.encode())
    assert engine.findings() == []


def test_a_zip_of_files_of_several_storages(engine: Stores) -> None:
    ids = [file.id for space in STORES if (file := engine.file("in/b", space))]
    zips = engine.services.zips
    archive = zips.open(ME, zips.create(ME, "local", ids=ids).id)
    whole = b"".join(archive.pieces())
    with zipfile.ZipFile(io.BytesIO(whole)) as found:
        assert sorted(found.read(name) for name in found.namelist()) == sorted(b"x" * 100_000 + space.encode() for space in STORES)
    assert b"".join(archive.pieces(250_000)) == whole[250_000:]


def test_trees_go_out_of_and_into_each(engine: Stores, tmp_path: Path) -> None:
    services, out = engine.services, tmp_path / "out"
    assert {moved.outcome for moved in services.exporter.run(out)} == {"copied"}
    for space in STORES:
        for path, data in CONTENTS.items():
            assert (out / space / path).read_bytes() == (data + space.encode() if data else data)
    (tmp_path / "big").mkdir()
    (tmp_path / "big/file").write_bytes(big := os.urandom(6 * 2**20))
    for space in STORES:
        assert [moved.outcome for moved in services.importer.run(tmp_path / "big", space)] == ["copied"]
        assert [moved.outcome for moved in services.importer.run(tmp_path / "big", space)] == ["kept"]
        assert engine.read("file", space) == big
        assert {moved.outcome for moved in services.importer.run(out / "local", space, to="again/")} == {"copied"}
    assert engine.findings() == []


def test_a_backup_says_what_it_doesnt_hold(engine: Stores, tmp_path: Path) -> None:
    told = list(engine.services.backup.run(tmp_path / "backup"))
    assert [(moved.name, moved.size) for moved in told if moved.outcome == "elsewhere"] == [("one", 100_011), ("two", 100_011)]
    assert "3 contents" in told[-1].reason
    assert sum(moved.outcome == "linked" for moved in told) == 3
    settings = engine.settings.model_copy(update={"data": tmp_path / "restored"})
    other = open_carboy(settings, clock=lambda: engine.now)
    assert [moved.outcome for moved in other.restore.run(tmp_path / "backup")] == ["copied"] * 3 + ["elsewhere"] * 2
    assert list(other.fsck.run(deep=True)) == [], "what is in the buckets is still there"
    close(other)
    assert Elsewhere().vault(tmp_path / "backup/blobs").size(next(iter(engine.keys("one")))) is None


def test_bytes_of_a_storage_that_the_settings_dont_name(engine: Stores) -> None:
    file = engine.file("a", "two")
    assert file
    storages = {"storages": {name: engine.settings.storages[name] for name in ("one",)}}
    spaces = {"spaces": {**engine.settings.spaces, "two": engine.settings.spaces["one"]}}
    other = open_carboy(engine.settings.model_copy(update={**storages, **spaces}), clock=lambda: engine.now)
    with pytest.raises(StorageUnavailable, match=r"storages\.two"):
        other.files.storage(TRUSTED, file)
    assert [(one.kind, one.storage) for one in other.fsck.run()] == [("unreachable", "two")]
    close(other)
