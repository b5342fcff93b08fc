"""Trees of files that come in: all of them, as they are, once, and nothing that may not be here."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest
from engine.conftest import Engine, EngineFactory

from carboy.config import SpaceSettings
from carboy.engine.trees import Moved
from carboy.errors import InvalidRequest, NotFound, StorageFull

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0\x90wS\xde" + bytes(26)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for path, data in {"a.txt": b"first", "b/c.bin": b"\0" * 300_000, "b/d/e.png": PNG, "empty": b""}.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        os.utime(file, (500_000.25, 500_000.25))
    return root


def brought(engine: Engine, root: Path, space: str = "main", **options: object) -> dict[str, tuple[str, str]]:
    told = list(engine.services.importer.run(root, space, **options))
    assert len({one.name for one in told}) == len(told)
    return {one.name: (one.outcome, one.reason) for one in told}


def outcomes(told: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {name: outcome for name, (outcome, _) in told.items()}


def test_every_file_comes_as_it_is(engine: Engine, tree: Path) -> None:
    assert outcomes(brought(engine, tree)) == dict.fromkeys(["a.txt", "b/c.bin", "b/d/e.png", "empty"], "copied")
    for path in ("a.txt", "b/c.bin", "b/d/e.png", "empty"):
        assert engine.read(path) == (tree / path).read_bytes()
        file = engine.file(path)
        assert file
        assert (file.size, file.modified_at, file.created_at, file.owner) == ((tree / path).stat().st_size, 500_000.25, engine.now, None)
    assert [engine.file(path).media_type for path in ("a.txt", "b/d/e.png")] == ["text/plain", "image/png"]  # type: ignore[union-attr]
    assert engine.findings() == []


def test_the_original_can_go_or_change_afterwards(engine: Engine, tree: Path) -> None:
    brought(engine, tree)
    (tree / "a.txt").write_bytes(b"other")
    shutil.rmtree(tree / "b")
    assert engine.read("a.txt") == b"first"
    assert engine.findings() == []


def test_again_takes_only_what_is_new(engine: Engine, tree: Path) -> None:
    brought(engine, tree)
    before = engine.stored()
    (tree / "new").write_bytes(b"new")
    assert outcomes(brought(engine, tree)) == {**dict.fromkeys(["a.txt", "b/c.bin", "b/d/e.png", "empty"], "kept"), "new": "copied"}
    assert len(engine.stored()) == len(before) + 1


def test_one_that_was_cut_short_goes_on(engine: Engine, tree: Path) -> None:
    for number in range(150):
        (tree / f"{number:03}").write_bytes(b"%d" % number)
    run = engine.services.importer.run(tree)
    for _ in range(70):
        next(run)
    run.close()
    told = outcomes(brought(engine, tree))
    assert len(told) == 154
    assert 64 <= list(told.values()).count("kept") < 154
    assert all(engine.read(f"{number:03}") == b"%d" % number for number in range(150))
    assert engine.findings() == []


def test_where_they_go_and_whose_they_are(engine: Engine, tree: Path) -> None:
    brought(engine, tree, to="old/disk", owner="ann")
    file = engine.file("old/disk/b/c.bin")
    assert file
    assert file.owner == "ann"


def test_into_a_private_space_only_for_somebody(make_engine: EngineFactory, tree: Path) -> None:
    engine = make_engine(spaces={"home": SpaceSettings(private=True)})
    with pytest.raises(InvalidRequest, match="say whose"):
        brought(engine, tree, "home")
    brought(engine, tree, "home", owner="ann")
    assert engine.read("ann/a.txt", "home") == b"first"


# --- by hard link --------------------------------------------------------------------------------------------------


def test_a_link_takes_no_room_and_survives_the_original(engine: Engine, tree: Path) -> None:
    assert set(outcomes(brought(engine, tree, link=True)).values()) == {"linked"}
    file = engine.file("b/c.bin")
    assert file
    assert os.path.samefile(engine.blob(file.blob.key), tree / "b/c.bin")
    shutil.rmtree(tree)
    assert engine.read("b/c.bin") == b"\0" * 300_000
    assert engine.findings() == []


def test_deleting_a_linked_file_leaves_the_original(engine: Engine, tree: Path) -> None:
    brought(engine, tree, link=True)
    file = engine.file("a.txt")
    assert file
    engine.services.catalog.delete_file(file.id, now=engine.now)
    engine.now += 1000
    engine.services.sweeper.run()
    assert file.blob.key not in engine.stored()
    assert (tree / "a.txt").read_bytes() == b"first"


def test_what_changes_under_a_link_is_found(engine: Engine, tree: Path) -> None:
    brought(engine, tree, link=True)
    (tree / "a.txt").write_bytes(b"FIRST")
    assert [kind for kind, _ in engine.findings()] == ["damaged"]


def test_a_link_to_another_file_system_becomes_a_copy(engine: Engine) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == engine.folder.stat().st_dev:
        pytest.skip("there is no second file system here")
    root = shm / f"carboy-test-{os.getpid()}"
    root.mkdir()
    try:
        (root / "x").write_bytes(b"far")
        assert outcomes(brought(engine, root, link=True)) == {"x": "copied"}
        assert engine.read("x") == b"far"
    finally:
        shutil.rmtree(root)


def test_two_names_of_one_file_become_two_files(engine: Engine, tree: Path) -> None:
    os.link(tree / "a.txt", tree / "a2.txt")
    assert set(outcomes(brought(engine, tree, link=True)).values()) <= {"linked", "copied"}
    assert engine.read("a.txt") == engine.read("a2.txt") == b"first"
    assert engine.findings() == []


# --- what is left out ----------------------------------------------------------------------------------------------


def test_names_that_can_not_be_are_told_of(engine: Engine, tree: Path) -> None:
    (tree / "two\nlines").write_bytes(b"x")
    (tree / "%2e%2e").mkdir()
    (tree / "%2e%2e/up").write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(tree) + b"/latin\xe9")).write_bytes(b"x")
    told = brought(engine, tree)
    assert {name for name, (outcome, _) in told.items() if outcome == "left out"} == {"two\nlines", "%2e%2e/up", "latin\udce9"}
    assert "U+000A" in told["two\nlines"][1]
    assert engine.read("a.txt") == b"first"


def test_links_and_what_is_no_file_are_not_followed(engine: Engine, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/x").write_bytes(b"x")
    (tree / "link").symlink_to(tmp_path / "secret")
    (tree / "folder").symlink_to(tmp_path / "outside")
    os.mkfifo(tree / "pipe")
    told = brought(engine, tree)
    assert {name: reason for name, (outcome, reason) in told.items() if outcome == "left out"} == {
        "link": "is a symbolic link", "folder": "is a symbolic link", "pipe": "is no regular file"}
    assert len(engine.stored()) == 4


def test_another_content_at_the_path_stays_unless_told_otherwise(engine: Engine, tree: Path) -> None:
    engine.put("a.txt", b"mine!")
    assert brought(engine, tree)["a.txt"] == ("left out", "there is a file with another content already")
    assert engine.read("a.txt") == b"mine!"
    assert outcomes(brought(engine, tree, on_conflict="rename"))["a.txt"] == "copied"
    assert engine.read("a.txt") == b"mine!"
    assert outcomes(brought(engine, tree, on_conflict="replace"))["a.txt"] == "copied"
    assert engine.read("a.txt") == b"first"


def test_the_rules_of_the_space_hold(make_engine: EngineFactory, tree: Path) -> None:
    engine = make_engine(spaces={"images": SpaceSettings(accept=("image/*",)), "small": SpaceSettings(max_size=100),
                                 "tight": SpaceSettings(quota=50)})
    assert {name for name, outcome in outcomes(brought(engine, tree, "images")).items() if outcome == "copied"} == {"b/d/e.png"}
    told = brought(engine, tree, "small")
    assert {name for name, (outcome, _) in told.items() if outcome == "left out"} == {"b/c.bin"}
    assert {name for name, outcome in outcomes(brought(engine, tree, "tight")).items() if outcome == "copied"} == {"a.txt", "empty"}
    assert engine.findings() == []
    assert len(engine.stored()) == 1 + 3 + 2, "nothing remains of what was left out"


def test_a_path_that_is_a_folder_already_is_left_out(engine: Engine, tree: Path) -> None:
    engine.put("a.txt/below", b"x")
    told = brought(engine, tree)
    assert told["a.txt"][0] == "left out"
    assert engine.read("b/c.bin") == b"\0" * 300_000


def test_a_file_that_changes_meanwhile_is_left_out_or_whole(engine: Engine, tree: Path) -> None:
    """Whatever is stored is what was there at some moment's size and time, and its checksum is its own."""
    grown, ended = tree / "growing", threading.Event()
    grown.write_bytes(b"")

    def grow() -> None:
        with grown.open("ab", buffering=0) as file:
            while not ended.is_set():
                file.write(b"line\n" * 100)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        told = brought(engine, tree)
    finally:
        ended.set()
        writer.join()
    assert told["growing"] in [("left out", "it was changed while it was read"), ("copied", "")]
    assert engine.findings() == []


def test_a_full_disk_ends_it_and_leaves_nothing_half(engine: Engine, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statvfs = os.statvfs
    monkeypatch.setattr(os, "statvfs", lambda fd: os.statvfs_result((*statvfs(fd)[:3], 0, 0, *statvfs(fd)[5:])))
    with pytest.raises(StorageFull):
        brought(engine, tree)
    monkeypatch.undo()
    assert engine.stored() == set()
    assert set(outcomes(brought(engine, tree)).values()) == {"copied"}


def test_what_can_not_be_the_root(engine: Engine, tmp_path: Path, tree: Path) -> None:
    with pytest.raises(InvalidRequest, match="no folder"):
        brought(engine, tmp_path / "nowhere")
    with pytest.raises(InvalidRequest, match="data folder"):
        brought(engine, tmp_path)
    with pytest.raises(NotFound):
        brought(engine, tree, "unknown")


def test_each_is_told_once_in_order(engine: Engine, tree: Path) -> None:
    told: list[Moved] = list(engine.services.importer.run(tree))
    assert [one.name for one in told] == ["a.txt", "empty", "b/c.bin", "b/d/e.png"]
