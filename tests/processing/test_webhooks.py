"""Webhooks: what receivers are told, in which order, how often, and where Carboy never goes."""

from __future__ import annotations

import base64
import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import MappingProxyType
from typing import Any

import certificates
import pytest
from fixtures_server import eventually
from receivers import Got, Receiver, receiving, status

from carboy.catalog.base_hooks import Delivery, DeliveryFilter
from carboy.config import of_application
from carboy.engine.addresses import Found
from carboy.engine.holding import Seat
from carboy.engine.leases import Leases
from carboy.errors import CatalogUnavailable, ConfigError, NotFound
from carboy.model import Act, File
from carboy.processing.step import Context, step
from carboy.processing.webhooks import signatures
from carboy.processing.webhooks.office import Webhooks
from carboy.processing.webhooks.posting import Answer, Poster
from carboy.processing.webhooks.postman import Postman

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
DAY = 86400.0
AWAY = CatalogUnavailable("it is away")


@step("count", spaces=())
def count(context: Context) -> dict[str, Any]:
    with context.stream() as stream:
        return {"bytes": len(stream.read())}


class Office:
    """A workshop with a webhook ``a``, its receiver, and a postman whose clock stands still."""

    def __init__(self, make_workshop: Callable[..., Any], receiver: Receiver, options: dict[str, Any], **rules: Any) -> None:
        hook = {"url": receiver.url, "secret": SECRET, "allow_private": True, **rules}
        others = options.pop("others", {})
        self.shop = make_workshop(count, webhooks={"a": hook, **others}, **options)
        self.receiver = receiver
        self.postmen: list[Postman] = []
        self.catalog, self.webhooks = self.shop.services.catalog, self.shop.services.webhooks
        self.postman = self.another()
        assert self.postman.drain() == 0, "it begins with what happens from now on"

    def close(self) -> None:
        for postman in self.postmen:
            postman.stop()
            postman.join(0)

    def another(self, webhooks: Webhooks | None = None, **how: Any) -> Postman:
        """A postman; the others are other processes, as far as it can tell."""
        self.postmen.append(Postman(how.pop("catalog", self.catalog), webhooks or self.webhooks, Leases(self.catalog), self.shop.folder / "data",
                                    **{"poll": 0.02, "clock": lambda: self.shop.now, "chance": lambda: 0.5, **how}))
        return self.postmen[-1]

    def put(self, path: str, data: bytes = b"abc") -> File:
        file: File = self.shop.put(path, data)
        return file

    def drain(self) -> int:
        return self.postman.drain()

    def deliveries(self, name: str = "a", **filter: Any) -> list[Delivery]:
        """The first in order first."""
        return self.webhooks.deliveries(name, DeliveryFilter(**filter))[0][::-1]

    @property
    def states(self) -> list[str]:
        return [one.state for one in self.deliveries()]

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(one.kind, one.path_of_file) for one in self.receiver.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


Offices = Callable[..., Office]


@pytest.fixture
def make_one(make_workshop: Callable[..., Any], receiver: Receiver) -> Iterator[Offices]:
    """On SQLite alone, where the database has no part in it."""
    with ExitStack() as ends:
        def make(more: Mapping[str, Any] = MappingProxyType({}), **rules: Any) -> Office:
            office = Office(make_workshop, receiver, dict(more), **rules)
            ends.callback(office.close)
            return office

        yield make


@pytest.fixture(params=["sqlite", "postgresql"])
def make_office(request: pytest.FixtureRequest, make_one: Offices) -> Offices:
    """On both."""
    options = {"database": request.getfixturevalue("postgres_url")} if request.param == "postgresql" else {}
    return lambda more=MappingProxyType({}), **rules: make_one({**options, **more}, **rules)


# --- what is told ------------------------------------------------------------------------------------------------------


