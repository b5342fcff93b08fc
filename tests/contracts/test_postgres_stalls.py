"""A process that is stopped in the middle of a transaction stands in nobody's way for long, and harms nothing when it goes on."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from carboy.catalog.sessions import Session
from carboy.catalog.sql import open_catalog

LIMIT = 60


def test_locks_of_a_stalled_transaction_are_free_after_a_while_and_it_is_run_again(postgres_url: str) -> None:
    stalled, other = open_catalog(postgres_url), open_catalog(postgres_url)
    begun, over, runs = threading.Event(), threading.Event(), []

    def stall(session: Session) -> int:
        session.serialise("something")
        runs.append(session)
        begun.set()
        assert over.wait(LIMIT)
        session.serialise("something else")
        return len(runs)

    try:
        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(stalled._database.write, stall)
            assert begun.wait(LIMIT)
            second = threads.submit(other._database.write, lambda session: session.serialise("something"))
            second.result(LIMIT)
            assert not first.done() and len(runs) == 1
            over.set()
            assert first.result(LIMIT) == 2, "nothing of the first run was committed, so it was run again"
    finally:
        over.set()
        stalled.close()
        other.close()
