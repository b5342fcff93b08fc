"""Rate limits: exact between threads, processes and requests, told in headers, and never what ends the service."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import wire
from fixtures_redis import RedisServer
from fixtures_server import Server, ServerFactory, eventually
from limits import parse
from limits.strategies import FixedWindowRateLimiter

from carboy.config import Settings
from carboy.errors import ConfigError, RateLimited
from carboy.web.rates import Rates, network
from carboy.web.ratestore import SharedStorage

WORKERS = 2
LONG = "day"
"""A window that no test outlives."""


# --- the counters --------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rates"


@pytest.fixture
def store(path: Path) -> Iterator[SharedStorage]:
    store = SharedStorage(path=path)
    yield store
    store.close()


def count(path: Path, times: int) -> None:
    store = SharedStorage(path=path)
    for _ in range(times):
        store.incr("shared", 3600)


def test_counting_is_exact_between_processes_and_threads(store: SharedStorage, path: Path) -> None:
    """Each thread opens the file for itself, as several applications in one process do."""
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=count, args=(path, 200)) for _ in range(3)]
    threads = [threading.Thread(target=count, args=(path, 200)) for _ in range(3)]
    for one in [*others, *threads]:
        one.start()
    for one in [*others, *threads]:
        one.join()
    assert store.get("shared") == 1200


def test_a_window_ends(store: SharedStorage) -> None:
    assert [store.incr("short", 0.05) for _ in range(2)] == [1, 2]
    eventually(lambda: store.get("short") == 0)
    assert store.incr("short", 3600) == 1


def test_names_are_counted_apart(store: SharedStorage) -> None:
    for number in range(1000):
        assert store.incr(f"name {number}", 3600) == 1
    assert store.incr("name 0", 3600) == 2


def test_the_file_stays_small_however_many_ask(store: SharedStorage, path: Path) -> None:
    """Who is forgotten for others is who would be free first."""
    for number in range(20_000):
        store.incr(f"stranger {number}", 60)
    assert path.stat().st_size <= 4096 * 16 * 32


def test_a_count_that_ends_later_outlives_a_flood(store: SharedStorage) -> None:
    """In one bucket: what ends first makes way."""
    assert [store.incr("kept", 3600) for _ in range(5)][-1] == 5
    for number in range(70_000):
        store.incr(f"flood {number}", 60)
    assert store.incr("kept", 3600) == 6


def test_a_clock_set_back_locks_nobody_out(store: SharedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    with monkeypatch.context() as later:
        later.setattr("carboy.web.ratestore.time.time", lambda: now + 1e6)
        store.incr("early", 60)
    assert store.incr("early", 60) == 1


def test_clearing(store: SharedStorage) -> None:
    limiter = FixedWindowRateLimiter(store)
    item = parse("2/hour")
    assert [limiter.hit(item, "x") for _ in range(3)] == [True, True, False]
    limiter.clear(item, "x")
    assert limiter.hit(item, "x")
    store.reset()
    assert limiter.get_window_stats(item, "x").remaining == 2
    assert store.check()


# --- the limits ----------------------------------------------------------------------------------------------------


def settings(folder: Path, **more: str) -> Settings:
    return Settings(data=folder, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("name, value", [("rate_limit", "often"), ("login_rate_limit", "5 per fortnight"), ("rate_limit_storage", "paper://desk")])
def test_limits_that_are_none(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Rates(settings(tmp_path, **{name: value}))


def test_of_several_limits_each_holds(tmp_path: Path) -> None:
    rates = Rates(settings(tmp_path, rate_limit=f"3/{LONG};1000/{LONG}"))
    left = [rates.spend("ann", "") for _ in range(3)]
    assert [(one.limit, one.remaining) for one in left if one] == [(3, 2), (3, 1), (3, 0)]
    with pytest.raises(RateLimited) as refused:
        rates.spend("ann", "")
    assert refused.value.facts["limit"] == 3 and refused.value.facts["retry_after"] >= 1
    assert rates.spend("bob", "") and rates.spend(None, "127.0.0.1")


def test_a_store_that_fails_refuses_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "rates").mkdir()
    rates = Rates(settings(tmp_path, rate_limit=f"1/{LONG}"))
    assert [rates.spend("ann", "") for _ in range(3)] == [None] * 3
    rates.may_try("127.0.0.1")
    rates.failed("127.0.0.1")
    assert len([line for line in caplog.records if "can't be counted" in line.getMessage()]) == 1


@pytest.mark.parametrize("address, whole", [
    ("203.0.113.7", "203.0.113.7"), ("2001:db8::1", "2001:db8::/64"), ("2001:db8:0:0:ffff::9", "2001:db8::/64"),
    ("::ffff:203.0.113.7", "203.0.113.7"), ("", ""), ("unix", "unix"),
])
def test_an_address_of_ipv6_is_its_network(address: str, whole: str) -> None:
    assert network(address) == whole


# --- over HTTP -----------------------------------------------------------------------------------------------------


def limited(server: ServerFactory, **env: str) -> Server:
    return server(env={f"CARBOY_{name.upper()}": value for name, value in env.items()}, workers=WORKERS)


def test_requests_are_counted_in_all_processes_together(server: ServerFactory) -> None:
    one = limited(server, rate_limit=f"20/{LONG}")
    answers = [one.request("GET", "/api/v1/spaces") for _ in range(30)]
    assert [answer.status for answer in answers] == [200] * 20 + [429] * 10
    assert [answer.header("RateLimit-Remaining") for answer in answers[:20]] == [str(left) for left in range(19, -1, -1)]
    assert answers[0].header("RateLimit-Limit") == "20"
    refused = answers[-1]
    assert refused.json()["code"] == "rate_limited" and refused.header("Content-Type") == "application/problem+json"
    assert int(refused.header("Retry-After") or 0) >= 1 and refused.header("RateLimit-Remaining") == "0"
    assert one.request("GET", "/healthz").status == 200
    assert wire.request(one.url, "GET", "/openapi.json").status == 200, "an address has a count of its own"


def test_what_was_refused_was_not_done(server: ServerFactory) -> None:
    one = limited(server, rate_limit=f"2/{LONG}")
    assert [one.request("PUT", f"/files/main/{name}", body=b"x").status for name in "abc"] == [201, 201, 429]
    bob = one.restart()
    assert bob.request("GET", "/files/main/c").status == 429, "a restart forgives nothing"


def test_wrong_tokens_are_counted_and_right_ones_still_work(server: ServerFactory) -> None:
    one = limited(server, login_rate_limit=f"3/{LONG}")
    wrong = [wire.request(one.url, "GET", "/api/v1/spaces", {"Authorization": "Bearer wrong"}).status for _ in range(5)]
    assert wrong == [401, 401, 401, 429, 429]
    assert one.request("GET", "/api/v1/spaces").status == 200


def test_without_limits_nothing_is_told(live: Server) -> None:
    answer = live.request("GET", "/api/v1/spaces")
    assert (answer.header("RateLimit-Limit"), answer.header("RateLimit-Remaining")) == (None, None)


def test_passwords_of_links_are_not_guessed_for_long(server: ServerFactory) -> None:
    one = limited(server, login_rate_limit=f"3/{LONG}")
    file = one.request("PUT", "/files/main/secret.txt", body=b"x").json()
    made = one.request("POST", "/api/v1/links", body=json.dumps({"kind": "file", "file_id": file["id"], "password": "right"}).encode())
    url = made.json()["url"]
    wrong = [wire.request(one.url, "GET", url, {"Authorization": "Basic Ondyb25n"}).status for _ in range(4)]
    assert wrong == [403, 403, 403, 429]
    assert wire.request(one.url, "GET", url, {"Authorization": "Basic OnJpZ2h0"}).status == 429, "nor is the right one tried then"


# --- counted in Redis, for several machines --------------------------------------------------------------------------


def of_redis(redis_server: RedisServer, rate: str) -> dict[str, str]:
    return {"rate_limit": rate, "rate_limit_storage": redis_server.url}


def test_several_machines_count_together_in_redis(server: ServerFactory, redis_server: RedisServer) -> None:
    one, two = (limited(server, **of_redis(redis_server, f"20/{LONG}")) for _ in range(2))
    answers = [wire.request(node.url, "GET", "/docs") for _ in range(15) for node in (one, two)]
    assert [answer.status for answer in answers] == [200] * 20 + [429] * 10
    assert [answer.header("RateLimit-Remaining") for answer in answers[:20]] == [str(left) for left in range(19, -1, -1)]
    assert int(answers[-1].header("Retry-After") or 0) >= 1


def test_a_redis_that_is_killed_refuses_nobody_and_counts_again_when_it_is_back(server: ServerFactory, redis_server: RedisServer) -> None:
    one = limited(server, **of_redis(redis_server, f"3/{LONG}"))
    assert one.request("GET", "/api/v1/spaces").header("RateLimit-Remaining") == "2"
    redis_server.kill()
    assert [one.request("GET", "/api/v1/spaces").status for _ in range(10)] == [200] * 10
    assert "can't be counted" in one.log()
    redis_server.start()
    eventually(lambda: one.request("GET", "/api/v1/spaces").status == 429)


def test_a_redis_that_hangs_holds_nobody_up(server: ServerFactory, redis_server: RedisServer) -> None:
    one = limited(server, **of_redis(redis_server, f"3/{LONG}"))
    assert one.request("GET", "/api/v1/spaces").header("RateLimit-Remaining") == "2"
    redis_server.hang()
    began = time.monotonic()
    assert [one.request("GET", "/api/v1/spaces").status for _ in range(20)] == [200] * 20
    assert time.monotonic() - began < 20, "each waited for an answer of Redis"
    redis_server.go_on()
    eventually(lambda: one.request("GET", "/api/v1/spaces").status == 429)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:port", "redis://127.0.0.1/0?socket_timeout=soon"])
def test_an_address_of_redis_that_is_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="rate_limit_storage"):
        Rates(settings(tmp_path, rate_limit_storage=url))