def test_a_message_is_signed_and_says_what_a_receiver_needs(make_office: Offices) -> None:
    office = make_office()
    file = office.put("trip/film.txt", b"hello")
    assert office.drain() == 1
    got, = office.receiver.got
    assert got.path == "/hook?a=b"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["host"] == f"127.0.0.1:{office.receiver.port}"
    assert got.headers["webhook-timestamp"] == str(int(office.shop.now))
    assert got.is_signed(SECRET)
    assert not got.is_signed("whsec_" + base64.b64encode(bytes(32)).decode())
    assert set(got.json) == {"type", "timestamp", "data"}
    assert (got.json["type"], got.json["timestamp"]) == ("file.create", "1970-01-12T13:46:40.000Z")
    assert got.json["data"] == {
        "file_id": file.id, "space": "main", "path": "trip/film.txt", "owner": "me", "size": 5, "media_type": "text/plain",
        "etag": file.etag, "version": 1, "sha256": None, "upload_id": None, "job": None, "request_id": None, "facts": {}}
    one, = office.deliveries()
    assert (one.id, one.state, one.attempts, one.answer) == (got.id, "taken", 1, "204 No Content")


def test_a_job_is_told_with_its_result_and_the_request_that_ordered_it(make_office: Offices) -> None:
    office = make_office(events=["job.*"])
    file = office.put("a.txt", b"hello")
    pipeline = office.shop.services.pipeline
    order = pipeline.order(pipeline.named("count"), "main", {})
    job = office.catalog.order(file.id, [order], now=office.shop.now, request="req-7")[0]
    office.shop.drain()
    assert office.drain() == 1
    data = office.receiver.got[0].json["data"]
    assert data["job"] == {"id": job.id, "step": "count", "result": {"bytes": 5}, "failure": None, "attempts": None, "quarantine": None}
    assert (data["file_id"], data["etag"], data["request_id"], data["facts"]) == (file.id, file.etag, "req-7", {})


def test_a_message_tells_of_the_content_that_it_is_about(make_office: Offices) -> None:
    """Two contents came before the first was told."""
    office = make_office(more={"spaces": {"main": {"versions": 3}}})
    first, second = office.put("a.txt", b"one"), office.put("a.txt", b"twoo")
    office.catalog.trash_file(first.id, now=2.0, expires_at=9e9, by=Act("ann", "token", "req-1"))
    office.drain()
    told = [{name: got.json["data"][name] for name in ("size", "etag", "version", "request_id")} for got in office.receiver.got]
    assert office.receiver.kinds == ["file.create", "file.replace", "file.trash"]
    assert told == [{"size": 3, "etag": first.etag, "version": 1, "request_id": None},
                    {"size": 4, "etag": second.etag, "version": 2, "request_id": None},
                    {"size": 4, "etag": second.etag, "version": 2, "request_id": "req-1"}]


def test_of_what_is_gone_the_rest_is_told(make_office: Offices) -> None:
    office = make_office()
    file = office.put("a.txt", b"one")
    office.catalog.delete_file(file.id, now=2.0)
    office.drain()
    created, deleted = [got.json["data"] for got in office.receiver.got]
    assert (created["file_id"], created["size"], created["version"], created["etag"]) == (file.id, 3, 1, None)
    assert (deleted["file_id"], deleted["path"], deleted["size"]) == (file.id, "a.txt", None)


def test_only_what_is_asked_for_is_told(make_office: Offices) -> None:
    office = make_office(more={"spaces": {"main": {}, "other": {}}}, events=["file.create", "file.tr?sh"], spaces=["other"])
    office.put("a.txt")
    file = office.shop.put("b.txt", b"abc", "other")
    office.shop.put("b.txt", b"abcd", "other")
    office.catalog.trash_file(file.id, now=2.0, expires_at=9e9)
    office.drain()
    assert office.told == [("file.create", "b.txt"), ("file.trash", "b.txt")]


def test_what_was_before_is_not_told(make_office: Offices) -> None:
    office = make_office()
    office.put("a.txt")
    late = Webhooks(office.shop.settings.model_copy(update={"webhooks": {"late": office.webhooks.rules("a")}}), office.catalog, Poster())
    newcomer = office.another(late)
    assert newcomer.drain() == 0
    office.put("b.txt")
    assert newcomer.drain() == 1
    assert office.told == [("file.create", "b.txt")]


def test_long_results_are_left_out(make_one: Offices) -> None:
    from carboy.jobs import Happening
    from carboy.processing.webhooks.messages import Messages

    office = make_one()
    happening = Happening("1", 1.0, "job.done", "main", "a", "f" * 32, job_id="j", facts={"step": "s", "result": {"text": "x" * 70_000}})
    made, = Messages(office.catalog).of([happening])
    assert '"result":null' in made.body
    assert len(made.body) < 1000


# --- in order, until it is taken -----------------------------------------------------------------------------------------


