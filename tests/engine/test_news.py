"""One thread follows the log for all who listen; who falls behind reads on in the catalog."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import wire
from catalogs import put
from fixtures_server import eventually

from carboy.catalog.base import Catalog
from carboy.engine import news as module
from carboy.engine.news import Listener, News
from carboy.errors import CatalogUnavailable, InvalidRequest
from carboy.jobs import Happening


class Here:
    """A bell for one process."""

    def __init__(self) -> None:
        self._rung = threading.Event()

    def ring(self) -> None:
        self._rung.set()

    def wait(self, seconds: float) -> None:
        self._rung.wait(seconds)
        self._rung.clear()

    def close(self) -> None:
        pass


@pytest.fixture
def news(catalog: Catalog) -> Iterator[News]:
    news = News(catalog, Here())
    yield news
    news.close()


def hear(listener: Listener, count: int) -> list[str]:
    """The paths of the next so many files."""
    found: list[str] = []

    def enough() -> bool:
        found.extend(str(one.path) for one in listener.hear(0.5).happenings)
        return len(found) >= count

    eventually(enough)
    return found


def test_a_listener_hears_what_happens_from_then_on(catalog: Catalog, news: News) -> None:
    put(catalog, "before")
    with news.listen() as listener:
        for number in range(5):
            put(catalog, str(number))
        assert hear(listener, 5) == list("01234")


def test_who_falls_behind_what_is_kept_reads_on_in_the_catalog(catalog: Catalog, news: News, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow somebody is, no more is kept for them."""
    monkeypatch.setattr(module, "_KEPT", 10)
    monkeypatch.setattr(module, "_PAGE", 4)
    with news.listen() as slow, news.listen() as quick:
        for number in range(60):
            put(catalog, f"{number:02}")
        assert hear(quick, 60) == [f"{number:02}" for number in range(60)]
        assert len(news._kept) <= 10
        assert hear(slow, 60) == [f"{number:02}" for number in range(60)]
        put(catalog, "last")
        assert hear(slow, 1) == hear(quick, 1) == ["last"]


def test_one_goes_on_after_any_place(catalog: Catalog, news: News) -> None:
    with news.listen() as listener:
        for number in range(9):
            put(catalog, str(number))
        happenings: list[Happening] = []
        eventually(lambda: happenings.extend(listener.hear(0.5).happenings) or len(happenings) == 9)
    for at, one in enumerate(happenings):
        with news.listen(one.cursor) as again:
            put(catalog, f"more{at}")
            assert hear(again, 9 - at)[:8 - at] == [str(number) for number in range(at + 1, 9)]


def test_a_place_has_the_time_of_what_was_heard_until_all_is(catalog: Catalog, news: News, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after it may be as old as that."""
    monkeypatch.setattr(module, "_PAGE", 1)
    began, start = time.time(), catalog.latest()
    put(catalog, "a", 1000.0)
    put(catalog, "b", 2000.0)
    with news.listen(start, at=500.0) as listener:
        assert listener.at == 500.0
        assert (hear(listener, 1), listener.at) == (["a"], 1000.0)
        assert (hear(listener, 1), listener.at) == (["b"], 2000.0)
        eventually(lambda: not listener.hear(0.1).happenings and listener.at >= began)
        put(catalog, "c", began + 1)
        assert (hear(listener, 1), listener.at) == (["c"], began + 1)
    with news.listen() as listener:
        assert listener.at >= began


def test_nothing_runs_while_nobody_listens(catalog: Catalog, news: News, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LINGER", 0.0)
    assert news._thread is None
    with news.listen() as listener:
        put(catalog, "a")
        assert hear(listener, 1) == ["a"]
        thread = news._thread
        assert thread and thread.is_alive()
    news._bell.ring()
    thread.join(wire.LIMIT)
    assert not thread.is_alive() and news._thread is None
    with news.listen() as listener:
        put(catalog, "b")
        assert hear(listener, 1) == ["b"]


def test_a_catalog_that_was_away_is_followed_on(catalog: Catalog, news: News, monkeypatch: pytest.MonkeyPatch) -> None:
    with news.listen() as listener:
        put(catalog, "a")
        assert hear(listener, 1) == ["a"]
        asked, away = threading.Event(), catalog.happened

        def fails(*_: object, **__: object) -> None:
            asked.set()
            raise CatalogUnavailable("the catalog is away")

        monkeypatch.setattr(catalog, "happened", fails)
        assert asked.wait(wire.LIMIT)
        put(catalog, "b")
        monkeypatch.setattr(catalog, "happened", away)
        assert hear(listener, 1) == ["b"]


def test_all_are_let_go_at_once(news: News) -> None:
    with news.listen() as listener, ThreadPoolExecutor(1) as pool:
        heard = pool.submit(listener.hear, 600.0)
        news.stop()
        assert heard.result(wire.LIMIT).happenings == ()
        assert listener.stopped


def test_somebody_waits_until_it_is_over_or_the_time_is(catalog: Catalog, news: News) -> None:
    assert news.until(lambda: True, lambda one: True, 0.0)
    assert not news.until(lambda: False, lambda one: True, 0.0)
    assert not news.until(lambda: False, lambda one: True, 600.0, given_up=lambda: True)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(news.until, lambda: catalog.file_at("main", "b") is not None, lambda one: one.path == "b", 600.0)
        eventually(lambda: news._listeners)
        put(catalog, "a")
        assert not asked.done()
        put(catalog, "b")
        assert asked.result(wire.LIMIT)


@pytest.mark.parametrize("place", ["", "x", "1.2.3", "-1"])
def test_what_is_no_place_is_told(news: News, place: str) -> None:
    with pytest.raises(InvalidRequest):
        news.is_known(place)


def test_places_that_have_been_are_known(catalog: Catalog, news: News) -> None:
    now = catalog.latest()
    assert news.is_known(now)
    ahead = ".".join(str(int(part) + 1000) for part in now.split("."))
    assert not news.is_known(ahead)
    assert not news.is_known(now.partition(".")[0] if "." in now else f"{now}.1")
