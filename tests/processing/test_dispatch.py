"""The dispatcher, with a real Redis: what is queued and due gets to the broker, once; what the broker loses gets there again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fixtures_redis import RedisServer
from fixtures_server import eventually

from carboy import step
from carboy.jobs import Job
from carboy.processing.delivering.delivery import Broker
from carboy.processing.delivering.dispatch import Dispatcher
from carboy.web.background import Background
from carboy.web.brokered import broker_of


@step("noop", spaces=[])
def noop(context: Any, number: int = 0) -> dict[str, int]:
    return {"number": number}


@step("film", spaces=[], queue="films", priority=3)
def film(context: Any) -> None:
    pass


@pytest.fixture
def workshop(make_workshop: Callable[..., Any], redis_server: RedisServer) -> Any:
    return make_workshop(noop, film, broker=redis_server.url)


@pytest.fixture
def broker(workshop: Any) -> Iterator[Broker]:
    broker = broker_of(workshop.settings)
    yield broker
    broker.close()


def dispatcher(workshop: Any, broker: Broker, **options: Any) -> Dispatcher:
    services = workshop.services
    return Dispatcher(services.catalog, services.leases, services.wakes, broker, clock=lambda: workshop.now, **options)


def ordered(workshop: Any, count: int = 1, step: str = "noop") -> list[Job]:
    return [workshop.order(workshop.put(f"{step}-{number}", b"%d" % number), step) for number in range(count)]


def test_a_job_is_sent_once(workshop: Any, broker: Broker) -> None:
    ordered(workshop, 3)
    sends = dispatcher(workshop, broker)
    sends.look()
    sends.look()
    assert broker.waiting("carboy") == 3


def test_each_goes_to_its_queue(workshop: Any, broker: Broker) -> None:
    ordered(workshop, 2)
    ordered(workshop, 1, "film")
    dispatcher(workshop, broker).look()
    assert (broker.waiting("carboy"), broker.waiting("films")) == (2, 1)


def test_more_than_fit_into_one_batch_are_sent_at_once(workshop: Any, broker: Broker) -> None:
    file = workshop.put("many", b"many")
    for number in range(300):
        workshop.order(file, "noop", number=number)
    dispatcher(workshop, broker).look()
    assert broker.waiting("carboy") == 300


def test_what_is_due_later_is_sent_then(workshop: Any, broker: Broker) -> None:
    job, = ordered(workshop)
    services, sends = workshop.services, dispatcher(workshop, broker)
    claim, = services.catalog.claim_jobs(services.leases.instance(), now=workshop.now, steps=["noop"])
    services.catalog.fail_job(claim, "not yet", now=workshop.now, due_at=workshop.now + 100)
    sends.look()
    assert broker.waiting("carboy") == 0
    workshop.later(101)
    sends.look()
    assert broker.waiting("carboy") == 1
    assert services.catalog.job(job.id).state == "queued"  # type: ignore[union-attr]


def test_a_job_that_is_queued_again_is_sent_again(workshop: Any, broker: Broker) -> None:
    """Its first sending was used up."""
    ordered(workshop)
    services, sends = workshop.services, dispatcher(workshop, broker)
    sends.look()
    claim, = services.catalog.claim_jobs(services.leases.instance(), now=workshop.now, steps=["noop"])
    services.catalog.release_job(claim, now=workshop.now)
    sends.look()
    assert broker.waiting("carboy") == 2


def test_what_the_broker_has_lost_is_sent_again_after_some_seconds(workshop: Any, broker: Broker, redis_server: RedisServer) -> None:
    ordered(workshop, 3)
    sends = dispatcher(workshop, broker)
    sends.look()
    redis_server.say("FLUSHALL")
    sends.look()
    assert broker.waiting("carboy") == 0, "it may be about to begin"
    workshop.later(6)
    sends.look()
    assert broker.waiting("carboy") == 3


def test_what_waits_in_the_broker_is_not_sent_again_but_after_long(workshop: Any, broker: Broker) -> None:
    ordered(workshop, 3)
    sends = dispatcher(workshop, broker)
    sends.look()
    workshop.later(600)
    sends.look()
    assert broker.waiting("carboy") == 3
    dispatcher(workshop, broker, old=0.0).look()
    assert broker.waiting("carboy") == 6


def test_another_queue_being_full_does_not_matter(workshop: Any, broker: Broker, redis_server: RedisServer) -> None:
    """Whether ids are lost is told queue by queue."""
    ordered(workshop, 2)
    sends = dispatcher(workshop, broker)
    sends.look()
    redis_server.say("FLUSHALL")
    ordered(workshop, 1, "film")
    sends.look()
    workshop.later(6)
    sends.look()
    assert (broker.waiting("carboy"), broker.waiting("films")) == (2, 1)


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_a_clock_that_jumps_loses_nothing(workshop: Any, broker: Broker, redis_server: RedisServer, jump: float) -> None:
    ordered(workshop, 2)
    sends = dispatcher(workshop, broker)
    sends.look()
    redis_server.say("FLUSHALL")
    workshop.later(jump)
    ordered(workshop, 1, "film")
    sends.look()
    workshop.later(6)
    sends.look()
    assert broker.waiting("carboy") in (2, 4) and broker.waiting("films") == 1


def test_the_broker_being_away_is_told_once_and_the_jobs_are_sent_when_it_is_back(
        workshop: Any, broker: Broker, redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "carboy.jobs")
    sends = dispatcher(workshop, broker)
    ordered(workshop)
    sends.look()
    redis_server.kill()
    ordered(workshop, 2, "film")
    for _ in range(3):
        sends.look()
    redis_server.start()
    workshop.later(6)
    assert eventually(lambda: sends.look() or (broker.waiting("carboy") == 1 and broker.waiting("films") == 2))
    told = [record.getMessage() for record in caplog.records if "broker" in record.getMessage()]
    assert [line.split(",")[0].split(";")[0] for line in told] == ["the broker is away", "the broker is there again"]


def test_a_broker_that_takes_nothing_is_away(workshop: Any, broker: Broker, redis_server: RedisServer) -> None:
    """Redis out of memory refuses what would be kept. What it refused is sent once it takes some again."""
    redis_server.say("CONFIG", "SET", "maxmemory", "1mb")
    sends = dispatcher(workshop, broker)
    try:
        ordered(workshop, 2)
        sends.look()
    finally:
        redis_server.say("CONFIG", "SET", "maxmemory", "0")
    assert broker.waiting("carboy") == 0
    assert eventually(lambda: sends.look() or broker.waiting("carboy") == 2)


def test_one_of_several_dispatchers_sends_and_another_when_it_has_ended(
        make_workshop: Callable[..., Any], redis_server: RedisServer) -> None:
    first, second = (make_workshop(noop, broker=redis_server.url) for _ in range(2))
    brokers = [broker_of(workshop.settings) for workshop in (first, second)]
    one, other = dispatcher(first, brokers[0]), dispatcher(second, brokers[1])
    ordered(first)
    one.look()
    ordered(second)
    other.look()
    assert brokers[0].waiting("carboy") == 1
    first.services.leases.close()
    assert eventually(lambda: other.look() or brokers[0].waiting("carboy") == 2)
    for broker in brokers:
        broker.close()


def test_more_important_jobs_go_first_in_redis(make_workshop: Callable[..., Any], redis_server: RedisServer) -> None:
    """Lower numbers are more important there, and queues of their own."""
    workshop = make_workshop(noop, film, broker=redis_server.url, job_queues={"film": "carboy"})
    broker = broker_of(workshop.settings)
    ordered(workshop)
    ordered(workshop, 1, "film")
    dispatcher(workshop, broker).look()
    lists = sorted(key.decode() for key in redis_server.say("KEYS", "carboy*"))  # type: ignore[attr-defined]
    assert [key.rpartition("\x16")[2] for key in lists] == ["3", "6"]
    broker.close()


@pytest.mark.parametrize("alone", [True, False])
def test_what_sends_beside_those_who_run_jobs_leaves_them_alive(workshop: Any, broker: Broker, alone: bool) -> None:
    """They are one instance: were it let go, whatever they run would be taken from them."""
    services = workshop.services
    instance = services.leases.instance()
    background = Background(services, broker=broker, alone=alone)
    background.stop()
    background.run(patience=0.0)
    assert [one.id == instance for one in services.catalog.instances()] == ([] if alone else [True])