def failing(times: int, code: int = 500) -> Callable[[BaseHTTPRequestHandler, Got], None]:
    """The first ``times`` requests of each message about ``bad.txt`` are answered so."""
    seen: dict[str, int] = {}

    def reply(handler: BaseHTTPRequestHandler, got: Got) -> None:
        seen[got.id] = seen.get(got.id, 0) + 1
        bad = got.path_of_file == "bad.txt" and seen[got.id] <= times
        status(code if bad else 204, b"no" if bad else b"")(handler, got)

    return reply


def test_the_next_of_a_file_waits_for_the_one_before_and_others_do_not(make_office: Offices) -> None:
    office = make_office()
    office.receiver.reply = failing(2)
    office.put("bad.txt", b"1")
    office.put("good.txt", b"1")
    office.put("bad.txt", b"22")
    office.put("good.txt", b"22")
    office.drain()
    assert sorted(office.told) == [("file.create", "bad.txt"), ("file.create", "good.txt"), ("file.replace", "good.txt")]
    assert office.states == ["queued", "taken", "waiting", "taken"]
    office.shop.later(5.0)
    assert office.drain() == 1
    office.shop.later(15.0)
    assert office.drain() == 2, "it is taken, and the next fails"
    for pause in (5.0, 15.0):
        office.shop.later(pause)
        office.drain()
    bad = [got for got in office.receiver.got if got.path_of_file == "bad.txt"]
    assert [got.kind for got in bad] == ["file.create"] * 3 + ["file.replace"] * 3
    assert len({got.id for got in bad}) == 2, "a message keeps its id"
    assert all(got.is_signed(SECRET) for got in bad)
    assert len({got.headers["webhook-timestamp"] for got in bad[:3]}) == 3, "each attempt has a time of its own"
    assert office.states == ["taken"] * 4


def tried(office: Office, number: int) -> list[float]:
    """When the delivery of this number was, from now on, until it was given up."""
    start, times = office.shop.now, []
    while True:
        office.drain()
        times.append(office.shop.now - start)
        one = office.deliveries()[number]
        if one.state == "dead":
            return times
        office.shop.now = one.due_at


def test_attempts_come_less_and_less_often_and_end(make_one: Offices) -> None:
    office = make_one(retry_for=3 * DAY)
    office.receiver.reply = status(500, b"broken\n\x00inside")
    office.put("a.txt")
    office.put("a.txt", b"22")
    times, following = tried(office, 0), tried(office, 1)
    pauses = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert pauses[:8] == pytest.approx([5, 15, 45, 135, 405, 1215, 3645, 10935])
    assert max(pauses) == 4 * 3600
    assert times[-1] == 3 * DAY, "the last attempt is made just then"
    assert 20 < len(times) < 40
    dead = office.deliveries()[0]
    assert (dead.attempts, dead.answer) == (len(times), "500 Internal Server Error: broken inside")
    assert following == pytest.approx(times), "it has all of its time, once the one before was given up"
    assert office.receiver.kinds == ["file.create"] * len(times) + ["file.replace"] * len(times)


def test_pauses_are_spread(make_one: Offices) -> None:
    office = make_one()
    office.receiver.reply = status(500)
    postmen = [office.another(chance=lambda chance=chance: chance) for chance in (0.0, 1.0)]
    pauses: list[float] = []
    for postman in postmen:
        office.put("a.txt")
        office.put(f"{len(pauses)}.txt")
        postman.drain()
        pauses.append(max(one.due_at for one in office.deliveries(state="queued")) - office.shop.now)
    assert pauses == pytest.approx([4.0, 6.0])


@pytest.mark.parametrize(("code", "field", "pause"), [
    (429, "100", 100.0), (503, "3600", 3600.0), (503, "1", 5.0), (500, "100", 5.0), (503, "soon", 5.0), (429, "99999999999", DAY),
    (503, "Mon, 12 Jan 1970 13:48:20 GMT", 100.0), (503, "Mon, 12 Jan 1970 13:00:00 GMT", 5.0),
    (503, "Mon, 12 Jan 1970 13:48:20 +99999999999999", 5.0), (503, "Mon, 12 Jan 99999999999999999999 13:48:20 GMT", 5.0)])
