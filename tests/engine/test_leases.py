"""Who may write where among processes: each :class:`Leases` here is one, on a catalog that all share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from carboy.catalog.base import Catalog
from carboy.engine.leases import Leases
from carboy.errors import CatalogUnavailable, CommitUnknown, Interrupted, RangeBusy, StorageFailed
from carboy.model import Instance, Key, Lease, key_for, new_id

Process = Callable[..., Leases]


@pytest.fixture
def process(catalog: Catalog) -> Iterator[Process]:
    """Another process on the catalog."""
    with ExitStack() as ends:
        def begin(expiry: float = 60.0) -> Leases:
            leases = Leases(catalog, expiry)
            ends.callback(leases.close)
            return leases

        yield begin


@pytest.fixture
def key() -> Key:
    return key_for(new_id())


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def falls_silent(leases: Leases) -> str:
    """It is stopped, as by SIGSTOP: it gives no more signs of life, and takes nothing back. Its instance."""
    id = leases.instance()
    me = leases._self
    assert me is not None
    me.ended.set()
    assert me.thread
    me.thread.join(60)
    return id


def unreleased(catalog: Catalog, monkeypatch: pytest.MonkeyPatch, times: int) -> list[str]:
    """The catalog can't be asked the next so many times that a lease is released. Which ones were to be, from now on."""
    asked, real = list[str](), catalog.release_lease

    def release(id: str) -> None:
        asked.append(id)
        if len(asked) <= times:
            raise CatalogUnavailable("the catalog could not be asked")
        real(id)

    monkeypatch.setattr(catalog, "release_lease", release)
    return asked


def test_ranges_that_overlap_are_held_by_one_and_others_by_others(process: Process, key: Key) -> None:
    first, second = process(), process()
    with first.hold("s3", key, 0, 10), second.hold("s3", key, 10, None):
        for start, end in ((0, 1), (9, 11), (50, None)):
            with pytest.raises(RangeBusy), second.hold("s3", key, start, end):
                pass
        assert first.held("s3", key)
        with second.hold("s3", key_for(new_id()), 0, None), second.hold("other", key, 0, None):
            pass
    assert not first.held("s3", key)
    with second.hold("s3", key, 0, None):
        pass


def test_who_is_in_the_way_is_asked_to_let_go(process: Process, key: Key) -> None:
    holder, other, asked = process(), process(), threading.Event()
    holder.listen(lambda which, start, end: asked.set() if (which, start, end) == (key, 0, 10) else None)
    with holder.hold("s3", key, 0, 10):
        with pytest.raises(RangeBusy), other.hold("s3", key, 5, 6):
            pass
        assert asked.wait(60)


def test_a_hold_reaches_further_unless_somebody_is_there(process: Process, key: Key) -> None:
    first, second = process(), process()
    with first.hold("s3", key, 0, 10) as hold, second.hold("s3", key, 20, 30):
        hold.extend(20)
        with pytest.raises(RangeBusy), second.hold("s3", key, 15, 16):
            pass
        with pytest.raises(RangeBusy):
            hold.extend(21)


def test_what_could_not_be_released_is_released_while_its_holder_lives_on(
        process: Process, key: Key, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    holder, other = process(), process()
    asked, id = unreleased(catalog, monkeypatch, 4), holder.instance()
    with holder.hold("s3", key, 0, 10), holder.hold("s3", key, 10, 20):
        pass
    until(lambda: not other.held("s3", key))
    with other.hold("s3", key, 0, None):
        pass
    assert len(asked) > 4
    assert holder.instance() == id


def test_a_lease_that_may_have_been_taken_is_released_too(
        process: Process, key: Key, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    holder, take = process(), catalog.lease

    def taken(lease: Lease) -> list[Lease]:
        take(lease)
        raise CommitUnknown("the answer was lost")

    monkeypatch.setattr(catalog, "lease", taken)
    asked = unreleased(catalog, monkeypatch, 2)
    with pytest.raises(CommitUnknown), holder.hold("s3", key, 0, None):
        pass
    until(lambda: not holder.held("s3", key))
    assert len(asked) > 2


def test_nobody_releases_what_an_instance_held_that_is_gone(
        process: Process, key: Key, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    holder, asked = process(), unreleased(catalog, monkeypatch, 1000)
    with holder.hold("s3", key, 0, None):
        pass
    holder.close()
    tried, id = len(asked), holder.instance()
    until(lambda: any(one.id == id and one.beats > 1 for one in catalog.instances()))
    assert len(asked) == tried
    assert not holder.held("s3", key)


def test_who_is_silent_for_long_is_taken_for_dead_and_what_it_held_is_free(process: Process, key: Key, catalog: Catalog) -> None:
    silent, other = process(1.0), process(1.0)
    with silent.hold("s3", key, 0, None) as hold:
        hold.check()
        dead = falls_silent(silent)
        other.instance()
        until(lambda: not other.alive(dead[:8]))
        assert not other.held("s3", key)
        with pytest.raises(Interrupted):
            hold.check()
        with other.hold("s3", key, 0, None):
            pass
    assert silent.instance() != dead
    with pytest.raises(StorageFailed):
        catalog.place([], now=0.0, fence=[dead])


def test_a_process_knows_that_it_may_be_dead_before_others_take_it_for_dead(process: Process, key: Key) -> None:
    silent, other = process(3.0), process(3.0)
    with silent.hold("s3", key, 0, None) as hold:
        dead = falls_silent(silent)
        other.instance()
        until(lambda: not other.alive(dead[:8]))
        with pytest.raises(Interrupted):
            hold.check()


def test_who_lives_is_never_taken_for_dead(process: Process) -> None:
    living, other, dead = process(2.0), process(2.0), process(2.0)
    maker = living.instance()[:8]
    gone = falls_silent(dead)[:8]
    other.instance()
    until(lambda: not other.alive(gone))
    assert other.alive(maker)


def test_who_could_not_look_buries_nobody(process: Process, catalog: Catalog) -> None:
    """After the catalog was away for long, everybody's counter stands still, until they have beaten again."""
    one = process(5.0)
    one.instance()
    catalog.appear(Instance("f" * 32, "elsewhere", 1, 7))
    assert one.alive("f" * 8)
    one._looked -= 100
    one._seen = {id: (beats, since - 100) for id, (beats, since) in one._seen.items()}
    assert one.alive("f" * 8)


def test_closed_is_gone_at_once(process: Process, key: Key) -> None:
    first, second = process(), process()
    id = first.instance()
    first.close()
    first.close()
    assert not second.alive(id[:8])
    assert first.instance() != id


def test_nobody_who_was_never_there_is_alive(process: Process) -> None:
    assert not process().alive("01234567")


def test_a_task_of_all_is_done_by_the_first_until_it_ends(process: Process) -> None:
    first, second, third = process(), process(), process()
    assert [first.first("a"), second.first("a"), second.first("b"), first.first("b")] == [True, False, True, False]
    assert [first.first("a"), third.first("a")] == [True, False]
    first.close()
    assert [third.first("a"), second.first("a")] == [True, False]


def test_a_task_of_one_that_falls_silent_is_the_next_ones(process: Process) -> None:
    first, second = process(1.0), process(1.0)
    assert first.first("a")
    assert not second.first("a")
    falls_silent(first)
    until(lambda: second.first("a"))
    assert not first.first("a")
