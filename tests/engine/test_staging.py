"""Staged files: received, durable, seen by nobody, then kept or swept."""

from __future__ import annotations

from typing import Any, cast

import pytest

from carboy.catalog.base import Catalog
from carboy.config import SpaceSettings
from carboy.engine.staging import Staging, Wish
from carboy.errors import CommitUnknown, InvalidRequest, NotFound, PathConflict, QuotaExceeded, UnsupportedType
from carboy.model import Shelved

DAY = 86400.0


class Unsure:
    """The catalog, whose COMMIT of staged files and of their publication is reported as failed: before or after it happened."""

    def __init__(self, catalog: Catalog, *, happens: bool) -> None:
        self._catalog = catalog
        self._happens = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    def publish(self, *args: Any, **how: Any) -> Any:
        if self._happens:
            self._catalog.publish(*args, **how)
        raise CommitUnknown("the connection broke")

    def stage(self, *args: Any, **how: Any) -> Any:
        if self._happens:
            self._catalog.stage(*args, **how)
        raise CommitUnknown("the connection broke")


def staged(engine: Any, *datas: bytes, space: str = "main", staging: Staging | None = None) -> list[Shelved]:
    """Files ``0.txt``, ``1.txt`` …, received in one request."""
    staging = staging or engine.services.staging
    with staging.delivery() as delivery:
        for number, data in enumerate(datas):
            incoming = delivery.open(staging.target(space, f"{number}.txt"))
            incoming.feed(data)
            incoming.end()
        return staging.stage(delivery)


def test_it_is_on_the_disk_and_in_no_list_and_no_sum(engine: Any) -> None:
    one, two = staged(engine, b"one", b"two")
    services = engine.services
    assert (one.file.path, one.file.size, one.kind, one.expires_at) == ("0.txt", 3, "staged", engine.now + DAY)
    assert services.staging.get(two.file.id) == two
    assert len(engine.stored()) == 2
    assert services.catalog.files("main").files == []
    assert (services.catalog.usage("main").total, services.catalog.file(one.file.id)) == (0, None)


def test_nothing_stays_of_a_request_that_fails(engine: Any) -> None:
    with pytest.raises(ZeroDivisionError), engine.services.staging.delivery() as delivery:
        delivery.open(engine.services.staging.target("main", "a")).feed(b"a" * 100_000)
        raise ZeroDivisionError
    assert engine.stored() == set()


def test_it_goes_when_its_time_is_up(engine: Any) -> None:
    (one,) = staged(engine, b"one")
    engine.now += DAY - 1
    engine.services.sweeper.run(grace=0)
    assert len(engine.stored()) == 1
    engine.now += 2
    engine.services.sweeper.run(grace=0)
    engine.now += 1
    engine.services.sweeper.run(grace=0)
    assert engine.stored() == set()
    with pytest.raises(NotFound):
        engine.services.staging.keep([Wish(one)])


def test_what_is_kept_stays(engine: Any) -> None:
    (one,) = staged(engine, b"one")
    (file,) = engine.services.staging.keep([Wish(one, "a/b.txt", "ann", {"k": 1}, ("t",))])
    engine.now += 100 * DAY
    engine.services.sweeper.run(grace=0)
    assert (file.id, file.path, file.owner, file.metadata, file.tags) == (one.file.id, "a/b.txt", "ann", {"k": 1}, ("t",))
    assert (engine.read("a/b.txt"), engine.findings(), engine.services.catalog.miscounted()) == (b"one", [], [])
    engine.services.staging.discard(one.file.id)
    assert engine.read("a/b.txt") == b"one", "it is staged no more"


@pytest.mark.parametrize("wrong", [{"path": "x/y"}, {"path": "x"}, {"tags": ("",)}, {"metadata": {"x": "y" * 70_000}}, {"path": "../x"}])
def test_all_or_none(engine: Any, wrong: dict[str, Any]) -> None:
    engine.put("x", b"a file, so nothing can be below it")
    one, two = staged(engine, b"one", b"two")
    if wrong == {"path": "x"}:
        wrong = {"path": "x/y/z"}
    with pytest.raises((PathConflict, InvalidRequest)):
        engine.services.staging.keep([Wish(one, "first"), Wish(two, **wrong)])
    assert engine.file("first") is None
    assert [file.path for file in engine.services.staging.keep([Wish(one, "first"), Wish(two, "second")])] == ["first", "second"]


def test_the_quota_counts_when_it_is_kept(make_engine: Any) -> None:
    engine = make_engine(spaces={"main": SpaceSettings(quota=5)})
    one, two = staged(engine, b"one", b"two")
    engine.services.staging.keep([Wish(one)])
    with pytest.raises(QuotaExceeded):
        engine.services.staging.keep([Wish(two)])


def test_the_rules_of_its_space_hold(make_engine: Any) -> None:
    engine = make_engine(spaces={"images": SpaceSettings(accept=("image/*",))})
    with pytest.raises(UnsupportedType):
        staged(engine, b"text", space="images")
    with pytest.raises(NotFound):
        staged(engine, b"text", space="nowhere")
    assert engine.stored() == set()


@pytest.mark.parametrize("existing", [False, True])
def test_whether_it_was_kept_is_read_again_when_the_commit_is_unsure(engine: Any, existing: bool) -> None:
    if existing:
        engine.put("a", b"before")
    (one,) = staged(engine, b"one")
    services = engine.services
    for happens in (False, True):
        catalog = cast(Catalog, Unsure(services.catalog, happens=happens))
        staging = Staging(services.settings, catalog, services.receiver, services.files, lambda: engine.now)
        if happens:
            assert staging.keep([Wish(one, "a")])[0].path == "a"
        else:
            with pytest.raises(CommitUnknown):
                staging.keep([Wish(one, "a")])
    assert engine.read("a") == b"one"


@pytest.mark.parametrize("happens", [False, True])
def test_no_byte_goes_while_it_is_unsure_whether_it_was_staged(engine: Any, happens: bool) -> None:
    services = engine.services
    receiver = services.receiver
    receiver.catalog, catalog = cast(Catalog, Unsure(services.catalog, happens=happens)), receiver.catalog
    with pytest.raises(CommitUnknown):
        staged(engine, b"one")
    receiver.catalog = catalog
    assert len(engine.stored()) == 1
    services.sweeper.run(grace=0)
    assert len(engine.stored()) == (1 if happens else 0), "an orphan is swept"
