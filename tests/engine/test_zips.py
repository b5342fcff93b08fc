"""Zips: exact in length, the same bytes from wherever they are read, safe to unpack, and nobody else's."""

from __future__ import annotations

import io
import random
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine.conftest import Engine, EngineFactory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carboy.engine.zips import Archive, Layout
from carboy.errors import BytesDamaged, BytesMissing, InvalidName, InvalidRequest, NotFound, TooLarge, Unauthenticated
from carboy.model import NOBODY, Principal, Zip, ZipEntry

ME = Principal("me", "token", {"*": frozenset({"admin"})})
OTHER = Principal("other", "token", {"*": frozenset({"admin"})})


def opened(engine: Engine, **what: list[str]) -> Archive:
    return engine.services.zips.open(ME, engine.services.zips.create(ME, "main", **what).id)


def whole(archive: Archive) -> bytes:
    return b"".join(archive.pieces())


def unpacked(data: bytes) -> dict[str, bytes]:
    """The entries, read by Python's own library, which checks every CRC."""
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        return {info.filename: found.read(info) for info in found.infolist()}


def test_it_holds_files_and_folders(engine: Engine) -> None:
    for path, data in {"a.txt": b"a", "trip/b.txt": b"bb", "trip/raw/c.bin": b"c" * 100_000, "trip/empty": b"", "tripod.txt": b"no"}.items():
        engine.put(path, data)
    id = engine.put("by-id.txt", b"id").file.id
    archive = opened(engine, paths=["a.txt", "trip/"], ids=[id])
    assert unpacked(whole(archive)) == {"a.txt": b"a", "trip/b.txt": b"bb", "trip/empty": b"", "trip/raw/c.bin": b"c" * 100_000, "by-id.txt": b"id"}
    assert len(whole(archive)) == archive.zip.size


def test_all_of_a_space_is_a_folder_of_its_name(engine: Engine) -> None:
    engine.put("a.txt", b"a")
    engine.put("b/c.txt", b"c")
    assert set(unpacked(whole(opened(engine, paths=[""])))) == {"main/a.txt", "main/b/c.txt"}


@pytest.mark.skipif(not shutil.which("unzip"), reason="needs unzip")
def test_another_program_reads_it(engine: Engine, tmp_path: Path) -> None:
    engine.put("trip/café ☕.txt", b"coffee")
    engine.put("trip/plain.txt", b"plain" * 1000)
    file = tmp_path / "out.zip"
    file.write_bytes(whole(opened(engine, paths=["trip/"])))
    subprocess.run(["unzip", "-q", "-d", str(tmp_path / "out"), str(file)], check=True, env={"LC_ALL": "C.UTF-8"})
    assert (tmp_path / "out/trip/café ☕.txt").read_bytes() == b"coffee"
    assert (tmp_path / "out/trip/plain.txt").read_bytes() == b"plain" * 1000


# --- the same bytes, from anywhere ---------------------------------------------------------------------------------


def test_it_is_the_same_whenever_it_is_read(make_engine: EngineFactory) -> None:
    """Another content, another name, the trash, another hour: what was asked for stays."""
    engine = make_engine(spaces={"main": {"versions": 1}})
    first = engine.put("a.txt", b"first").file
    engine.put("b.txt", b"b")
    archive = opened(engine, paths=["a.txt", "b.txt"])
    before = whole(archive)
    engine.now += 3600
    engine.put("a.txt", b"another content")
    engine.services.changes.move(ME, first, "c.txt")
    engine.services.changes.delete(ME, first)
    again = engine.services.zips.open(ME, archive.zip.id)
    assert whole(again) == before
    assert unpacked(before)["a.txt"] == b"first"


def test_every_part_is_a_part_of_the_whole(engine: Engine) -> None:
    for number, size in enumerate([0, 1, 100, 70_000, 5]):
        engine.put(f"f/{number}.bin", random.Random(number).randbytes(size))
    archive = opened(engine, paths=["f/"])
    expected = whole(archive)
    edges = sorted({edge + near for edge in Layout(archive.zip.entries).starts for near in (-1, 0, 1, 40)} | {0, len(expected) - 1, len(expected)})
    edges = [edge for edge in edges if 0 <= edge <= len(expected)]
    for start in edges:
        for end in edges:
            if start <= end:
                archive.crcs.clear()
                assert b"".join(archive.pieces(start, end)) == expected[start:end], (start, end)
    assert all(b"".join(archive.pieces(start)) == expected[start:] for start in edges), "with checksums that are known already"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=6), cuts=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_parts_of_any_archive(sizes: list[int], cuts: tuple[float, float]) -> None:
    entries = [ZipEntry(f"n{number}", f"{number}", f"{number}", size, number * 1e9) for number, size in enumerate(sizes)]
    archive = made_of(entries)
    expected = whole(archive)
    start, end = sorted(int(cut * len(expected)) for cut in cuts)
    assert len(expected) == archive.zip.size
    assert b"".join(archive.pieces(start, end)) == expected[start:end]
    assert zipfile.ZipFile(io.BytesIO(expected)).testzip() is None


def made_of(entries: list[ZipEntry]) -> Archive:
    """An archive whose contents are made as they are read."""
    made = Zip("id", "me", "x.zip", tuple(entries), Layout(entries).size, 0.0, 1e12)
    return Archive(made, lambda entry: pieces(entry.size), {})


def pieces(size: int) -> Iterator[bytes]:
    for at in range(0, size, 2**20):
        yield bytes(min(2**20, size - at))


