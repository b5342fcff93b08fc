"""The broker that delivers jobs."""

from __future__ import annotations

import time
from collections.abc import Iterator

from carboy.cli.doctor.finding import Finding, ok, problem
from carboy.config import Settings
from carboy.jobs import DEFAULT_QUEUE
from carboy.processing.delivering.delivery import BrokerAway
from carboy.web.brokered import broker_of


def check(settings: Settings) -> Iterator[Finding]:
    """Says nothing where there is none."""
    if not settings.broker:
        return
    broker, before = broker_of(settings), time.perf_counter()
    try:
        waiting = broker.waiting(DEFAULT_QUEUE)
    except BrokerAway as error:
        yield problem("broker", f"it can't be reached, so jobs wait: {error}", "see that it runs, and the setting broker")
        return
    finally:
        broker.close()
    told = f"it answers, {(time.perf_counter() - before) * 1000:.1f} ms"
    yield ok("broker", told if waiting is None else f"{told}; {waiting} jobs wait in its queue {DEFAULT_QUEUE}")
