"""What every catalog keeps of the processes that write to a storage shared by many: who lives, and who may write where."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from catalogs import an_upload, at, begin, every_path, note, together
from fixtures_server import eventually

from carboy.catalog import leasing
from carboy.catalog.base import Catalog, Reservation
from carboy.catalog.sessions import Session
from carboy.catalog.sql import open_catalog
from carboy.errors import Interrupted, StorageFailed, UploadGone
from carboy.model import Instance, Key, Lease, Span, new_id

KEY = Key("ab/" + "0" * 32)


def alive(catalog: Catalog, beats: int = 0) -> Instance:
    instance = Instance(new_id(), "host", 77, beats)
    catalog.appear(instance)
    return instance


def of(instance: Instance, start: int, end: int | None, **changes: Any) -> Lease:
    return replace(Lease(new_id(), "s3", KEY, start, end, instance.id), **changes)


def taken(catalog: Catalog, instance: Instance, start: int, end: int | None, **changes: Any) -> Lease:
    lease = of(instance, start, end, **changes)
    assert catalog.lease(lease) == []
    return lease


class TestInstances:
    def test_they_appear_and_beat(self, catalog: Catalog) -> None:
        assert catalog.instances() == []
        first, second = sorted([alive(catalog), alive(catalog, beats=5)], key=lambda one: one.id)
        catalog.appear(first)
        assert catalog.instances() == [first, second]
        assert catalog.beat(first.id) == [replace(first, beats=first.beats + 1), second]
        assert catalog.beat(first.id) == catalog.instances() == [replace(first, beats=first.beats + 2), second]

    def test_one_that_still_beats_is_not_buried(self, catalog: Catalog) -> None:
        instance = alive(catalog)
        catalog.beat(instance.id)
        assert not catalog.bury(instance)
        assert catalog.bury(replace(instance, beats=1))
        assert catalog.instances() == []
        assert not catalog.bury(replace(instance, beats=1))

    def test_who_was_buried_learns_it(self, catalog: Catalog) -> None:
        instance, other = alive(catalog), alive(catalog)
        catalog.bury(instance)
        assert catalog.beat(instance.id) is None
        assert catalog.instances() == [other]

    def test_a_beat_and_a_burial_at_once_have_one_outcome(self, catalog: Catalog) -> None:
        for _ in range(10):
            instance = alive(catalog)
            beaten, buried = together(partial(catalog.beat, instance.id), partial(catalog.bury, instance))
            assert (beaten is None) == buried
            assert (instance.id in [one.id for one in catalog.instances()]) == (not buried)


class TestLeases:
    @pytest.mark.parametrize(("start", "end"), [(0, 11), (9, 10), (10, 20), (15, 16), (19, None), (0, None), (10, None), (19, 30), (12, 12)])
    def test_an_overlap_is_refused_and_marked(self, catalog: Catalog, start: int, end: int | None) -> None:
        one, two = alive(catalog), alive(catalog)
        others = [taken(catalog, one, 9, 10), taken(catalog, one, 10, 20)]
        in_the_way = [other for other in others if other.start < (end or 99) and (other.end or 0) > start]
        assert catalog.wanted(one.id) == []
        for _ in range(2):
            assert catalog.lease(of(two, start, end)) == in_the_way
            assert catalog.wanted(one.id) == sorted(in_the_way, key=lambda lease: lease.id)
        assert catalog.wanted(two.id) == []
        assert catalog.leases("s3", KEY) == others

    def test_what_does_not_overlap_is_given(self, catalog: Catalog) -> None:
        instance = alive(catalog)
        leases = [taken(catalog, instance, 10, 20), taken(catalog, instance, 0, 10), taken(catalog, instance, 20, None),
                  taken(catalog, instance, 0, None, key=Key("cd/" + "1" * 32)), taken(catalog, instance, 0, None, storage="other")]
        assert catalog.leases("s3", KEY) == sorted(leases[:3], key=lambda lease: lease.start)
        assert catalog.leases("other", KEY) == leases[4:]
        assert catalog.wanted(instance.id) == []

    def test_its_own_instance_is_no_exception(self, catalog: Catalog) -> None:
        instance = alive(catalog)
        lease = taken(catalog, instance, 0, None)
        assert catalog.lease(of(instance, 2**62, None)) == [lease]
        assert catalog.wanted(instance.id) == [lease]

    def test_the_same_one_again_is_the_same(self, catalog: Catalog) -> None:
        lease = taken(catalog, alive(catalog), 0, 10)
        assert catalog.lease(lease) == []
        assert catalog.leases("s3", KEY) == [lease]
        assert catalog.wanted(lease.instance) == []

    def test_released_is_free(self, catalog: Catalog) -> None:
        one, two = alive(catalog), alive(catalog)
        lease = taken(catalog, one, 0, None)
        catalog.lease(of(two, 0, 5))
        for _ in range(2):
            catalog.release_lease(lease.id)
        assert (catalog.leases("s3", KEY), catalog.wanted(one.id)) == ([], [])
        taken(catalog, two, 0, None)

    def test_of_many_at_once_one_gets_it(self, catalog: Catalog) -> None:
        for _ in range(5):
            key = Key(f"ab/{new_id()}")
            wanted = [of(alive(catalog), number, 10 + number, key=key) for number in range(8)]
            outcomes = together(*[partial(catalog.lease, lease) for lease in wanted])
            [winner] = [lease for lease, outcome in zip(wanted, outcomes, strict=True) if outcome == []]
            assert all(outcome == [winner] for outcome in outcomes if outcome)
            assert catalog.leases("s3", key) == catalog.wanted(winner.instance) == [winner]

    def test_a_lease_needs_a_living_instance(self, catalog: Catalog) -> None:
        one, two = alive(catalog), alive(catalog)
        taken(catalog, one, 0, 10)
        kept = taken(catalog, two, 10, 20)
        catalog.lease(of(two, 0, None))
        assert catalog.bury(one)
        assert catalog.leases("s3", KEY) == [kept]
        assert catalog.wanted(one.id) == []
        for stranger in (one, Instance("nobody", "", 1, 0)):
            with pytest.raises(StorageFailed):
                catalog.lease(of(stranger, 30, 40))
        taken(catalog, two, 0, 10)

    def test_growing(self, catalog: Catalog) -> None:
        one, two = alive(catalog), alive(catalog)
        lease, other = taken(catalog, one, 0, 10), taken(catalog, two, 30, 40)
        assert catalog.extend_lease(lease.id, 30) == []
        assert catalog.lease(of(two, 29, 30)) == [replace(lease, end=30)]
        for end in (31, None):
            assert catalog.extend_lease(lease.id, end) == [other]
        assert catalog.wanted(two.id) == [other]
        catalog.release_lease(other.id)
        assert catalog.extend_lease(lease.id, None) == []
        assert catalog.extend_lease(lease.id, 5) == []
        assert catalog.leases("s3", KEY) == [replace(lease, end=None)], "none shrinks"

    def test_one_that_is_gone_does_not_grow(self, catalog: Catalog) -> None:
        instance = alive(catalog)
        lease = taken(catalog, instance, 0, 10)
        catalog.bury(instance)
        with pytest.raises(Interrupted):
            catalog.extend_lease(lease.id, 20)

    def test_two_that_grow_towards_each_other(self, catalog: Catalog) -> None:
        for _ in range(10):
            key = Key(f"ab/{new_id()}")
            left, right = taken(catalog, alive(catalog), 0, 10, key=key), taken(catalog, alive(catalog), 30, 40, key=key)
            grown, begun = together(partial(catalog.extend_lease, left.id, 25), partial(catalog.lease, of(alive(catalog), 20, 30, key=key)))
            assert (grown == []) != (begun == [])
            held = catalog.leases("s3", key)
            assert all(a.end is not None and a.end <= b.start for a, b in pairwise(held))
            assert right in held


class TestFences:
    """What a process made is committed only while nobody took it for dead."""

    def commits(self, catalog: Catalog) -> list[Callable[..., object]]:
        upload, due = begin(catalog), begin(catalog)
        return [partial(catalog.place, [at("placed")], now=1.0), partial(catalog.stage, [at("staged")], now=1.0, expires_at=9.0),
                partial(catalog.create_upload, an_upload(), reserve=Reservation("r", "s3", "ann", 5, 9.0)),
                partial(note, catalog, upload, Span(0, 1, 1)),
                partial(catalog.complete, due.id, at("completed"), now=1.0, expires_at=9.0)]

    def test_the_living_commit(self, catalog: Catalog) -> None:
        one, two = alive(catalog), alive(catalog)
        for number, commit in enumerate(self.commits(catalog)):
            commit(fence={one.id, two.id} if number % 2 else [one.id])
        assert every_path(catalog) == ["completed", "placed"]
        assert catalog.counts()["uploads"] == 2

    def test_the_dead_change_nothing(self, catalog: Catalog) -> None:
        one, two = alive(catalog), alive(catalog)
        catalog.bury(two)
        commits = self.commits(catalog)
        before = catalog.counts()
        for commit in commits:
            for fence in ([two.id], [one.id, two.id], {"nobody"}):
                with pytest.raises(StorageFailed):
                    commit(fence=fence)
        assert catalog.counts() == before
        assert catalog.reserved("s3", now=1.0) == 0
        assert [progress.spans for progress in catalog.uploads()[0]] == [[], []]

    def test_a_burial_and_a_commit_at_once_are_never_both_first(self, catalog: Catalog) -> None:
        """A sweeper that buried the maker sees what it committed before, or it is refused."""
        for number in range(15):
            instance, placement = alive(catalog), at(f"{number}")

            def bury_and_look(instance: Instance = instance, key: Key = placement.blob.key) -> bool:
                assert catalog.bury(instance)
                return key in catalog.known("local", [key])

            placed, known = together(partial(catalog.place, [placement], now=1.0, fence=[instance.id]), bury_and_look)
            assert isinstance(placed, StorageFailed) == (not known)
            assert (catalog.file_at("main", f"{number}") is not None) == known


class TestOnPostgres:
    def test_a_burial_waits_for_a_commit_under_way_and_beats_do_not(self, postgres_url: str) -> None:
        catalog = open_catalog(postgres_url)
        instance, decided = alive(catalog), threading.Event()
        lease = taken(catalog, instance, 0, 10)
        with before_commit(catalog, instance, lease) as committing:
            assert catalog.beat(instance.id) is not None
            assert catalog.lease(of(alive(catalog), 5, 6)) == [lease]
            assert catalog.extend_lease(lease.id, 20) == []

            def bury() -> None:
                assert catalog.bury(replace(instance, beats=1))
                decided.set()

            burial = threading.Thread(target=bury)
            burial.start()
            eventually(lambda: waiting(catalog))
            assert committing.is_alive()
            assert not decided.is_set()
        burial.join(60)
        assert decided.is_set()
        assert catalog.leases("s3", KEY) == []
        catalog.close()


@contextmanager
def before_commit(catalog: Any, instance: Instance, lease: Lease) -> Iterator[threading.Thread]:
    """A transaction has seen that both are there, and commits after the block."""
    ready, commit = threading.Event(), threading.Event()

    def work(session: Session) -> None:
        leasing.fenced(session, [instance.id], lambda session: leasing.require_held(session, lease.id))
        ready.set()
        commit.wait(60)

    thread = threading.Thread(target=catalog._database.write, args=(work,))
    thread.start()
    assert ready.wait(60)
    yield thread
    commit.set()
    thread.join(60)


def waiting(catalog: Any) -> bool:
    """Whether a transaction waits for another."""
    return bool(catalog._database.read(lambda session: session.say("SELECT 1 FROM pg_locks WHERE NOT granted")))


class TestRecordUnderALease:
    def test_it_has_to_be_there(self, catalog: Catalog) -> None:
        instance, upload = alive(catalog), begin(catalog)
        lease = taken(catalog, instance, 0, 10)
        note(catalog, upload, Span(0, 1, 1), lease=lease.id, fence=[instance.id])
        catalog.lease(of(instance, 0, 10))
        note(catalog, upload, Span(1, 2, 1), lease=lease.id)
        catalog.release_lease(lease.id)
        for gone in (lease.id, "nobody's"):
            with pytest.raises(Interrupted):
                note(catalog, upload, Span(2, 3, 1), lease=gone)
        assert [(span.start, span.end) for span in catalog.upload(upload.id).spans] == [(0, 2)]  # type: ignore[union-attr]

    def test_it_goes_with_its_instance(self, catalog: Catalog) -> None:
        instance, upload = alive(catalog), begin(catalog)
        lease = taken(catalog, instance, 0, 10)
        catalog.bury(instance)
        with pytest.raises(Interrupted):
            note(catalog, upload, Span(0, 1, 1), lease=lease.id)

    def test_an_upload_that_is_over_is_told_first(self, catalog: Catalog) -> None:
        upload = begin(catalog)
        catalog.end_upload(upload.id, "cancelled", now=2.0, expires_at=9.0)
        with pytest.raises(UploadGone):
            note(catalog, upload, Span(0, 1, 1), lease="nobody's")

    def test_who_takes_over_never_meets_the_loser(self, catalog: Catalog) -> None:
        """The winner has the lease only when the loser's record is in, or will be refused."""
        for _ in range(15):
            loser, winner, upload = alive(catalog), alive(catalog), begin(catalog)
            lease = taken(catalog, loser, 0, None, key=upload.key)

            def take_over(loser: Instance = loser, winner: Instance = winner, upload: Any = upload) -> list[Span]:
                assert catalog.bury(loser)
                taken(catalog, winner, 0, None, key=upload.key)
                return list(catalog.upload(upload.id).spans)  # type: ignore[union-attr]

            recorded, seen = together(partial(note, catalog, upload, Span(0, 1, 1), lease=lease.id), take_over)
            assert isinstance(recorded, Interrupted) == (seen == [])
            assert list(catalog.upload(upload.id).spans) == seen  # type: ignore[union-attr]