@pytest.mark.parametrize("count", [65_534, 65_535, 65_536])
def test_lengths_are_exact_where_the_number_of_files_needs_zip64(count: int) -> None:
    archive = made_of([ZipEntry(str(number), "", "0", 0, 1e9) for number in range(count)])
    assert sum(map(len, archive.pieces())) == archive.zip.size


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[2**31 - 1, 5], [2**31, 5], [2_045_000_000, 5], [2_046_000_000, 5], [2**32 + 1, 5]])
def test_lengths_are_exact_where_sizes_need_zip64(sizes: list[int]) -> None:
    archive = made_of([ZipEntry(str(number), "", str(number), size, 1e9) for number, size in enumerate(sizes)])
    assert sum(map(len, archive.pieces())) == archive.zip.size


@pytest.mark.parametrize("seconds", [-1e12, 0.0, 315_532_799.0, 1e9, 4_354_819_200.0, 1e13])
def test_times_that_zips_cannot_say_are_the_nearest_they_can(seconds: float) -> None:
    """Whatever the time zone."""
    with zipfile.ZipFile(io.BytesIO(whole(made_of([ZipEntry("x", "", "0", 0, seconds)])))) as found:
        date = found.infolist()[0].date_time
    assert (1980, 1, 1, 0, 0, 0) <= date <= (2107, 12, 31, 23, 59, 58)
    if seconds == 1e9:
        assert date == (2001, 9, 9, 1, 46, 40)


# --- names ---------------------------------------------------------------------------------------------------------


def test_two_of_one_name_get_numbers(engine: Engine) -> None:
    for folder in "abc":
        engine.put(f"{folder}/same.txt", folder.encode())
        engine.put(f"x/{folder}/same/deep.txt", folder.encode())
    archive = opened(engine, paths=["a/same.txt", "b/same.txt", "c/same.txt", "x/a/same/", "x/b/same/"])
    assert unpacked(whole(archive)) == {"same.txt": b"a", "same (2).txt": b"b", "same (3).txt": b"c", "same/deep.txt": b"a", "same (2)/deep.txt": b"b"}


@pytest.mark.parametrize("name, safe", [
    ("a\\b.txt", "a%5Cb.txt"), ("C:evil.txt", "C%3Aevil.txt"), ("\\\\server\\share", "%5C%5Cserver%5Cshare"), ("12:30.txt", "12:30.txt"), ("CON", "CON"),
    ("...", "..."), ("name.", "name."),
])
def test_no_name_leads_out(engine: Engine, name: str, safe: str) -> None:
    """A backslash is a slash on some systems, and a letter with a colon a drive."""
    engine.put(f"f/{name}", b"x")
    assert set(unpacked(whole(opened(engine, paths=["f/"])))) == {f"f/{safe}"}


# --- refusals ------------------------------------------------------------------------------------------------------


def test_what_is_not_there(engine: Engine) -> None:
    zips = engine.services.zips
    for what in ({"paths": ["nowhere.txt"]}, {"paths": ["nowhere/"]}, {"paths": [""]}, {"ids": ["0" * 32]}):
        with pytest.raises(NotFound):
            zips.create(ME, "main", **what)
    with pytest.raises(NotFound):
        zips.create(ME, "nospace", paths=[""])
    with pytest.raises(NotFound):
        zips.open(ME, "0" * 32)


def test_names_and_wishes_that_are_none(engine: Engine) -> None:
    with pytest.raises(InvalidRequest):
        engine.services.zips.create(ME, "main")
    for what in ({"paths": ["../a"]}, {"paths": ["a//"]}, {"ids": [engine.put("a", b"").file.id], "name": "\0"}):
        with pytest.raises(InvalidName):
            engine.services.zips.create(ME, "main", **what)  # type: ignore[arg-type]


def test_it_is_its_makers_alone_and_for_a_time(engine: Engine) -> None:
    engine.put("a.txt", b"a")
    id = opened(engine, paths=["a.txt"]).zip.id
    with pytest.raises(NotFound):
        engine.services.zips.open(OTHER, id)
    with pytest.raises(Unauthenticated):
        engine.services.zips.open(NOBODY, id)
    engine.now += engine.settings.zip_expiry
    with pytest.raises(NotFound):
        engine.services.zips.open(ME, id)


def test_bytes_that_are_gone_are_told_before_the_first_byte(engine: Engine) -> None:
    engine.put("a.txt", b"a")
    file = engine.put("b.txt", b"b").file
    id = opened(engine, paths=["a.txt", "b.txt"]).zip.id
    engine.blob(file.blob.key).unlink()
    with pytest.raises(BytesMissing) as told:
        engine.services.zips.open(ME, id)
    assert told.value.facts["path"] == "b.txt"


def test_damaged_bytes_are_not_given_out(engine: Engine) -> None:
    file = engine.put("b.txt", b"b").file
    id = opened(engine, paths=["b.txt"]).zip.id
    engine.services.catalog.set_damaged(file.blob.id, engine.now)
    with pytest.raises(BytesDamaged):
        engine.services.zips.open(ME, id)


def test_what_is_gone_for_good_ends_it(engine: Engine) -> None:
    """But not for who reads it already: bytes outlive their file for a while."""
    file = engine.put("b.txt", b"b" * 1_000_000).file
    archive = opened(engine, paths=["b.txt"])
    reading = archive.pieces()
    data = next(reading)
    engine.services.changes.delete(ME, file, permanent=True)
    assert unpacked(data + b"".join(reading)) == {"b.txt": b"b" * 1_000_000}
    with pytest.raises(NotFound) as told:
        engine.services.zips.open(ME, archive.zip.id)
    assert told.value.facts["path"] == "b.txt"


def test_too_many_files(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carboy.engine.zips.MAX_FILES", 3)
    for number in range(4):
        engine.put(f"f/{number}", b"")
    with pytest.raises(TooLarge) as told:
        opened(engine, paths=["f/"])
    assert told.value.facts["limit"] == 3