def test_who_asks_to_be_left_alone_is(make_one: Offices, code: int, field: str, pause: float) -> None:
    office = make_one()
    office.receiver.reply = status(code, Retry_After=field)
    office.put("a.txt")
    office.drain()
    one = office.deliveries()[0]
    assert (one.due_at - office.shop.now, str(one.answer)[:4]) == (pause, f"{code} ")


def test_who_is_gone_is_not_asked_again(make_one: Offices) -> None:
    office = make_one()
    office.receiver.reply = status(410)
    office.put("a.txt")
    assert office.drain() == 1
    assert office.states == ["dead"]


def test_without_time_to_retry_one_attempt_is_made(make_one: Offices) -> None:
    office = make_one(retry_for=0)
    office.receiver.reply = status(500)
    office.put("a.txt")
    office.drain()
    assert (office.states, len(office.receiver.got)) == (["dead"], 1)


@pytest.mark.parametrize("code", [200, 201, 202, 204, 299])
def test_2xx_is_taken(make_one: Offices, code: int) -> None:
    office = make_one()
    office.receiver.reply = status(code)
    office.put("a.txt")
    office.drain()
    assert office.states == ["taken"]


# --- whatever dies -------------------------------------------------------------------------------------------------------


def test_a_crash_between_sending_and_keeping_sends_the_same_again(make_office: Offices) -> None:
    office = make_office()
    office.put("a.txt", b"1")
    office.put("a.txt", b"22")
    dying = office.another()
    dying._follow("a")
    claim, = dying._claim("a", 1)
    assert office.webhooks.post("a", claim.id, claim.body).is_taken
    assert office.drain() == 0, "it may still be under way"
    dying._leases.close()  # as seen by others, once it is gone
    later = office.another()
    assert later.drain() == 2
    assert [got.kind for got in office.receiver.got] == ["file.create", "file.create", "file.replace"]
    assert office.receiver.got[0].id == office.receiver.got[1].id
    assert office.states == ["taken", "taken"]


def test_who_was_stopped_and_taken_for_dead_changes_nothing(make_office: Offices) -> None:
    """It goes on after its claim has been given to another: what it says of it counts for nothing."""
    office = make_office()
    office.put("a.txt", b"1")
    office.put("a.txt", b"22")
    stopped = office.another()
    stopped._follow("a")
    claim, = stopped._claim("a", 1)
    instance = next(one for one in office.catalog.instances() if one.id == claim.instance)
    assert office.catalog.bury(instance)
    other = office.another()
    other._look_after()
    again, = other._claim("a", 1)
    stopped._settle(claim, Answer(500, "late"))
    assert office.states == ["sending", "waiting"]
    other._settle(again, Answer(200, "ok"))
    assert office.states == ["taken", "queued"]
    stopped._leases.close()


