"""What the API rests on, over every catalog: quotas promised beforehand, folders by their own table, blobs by their ids."""

from __future__ import annotations

import pytest
from catalogs import a_blob, an_upload, at, note, put, together
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carboy.catalog.base import Catalog, Reservation
from carboy.errors import QuotaExceeded, StorageFull
from carboy.model import Folder, Limits, Span, new_id

ROOM = 10**12


def promise(catalog: Catalog, id: str, adds: int, *, space: str = "main", owner: str | None = "ann", limits: Limits = Limits(100, 60),
            size: int | None = None, now: float = 1.0) -> None:
    wanted = Reservation(id, "local", owner or "", adds if size is None else size, 10.0, space, owner, adds, limits)
    catalog.reserve(wanted, room=ROOM, cap=ROOM, now=now)


class TestPromises:
    def test_promises_of_a_space_add_up(self, catalog: Catalog) -> None:
        promise(catalog, "a", 60)
        with pytest.raises(QuotaExceeded) as told:
            promise(catalog, "b", 41, owner="bob")
        assert told.value.facts == {"scope": "space", "limit": 100, "used": 0, "promised": 60, "in_trash": 0, "size": 41}
        promise(catalog, "b", 40, owner="bob")

    def test_promises_of_an_owner_add_up(self, catalog: Catalog) -> None:
        promise(catalog, "a", 60)
        with pytest.raises(QuotaExceeded) as told:
            promise(catalog, "b", 1)
        assert told.value.facts["scope"] == "owner"
        promise(catalog, "b", 1, owner=None)
        promise(catalog, "c", 1, space="other")

    def test_what_is_kept_counts(self, catalog: Catalog) -> None:
        put(catalog, "a", blob=a_blob(50))
        with pytest.raises(QuotaExceeded) as told:
            promise(catalog, "a", 11)
        assert (told.value.facts["used"], told.value.facts["promised"]) == (50, 0)
        promise(catalog, "a", 10)

    def test_nothing_is_promised_where_it_is_refused(self, catalog: Catalog) -> None:
        with pytest.raises(QuotaExceeded):
            promise(catalog, "a", 101)
        assert catalog.reserved("local", now=1.0) == 0

    def test_a_promise_renewed_is_counted_once(self, catalog: Catalog) -> None:
        promise(catalog, "a", 60)
        promise(catalog, "a", 60, size=5)
        promise(catalog, "b", 40, owner="bob")

    def test_a_promise_stays_whole_while_bytes_come(self, catalog: Catalog) -> None:
        """They aren't a file yet, so nothing else counts them."""
        upload = an_upload(size=60)
        promise(catalog, upload.id, 60)
        catalog.create_upload(upload)
        note(catalog, upload, Span(0, 50, 7), reserve_until=10.0)
        assert catalog.reserved("local", now=2.0) == 10
        with pytest.raises(QuotaExceeded):
            promise(catalog, "b", 41, owner="bob", now=2.0)

    def test_a_lapsed_promise_holds_nobody_up(self, catalog: Catalog) -> None:
        promise(catalog, "a", 60)
        promise(catalog, "b", 60, now=10.0)

    def test_who_adds_nothing_is_not_refused(self, catalog: Catalog) -> None:
        put(catalog, "a", blob=a_blob(200))
        promise(catalog, "a", 0, size=150)

    def test_room_is_still_room(self, catalog: Catalog) -> None:
        with pytest.raises(StorageFull):
            catalog.reserve(Reservation("a", "local", "ann", 11, 10.0, "main", "ann", 11, Limits(100)), room=10, cap=10, now=1.0)

    def test_of_many_at_once_those_are_promised_that_fit(self, catalog: Catalog) -> None:
        done = together(*[lambda number=number: promise(catalog, f"r{number}", 10, owner=f"o{number}") for number in range(20)])  # type: ignore[misc]
        assert [type(outcome) for outcome in done].count(QuotaExceeded) == 10

    def test_of_many_placed_at_once_those_are_kept_that_fit(self, catalog: Catalog) -> None:
        wanted = [at(f"f{number}", blob=a_blob(10), limits=Limits(55)) for number in range(20)]
        done = together(*[lambda one=one: catalog.place([one], now=1.0) for one in wanted])  # type: ignore[misc]
        assert [type(outcome) for outcome in done].count(QuotaExceeded) == 15
        assert catalog.usage("main").total == 50






class TestFolders:
    def test_those_in_a_folder_with_all_that_lies_in_them(self, catalog: Catalog) -> None:
        for path in ("a/x", "a/b/y", "a/b/c/z", "a-b/x", "a.txt", "a0/x", "b/x"):
            put(catalog, path)
        assert catalog.folders("main") == ([Folder("a-b/", 1, 4), Folder("a/", 3, 12), Folder("a0/", 1, 4), Folder("b/", 1, 4)], None)
        assert catalog.folders("main", prefix="a/") == ([Folder("a/b/", 2, 8)], None)
        assert catalog.folders("main", prefix="a/b") == ([Folder("a/b/", 2, 8)], None)
        assert catalog.folders("main", prefix="a/b/c/") == ([], None)
        assert catalog.folders("other") == ([], None)

    @pytest.mark.parametrize("limit", [1, 2, 3])
    def test_pages(self, catalog: Catalog, limit: int) -> None:
        names = ["", "!", "%", "_", "a", "a ", "é", "\U0010fffe", "日本"]
        for name in names:
            put(catalog, f"in/{name}x/file")
        found: list[str] = []
        cursor: str | None = None
        while True:
            page, cursor = catalog.folders("main", prefix="in/", cursor=cursor, limit=limit)
            found += [folder.path for folder in page]
            assert len(page) <= limit
            if cursor is None:
                break
        assert found == sorted(f"in/{name}x/" for name in names)

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(paths=st.lists(st.lists(st.sampled_from(["a", "b", "a-", "a0", "é"]), min_size=1, max_size=4), max_size=12),
           prefix=st.sampled_from(["", "a", "a/", "a/b", "b/a/", "a-"]))
    def test_they_are_what_the_paths_say(self, catalog: Catalog, paths: list[list[str]], prefix: str) -> None:
        space = new_id()
        names = {"/".join([*path, "file"]) for path in paths}
        for name in names:
            put(catalog, name, space=space)
        expected = {name[:name.index("/", len(prefix)) + 1] for name in names if name.startswith(prefix) and "/" in name[len(prefix):]}
        found, cursor = catalog.folders(space, prefix=prefix, limit=1000)
        assert ([folder.path for folder in found], cursor) == (sorted(expected), None)
        for folder in found:
            assert folder.files == sum(name.startswith(folder.path) for name in names)


def test_blobs_by_their_ids(catalog: Catalog) -> None:
    made = [put(catalog, f"f{number}").blob for number in range(600)]
    found = catalog.blobs_with_ids([blob.id for blob in made] + ["nowhere"])
    assert found == {blob.id: blob for blob in made}
    assert catalog.blobs_with_ids([]) == {}
