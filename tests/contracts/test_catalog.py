"""What every catalog keeps: carboy.catalog.base.Catalog over SQLite and PostgreSQL."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carboy.catalog.base import Catalog, Reservation
from carboy.catalog.sql import open_catalog
from carboy.checksums import combine, crc64nvme
from carboy.errors import (
    CarboyError,
    ConfigError,
    Conflict,
    InvalidRequest,
    MissingBytes,
    NotFound,
    PathConflict,
    PreconditionFailed,
    StorageFull,
    TooLarge,
    UploadGone,
)
from carboy.model import Blob, Chunk, Condition, File, Key, Placement, Span, Token, Upload, key_for, new_id


@pytest.fixture(scope="session")
def empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalog") / "empty.sqlite3"
    catalog = open_catalog(f"sqlite:///{path}")
    catalog.migrate()
    catalog.close()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path, empty_sqlite: Path) -> Iterator[Catalog]:
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    else:
        url = f"sqlite:///{shutil.copy(empty_sqlite, tmp_path / 'catalog.sqlite3')}"
    catalog = open_catalog(url)
    yield catalog
    catalog.close()


def a_blob(size: int = 4, crc: int = 7, **changes: Any) -> Blob:
    id = new_id()
    return replace(Blob(id, "local", key_for(id), size, crc, None, 1.0), **changes)


def at(path: str, **changes: Any) -> Placement:
    blob = changes.pop("blob", None) or a_blob()
    return replace(Placement("main", path, "ann", "text/plain", {}, blob), **changes)


def put(catalog: Catalog, path: str, now: float = 1.0, **changes: Any) -> File:
    return catalog.place([at(path, **changes)], now=now)[0].file


def an_upload(**changes: Any) -> Upload:
    id = new_id()
    return replace(Upload(id, "main", "up.bin", "ann", "tus", "local", key_for(id), created_at=1.0, touched_at=1.0, expires_at=100.0),
                   **changes)


def begin(catalog: Catalog, **changes: Any) -> Upload:
    return catalog.create_upload(an_upload(**changes))


def note(catalog: Catalog, upload: Upload, *spans: Span, now: float = 2.0, **more: Any) -> Any:
    return catalog.record(upload.id, spans, now=now, expires_at=more.pop("expires_at", 100.0), **more)


def of(upload: Upload, **changes: Any) -> Placement:
    """The placement that completes an upload: its bytes where they are."""
    blob = Blob(upload.id, upload.storage, upload.key, upload.size or 0, 7, None, 3.0)
    return replace(Placement(upload.space, upload.path, upload.owner, "text/plain", {}, blob), **changes)


def every_path(catalog: Catalog, limit: int = 100, **asked: Any) -> list[str]:
    """All pages of a listing, files and folders in the order they came, page by page sorted."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = catalog.files("main", cursor=cursor, limit=limit, **asked)
        items = [file.path for file in page.files] + list(page.folders)
        assert len(items) <= limit
        found += sorted(items)
        cursor = page.cursor
        if cursor is None:
            return found


def together(*calls: Callable[[], object]) -> list[object]:
    """Run the calls at the same moment; what they return or raise."""
    ready = threading.Barrier(len(calls))
    outcomes: list[object] = [None] * len(calls)

    def run(number: int, call: Callable[[], object]) -> None:
        ready.wait(60)
        try:
            outcomes[number] = call()
        except CarboyError as error:
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return outcomes


class TestLife:
    def test_migrating_and_checking_are_repeatable(self, catalog: Catalog) -> None:
        put(catalog, "a")
        catalog.migrate()
        catalog.check()
        assert catalog.file_at("main", "a") is not None

    def test_a_closed_catalog_opens_again(self, catalog: Catalog) -> None:
        file = put(catalog, "a")
        catalog.close()
        catalog.close()
        assert catalog.file(file.id) == file
        put(catalog, "b")

    @pytest.mark.parametrize("url", ["sqlite://", "mysql://host/db", "no url"])
    def test_other_databases_are_refused(self, url: str) -> None:
        with pytest.raises(ConfigError):
            open_catalog(url)


