"""What every catalog keeps of files: carboy.catalog.base.Catalog over SQLite and PostgreSQL."""

from __future__ import annotations

import pytest
from catalogs import a_blob, at, every_path, put, together

from carboy.catalog.base import Catalog, Reservation
from carboy.catalog.sql import open_catalog
from carboy.errors import ConfigError, Conflict, InvalidRequest, NotFound, PathConflict, PreconditionFailed
from carboy.model import Condition, File, new_id


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
        wanted = [at("one"), at("two", metadata={"steps": ["digest"]}), at("taken", on_conflict="refuse")]
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
        new = put(catalog, "a", keep_versions=1, metadata={"steps": ["digest"]})
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
