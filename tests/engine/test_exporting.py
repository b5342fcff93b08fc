"""Trees of files that go out: all that is there, proved, and never outside the folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from engine.conftest import Engine, EngineFactory

from carboy.config import SpaceSettings
from carboy.errors import InvalidName, InvalidRequest, NotFound

FILES = {"a.txt": b"first", "b/c.bin": bytes(range(256)) * 2000, "b/d/e": b"", "back\\slash": b"b", "CON": b"con", "trailing.": b"t"}


@pytest.fixture
def filled(make_engine: EngineFactory) -> Engine:
    engine = make_engine(spaces={"main": SpaceSettings(versions=5), "other": SpaceSettings()})
    for path, data in FILES.items():
        engine.put(path, data)
    return engine


def written(engine: Engine, root: Path, **options: Any) -> dict[str, str]:
    return {one.name: one.outcome for one in engine.services.exporter.run(root, **options)}


def found(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file() and not path.is_symlink()}


def lines(root: Path, name: str = "carboy-export.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / name).read_text().splitlines()]


def test_every_file_is_written_as_it_is(filled: Engine, tmp_path: Path) -> None:
    root = tmp_path / "out"
    assert written(filled, root, space="main") == dict.fromkeys(sorted(FILES), "copied")
    there = found(root)
    del there["carboy-export.jsonl"]
    assert there == FILES
    assert (root / "a.txt").stat().st_mtime == filled.now


def test_what_is_known_of_each_lies_beside_them(filled: Engine, tmp_path: Path) -> None:
    written(filled, tmp_path / "out", space="main")
    told = {one["path"]: one for one in lines(tmp_path / "out")}
    assert set(told) == set(FILES)
    file = filled.file("b/c.bin")
    assert file
    assert told["b/c.bin"] == {
        "id": file.id, "space": "main", "path": "b/c.bin", "file": "b/c.bin", "owner": "me", "media_type": file.media_type, "size": file.size,
        "crc64nvme": f"{file.blob.crc64nvme:016x}", "sha256": None, "metadata": {}, "tags": [], "version": 1, "created_at": file.created_at,
        "modified_at": file.modified_at, "versions": []}


def test_all_spaces_each_in_a_folder(filled: Engine, tmp_path: Path) -> None:
    filled.put("a.txt", b"another", space="other")
    assert written(filled, tmp_path / "out")["other/a.txt"] == "copied"
    assert (tmp_path / "out/other/a.txt").read_bytes() == b"another"
    assert (tmp_path / "out/main/a.txt").read_bytes() == b"first"


def test_only_what_begins_with_a_prefix(filled: Engine, tmp_path: Path) -> None:
    assert set(written(filled, tmp_path / "out", space="main", prefix="b/")) == {"b/c.bin", "b/d/e"}


def test_older_contents_too(filled: Engine, tmp_path: Path) -> None:
    file = filled.put("a.txt", b"second").file
    assert written(filled, tmp_path / "out", space="main", versions=True)[f".carboy-versions/{file.id}/1"] == "copied"
    assert (tmp_path / f"out/.carboy-versions/{file.id}/1").read_bytes() == b"first"
    assert (tmp_path / "out/a.txt").read_bytes() == b"second"
    [told] = [one for one in lines(tmp_path / "out") if one["path"] == "a.txt"]
    assert [(one["number"], one["size"]) for one in told["versions"]] == [(1, 5)]


def test_by_hard_link(filled: Engine, tmp_path: Path) -> None:
    assert set(written(filled, tmp_path / "out", space="main", link=True).values()) == {"linked"}
    file = filled.file("b/c.bin")
    assert file
    assert os.path.samefile(tmp_path / "out/b/c.bin", filled.blob(file.blob.key))


def test_again_writes_only_what_is_missing(filled: Engine, tmp_path: Path) -> None:
    root = tmp_path / "out"
    run = filled.services.exporter.run(root, space="main")
    for _ in range(3):
        next(run)
    run.close()
    with pytest.raises(InvalidRequest, match="not empty"):
        written(filled, root, space="main")
    told = written(filled, root, space="main", into=True)
    assert (list(told.values()).count("kept"), list(told.values()).count("copied")) == (3, 3)
    assert {one["path"] for one in lines(root)} == set(FILES)
    assert not [name for name in os.listdir(root) if name.startswith(".carboy") or name.endswith(".new")]


def test_what_is_in_the_folder_stays(filled: Engine, tmp_path: Path) -> None:
    root = tmp_path / "out"
    (root / "b/d/e").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"mine!")
    told = written(filled, root, space="main", into=True)
    assert {name for name, outcome in told.items() if outcome == "left out"} == {"a.txt", "b/d/e"}
    assert (root / "a.txt").read_bytes() == b"mine!"
    assert (root / "b/c.bin").exists()


def test_nothing_is_written_through_a_link(filled: Engine, tmp_path: Path) -> None:
    root, outside = tmp_path / "out", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "b").symlink_to(outside)
    (root / "a.txt").symlink_to(outside / "a.txt")
    told = written(filled, root, space="main", into=True)
    assert {name for name, outcome in told.items() if outcome == "left out"} == {"a.txt", "b/c.bin", "b/d/e"}
    assert list(outside.iterdir()) == []


def test_bytes_that_are_not_those_received_do_not_leave(filled: Engine, tmp_path: Path) -> None:
    damaged, missing = filled.file("a.txt"), filled.file("CON")
    assert damaged
    assert missing
    filled.blob(damaged.blob.key).write_bytes(b"FIRST")
    filled.blob(missing.blob.key).unlink()
    told = {one.name: (one.outcome, one.reason) for one in filled.services.exporter.run(tmp_path / "out", space="main")}
    assert told["a.txt"] == ("left out", "the stored bytes are not the ones that were received")
    assert told["CON"][0] == "left out"
    assert set(found(tmp_path / "out")) == {*FILES, "carboy-export.jsonl"} - {"a.txt", "CON"}
    assert {one["path"] for one in lines(tmp_path / "out")} == set(FILES) - {"a.txt", "CON"}


def test_a_file_that_has_the_sidecars_name_comes_too(filled: Engine, tmp_path: Path) -> None:
    filled.put("carboy-export.jsonl", b"mine")
    written(filled, tmp_path / "out", space="main")
    assert (tmp_path / "out/carboy-export.jsonl").read_bytes() == b"mine"
    assert len(lines(tmp_path / "out", "carboy-export-1.jsonl")) == len(FILES) + 1


def test_what_goes_out_comes_in_again(filled: Engine, tmp_path: Path, make_engine: EngineFactory) -> None:
    written(filled, tmp_path / "out", space="main")
    (tmp_path / "out/carboy-export.jsonl").unlink()
    assert {one.outcome for one in filled.services.importer.run(tmp_path / "out", "other")} == {"copied"}
    for path, data in FILES.items():
        assert filled.read(path, "other") == data
        assert filled.file(path, "other").modified_at == filled.file(path).modified_at  # type: ignore[union-attr]


@pytest.mark.parametrize("whole", [False, True])
def test_what_is_known_of_them_comes_in_again_too(filled: Engine, tmp_path: Path, whole: bool) -> None:
    file = filled.file("b/c.bin")
    assert file
    filled.services.catalog.update_file(file.id, metadata={"title": "Ü", "n": [1, {"x": None}]}, tags=["blue", "new"], now=filled.now)
    filled.put("a.txt", b"second")
    written(filled, tmp_path / "out", space=None if whole else "main", versions=True)
    root, sidecar = tmp_path / "out" / ("main" if whole else ""), tmp_path / "out/carboy-export.jsonl"
    filled.now += 1000
    told = {one.name: one.outcome for one in filled.services.importer.run(root, "other", described=sidecar)}
    assert told == dict.fromkeys(FILES, "copied")
    before, again = filled.file("b/c.bin"), filled.file("b/c.bin", "other")
    assert before
    assert again
    assert (again.metadata, sorted(again.tags), again.owner, again.modified_at) == (
        before.metadata, ["blue", "new"], "me", before.modified_at)
    assert filled.services.catalog.miscounted() == []


def test_what_is_not_what_was_exported_stays_out(filled: Engine, tmp_path: Path) -> None:
    written(filled, tmp_path / "out", space="main")
    (tmp_path / "out/a.txt").write_bytes(b"FIRST")
    (tmp_path / "out/added").write_bytes(b"since")
    told = {one.name: (one.outcome, one.reason)
            for one in filled.services.importer.run(tmp_path / "out", "other", described=tmp_path / "out/carboy-export.jsonl")}
    assert told["a.txt"] == ("left out", "it is not what was exported: the bytes are others")
    assert told["added"][0] == "copied"
    for line in ("no JSON", "{}", "[]", '{"file": "a", "metadata": {}, "tags": [""], "owner": null, "crc64nvme": "0", "modified_at": 0}'):
        (tmp_path / "lines").write_text(line + "\n")
        with pytest.raises(InvalidRequest):
            list(filled.services.importer.run(tmp_path / "out", "other", described=tmp_path / "lines"))


def test_what_can_not_be_asked_for(filled: Engine, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        written(filled, tmp_path / "out", space="unknown")
    with pytest.raises(InvalidName):
        written(filled, tmp_path / "out", space="main", prefix="a\0")