class TestPlace:
    def test_a_placed_file_reads_back_whole(self, catalog: Catalog) -> None:
        blob = a_blob(size=2**63 - 1, crc=2**64 - 1, sha256=bytes(range(32)), created_at=1234.5678)
        metadata = {"title": 'Grüße "\\ \x00 \U0001f600', "tags": ["a", 1, None, 1.5], "deep": {"x": {}}}
        [placed] = catalog.place([at("a/b.txt", blob=blob, metadata=metadata, owner=None)], now=99.25)
        assert placed.created
        file = placed.file
        assert file == File(file.id, "main", "a/b.txt", None, "text/plain", metadata, blob, 1, 99.25, 99.25)
        assert catalog.file(file.id) == catalog.file_at("main", "a/b.txt") == file
        assert catalog.blobs("local") == [blob]

    @pytest.mark.parametrize("crc", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
    def test_crcs_are_unsigned(self, catalog: Catalog, crc: int) -> None:
        assert catalog.file(put(catalog, "a", blob=a_blob(crc=crc)).id).blob.crc64nvme == crc  # type: ignore[union-attr]

    def test_what_is_not_there_is_none(self, catalog: Catalog) -> None:
        put(catalog, "a")
        assert catalog.file(new_id()) is None
        assert catalog.file_at("main", "A") is None
        assert catalog.file_at("other", "a") is None

    def test_replacing_keeps_the_file_and_condemns_the_old_bytes(self, catalog: Catalog) -> None:
        first = put(catalog, "a", now=1.0)
        [placed] = catalog.place([at("a", owner="bob", media_type="image/png", metadata={"n": 2})], now=5.0)
        second = placed.file
        assert not placed.created
        assert (second.id, second.owner, second.created_at) == (first.id, "ann", 1.0)
        assert (second.version, second.modified_at, second.media_type, second.metadata) == (2, 5.0, "image/png", {"n": 2})
        assert catalog.file_at("main", "a") == second
        assert catalog.condemned("local", before=5.0) == [first.blob.key]
        assert catalog.condemned("local", before=4.9) == []
        assert catalog.counts() == {"files": 1, "blobs": 1, "uploads": 0, "condemned": 1}

    def test_versions_are_kept_up_to_the_number(self, catalog: Catalog) -> None:
        contents = [put(catalog, "a", now=float(n), keep_versions=2, media_type=f"x/{n}") for n in range(1, 6)]
        file = contents[-1]
        assert file.version == 5
        kept = catalog.versions(file.id)
        assert [(v.number, v.blob, v.media_type, v.created_at) for v in kept] == [
            (4, contents[3].blob, "x/4", 4.0), (3, contents[2].blob, "x/3", 3.0)]
        assert catalog.condemned("local", before=100.0) == [contents[0].blob.key, contents[1].blob.key]
        assert catalog.versions(new_id()) == []

    def test_the_same_content_again_is_no_new_version(self, catalog: Catalog) -> None:
        first = put(catalog, "a", keep_versions=3)
        again = put(catalog, "a", keep_versions=3, blob=first.blob, metadata={"new": True}, now=2.0)
        assert (again.version, again.blob, again.metadata) == (1, first.blob, {"new": True})
        assert catalog.versions(first.id) == []
        assert catalog.condemned("local", before=100.0) == []

    def test_bytes_that_another_file_or_version_holds_are_not_condemned(self, catalog: Catalog) -> None:
        shared = put(catalog, "a").blob
        put(catalog, "b", blob=shared, keep_versions=1)
        put(catalog, "b", keep_versions=1)
        put(catalog, "a")
        assert catalog.condemned("local", before=100.0) == []
        b = catalog.file_at("main", "b")
        assert b is not None and [v.blob for v in catalog.versions(b.id)] == [shared]
        catalog.delete_file(b.id, now=8.0)
        assert set(catalog.condemned("local", before=100.0)) == {shared.key, b.blob.key}

    def test_all_or_none(self, catalog: Catalog) -> None:
        put(catalog, "taken")
        wanted = [at("one"), at("two", steps=("digest",)), at("taken", on_conflict="refuse")]
        with pytest.raises(Conflict):
            catalog.place(wanted, now=2.0)
        assert every_path(catalog) == ["taken"]
        assert catalog.counts()["blobs"] == 1
        assert [placed.file.path for placed in catalog.place(wanted[:2], now=2.0)] == ["one", "two"]

    def test_several_at_one_path_end_with_the_last(self, catalog: Catalog) -> None:
        first, second = catalog.place([at("a"), at("a")], now=1.0)
        assert (first.created, second.created, second.file.version) == (True, False, 2)
        assert catalog.file_at("main", "a") == second.file

    def test_nothing_to_place_is_nothing(self, catalog: Catalog) -> None:
        assert catalog.place([], now=1.0) == []

    def test_it_drops_the_reservation(self, catalog: Catalog) -> None:
        catalog.reserve(Reservation("r", "local", "ann", 10, 100.0), room=100, cap=100, now=1.0)
        catalog.place([at("a")], now=2.0, release="r")
        assert catalog.reserved("local", now=2.0) == 0

    def test_one_path_taken_by_many_at_once_holds_the_last(self, catalog: Catalog) -> None:
        wanted = [at("a/b") for _ in range(8)]
        placed = together(*[lambda p=p: catalog.place([p], now=1.0)[0] for p in wanted])  # type: ignore[misc]
        assert sorted(p.file.version for p in placed) == list(range(1, 9))  # type: ignore[attr-defined]
        assert sum(p.created for p in placed) == 1  # type: ignore[attr-defined]
        assert catalog.counts()["files"] == catalog.counts()["blobs"] == 1


class TestConflicts:
    @pytest.mark.parametrize(("taken", "wanted"), [
        ("a", "a/b"), ("a/b", "a/b/c/d/e"), ("a/b/c", "a"), ("a/b/c", "a/b"), ("a/b", "a/b/c"), ("x%", "x%/y"), ("x_/y", "x_")])
    def test_a_path_is_a_file_or_a_folder(self, catalog: Catalog, taken: str, wanted: str) -> None:
        put(catalog, taken)
        for on_conflict in ("replace", "rename", "refuse"):
            with pytest.raises(PathConflict):
                catalog.place([at(wanted, on_conflict=on_conflict)], now=1.0)
        assert every_path(catalog) == [taken]

    @pytest.mark.parametrize(("taken", "wanted"), [
        ("a", "ab/c"), ("a/b", "a.b"), ("a/b", "a0"), ("a.txt", "a"), ("a", "A/b"), ("x%y", "x/z"), ("x_", "xa/b")])
    def test_paths_that_only_look_alike_are_fine(self, catalog: Catalog, taken: str, wanted: str) -> None:
        put(catalog, taken)
        put(catalog, wanted)
        assert sorted(every_path(catalog)) == sorted([taken, wanted])

    def test_spaces_do_not_meet(self, catalog: Catalog) -> None:
        put(catalog, "a")
        put(catalog, "a/b", space="other")
        assert [f.path for f in catalog.files("other").files] == ["a/b"]

    def test_a_file_and_its_folder_at_once_leave_one(self, catalog: Catalog) -> None:
        for n in range(10):
            outcomes = together(lambda n=n: put(catalog, f"{n}/a"), lambda n=n: put(catalog, f"{n}/a/b"))  # type: ignore[misc]
            assert sorted(type(outcome).__name__ for outcome in outcomes) == ["File", "PathConflict"]

    def test_a_deleted_file_makes_room_for_a_folder(self, catalog: Catalog) -> None:
        catalog.delete_file(put(catalog, "a").id, now=2.0)
        put(catalog, "a/b")
        with pytest.raises(PathConflict):
            put(catalog, "a")

    def test_refuse(self, catalog: Catalog) -> None:
        first = put(catalog, "a")
        with pytest.raises(Conflict):
            put(catalog, "a", on_conflict="refuse")
        assert catalog.file_at("main", "a") == first
        assert put(catalog, "b", on_conflict="refuse").path == "b"

    @pytest.mark.parametrize(("path", "renamed"), [
        ("photo.jpg", "photo (1).jpg"), ("a.b/photo", "a.b/photo (1)"), ("a/.bashrc", "a/.bashrc (1)"), ("x.tar.gz", "x.tar (1).gz"),
        ("q'%_*\"", "q'%_*\" (1)")])
    def test_rename(self, catalog: Catalog, path: str, renamed: str) -> None:
        first = put(catalog, path)
        [placed] = catalog.place([at(path, on_conflict="rename")], now=2.0)
        assert placed.created
        assert (placed.file.path, placed.file.version) == (renamed, 1)
        assert placed.file.id != first.id

    def test_rename_takes_the_first_free_name(self, catalog: Catalog) -> None:
        names = [put(catalog, "a.txt", on_conflict="rename").path for _ in range(6)]
        assert names == ["a.txt", *[f"a ({n}).txt" for n in range(1, 6)]]
        catalog.delete_file(catalog.file_at("main", "a (2).txt").id, now=2.0)  # type: ignore[union-attr]
        put(catalog, "a (6).txt/folder")
        assert put(catalog, "a.txt", on_conflict="rename").path == "a (2).txt"
        assert put(catalog, "a.txt", on_conflict="rename").path == "a (7).txt"

    def test_rename_after_thousands(self, catalog: Catalog) -> None:
        catalog.place([at("a.txt"), *[at(f"a ({n}).txt") for n in range(1, 2001)]], now=1.0)
        assert put(catalog, "a.txt", on_conflict="rename").path == "a (2001).txt"

    def test_renames_at_once_get_a_name_each(self, catalog: Catalog) -> None:
        outcomes = together(*[lambda: put(catalog, "d/a.txt", on_conflict="rename").path for _ in range(8)])
        assert sorted(map(str, outcomes)) == sorted(["d/a.txt", *[f"d/a ({n}).txt" for n in range(1, 8)]])


class TestConditions:
    def test_absent(self, catalog: Catalog) -> None:
        put(catalog, "a", condition=Condition(absent=True))
        for on_conflict in ("replace", "rename", "refuse"):
            with pytest.raises(PreconditionFailed):
                put(catalog, "a", condition=Condition(absent=True), on_conflict=on_conflict)

    def test_etags(self, catalog: Catalog) -> None:
        with pytest.raises(PreconditionFailed):
            put(catalog, "a", condition=Condition(etags=("*",)))
        first = put(catalog, "a")
        second = put(catalog, "a", condition=Condition(etags=('"other"', first.etag)))
        with pytest.raises(PreconditionFailed) as caught:
            put(catalog, "a", condition=Condition(etags=(first.etag,)))
        assert caught.value.facts["etag"] == second.etag
        with pytest.raises(PreconditionFailed):
            put(catalog, "a", condition=Condition(etags=()))
        assert put(catalog, "a", condition=Condition(etags=("*",))).version == 3

    def test_not_etags(self, catalog: Catalog) -> None:
        first = put(catalog, "a", condition=Condition(not_etags=('"x"',)))
        for excluded in (first.etag, f"W/{first.etag}", "*"):
            with pytest.raises(PreconditionFailed):
                put(catalog, "a", condition=Condition(not_etags=('"x"', excluded)))
        assert put(catalog, "a", condition=Condition(not_etags=('"x"',))).version == 2

    def test_of_two_at_once_with_the_same_etag_one_wins(self, catalog: Catalog) -> None:
        first = put(catalog, "a")
        condition = Condition(etags=(first.etag,))
        outcomes = together(*[lambda: put(catalog, "a", condition=condition) for _ in range(4)])
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["File"] + ["PreconditionFailed"] * 3


class TestDelete:
    def test_it_forgets_file_and_versions_and_condemns_their_bytes(self, catalog: Catalog) -> None:
        old = put(catalog, "a", keep_versions=1)
        new = put(catalog, "a", keep_versions=1, steps=("digest",))
        assert catalog.delete_file(new.id, now=9.0) == new
        assert catalog.file(new.id) is None
        assert catalog.versions(new.id) == []
        assert set(catalog.condemned("local", before=9.0)) == {old.blob.key, new.blob.key}
        assert catalog.counts() == {"files": 0, "blobs": 0, "uploads": 0, "condemned": 2}
        assert catalog.delete_file(new.id, now=9.0) is None

    def test_only_the_named_content(self, catalog: Catalog) -> None:
        file = put(catalog, "a")
        with pytest.raises(PreconditionFailed):
            catalog.delete_file(file.id, now=2.0, etags=('"other"',))
        assert catalog.file(file.id) == file
        assert catalog.delete_file(file.id, now=2.0, etags=(file.etag,)) == file

    def test_condemned_bytes_are_not_adopted(self, catalog: Catalog) -> None:
        file = put(catalog, "a")
        catalog.delete_file(file.id, now=2.0)
        with pytest.raises(NotFound):
            put(catalog, "b", blob=file.blob)
        assert every_path(catalog) == []
        assert catalog.known("local", [file.blob.key]) == {file.blob.key}
        catalog.forget("local", [file.blob.key])
        assert catalog.condemned("local", before=100.0) == []
        assert catalog.known("local", [file.blob.key]) == set()

    def test_adopting_while_deleting_never_names_condemned_bytes(self, catalog: Catalog) -> None:
        for n in range(20):
            file = put(catalog, f"a{n}")
            together(lambda file=file: catalog.delete_file(file.id, now=2.0),  # type: ignore[misc]
                     lambda n=n, file=file: put(catalog, f"b{n}", blob=file.blob))  # type: ignore[misc]
            adopted = catalog.file_at("main", f"b{n}")
            condemned = catalog.condemned("local", before=100.0, limit=100)
            assert (file.blob.key in condemned) == (adopted is None)


AWKWARD = ["!", "%", "*", "0", "A", "Z", "_", "a", "a b", "a!", "a%", "a%b", "a*", "a.txt", "a/b", "a0", "aB", "a_b", "ab", "b'q", 'b"q', "b\\q",
           "z", "ÿ", "é", "\uffee", "\U00010000", "\U0001f600"]


class TestListing:
    def test_code_point_order_and_every_cursor(self, catalog: Catalog) -> None:
        paths = [path for path in AWKWARD if path not in ("a",)]
        catalog.place([at(path) for path in reversed(paths)], now=1.0)
        assert [file.path for file in catalog.files("main").files] == sorted(paths)
        for limit in (1, 2, 3, 7):
            assert every_path(catalog, limit=limit) == sorted(paths)

    @pytest.mark.parametrize("prefix", ["", "a", "a/", "a%", "a_", "%", "_", "*", "b'", 'b"', "b\\", "A", "é", "\uffee", "\U0001f600", "none"])
    def test_a_prefix_is_text_and_no_pattern(self, catalog: Catalog, prefix: str) -> None:
        paths = [path for path in AWKWARD if path not in ("a",)]
        catalog.place([at(path) for path in paths], now=1.0)
        assert every_path(catalog, prefix=prefix, limit=3) == sorted(path for path in paths if path.startswith(prefix))

    def test_the_last_code_point_has_no_successor(self, catalog: Catalog) -> None:
        paths = ["a\U0010ffff", "a\U0010ffffx", "b", "\ud7ff", "\ue000", "\U0010ffff", "\U0010ffff\U0010ffffx"]
        catalog.place([at(path) for path in paths], now=1.0)
        for prefix in ("a\U0010ffff", "\U0010ffff", "\U0010ffff\U0010ffff", "\ud7ff", "a"):
            assert every_path(catalog, prefix=prefix) == sorted(path for path in paths if path.startswith(prefix))

    def test_folders_are_given_once(self, catalog: Catalog) -> None:
        paths = ["a/1", "a/2", "a/x/3", "a!", "a0", "b", "c/d/e", "c!/f", "z"]
        catalog.place([at(path) for path in paths], now=1.0)
        for limit in (1, 2, 3, 100):
            assert every_path(catalog, folders=True, limit=limit) == sorted(["a/", "a!", "a0", "b", "c/", "c!/", "z"])
            assert every_path(catalog, folders=True, prefix="a/", limit=limit) == ["a/1", "a/2", "a/x/"]
            assert every_path(catalog, folders=True, prefix="c", limit=limit) == ["c!/", "c/"]
        page = catalog.files("main", folders=True)
        assert ([f.path for f in page.files], list(page.folders)) == (["a!", "a0", "b", "z"], ["a/", "c!/", "c/"])

    def test_large_folders_among_files(self, catalog: Catalog) -> None:
        paths = [f"{letter}/{n:03}" for letter in "bdf" for n in range(150)] + list("aceg")
        catalog.place([at(path) for path in paths], now=1.0)
        for limit in (1, 3, 100):
            assert every_path(catalog, folders=True, limit=limit) == ["a", "b/", "c", "d/", "e", "f/", "g"]

    def test_a_cursor_holds_while_files_come_and_go(self, catalog: Catalog) -> None:
        catalog.place([at(path) for path in "bdfh"], now=1.0)
        first = catalog.files("main", limit=2)
        catalog.delete_file(first.files[-1].id, now=2.0)
        catalog.place([at(path) for path in "ace"], now=2.0)
        assert [file.path for file in catalog.files("main", cursor=first.cursor).files] == ["e", "f", "h"]

    def test_a_full_last_page_has_no_cursor(self, catalog: Catalog) -> None:
        catalog.place([at(path) for path in "abcd"], now=1.0)
        assert catalog.files("main", limit=4).cursor is None
        assert catalog.files("main", limit=3).cursor is not None

    @pytest.mark.parametrize("cursor", ["!", "a", "ÿ", "_w", "+++"])
    def test_a_made_up_cursor_is_refused(self, catalog: Catalog, cursor: str) -> None:
        with pytest.raises(InvalidRequest):
            catalog.files("main", cursor=cursor)


class TestUploads:
    def test_an_upload_reads_back_whole(self, catalog: Catalog) -> None:
        upload = an_upload(name="n", size=2**62, chunk_size=5, media_type="a/b", metadata={"a": [1]}, driver_state={"parts": ["x"]},
                           if_match='"e"')
        assert catalog.create_upload(upload) == upload
        progress = catalog.upload(upload.id)
        assert progress is not None
        assert (progress.upload, list(progress.spans)) == (upload, [])
        assert catalog.upload(new_id()) is None

    def test_a_name_is_of_one_receiving_upload_per_owner_and_space(self, catalog: Catalog) -> None:
        first = begin(catalog, name="n")
        assert begin(catalog, name="n") == first
        for other in ({"owner": "bob"}, {"space": "other"}, {"owner": None}, {"name": "N"}, {"name": None}):
            assert begin(catalog, **{"name": "n", **other}).id != first.id
        assert begin(catalog, name="n", owner=None).id == catalog.upload_named("main", None, "n").upload.id  # type: ignore[union-attr]

    def test_one_name_at_once_is_one_upload(self, catalog: Catalog) -> None:
        outcomes = together(*[lambda: begin(catalog, name="n").id for _ in range(8)])
        assert len(set(outcomes)) == 1
        assert catalog.counts()["uploads"] == 1

    def test_a_name_finds_the_receiving_one_else_the_last_complete(self, catalog: Catalog) -> None:
        assert catalog.upload_named("main", "ann", "n") is None
        done = []
        for now in (5.0, 6.0):
            upload = begin(catalog, name="n", size=0)
            catalog.complete(upload.id, of(upload), now=now, expires_at=100.0)
            done.append(upload.id)
        cancelled = begin(catalog, name="n")
        assert catalog.upload_named("main", "ann", "n").upload.id == cancelled.id  # type: ignore[union-attr]
        catalog.end_upload(cancelled.id, "cancelled", now=7.0, expires_at=100.0)
        assert catalog.upload_named("main", "ann", "n").upload.id == done[-1]  # type: ignore[union-attr]

    def test_receiving_uploads_by_id_in_pages(self, catalog: Catalog) -> None:
        ids = sorted(begin(catalog, owner=owner, space=space).id for owner in ("ann", "bob") for space in ("main", "other"))
        ended = begin(catalog)
        catalog.end_upload(ended.id, "failed", now=2.0, expires_at=100.0)
        catalog.record(ids[0], [Span(3, 5, 1), Span(0, 2, 1)], now=2.0, expires_at=100.0)
        found, cursor = catalog.uploads(limit=3)
        rest, end = catalog.uploads(limit=3, cursor=cursor)
        assert [p.upload.id for p in found + rest] == ids
        assert end is None
        assert found[0].spans == [Span(0, 2, 1), Span(3, 5, 1)]
        assert found[1].spans == []
        assert len(catalog.uploads(owner="ann")[0]) == 2
        assert [p.upload.owner for p in catalog.uploads(owner="bob", space="other")[0]] == ["bob"]

    def test_a_reservation_comes_with_it(self, catalog: Catalog) -> None:
        upload = an_upload(name="n")
        catalog.create_upload(upload, reserve=Reservation(upload.id, "local", "ann", 10, 50.0))
        twin = an_upload(name="n")
        catalog.create_upload(twin, reserve=Reservation(twin.id, "local", "ann", 10, 50.0))
        assert catalog.reserved("local", now=1.0) == 10


class TestRecord:
    def test_neighbours_merge_and_their_crcs_combine(self, catalog: Catalog) -> None:
        data = bytes(range(256)) * 4
        cuts = [(0, 10), (900, 1024), (10, 400), (700, 900), (400, 700)]
        upload = begin(catalog, size=len(data))
        for start, end in cuts:
            progress = note(catalog, upload, Span(start, end, crc64nvme(data[start:end])))
            assert catalog.upload(upload.id) == progress
        assert progress.spans == [Span(0, len(data), crc64nvme(data))]
        assert progress.covered

    def test_several_spans_at_once_and_empty_ones(self, catalog: Catalog) -> None:
        upload = begin(catalog)
        progress = note(catalog, upload, Span(5, 9, 1), Span(2, 2, 0), Span(0, 3, 2), size=20)
        assert progress.spans == [Span(0, 3, 2), Span(5, 9, 1)]
        assert (progress.received, progress.offset, progress.missing, progress.covered) == (7, 3, [(3, 5), (9, 20)], False)
        assert note(catalog, upload, Span(3, 5, 9)).spans == [Span(0, 9, combine(combine(2, 9, 2), 1, 4))]

    def test_times_size_and_driver_state(self, catalog: Catalog) -> None:
        upload = begin(catalog, driver_state={"a": 1})
        assert note(catalog, upload, Span(0, 1, 1), now=5.0, expires_at=50.0).upload == replace(upload, touched_at=5.0, expires_at=50.0)
        changed = note(catalog, upload, now=6.0, expires_at=60.0, size=9, driver_state={"b": [2]}).upload
        assert changed == replace(upload, touched_at=6.0, expires_at=60.0, size=9, driver_state={"b": [2]})
        assert note(catalog, upload, now=6.0, expires_at=60.0).upload == changed
        assert note(catalog, upload, now=6.0, expires_at=60.0, driver_state={}).upload == replace(changed, driver_state={})

    @pytest.mark.parametrize("span", [Span(0, 1), Span(4, 6), Span(9, 11), Span(0, 20), Span(5, 10), Span(6, 7)])
    def test_an_overlap_is_refused(self, catalog: Catalog, span: Span) -> None:
        upload = begin(catalog)
        before = note(catalog, upload, Span(0, 2, 1), Span(5, 10, 1))
        with pytest.raises(Conflict):
            note(catalog, upload, Span(30, 31, 1), span, size=100, now=9.0)
        assert catalog.upload(upload.id) == before

    def test_refusals(self, catalog: Catalog) -> None:
        upload = begin(catalog)
        with pytest.raises(NotFound):
            catalog.record(new_id(), [], now=1.0, expires_at=1.0)
        with pytest.raises(TooLarge):
            note(catalog, upload, Span(0, 11, 1), size=10)
        note(catalog, upload, Span(0, 5, 1))
        with pytest.raises(TooLarge):
            note(catalog, upload, size=4)
        note(catalog, upload, size=10)
        with pytest.raises(Conflict):
            note(catalog, upload, size=11)
        note(catalog, upload, size=10)
        with pytest.raises(TooLarge):
            note(catalog, upload, Span(9, 11, 1))

    @pytest.mark.parametrize("state", ["cancelled", "failed", "expired"])
    def test_an_ended_upload_takes_nothing(self, catalog: Catalog, state: Any) -> None:
        upload = begin(catalog, size=0)
        catalog.end_upload(upload.id, state, now=2.0, expires_at=100.0)
        with pytest.raises(UploadGone) as caught:
            note(catalog, upload, Span(0, 1, 1))
        assert caught.value.facts["state"] == state
        with pytest.raises(UploadGone):
            catalog.complete(upload.id, of(upload), now=3.0, expires_at=100.0)

    def test_parts_at_once_are_all_there(self, catalog: Catalog) -> None:
        upload = begin(catalog, size=160)
        together(*[lambda n=n: note(catalog, upload, Span(n * 10, n * 10 + 10, n)) for n in range(16)])  # type: ignore[misc]
        progress = catalog.upload(upload.id)
        assert progress is not None and [(s.start, s.end) for s in progress.spans] == [(0, 160)]

    def test_of_two_last_parts_at_once_one_sees_the_upload_covered(self, catalog: Catalog) -> None:
        for _ in range(10):
            upload = begin(catalog, size=20)
            outcomes = together(lambda u=upload: note(catalog, u, Span(0, 10, 1)).covered,  # type: ignore[misc]
                                lambda u=upload: note(catalog, u, Span(10, 20, 1)).covered)  # type: ignore[misc]
            assert sorted(outcomes) == [False, True]  # type: ignore[type-var]


class TestChunks:
    def test_by_index(self, catalog: Catalog) -> None:
        upload = begin(catalog)
        assert catalog.chunks(upload.id) == []
        wanted = [Chunk(0, 5, 1, start=0), Chunk(3, 7, 2**64 - 1, key=Key("aa/piece")), Chunk(2, 1, 9, start=5)]
        for chunk in wanted:
            note(catalog, upload, chunk=chunk)
        assert catalog.chunks(upload.id) == sorted(wanted, key=lambda chunk: chunk.index)

    def test_a_piece_that_is_replaced_is_condemned(self, catalog: Catalog) -> None:
        upload = begin(catalog)
        note(catalog, upload, chunk=Chunk(0, 5, 1, key=Key("aa/one")))
        note(catalog, upload, chunk=Chunk(0, 6, 2, key=Key("aa/two")), now=5.0)
        note(catalog, upload, chunk=Chunk(0, 6, 2, key=Key("aa/two")), now=6.0)
        assert catalog.chunks(upload.id) == [Chunk(0, 6, 2, key=Key("aa/two"))]
        assert catalog.condemned("local", before=100.0) == ["aa/one"]
        assert catalog.known("local", [Key("aa/one"), Key("aa/two"), Key("aa/three")]) == {"aa/one", "aa/two"}


class TestComplete:
    def test_a_covered_upload_becomes_a_file(self, catalog: Catalog) -> None:
        upload = an_upload(size=10, name="n")
        catalog.create_upload(upload, reserve=Reservation(upload.id, "local", "ann", 10, 50.0))
        note(catalog, upload, Span(0, 10, 7))
        placed = catalog.complete(upload.id, of(upload), now=9.0, expires_at=99.0)
        assert placed.created
        assert catalog.file_at("main", "up.bin") == placed.file
        progress = catalog.upload(upload.id)
        assert progress is not None
        assert progress.upload == replace(upload, state="complete", file_id=placed.file.id, touched_at=9.0, expires_at=99.0)
        assert progress.spans == [Span(0, 10, 7)]
        assert catalog.reserved("local", now=1.0) == 0
        assert catalog.condemned("local", before=100.0) == []
        assert catalog.known("local", [upload.key]) == {upload.key}
        with pytest.raises(UploadGone):
            note(catalog, upload, Span(0, 1, 1))

    def test_it_is_repeatable(self, catalog: Catalog) -> None:
        upload = begin(catalog, size=0)
        first = catalog.complete(upload.id, of(upload), now=9.0, expires_at=99.0)
        assert catalog.complete(upload.id, of(upload), now=10.0, expires_at=99.0) == first
        newer = put(catalog, "up.bin", now=11.0)
        assert catalog.complete(upload.id, of(upload), now=12.0, expires_at=99.0).file == newer
        catalog.delete_file(newer.id, now=13.0)
        with pytest.raises(NotFound):
            catalog.complete(upload.id, of(upload), now=14.0, expires_at=99.0)

    def test_many_at_once_complete_it_once(self, catalog: Catalog) -> None:
        upload = begin(catalog, size=0)
        outcomes = together(*[lambda: catalog.complete(upload.id, of(upload), now=9.0, expires_at=99.0).file for _ in range(4)])
        assert len({file.id for file in outcomes}) == 1  # type: ignore[attr-defined]
        assert catalog.counts()["files"] == 1

    def test_gaps_are_told(self, catalog: Catalog) -> None:
        upload = begin(catalog)
        note(catalog, upload, Span(2, 5, 1))
        with pytest.raises(MissingBytes):
            catalog.complete(upload.id, of(upload), now=9.0, expires_at=99.0)
        note(catalog, upload, size=10)
        with pytest.raises(MissingBytes) as caught:
            catalog.complete(upload.id, of(upload), now=9.0, expires_at=99.0)
        assert caught.value.facts["missing"] == [(0, 2), (5, 10)]
        with pytest.raises(NotFound):
            catalog.complete(new_id(), of(upload), now=9.0, expires_at=99.0)

    def test_a_refusal_leaves_it_receiving(self, catalog: Catalog) -> None:
        put(catalog, "up.bin")
        upload = begin(catalog, size=4)
        note(catalog, upload, Span(0, 4, 7))
        for refused in ({"condition": Condition(absent=True)}, {"on_conflict": "refuse"}, {"path": "up.bin/x"}):
            with pytest.raises((Conflict, PreconditionFailed)):
                catalog.complete(upload.id, of(upload, **refused), now=9.0, expires_at=99.0)
        assert [covered.id for covered in catalog.covered_uploads()] == [upload.id]
        assert catalog.complete(upload.id, of(upload), now=9.0, expires_at=99.0).file.version == 2
        assert catalog.covered_uploads() == []

    def test_pieces_and_a_key_left_behind_are_condemned(self, catalog: Catalog) -> None:
        upload = begin(catalog, size=4)
        note(catalog, upload, Span(0, 4, 7), chunk=Chunk(0, 2, 1, key=Key("aa/one")))
        note(catalog, upload, chunk=Chunk(1, 2, 1, key=Key("aa/two")))
        joined = a_blob()
        catalog.complete(upload.id, of(upload, blob=joined), now=9.0, expires_at=99.0)
        assert set(catalog.condemned("local", before=9.0)) == {"aa/one", "aa/two", upload.key}
        assert catalog.chunks(upload.id) == []

    def test_a_single_piece_may_become_the_blob(self, catalog: Catalog) -> None:
        upload = begin(catalog, size=4)
        piece = a_blob()
        note(catalog, upload, Span(0, 4, 7), chunk=Chunk(0, 4, 7, key=piece.key))
        catalog.complete(upload.id, of(upload, blob=piece), now=9.0, expires_at=99.0)
        assert catalog.condemned("local", before=9.0) == [upload.key]

    def test_covered_uploads_are_those_without_gaps(self, catalog: Catalog) -> None:
        empty, whole = begin(catalog, size=0), begin(catalog, size=4)
        note(catalog, whole, Span(2, 4, 1))
        note(catalog, whole, Span(0, 2, 1))
        for missing in (Span(0, 3, 1), Span(1, 4, 1)):
            note(catalog, begin(catalog, size=4), missing)
        note(catalog, begin(catalog), Span(0, 4, 1))
        begin(catalog)
        assert {upload.id for upload in catalog.covered_uploads()} == {empty.id, whole.id}
        assert len(catalog.covered_uploads(limit=1)) == 1


class TestEnding:
    def test_it_condemns_all_its_bytes_and_drops_the_rest(self, catalog: Catalog) -> None:
        upload = an_upload(size=10, name="n")
        catalog.create_upload(upload, reserve=Reservation(upload.id, "local", "ann", 10, 50.0))
        note(catalog, upload, Span(0, 4, 1), chunk=Chunk(0, 4, 1, key=Key("aa/one")))
        assert catalog.end_upload(upload.id, "failed", now=5.0, failure="disk", expires_at=60.0)
        progress = catalog.upload(upload.id)
        assert progress is not None
        assert progress.upload == replace(upload, state="failed", failure="disk", touched_at=5.0, expires_at=60.0)
        assert (list(progress.spans), catalog.chunks(upload.id), catalog.reserved("local", now=1.0)) == ([], [], 0)
        assert set(catalog.condemned("local", before=5.0)) == {upload.key, "aa/one"}
        assert not catalog.end_upload(upload.id, "cancelled", now=6.0, expires_at=60.0)
        assert not catalog.end_upload(new_id(), "cancelled", now=6.0, expires_at=60.0)

    def test_ending_and_completing_at_once_has_one_outcome(self, catalog: Catalog) -> None:
        for _ in range(10):
            upload = begin(catalog, size=0, path=new_id())
            ended, completed = together(lambda u=upload: catalog.end_upload(u.id, "cancelled", now=2.0, expires_at=9.0),  # type: ignore[misc]
                                        lambda u=upload: catalog.complete(u.id, of(u), now=2.0, expires_at=9.0))  # type: ignore[misc]
            assert ended == isinstance(completed, UploadGone)
            assert (upload.key in catalog.condemned("local", before=9.0)) == ended

    def test_expired_uploads(self, catalog: Catalog) -> None:
        soon, later = begin(catalog, expires_at=10.0), begin(catalog, expires_at=20.0)
        assert [u.id for u in catalog.expired_uploads(now=9.9)] == []
        assert [u.id for u in catalog.expired_uploads(now=10.0)] == [soon.id]
        assert [u.id for u in catalog.expired_uploads(now=99.0)] == [soon.id, later.id]
        assert [u.id for u in catalog.expired_uploads(now=99.0, limit=1)] == [soon.id]
        catalog.end_upload(soon.id, "expired", now=99.0, expires_at=200.0)
        assert [u.id for u in catalog.expired_uploads(now=99.0)] == [later.id]

    def test_purge(self, catalog: Catalog) -> None:
        ended, done, receiving = begin(catalog), begin(catalog, size=0, path="x"), begin(catalog, expires_at=5.0)
        catalog.end_upload(ended.id, "cancelled", now=2.0, expires_at=10.0)
        catalog.complete(done.id, of(done), now=2.0, expires_at=20.0)
        catalog.reserve(Reservation("r", "local", "ann", 10, 15.0), room=100, cap=100, now=1.0)
        assert catalog.purge(now=9.0) == 0
        assert catalog.purge(now=15.0) == 2
        assert catalog.upload(ended.id) is None
        assert catalog.upload(done.id) is not None
        assert catalog.purge(now=99.0) == 1
        assert catalog.upload(receiving.id) is not None
        assert catalog.file_at("main", "x") is not None


class TestRoom:
    def reserve(self, catalog: Catalog, id: str, size: int, principal: str = "ann", storage: str = "local", now: float = 1.0,
                room: int = 100, cap: int = 60, until: float = 10.0) -> None:
        catalog.reserve(Reservation(id, storage, principal, size, until), room=room, cap=cap, now=now)

    def test_room_and_cap(self, catalog: Catalog) -> None:
        self.reserve(catalog, "a", 60)
        with pytest.raises(StorageFull):
            self.reserve(catalog, "b", 1)
        self.reserve(catalog, "b", 40, "bob")
        with pytest.raises(StorageFull):
            self.reserve(catalog, "c", 1, "cid")
        self.reserve(catalog, "c", 60, storage="s3")
        assert (catalog.reserved("local", now=1.0), catalog.reserved("s3", now=1.0)) == (100, 60)
        with pytest.raises(StorageFull):
            self.reserve(catalog, "d", 2**63 - 1, "dan", room=2**63 - 1, cap=2**63 - 1)

    def test_the_same_id_renews(self, catalog: Catalog) -> None:
        self.reserve(catalog, "a", 60)
        self.reserve(catalog, "a", 50, until=99.0)
        assert catalog.reserved("local", now=50.0) == 50
        with pytest.raises(StorageFull):
            self.reserve(catalog, "a", 61)
        assert catalog.reserved("local", now=1.0) == 50

    def test_lapse_and_release(self, catalog: Catalog) -> None:
        self.reserve(catalog, "a", 60)
        assert (catalog.reserved("local", now=9.9), catalog.reserved("local", now=10.0)) == (60, 0)
        self.reserve(catalog, "b", 60, now=10.0, until=20.0)
        catalog.release("b")
        catalog.release("b")
        assert catalog.reserved("local", now=10.0) == 0

    def test_those_at_once_never_promise_more_than_there_is(self, catalog: Catalog) -> None:
        outcomes = together(*[lambda n=n: self.reserve(catalog, str(n), 30, f"p{n}") for n in range(8)])  # type: ignore[misc]
        assert sum(outcome is None for outcome in outcomes) == 3
        assert catalog.reserved("local", now=1.0) == 90


class TestUpkeep:
    def test_known_names_everything_that_holds_bytes(self, catalog: Catalog) -> None:
        file, upload = put(catalog, "a", keep_versions=1), begin(catalog)
        newer = put(catalog, "a", keep_versions=1)
        ended = begin(catalog)
        catalog.end_upload(ended.id, "failed", now=2.0, expires_at=9.0)
        keys = {file.blob.key, newer.blob.key, upload.key, ended.key}
        others = [key_for(new_id()) for _ in range(1500)]
        assert catalog.known("local", [*others, *keys]) == keys
        assert catalog.known("s3", list(keys)) == set()
        assert catalog.known("local", []) == set()
        catalog.forget("local", [ended.key, *others])
        assert catalog.known("local", [ended.key]) == set()

    def test_condemned_oldest_first(self, catalog: Catalog) -> None:
        keys = []
        for now in (3.0, 2.0, 4.0):
            upload = begin(catalog)
            catalog.end_upload(upload.id, "cancelled", now=now, expires_at=9.0)
            keys.append(upload.key)
        assert catalog.condemned("local", before=9.0) == [keys[1], keys[0], keys[2]]
        assert catalog.condemned("local", before=9.0, limit=2) == [keys[1], keys[0]]
        assert catalog.condemned("local", before=3.0) == [keys[1], keys[0]]
        assert catalog.condemned("s3", before=9.0) == []
        catalog.forget("s3", keys)
        assert len(catalog.condemned("local", before=9.0)) == 3
        catalog.forget("local", keys[:2])
        assert catalog.condemned("local", before=9.0) == [keys[2]]

    def test_blobs_by_key(self, catalog: Catalog) -> None:
        blobs = sorted((put(catalog, str(n)).blob for n in range(5)), key=lambda blob: blob.key)
        put(catalog, "s3", blob=a_blob(storage="s3"))
        assert catalog.blobs("local") == blobs
        assert catalog.blobs("local", limit=2) == blobs[:2]
        assert catalog.blobs("local", after=blobs[1].key) == blobs[2:]

    def test_a_digest_learned_later(self, catalog: Catalog) -> None:
        file = put(catalog, "a")
        catalog.set_sha256(file.blob.id, b"\x00" * 32)
        assert catalog.file(file.id).blob == replace(file.blob, sha256=b"\x00" * 32)  # type: ignore[union-attr]

    def test_heartbeats(self, catalog: Catalog) -> None:
        catalog.heartbeat("i", now=1.0, host="h", pid=1)
        catalog.heartbeat("i", now=2.0, host="h", pid=1)
        catalog.heartbeat("j", now=2.0, host="h", pid=2)

    def test_a_key_belongs_to_one_blob(self, catalog: Catalog) -> None:
        file = put(catalog, "a")
        with pytest.raises(Conflict):
            put(catalog, "b", blob=replace(file.blob, id=new_id()))
        assert every_path(catalog) == ["a"]


class TestTokens:
    def test_found_by_the_hash_of_the_secret(self, catalog: Catalog) -> None:
        token = Token(new_id(), "lap top", {"*": frozenset({"read"}), "main": frozenset({"write", "delete", "admin"})}, 1.0, 5.0)
        catalog.add_token(token, b"\xff" * 32)
        assert catalog.token(b"\xff" * 32) == token
        assert catalog.token(b"\xfe" * 32) is None

    def test_revoking_is_seen_at_once(self, catalog: Catalog) -> None:
        tokens = [Token(new_id(), str(n), {}, float(n)) for n in (2, 1)]
        for number, token in enumerate(tokens):
            catalog.add_token(token, bytes([number]) * 32)
        assert catalog.tokens() == tokens[::-1]
        assert catalog.revoke_token(tokens[0].id, now=9.0)
        assert not catalog.revoke_token(tokens[0].id, now=10.0)
        assert not catalog.revoke_token(new_id(), now=9.0)
        assert catalog.token(b"\x00" * 32) == replace(tokens[0], revoked_at=9.0)

    def test_a_secret_is_of_one_token(self, catalog: Catalog) -> None:
        catalog.add_token(Token(new_id(), "a", {}, 1.0), b"x" * 32)
        with pytest.raises(Conflict):
            catalog.add_token(Token(new_id(), "b", {}, 1.0), b"x" * 32)