def test_two_who_follow_tell_each_thing_once(make_office: Offices) -> None:
    office = make_office()
    for number in range(5):
        office.put(f"{number}.txt")
    postmen = [office.another() for _ in range(4)]
    threads = [threading.Thread(target=postman.drain) for postman in postmen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    office.drain()
    assert sorted(office.told) == [("file.create", f"{number}.txt") for number in range(5)]
    assert office.states == ["taken"] * 5


class Patchy:
    """A catalog that fails at times: so many calls of one method do."""

    def __init__(self, catalog: Any, lost: int, method: str = "settle_delivery", failure: Exception = AWAY) -> None:
        self._catalog, self.lost, self._method, self._failure = catalog, lost, method, failure

    def __getattr__(self, name: str) -> Any:
        return self._call if name == self._method else getattr(self._catalog, name)

    def _call(self, *args: Any, **how: Any) -> Any:
        if self.lost:
            self.lost -= 1
            raise self._failure
        return getattr(self._catalog, self._method)(*args, **how)


@pytest.mark.parametrize("failure", [AWAY, OSError("there are too many open files")])
def test_what_came_of_it_is_kept_however_long_the_catalog_is_away(make_one: Offices, failure: Exception) -> None:
    office = make_one()
    office.put("a.txt")
    catalog: Any = Patchy(office.catalog, 3, failure=failure)
    assert office.another(catalog=catalog, poll=0.01).drain() == 1
    assert (office.states, len(office.receiver.got)) == (["taken"], 1)


def test_whatever_keeps_one_from_being_sent_is_a_failed_attempt(make_one: Offices) -> None:
    office = make_one()
    asked: list[str] = []

    def ask(host: str, port: int) -> list[Found]:
        asked.append(host)
        if len(asked) == 1:
            raise RuntimeError("can't start new thread")
        return [(socket.AF_INET, ("127.0.0.1", port))]

    postman = office.another(Webhooks(office.shop.settings, office.catalog, Poster(ask), lambda: office.shop.now))
    office.put("a.txt")
    office.put("a.txt", b"22")
    assert postman.drain() == 1
    one = office.deliveries()[0]
    assert (one.attempts, one.answer, one.due_at - office.shop.now) == (1, "it could not be sent: RuntimeError", 5.0)
    assert office.states == ["queued", "waiting"]
    office.shop.later(5.0)
    assert postman.drain() == 2
    assert office.states == ["taken", "taken"]


# --- the thread -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def started() -> Iterator[Callable[[Postman], Postman]]:
    with ExitStack() as ends:
        def start(postman: Postman) -> Postman:
            ends.callback(postman.join, 30.0)
            ends.callback(postman.stop)
            postman.start()
            return postman

        yield start


def test_a_postman_delivers_while_it_runs(make_office: Offices, started: Callable[[Postman], Postman]) -> None:
    office = make_office()
    started(office.another(shared=True))
    for number in range(6):
        office.put("a.txt", b"x" * number)
        office.put(f"{number}.txt")
    eventually(lambda: office.states == ["taken"] * 12)
    own = [got.json["data"]["version"] for got in office.receiver.got if got.path_of_file == "a.txt"]
    assert own == [1, 2, 3, 4, 5, 6]


def test_one_postman_works_and_the_next_when_it_ends(make_office: Offices, started: Callable[[Postman], Postman]) -> None:
    office = make_office()
    first = started(office.another(shared=True))
    office.put("a.txt")
    office.receiver.wait_for(1)
    second = office.another(shared=True)
    assert not second._is_first()
    first.stop()
    first.join(30.0)
    started(second)
    office.put("b.txt")
    office.receiver.wait_for(2)


def test_another_takes_over_from_one_that_is_taken_for_dead(make_office: Offices, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes have data folders of their own: the catalog alone says which of them it is."""
    monkeypatch.setattr("carboy.processing.webhooks.postman._ELECTED", 0.0)
    monkeypatch.setattr(Seat, "take", lambda self: True)
    office = make_office()
    stopped, other = office.another(shared=True), office.another(shared=True)
    assert (stopped._is_first(), other._is_first(), stopped._is_first()) == (True, False, True)
    for instance in office.catalog.instances():
        if instance.id == stopped._leases.instance():
            assert office.catalog.bury(instance)
    assert other._is_first()
    stopped._leases._self.safe_until = 0.0  # type: ignore[union-attr]  # as it finds itself when it goes on
    assert not stopped._is_first()


def refusing(name: str) -> Callable[[threading.Thread], None]:
    """In place of a thread's ``start``: those of this name can't be had."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    return refuse


def test_threads_that_cannot_be_had_lose_nothing(make_one: Offices, monkeypatch: pytest.MonkeyPatch) -> None:
    office = make_one()
    office.put("a.txt")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refusing("webhook"))
        office.postman._round()
    assert office.states == ["sending"]
    assert office.another().drain() == 1
    assert office.states == ["taken"]


def test_a_postman_goes_on_when_it_may_not_rest(make_one: Offices, started: Callable[[Postman], Postman], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carboy.processing.webhooks.postman._IDLE", 0.0)
    office = make_one()
    catalog: Any = Patchy(office.catalog, 3, "sending")
    started(office.another(catalog=catalog))
    eventually(lambda: not catalog.lost)
    office.put("a.txt")
    eventually(lambda: office.states == ["taken"])


def test_a_postman_goes_on_once_its_seat_can_be_had(make_one: Offices, started: Callable[[Postman], Postman],
                                                    caplog: pytest.LogCaptureFixture) -> None:
    office = make_one()
    obstacle = office.shop.folder / "data" / "webhooks.lock"
    obstacle.mkdir()
    assert not office.postman._round(), "it pauses"
    caplog.clear()
    office.put("a.txt")
    started(office.another())
    eventually(lambda: "IsADirectoryError" in caplog.text)
    obstacle.rmdir()
    eventually(lambda: office.states == ["taken"])


def test_a_seat_that_cannot_be_locked_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = []

    def refuse(file: int, how: int) -> None:
        files.append(file)
        raise OSError("no locks available")

    seat = Seat(tmp_path / "x.lock")
    with monkeypatch.context() as patched:
        patched.setattr("fcntl.flock", refuse)
        with pytest.raises(OSError, match="no locks"):
            seat.take()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(files[0])
    assert seat.take()
    seat.leave()


def test_a_postman_goes_on_once_it_can_have_a_thread_for_its_leases(make_one: Offices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carboy.processing.webhooks.postman._ELECTED", 0.0)
    office = make_one()
    office.put("a.txt")
    postman = office.another(shared=True)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refusing("leases"))
        assert not postman._round()
    postman._round()
    eventually(lambda: office.states == ["taken"])


def test_a_slow_receiver_holds_up_itself_alone(make_one: Offices, started: Callable[[Postman], Postman]) -> None:
    let_go = threading.Event()
    with receiving() as slow:
        def wait(handler: BaseHTTPRequestHandler, got: Got) -> None:
            let_go.wait(60)
            status(204)(handler, got)

        slow.reply = wait
        office = make_one(more={"others": {"slow": {"url": slow.url, "allow_private": True}}})
        started(office.postman)
        for number in range(10):
            office.put(f"{number}.txt")
        office.receiver.wait_for(10)
        assert len(slow.wait_for(4)) == 4, "as many as may be under way to one"
        assert office.catalog.sending("slow") == 4
        let_go.set()
        slow.wait_for(10)
        eventually(lambda: [one.state for one in office.deliveries("slow")] == ["taken"] * 10)


def test_an_idle_postman_lets_go(make_one: Offices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carboy.processing.webhooks.postman._IDLE", 0.0)
    office = make_one()
    office.put("a.txt")
    office.drain()
    assert office.catalog.instances()
    office.postman._rest()
    assert not office.catalog.instances()


# --- where it goes, and where not -----------------------------------------------------------------------------------------------


def test_private_addresses_are_refused_unless_allowed(make_one: Offices) -> None:
    office = make_one(allow_private=False)
    office.put("a.txt")
    office.drain()
    assert office.receiver.got == []
    assert office.deliveries()[0].answer == "127.0.0.1 is at 127.0.0.1, which is no public address"
    assert office.states == ["queued"], "the name may be mended"


def posted(url: str, ask: Callable[[str, int], list[Found]] | None = None, **how: Any) -> Answer:
    poster = Poster(ask) if ask else Poster()
    return poster.post(url, {}, b"{}", timeout=how.pop("timeout", 20.0), **how)


def test_a_name_that_turns_private_is_asked_for_once(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the first answer is public, the next one is this machine. Here 127.0.0.2 stands for the internet."""
    asked: list[str] = []

    def ask(host: str, port: int) -> list[Found]:
        asked.append(host)
        return [(socket.AF_INET, ("127.0.0.2" if len(asked) == 1 else "127.0.0.1", port))]

    monkeypatch.setattr("carboy.engine.addresses.is_public", lambda address: address == "127.0.0.2")
    with receiving(host="127.0.0.2", port=receiver.port) as public:
        assert posted(f"http://app.example:{receiver.port}/", ask).is_taken
        assert (asked, len(public.got), receiver.got) == (["app.example"], 1, [])
        assert posted(f"http://app.example:{receiver.port}/", ask).said == "app.example is at 127.0.0.1, which is no public address"
        assert receiver.got == []


def test_a_name_that_stands_for_a_private_address_is_refused(receiver: Receiver) -> None:
    answer = posted("http://app.example/", lambda host, port: [(socket.AF_INET6, ("::ffff:169.254.169.254", port, 0, 0))])
    assert answer == Answer(None, "app.example is at ::ffff:169.254.169.254, which is no public address")


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(make_one: Offices, code: int) -> None:
    office = make_one()
    with receiving() as other:
        office.receiver.reply = status(code, Location=other.url)
        office.put("a.txt")
        office.drain()
        assert (office.states, other.got) == (["queued"], [])
        office.receiver.reply = status(code, Location="http://169.254.169.254/latest/meta-data/")
        office.shop.later(10.0)
        office.drain()
        assert office.deliveries()[0].answer.startswith(str(code))  # type: ignore[union-attr]


def test_proxies_of_the_environment_are_not_used(make_one: Offices, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        office = make_one()
        office.put("a.txt")
        office.drain()
        assert (len(office.receiver.got), len(proxy.got)) == (1, 0)


def endless_head(handler: BaseHTTPRequestHandler, got: Got) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X: " + b"y" * 60_000 + b"\r\n")


def endless_body(handler: BaseHTTPRequestHandler, got: Got) -> None:
    handler.wfile.write(b"HTTP/1.1 500 Oh\r\n\r\n")
    while True:
        handler.wfile.write(b"y" * 60_000)


def silent(handler: BaseHTTPRequestHandler, got: Got) -> None:
    handler.connection.settimeout(20)
    handler.rfile.read(1)


def dripping(handler: BaseHTTPRequestHandler, got: Got) -> None:
    """It never lets a single read time out."""
    handler.wfile.write(b"HTTP/1.1 200 ")
    for _ in range(300):
        handler.wfile.write(b"y")
        threading.Event().wait(0.02)


def nonsense(handler: BaseHTTPRequestHandler, got: Got) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")
    handler.close_connection = True


def nothing(handler: BaseHTTPRequestHandler, got: Got) -> None:
    handler.close_connection = True


@pytest.mark.parametrize(("reply", "said"), [
    (silent, "no answer within 0.3 s"), (dripping, "no answer within 0.3 s"), (nonsense, "no answer"), (nothing, "no answer"),
    (endless_body, "500 Oh: " + "y" * 500)])
def test_answers_that_are_none_fail_in_time(receiver: Receiver, reply: Any, said: str) -> None:
    receiver.reply = reply
    answer = posted(receiver.url, allow_private=True, timeout=20.0 if said == "no answer" or reply is endless_body else 0.3)
    assert answer.said.startswith(said)
    assert not answer.is_taken


def test_no_more_of_an_answer_is_read_than_it_may_have(receiver: Receiver) -> None:
    written = []

    def reply(handler: BaseHTTPRequestHandler, got: Got) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                written.append(handler.wfile.write(b"y" * 60_000))
        finally:
            written.append(-1)

    receiver.reply = reply
    assert posted(receiver.url, allow_private=True).is_taken
    eventually(lambda: written and written[-1] == -1)
    receiver.reply = endless_head
    assert posted(receiver.url, allow_private=True).said == "no answer: the answer has more than 65536 bytes"


def test_https_is_verified_against_the_name(make_one: Offices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from carboy.processing.webhooks import posting

    certificate = certificates.make(tmp_path)
    with receiving(certificate) as secure:
        def here(host: str, port: int) -> list[Found]:
            return [(socket.AF_INET, ("127.0.0.1", port))]

        posting._trust.cache_clear()
        assert "certificate verify failed" in posted(secure.url, allow_private=True).said
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.cert))
        posting._trust.cache_clear()
        assert posted(secure.url, allow_private=True).is_taken
        named = secure.url.replace("127.0.0.1", "localhost")
        assert posted(named, here, allow_private=True).is_taken
        assert secure.got[-1].headers["host"] == f"localhost:{secure.port}"
        other = secure.url.replace("127.0.0.1", "app.example")
        assert "certificate" in posted(other, here, allow_private=True).said
        posting._trust.cache_clear()
        assert len(secure.got) == 2


# --- secrets and settings -------------------------------------------------------------------------------------------------------------


def test_a_secret_is_made_and_kept_where_none_is_set(make_office: Offices) -> None:
    office = make_office(secret="")
    secret = office.webhooks.secret("a")
    assert secret == Webhooks(office.shop.settings, office.catalog, Poster()).secret("a"), "all processes have the same"
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    office.put("a.txt")
    office.drain()
    assert office.receiver.got[0].is_signed(secret)


def test_old_secrets_sign_too(make_one: Offices) -> None:
    old = signatures.written(b"o" * 24)
    office = make_one(old_secrets=[old])
    office.put("a.txt")
    office.drain()
    got = office.receiver.got[0]
    assert got.is_signed(SECRET)
    assert got.is_signed(old)
    assert len(got.headers["webhook-signature"].split()) == 2


def test_a_signature_of_the_specification() -> None:
    """The example of the libraries of Standard Webhooks."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert signatures.sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}') == (
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")


@pytest.mark.parametrize(("rules", "why"), [
    ({"url": "ftp://app.example/"}, "https://"), ({"url": "https://"}, "https://"), ({"url": "https://ann:pw@app.example/"}, "signature"),
    ({"url": "https://app.example/a b"}, "spaces"), ({"url": "https://app.example/\r\nX: y"}, "spaces"), ({"url": "https://bücher.example/"}, "ASCII"),
    ({"url": "https://app.example:0/"}, "https://"), ({"url": "https://app.example:99999/"}, "https://"), ({"url": "https://app.example/#x"}, "#"),
    ({"url": "https:///path"}, "https://"), ({"url": "https://[::1/"}, "https://"), ({"url": "http://a.example\\@b.example/"}, "no address"),
    ({"secret": "tooshort"}, "whsec_"), ({"secret": "whsec_" + base64.b64encode(b"x" * 23).decode()}, "24 to 64"),
    ({"secret": "whsec_" + base64.b64encode(b"x" * 65).decode()}, "24 to 64"), ({"secret": "whsec_!!"}, "whsec_"),
    ({"old_secrets": [""]}, "whsec_"), ({"events": ["audit.x"]}, "file.create"), ({"events": ["file"]}, "file.create"),
    ({"spaces": ["nowhere"]}, "no space 'nowhere'"), ({"timeout": 0}, "greater than 0"), ({"colour": "red"}, "no such setting")])
def test_what_cannot_be_is_refused(tmp_path: Path, rules: dict[str, Any], why: str) -> None:
    from carboy.bootstrap import open_carboy

    with pytest.raises(ConfigError) as refused:
        open_carboy(of_application({"data": tmp_path, "webhooks": {"a": {"url": "https://app.example/", **rules}}}))
    assert why in refused.value.detail
    assert refused.value.facts["setting"].startswith("webhooks.a")


def test_names_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="webhook's name"):
        of_application({"data": tmp_path, "webhooks": {"A B": {"url": "https://app.example/"}}})


@pytest.mark.parametrize("url", ["https://app.example", "http://app.example:8080/a/b?c=d&e=%20", "https://[2606:4700::1111]/", "HTTPS://App.example/"])
def test_what_can_be_is_taken(tmp_path: Path, url: str) -> None:
    of_application({"data": tmp_path, "webhooks": {"a": {"url": url, "secret": SECRET, "events": ["*", "*.dead", "job.*"]}}})


# --- the operator ------------------------------------------------------------------------------------------------------------------------


def test_a_replay_sends_again_under_the_same_ids_in_the_same_order(make_office: Offices) -> None:
    office = make_office(retry_for=0)
    office.receiver.reply = status(500)
    for number in range(3):
        office.put("a.txt", b"x" * number)
    office.drain()
    assert office.states == ["dead"] * 3
    before = [got.id for got in office.receiver.got]
    office.receiver.reply = status(204)
    office.shop.later(10 * DAY)
    assert office.webhooks.replay("a", DeliveryFilter(state="dead")) == 3
    assert office.drain() == 3
    assert [got.id for got in office.receiver.got[3:]] == before
    assert office.states == ["taken"] * 3
    assert office.webhooks.replay("a", DeliveryFilter(id=before[1])) == 1
    assert office.webhooks.replay("a", DeliveryFilter(id="msg_none")) == 0
    office.drain()
    assert [got.id for got in office.receiver.got[6:]] == [before[1]]


def test_a_test_is_signed_and_kept_nowhere(make_one: Offices) -> None:
    office = make_one()
    assert office.webhooks.test("a") == Answer(204, "204 No Content")
    got, = office.receiver.got
    assert (got.kind, got.json["data"]) == ("webhook.test", {"webhook": "a"})
    assert got.is_signed(SECRET)
    assert office.deliveries() == []


def test_the_webhooks_are_told_with_their_counts(make_one: Offices) -> None:
    office = make_one(more={"others": {"b": {"url": "https://app.example/", "events": ["job.dead"]}}})
    office.put("a.txt")
    office.drain()
    assert [(one.name, one.begun, one.counts) for one in office.webhooks.all()] == [("a", True, {"taken": 1}), ("b", True, {})]
    for ask in (office.webhooks.secret, office.webhooks.test, lambda name: office.webhooks.replay(name, DeliveryFilter())):
        with pytest.raises(NotFound):
            ask("none")
