"""What every catalog keeps of files that are moved, described, deleted, restored, staged: sums, usage and quotas are right after each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from catalogs import a_blob, at, every_path, put, together

from carboy.catalog.base import Catalog, Move
from carboy.errors import (
    Conflict,
    InvalidName,
    InvalidRequest,
    NotFound,
    PathConflict,
    PreconditionFailed,
    QuotaExceeded,
)
from carboy.model import Act, File, Folder, Limits, Publication, Usage, new_id

ANN = Act("ann", "token", "r1", "192.0.2.1")


@pytest.fixture(autouse=True)
def _sums_stay_right(catalog: Catalog) -> Iterator[None]:
    yield
    assert catalog.miscounted() == []


def of_size(path: str, size: int, **more: Any) -> Any:
    return at(path, blob=a_blob(size=size), **more)


def store(catalog: Catalog, path: str, size: int = 4, now: float = 1.0, **more: Any) -> File:
    return catalog.place([of_size(path, size, **more)], now=now)[0].file


def sums(catalog: Catalog, folder: str, space: str = "main") -> tuple[int, int]:
    found = catalog.folder_sums(space, [folder])[folder]
    return found.files, found.bytes


def to(path: str, space: str = "main", **more: Any) -> Move:
    return Move(space, path, **more)


class TestSums:
    def test_every_folder_above_counts_a_file(self, catalog: Catalog) -> None:
        store(catalog, "a/b/c.txt", 5)
        store(catalog, "a/d.txt", 7)
        store(catalog, "e.txt", 11, space="other")
        assert catalog.folder_sums("main", ["", "a/", "a/b/", "no/"]) == {
            "": Folder("", 2, 12), "a/": Folder("a/", 2, 12), "a/b/": Folder("a/b/", 1, 5), "no/": Folder("no/", 0, 0)}
        assert catalog.usage("main") == Usage(files=2, bytes=12)
        assert catalog.usage("main", "ann") == Usage(files=2, bytes=12)
        assert catalog.usage("main", "bob") == catalog.usage("none") == Usage()

    def test_a_replaced_content_counts_once_and_its_versions_as_older(self, catalog: Catalog) -> None:
        for number, size in enumerate((5, 7, 11, 13)):
            store(catalog, "a/b", size, now=float(number), keep_versions=2)
        assert sums(catalog, "a/") == (1, 13)
        assert catalog.usage("main") == Usage(files=1, bytes=13, older=18)

    def test_whose_file_it_is_does_not_change_with_who_replaces_it(self, catalog: Catalog) -> None:
        store(catalog, "a", 5)
        store(catalog, "a", 7, owner="bob")
        assert catalog.usage("main", "ann") == Usage(files=1, bytes=7)
        assert catalog.usage("main", "bob") == Usage()

    def test_a_deleted_file_counts_nowhere(self, catalog: Catalog) -> None:
        file = store(catalog, "a/b", 5, keep_versions=1)
        store(catalog, "a/b", 6, keep_versions=1)
        catalog.delete_file(file.id, now=3.0)
        assert sums(catalog, "a/") == (0, 0)
        assert catalog.usage("main") == Usage()

    def test_a_copy_counts_in_full(self, catalog: Catalog) -> None:
        file = store(catalog, "a", 5)
        catalog.place([at("b", blob=file.blob)], now=2.0)
        assert catalog.usage("main") == Usage(files=2, bytes=10)
        assert catalog.counts()["blobs"] == 1

    def test_the_largest_size_counts(self, catalog: Catalog) -> None:
        first = store(catalog, "a/b", 2**63 - 1)
        assert sums(catalog, "a/") == (1, 2**63 - 1)
        catalog.delete_file(first.id, now=2.0)

    def test_what_is_wrong_is_told(self, catalog: Catalog) -> None:
        store(catalog, "a/b", 5)
        database: Any = catalog._database  # type: ignore[attr-defined]
        database.write(lambda session: session.say("UPDATE folders SET bytes = 6"))
        database.write(lambda session: session.say("UPDATE usage SET files = 9"))
        assert len(catalog.miscounted()) == 3
        database.write(lambda session: session.say("UPDATE folders SET bytes = 5"))
        database.write(lambda session: session.say("UPDATE usage SET files = 1"))


class TestQuotas:
    def test_a_space_keeps_no_more_than_its_quota(self, catalog: Catalog) -> None:
        limits = Limits(space=10)
        store(catalog, "a", 6, limits=limits)
        with pytest.raises(QuotaExceeded) as refused:
            store(catalog, "b", 5, limits=limits, owner="bob")
        assert refused.value.facts == {"scope": "space", "limit": 10, "used": 6, "in_trash": 0, "size": 5}
        store(catalog, "b", 4, limits=limits)
        assert every_path(catalog) == ["a", "b"]

    def test_an_owner_keeps_no_more_than_the_owners_quota(self, catalog: Catalog) -> None:
        limits = Limits(owner=10)
        store(catalog, "a", 10, limits=limits)
        store(catalog, "b", 10, limits=limits, owner="bob")
        store(catalog, "c", 100, limits=limits, owner=None)
        with pytest.raises(QuotaExceeded):
            store(catalog, "d", 1, limits=limits)

    def test_a_form_is_counted_as_one(self, catalog: Catalog) -> None:
        with pytest.raises(QuotaExceeded):
            catalog.place([of_size(f"f{n}", 4, limits=Limits(space=10)) for n in range(3)], now=1.0)
        assert every_path(catalog) == []

    def test_versions_and_the_trash_count(self, catalog: Catalog) -> None:
        limits = Limits(space=10)
        file = store(catalog, "a", 4, limits=limits, keep_versions=5)
        store(catalog, "a", 4, limits=limits, keep_versions=5)
        with pytest.raises(QuotaExceeded):
            store(catalog, "a", 4, limits=limits, keep_versions=5)
        catalog.trash_file(file.id, now=2.0, expires_at=9.0)
        with pytest.raises(QuotaExceeded) as refused:
            store(catalog, "b", 4, limits=limits)
        assert refused.value.facts["in_trash"] == 8
        catalog.delete_file(file.id, now=3.0)
        store(catalog, "b", 4, limits=limits)

    def test_what_takes_no_more_passes_even_above_the_quota(self, catalog: Catalog) -> None:
        store(catalog, "a", 20)
        store(catalog, "a", 15, limits=Limits(space=10))
        catalog.move(catalog.file_at("main", "a").id, to("b", limits=Limits(space=10)), now=2.0)  # type: ignore[union-attr]

    def test_fifty_at_once_fill_it_exactly(self, catalog: Catalog) -> None:
        outcomes = together(*[lambda n=n: store(catalog, f"d/f{n}", 3, limits=Limits(space=31)) for n in range(50)])  # type: ignore[misc]
        assert sum(isinstance(outcome, File) for outcome in outcomes) == 10
        assert all(isinstance(outcome, (File, QuotaExceeded)) for outcome in outcomes)
        assert catalog.usage("main").total == 30


class TestMove:
    def test_it_keeps_all_but_its_path(self, catalog: Catalog) -> None:
        old = store(catalog, "a/b", 5, keep_versions=1, tags=("x",), metadata={"k": 1})
        store(catalog, "a/b", 6, keep_versions=1, now=2.0, metadata={"k": 1})
        new = catalog.move(old.id, to("c/d"), now=3.0, by=ANN)
        assert (new.id, new.path, new.tags, new.metadata, new.version, new.modified_at) == (old.id, "c/d", ("x",), {"k": 1}, 2, 2.0)
        assert catalog.file(old.id) == catalog.file_at("main", "c/d") == new
        assert catalog.file_at("main", "a/b") is None
        assert (sums(catalog, "a/"), sums(catalog, "c/")) == ((0, 0), (1, 6))
        assert [version.number for version in catalog.versions(new.id)] == [1]
        assert catalog.audit()[0].action == "file.move" and catalog.audit()[0].facts["from"] == "a/b"

    def test_to_another_space_usage_follows(self, catalog: Catalog) -> None:
        file = store(catalog, "a", 5, keep_versions=1)
        store(catalog, "a", 6, keep_versions=1)
        catalog.move(file.id, to("a", "other"), now=3.0)
        assert catalog.usage("main") == catalog.usage("main", "ann") == Usage()
        assert catalog.usage("other") == catalog.usage("other", "ann") == Usage(1, 6, 5)

    def test_what_is_in_the_way(self, catalog: Catalog) -> None:
        file, other = store(catalog, "a", 1), store(catalog, "b", 2)
        with pytest.raises(Conflict):
            catalog.move(file.id, to("b"), now=2.0)
        assert catalog.move(file.id, to("b", on_conflict="rename"), now=2.0).path == "b (1)"
        assert catalog.move(file.id, to("b", on_conflict="replace"), now=2.0).id == file.id
        assert catalog.file(other.id) is None
        assert catalog.condemned("local", before=9.0) == [other.blob.key]
        assert catalog.move(file.id, to("b"), now=2.0).path == "b"

    def test_a_path_is_a_file_or_a_folder(self, catalog: Catalog) -> None:
        file = store(catalog, "a", 1)
        store(catalog, "f/g", 2)
        for path in ("f", "f/g/h"):
            with pytest.raises(PathConflict):
                catalog.move(file.id, to(path), now=2.0)

    def test_what_stops_it(self, catalog: Catalog) -> None:
        file = store(catalog, "a", 5)
        with pytest.raises(NotFound):
            catalog.move(new_id(), to("b"), now=2.0)
        with pytest.raises(PreconditionFailed):
            catalog.move(file.id, to("b"), now=2.0, etags=('"no"',))
        with pytest.raises(QuotaExceeded):
            catalog.move(file.id, to("b", "other", limits=Limits(space=4)), now=2.0)
        assert catalog.file(file.id) == file

    def test_two_files_to_one_path(self, catalog: Catalog) -> None:
        ones = [store(catalog, f"from{n}", 1) for n in range(8)]
        outcomes = together(*[lambda one=one: catalog.move(one.id, to("x/there"), now=2.0) for one in ones])  # type: ignore[misc]
        assert sum(isinstance(outcome, File) for outcome in outcomes) == 1
        assert len(every_path(catalog)) == 8

    def test_two_that_change_places_never_wait_for_each_other(self, catalog: Catalog) -> None:
        a, b = store(catalog, "p/a", 1), store(catalog, "q/b", 2)
        for _ in range(10):
            together(lambda: catalog.move(a.id, to("q/a"), now=2.0), lambda: catalog.move(b.id, to("p/b"), now=2.0))
            together(lambda: catalog.move(a.id, to("p/a"), now=2.0), lambda: catalog.move(b.id, to("q/b"), now=2.0))
        assert every_path(catalog) == ["p/a", "q/b"]


class TestMoveFolder:
    def test_all_that_is_in_it_goes_along(self, catalog: Catalog) -> None:
        for path in ("a/x", "a/b/y", "a/b/c/z", "ab/no", "a.txt"):
            store(catalog, path, 2)
        assert catalog.move_folder("main", "a/", to("deep/er/"), now=2.0, by=ANN) == 3
        assert every_path(catalog) == ["a.txt", "ab/no", "deep/er/b/c/z", "deep/er/b/y", "deep/er/x"]
        assert sums(catalog, "deep/") == sums(catalog, "deep/er/") == (3, 6)
        assert sums(catalog, "deep/er/b/") == (2, 4)
        assert sums(catalog, "a/") == (0, 0)
        assert [entry.action for entry in catalog.audit()] == ["folder.move"]

    def test_to_another_space(self, catalog: Catalog) -> None:
        store(catalog, "a/x", 2)
        store(catalog, "a/y", 3, owner="bob", keep_versions=1)
        store(catalog, "a/y", 5, keep_versions=1)
        with pytest.raises(QuotaExceeded):
            catalog.move_folder("main", "a/", to("a/", "other", limits=Limits(space=9)), now=2.0)
        assert catalog.move_folder("main", "a/", to("a/", "other", limits=Limits(space=10)), now=2.0) == 2
        assert catalog.usage("main") == Usage()
        assert catalog.usage("other") == Usage(2, 7, 3)
        assert catalog.usage("other", "bob") == Usage(1, 5, 3)

    def test_up_and_down_its_own_branch(self, catalog: Catalog) -> None:
        store(catalog, "a/b/c/x", 2)
        assert catalog.move_folder("main", "a/b/c/", to("c/"), now=2.0) == 1
        assert catalog.move_folder("main", "c/", to("c2/c/"), now=2.0) == 1
        assert every_path(catalog) == ["c2/c/x"]
        assert catalog.move_folder("main", "c2/", to("c2/"), now=2.0) == 1
        with pytest.raises(InvalidRequest):
            catalog.move_folder("main", "c2/", to("c2/c2/"), now=2.0)

    def test_what_is_in_the_way(self, catalog: Catalog) -> None:
        store(catalog, "a/x")
        store(catalog, "b/x")
        store(catalog, "f")
        with pytest.raises(NotFound):
            catalog.move_folder("main", "no/", to("n/"), now=2.0)
        for there in ("b/", "f/", "f/g/"):
            with pytest.raises(Conflict):
                catalog.move_folder("main", "a/", to(there), now=2.0)
        assert every_path(catalog) == ["a/x", "b/x", "f"]

    def test_paths_may_not_become_too_long(self, catalog: Catalog) -> None:
        store(catalog, "a/" + "/".join(["n" * 200] * 6))
        with pytest.raises(InvalidName):
            catalog.move_folder("main", "a/", to("/".join(["m" * 200] * 15) + "/"), now=2.0)

    def test_an_upload_into_it_meanwhile_is_in_one_of_the_two(self, catalog: Catalog) -> None:
        for round in range(5):
            store(catalog, f"r{round}/a")
            together(lambda: catalog.move_folder("main", f"r{round}/", to(f"s{round}/"), now=2.0),  # noqa: B023 - run at once
                     *[lambda n=n: store(catalog, f"r{round}/b{n}") for n in range(4)])  # type: ignore[misc]  # noqa: B023
        assert len(every_path(catalog)) == 25


class TestUpdate:
    def test_metadata_is_merged_and_tags_are_set(self, catalog: Catalog) -> None:
        file = store(catalog, "a", metadata={"keep": 1, "go": 2, "in": {"x": 1, "y": 2}})
        new = catalog.update_file(file.id, metadata={"go": None, "in": {"x": None, "z": 3}, "new": [1]}, tags=["b", "a", "b"], now=9.0, by=ANN)
        assert new.metadata == {"keep": 1, "in": {"y": 2, "z": 3}, "new": [1]}
        assert new.tags == ("a", "b")
        assert (new.etag, new.modified_at, new.version) == (file.etag, 1.0, 1)
        assert catalog.file(file.id) == new
        assert catalog.update_file(file.id, tags=[], now=9.0).tags == ()
        assert [entry.facts for entry in catalog.audit()] == [{"changed": ["metadata", "tags"]}]

    def test_what_stops_it(self, catalog: Catalog) -> None:
        file = store(catalog, "a")
        with pytest.raises(NotFound):
            catalog.update_file(new_id(), tags=["x"], now=2.0)
        with pytest.raises(PreconditionFailed):
            catalog.update_file(file.id, tags=["x"], now=2.0, etags=('"no"',))

    def test_a_new_content_keeps_the_tags(self, catalog: Catalog) -> None:
        store(catalog, "a", tags=("x",))
        assert store(catalog, "a").tags == ("x",)
        assert store(catalog, "a", tags=("y",)).tags == ("y",)


class TestRestoreVersion:
    def test_it_becomes_the_newest(self, catalog: Catalog) -> None:
        contents = [store(catalog, "a", size, now=float(size), keep_versions=5, media_type=f"x/{size}") for size in (1, 2, 3)]
        file = catalog.restore_version(contents[0].id, 1, keep=5, now=9.0, by=ANN)
        assert (file.version, file.blob, file.media_type, file.modified_at) == (4, contents[0].blob, "x/1", 9.0)
        assert [version.number for version in catalog.versions(file.id)] == [3, 2]
        assert catalog.usage("main") == Usage(1, 1, 5)
        assert catalog.condemned("local", before=99.0) == []

    def test_what_stops_it(self, catalog: Catalog) -> None:
        file = store(catalog, "a")
        for number in (1, 2):
            with pytest.raises(NotFound):
                catalog.restore_version(file.id, number, keep=1, now=2.0)


class TestTrash:
    def test_there_and_back(self, catalog: Catalog) -> None:
        file = store(catalog, "a/b", 5, keep_versions=1, tags=("x",))
        file = store(catalog, "a/b", 6, keep_versions=1)
        assert catalog.trash_file(file.id, now=3.0, expires_at=9.0, by=ANN) == file
        assert catalog.file_at("main", "a/b") is None
        assert every_path(catalog) == []
        assert catalog.file(file.id) is None
        assert catalog.usage("main") == Usage(0, 0, 0, 11)
        [lying], _ = catalog.trashed("main")
        assert lying == catalog.shelved(file.id)
        assert (lying.file, lying.kind, lying.since, lying.by, lying.expires_at) == (file, "trash", 3.0, "ann", 9.0)
        assert catalog.restore(file.id, to("a/b"), now=4.0) == file
        assert catalog.usage("main") == Usage(1, 6, 5)
        assert catalog.trashed("main") == ([], None)
        assert [version.number for version in catalog.versions(file.id)] == [1]

    def test_the_path_may_be_taken_meanwhile(self, catalog: Catalog) -> None:
        old = store(catalog, "a")
        catalog.trash_file(old.id, now=2.0, expires_at=9.0)
        new = store(catalog, "a")
        catalog.trash_file(new.id, now=3.0, expires_at=9.0)
        newest = store(catalog, "a")
        assert [one.file.id for one in catalog.trashed("main")[0]] == [new.id, old.id]
        with pytest.raises(Conflict):
            catalog.restore(old.id, to("a"), now=4.0)
        assert catalog.restore(old.id, to("a", on_conflict="rename"), now=4.0).path == "a (1)"
        assert catalog.restore(new.id, to("b/c"), now=4.0).path == "b/c"
        assert catalog.file_at("main", "a") == newest

    def test_a_quota_holds_for_what_comes_back_to_another_space(self, catalog: Catalog) -> None:
        file = store(catalog, "a", 5)
        catalog.trash_file(file.id, now=2.0, expires_at=9.0)
        assert catalog.restore(file.id, to("a", limits=Limits(space=5)), now=4.0).path == "a"

    def test_a_whole_folder(self, catalog: Catalog) -> None:
        for path in ("a/x", "a/b/y", "c"):
            store(catalog, path, 2)
        assert catalog.trash_folder("main", "a/", now=2.0, expires_at=9.0, by=ANN) == 2
        assert every_path(catalog) == ["c"]
        assert catalog.usage("main") == Usage(1, 2, 0, 4)
        assert {one.file.path for one in catalog.trashed("main", prefix="a/")[0]} == {"a/x", "a/b/y"}
        with pytest.raises(NotFound):
            catalog.trash_folder("main", "a/", now=2.0, expires_at=9.0)

    def test_pages_and_prefixes(self, catalog: Catalog) -> None:
        for number in range(7):
            file = store(catalog, f"{'ab'[number % 2]}/{number}")
            catalog.trash_file(file.id, now=float(number // 3), expires_at=99.0)
        store_other = store(catalog, "a/other", space="other")
        catalog.trash_file(store_other.id, now=1.0, expires_at=99.0)
        seen: list[str] = []
        cursor = None
        while True:
            page, cursor = catalog.trashed("main", cursor=cursor, limit=2)
            seen += [one.file.path for one in page]
            if cursor is None:
                break
        assert sorted(seen) == sorted(f"{'ab'[n % 2]}/{n}" for n in range(7))
        assert seen[0].endswith("6")
        assert len(catalog.trashed("main", prefix="a/")[0]) == 4
        with pytest.raises(InvalidRequest):
            catalog.trashed("main", cursor="bm8")

    def test_purging_is_final(self, catalog: Catalog) -> None:
        file = store(catalog, "a", 5)
        catalog.trash_file(file.id, now=2.0, expires_at=9.0)
        gone = catalog.delete_file(file.id, now=3.0, by=ANN)
        assert gone is not None and gone.path == "a"
        assert catalog.usage("main") == Usage()
        assert catalog.condemned("local", before=9.0) == [file.blob.key]
        assert catalog.audit()[0].action == "file.purge"
        with pytest.raises(NotFound):
            catalog.restore(file.id, to("a"), now=4.0)
        assert catalog.delete_file(file.id, now=3.0) is None

    def test_what_is_old_is_told(self, catalog: Catalog) -> None:
        for number in range(3):
            catalog.trash_file(store(catalog, f"{number}").id, now=1.0, expires_at=float(10 + number))
        assert [one.file.path for one in catalog.expired_shelf(now=11.0)] == ["0", "1"]

    def test_nobody_moves_or_describes_what_lies_there(self, catalog: Catalog) -> None:
        file = store(catalog, "a")
        catalog.trash_file(file.id, now=2.0, expires_at=9.0)
        with pytest.raises(NotFound):
            catalog.move(file.id, to("b"), now=3.0)
        with pytest.raises(NotFound):
            catalog.update_file(file.id, tags=["x"], now=3.0)
        assert catalog.trash_file(file.id, now=3.0, expires_at=9.0) is None


class TestStaged:
    def publication(self, id: str, path: str, **more: Any) -> Publication:
        return Publication(id, more.pop("space", "main"), path, more.pop("owner", "ann"), **more)

    def test_it_is_seen_once_it_is_published(self, catalog: Catalog) -> None:
        [staged] = catalog.stage([of_size("photo.jpg", 5, metadata={"k": 1})], now=1.0, expires_at=9.0)
        assert (staged.kind, staged.file.path, staged.file.space) == ("staged", "photo.jpg", "main")
        assert every_path(catalog) == [] and catalog.usage("main") == Usage() and catalog.file(staged.file.id) is None
        assert catalog.known("local", [staged.file.blob.key]) == {staged.file.blob.key}
        [placed] = catalog.publish([self.publication(staged.file.id, "x/photo.jpg", tags=("t",), metadata={"steps": ["digest"]})], now=2.0, by=ANN)
        assert placed.created
        assert (placed.file.id, placed.file.path, placed.file.tags, placed.file.created_at) == (staged.file.id, "x/photo.jpg", ("t",), 2.0)
        assert catalog.file_at("main", "x/photo.jpg") == placed.file
        assert sums(catalog, "x/") == (1, 5)
        assert catalog.audit()[0].action == "file.create"
        with pytest.raises(NotFound):
            catalog.publish([self.publication(staged.file.id, "again")], now=3.0)

    def test_a_file_at_the_path_gets_the_content(self, catalog: Catalog) -> None:
        old = store(catalog, "a", 3)
        [staged] = catalog.stage([of_size("a", 5)], now=1.0, expires_at=9.0)
        [placed] = catalog.publish([self.publication(staged.file.id, "a", keep_versions=1)], now=2.0)
        assert (placed.created, placed.file.id, placed.file.version, placed.file.blob) == (False, old.id, 2, staged.file.blob)
        assert catalog.shelved(staged.file.id) is None
        assert catalog.usage("main") == Usage(1, 5, 3)

    def test_all_or_none(self, catalog: Catalog) -> None:
        store(catalog, "b")
        staged = catalog.stage([of_size("a", 1), of_size("b", 1)], now=1.0, expires_at=9.0)
        wanted = [self.publication(one.file.id, one.file.path, on_conflict="refuse") for one in staged]
        with pytest.raises(Conflict):
            catalog.publish(wanted, now=2.0)
        assert every_path(catalog) == ["b"]
        with pytest.raises(QuotaExceeded):
            catalog.publish([self.publication(staged[0].file.id, "c", limits=Limits(space=4))], now=2.0)
        assert catalog.shelved(staged[0].file.id) == staged[0]

    def test_what_is_not_kept_expires(self, catalog: Catalog) -> None:
        [staged] = catalog.stage([of_size("a", 1)], now=1.0, expires_at=9.0)
        assert [one.file.id for one in catalog.expired_shelf(now=9.0)] == [staged.file.id]
        assert catalog.delete_file(staged.file.id, now=9.0) is not None
        assert catalog.condemned("local", before=9.0) == [staged.file.blob.key]
        assert catalog.audit() == []

    def test_one_of_many_who_publish_it(self, catalog: Catalog) -> None:
        [staged] = catalog.stage([of_size("a", 1)], now=1.0, expires_at=9.0)
        outcomes = together(*[lambda n=n: catalog.publish([self.publication(staged.file.id, f"p{n}")], now=2.0)  # type: ignore[misc]
                              for n in range(6)])
        assert sum(isinstance(outcome, list) for outcome in outcomes) == 1


class TestAudit:
    def test_every_change_is_entered_with_who_made_it(self, catalog: Catalog) -> None:
        [placed] = catalog.place([of_size("a", 5)], now=1.0, by=ANN)
        catalog.place([of_size("a", 6)], now=2.0, by=ANN)
        catalog.delete_file(placed.file.id, now=3.0, by=ANN)
        entries = catalog.audit()
        assert [(entry.action, entry.at, entry.by, entry.space, entry.path, entry.file_id) for entry in entries] == [
            ("file.delete", 3.0, ANN, "main", "a", placed.file.id), ("file.replace", 2.0, ANN, "main", "a", placed.file.id),
            ("file.create", 1.0, ANN, "main", "a", placed.file.id)]

    def test_what_is_undone_leaves_no_entry(self, catalog: Catalog) -> None:
        store(catalog, "a")
        with pytest.raises(Conflict):
            catalog.place([of_size("b", 1), of_size("a", 1, on_conflict="refuse")], now=1.0, by=ANN)
        assert catalog.audit() == []


def test_damaged_bytes_are_marked(catalog: Catalog) -> None:
    file = put(catalog, "a")
    assert catalog.set_damaged(file.blob.id, 5.0)
    assert catalog.file(file.id).blob.damaged_at == 5.0  # type: ignore[union-attr]
    assert catalog.set_damaged(file.blob.id, None)
    assert catalog.file(file.id) == file
    assert not catalog.set_damaged(new_id(), 5.0)

