"""Where requests are counted."""

from __future__ import annotations

import time
from collections.abc import Iterator

from carboy.cli.doctor.finding import Finding, ok, problem, warning
from carboy.config import Settings
from carboy.web.rates import reach

_SLOW = 0.05


def check(settings: Settings) -> Iterator[Finding]:
    """Says nothing where no place is named for it, unless there are many machines."""
    if not settings.rate_limit_storage:
        if settings.rate_limit and settings.database.startswith("postgresql"):
            yield warning("rates", "each machine counts requests for itself", "where there are several, set rate_limit_storage to a Redis")
        return
    before = time.perf_counter()
    if not reach(settings):
        yield problem("rates", "where requests are counted can't be reached, so none is refused",
                      "see that Redis runs, and rate_limit_storage; the package redis has to be installed")
        return
    took = time.perf_counter() - before
    told = f"where requests are counted answers, {took * 1000:.1f} ms"
    yield warning("rates", told, "every request waits for it: use one nearby") if took > _SLOW else ok("rates", told)
