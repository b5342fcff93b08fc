"""Who runs jobs: the claim loop, which takes them from the catalog itself, and the deliverer, which is told their ids."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from fixtures_server import eventually
from wire import LIMIT

from carboy import step
from carboy.errors import CatalogUnavailable, CommitUnknown, StepFailed, StorageFailed
from carboy.jobs import Claim, Outcome
from carboy.processing.delivering import delivery
from carboy.processing.loop import Loop
from carboy.processing.step import Context

Make = Callable[..., Any]


@step("mark", spaces=[], retries=2, backoff=10)
def mark(context: Context, *, failing: int = 0, number: int = 0) -> dict[str, int]:
    """Attaches the fence of its attempt; the first so many fail."""
    if context.job.attempts <= failing:
        raise RuntimeError(f"attempt {context.job.attempts}")
    context.attach("mark.txt", str(context.job.fence).encode(), "text/plain")
    return {"fence": context.job.fence}


@step("film", spaces=[], queue="films", priority=5)
def film(context: Context) -> None:
    """Another queue, and more important."""


UNFIT = b"caf\xe9 \0".decode("utf-8", "surrogateescape")
MUTTERED = threading.Event()


@step("mutter", spaces=[], retries=0)
def mutter(context: Context) -> None:
    """Says what no catalog can keep, as names may be."""
    context.progress(0.5, f"reading {UNFIT}")
    MUTTERED.wait(LIMIT)
    raise StepFailed(f"no entry {UNFIT}")


def loop_of(workshop: Any, **options: Any) -> Loop:
    services = workshop.services
    given = {"workers": 2, "poll": 0.05, "rests": False, **options}
    return Loop(services.catalog, services.leases, services.runner, services.wakes, clock=lambda: workshop.now, **given)


def marked(workshop: Any, file: Any) -> bool:
    """Whether its job had one effect, that of the attempt which the catalog has."""
    job, derived = workshop.job(file, "mark"), workshop.derived(file)
    return bool(job.state == "done" and [*derived] == ["mark.txt"] and workshop.content(derived["mark.txt"]) == str(job.fence).encode()
                and job.result == {"fence": job.fence})


def ordered(workshop: Any, name: str = "a", step: str = "mark", **args: Any) -> Any:
    file = workshop.put(name, name.encode())
    workshop.order(file, step, **args)
    return file


# --- the loop ---


def test_a_job_begins_at_once_because_the_loop_is_woken(make_workshop: Make) -> None:
    """It looks by itself once an hour."""
    workshop = make_workshop(mark)
    loop = loop_of(workshop, poll=3600.0)
    thread = threading.Thread(target=loop.run, args=(0.0,))
    thread.start()
    try:
        first = ordered(workshop, "first")
        assert eventually(lambda: marked(workshop, first))
        second = ordered(workshop, "second")
        assert eventually(lambda: marked(workshop, second))
    finally:
        loop.stop()
        thread.join(30)
    assert not thread.is_alive()


def test_as_many_run_at_once_as_there_are_workers(make_workshop: Make) -> None:
    """Two wait for one another."""
    both = threading.Barrier(2, timeout=30)

    @step("meet", spaces=[])
    def meet(context: Context) -> None:
        both.wait()

    workshop = make_workshop(meet)
    files = [ordered(workshop, name, "meet") for name in "ab"]
    with workshop.working(workers=2):
        assert [workshop.until(file, "meet", "done", "dead").state for file in files] == ["done", "done"]


def test_a_loop_of_some_queues_leaves_the_others(make_workshop: Make) -> None:
    workshop = make_workshop(mark, film)
    file = ordered(workshop)
    workshop.order(file, "film")
    assert loop_of(workshop, queues=["films"]).drain() == 1
    assert (workshop.job(file, "film").state, workshop.job(file, "mark").state) == ("done", "queued")
    assert loop_of(workshop).drain() == 1
    assert marked(workshop, file)


def test_what_is_more_important_goes_first(make_workshop: Make) -> None:
    workshop = make_workshop(mark, film)
    file = ordered(workshop)
    workshop.later(1)
    workshop.order(file, "film")
    services = workshop.services
    claims = [claimed(workshop) for _ in range(2)]
    assert [claim.job.step for claim in claims] == ["film", "mark"]
    assert services.catalog.claim_jobs(services.leases.instance(), now=workshop.now, steps=["film", "mark"]) == []


def test_a_failed_attempt_is_followed_by_another_when_it_is_due(make_workshop: Make) -> None:
    workshop = make_workshop(mark)
    file = ordered(workshop, failing=1)
    assert workshop.drain() == 1
    job = workshop.job(file, "mark")
    assert (job.state, job.attempts, job.failure) == ("queued", 1, "RuntimeError: attempt 1")
    assert workshop.drain() == 0, "not yet"
    workshop.later(15)
    assert workshop.drain() == 1
    assert marked(workshop, file)


def test_one_that_fails_too_often_is_dead_and_may_be_tried_again_by_hand(make_workshop: Make) -> None:
    workshop = make_workshop(mark)
    file = ordered(workshop, failing=3)
    for _ in range(4):
        workshop.drain()
        workshop.later(3600)
    job = workshop.job(file, "mark")
    assert (job.state, job.attempts, job.failure) == ("dead", 3, "RuntimeError: attempt 3")
    workshop.services.catalog.retry_job(job.id, now=workshop.now)
    assert workshop.job(file, "mark").attempts == 0


@pytest.mark.parametrize("patience", [30.0, 0.0])
def test_a_loop_that_ends_waits_for_its_jobs_and_then_has_them_queued_again(make_workshop: Make, patience: float) -> None:
    """What is released in the end was not tried."""
    going, done = threading.Event(), threading.Event()

    @step("long", spaces=[])
    def long(context: Context) -> None:
        going.set()
        while not done.wait(0.01):
            context.progress(0.5)

    workshop = make_workshop(long)
    file = ordered(workshop, step="long")
    loop = loop_of(workshop)
    thread = threading.Thread(target=loop.run, args=(patience,))
    thread.start()
    assert going.wait(30)
    loop.stop()
    if patience:
        done.set()
    thread.join(60)
    job = workshop.job(file, "long")
    assert (job.state, job.attempts) == (("done", 1) if patience else ("queued", 0))


def test_a_loop_that_ends_goes_on_looking_after_its_jobs_and_no_more_often_than_before(make_workshop: Make) -> None:
    going, done = threading.Event(), threading.Event()
    looks: list[float] = []

    @step("long", spaces=[])
    def long(context: Context) -> None:
        going.set()
        assert done.wait(LIMIT)

    workshop = make_workshop(long)
    ordered(workshop, step="long")
    runner = workshop.services.runner
    look_after = runner.look_after

    def look() -> None:
        looks.append(time.monotonic())
        look_after()

    runner.look_after = look
    loop = loop_of(workshop)
    thread = threading.Thread(target=loop.run, args=(LIMIT,))
    thread.start()
    try:
        assert going.wait(LIMIT)
        loop.stop()
        looks.clear()
        assert eventually(lambda: len(looks) >= 3)
    finally:
        done.set()
        thread.join(LIMIT)
    assert min(after - before for before, after in pairwise(looks[:3])) > 0.4


def test_each_of_two_attempts_at_one_job_is_looked_after(make_workshop: Make) -> None:
    """The job was cancelled and tried again, and its first attempt hasn't noticed yet."""
    begun: list[Context] = []
    leave = [threading.Event(), threading.Event()]

    @step("deaf", spaces=[])
    def deaf(context: Context) -> None:
        begun.append(context)
        leave[len(begun) - 1].wait(LIMIT)
        context.check()

    workshop = make_workshop(deaf)
    file = ordered(workshop, step="deaf")
    runner, catalog = workshop.services.runner, workshop.services.catalog
    with ThreadPoolExecutor(2) as threads:
        try:
            first = threads.submit(runner.run, claimed(workshop))
            assert eventually(lambda: len(begun) == 1)
            id = catalog.cancel_job(workshop.job(file, "deaf").id, now=workshop.now).id
            catalog.retry_job(id, now=workshop.now)
            second = threads.submit(runner.run, claimed(workshop))
            assert eventually(lambda: len(begun) == 2)
            runner.look_after()
            assert [one.cancelled for one in begun] == [True, False]
            leave[0].set()
            assert first.result(LIMIT) is None
            begun[1].progress(0.5)
            runner.look_after()
            assert workshop.job(file, "deaf").progress == 0.5
            runner.stop_all("it is enough")
            assert begun[1].cancelled
            leave[1].set()
            assert second.result(LIMIT) == "queued"
        finally:
            for event in leave:
                event.set()


# --- the deliverer ---


def test_a_job_that_is_delivered_is_run(make_workshop: Make) -> None:
    workshop = make_workshop(mark)
    file = ordered(workshop)
    assert workshop.services.deliverer.deliver(workshop.job(file, "mark").id) == "done"
    assert marked(workshop, file)


@pytest.mark.parametrize("behind", [0.005, 0.9, 1.5])
def test_a_job_that_is_delivered_is_run_where_the_clock_is_behind(make_workshop: Make, behind: float) -> None:
    """That of the machine that ordered and sent it is ahead."""
    workshop = make_workshop(mark)
    file = ordered(workshop)
    workshop.later(-behind)
    assert workshop.services.deliverer.deliver(workshop.job(file, "mark").id) == "done"
    assert marked(workshop, file)


def test_one_that_is_delivered_many_times_at_once_runs_once(make_workshop: Make) -> None:
    workshop = make_workshop(mark)
    file = ordered(workshop)
    id = workshop.job(file, "mark").id
    with ThreadPoolExecutor(8) as threads:
        states = list(threads.map(workshop.services.deliverer.deliver, [id] * 8))
    assert sorted(states, key=str) == [None] * 7 + ["done"]
    assert marked(workshop, file) and workshop.job(file, "mark").fence == 1


def test_what_is_not_to_be_run_here_is_left(make_workshop: Make) -> None:
    """Unknown ids, steps that nobody here knows, jobs that are due later or over."""
    workshop, ignorant = make_workshop(mark, film), make_workshop()
    file = ordered(workshop, failing=1)
    id, deliver = workshop.job(file, "mark").id, workshop.services.deliverer.deliver
    assert ignorant.services.deliverer.deliver(id) is None
    assert deliver("0" * 32) is None
    assert workshop.job(file, "mark").state == "queued"
    assert deliver(id) == "queued", "its first attempt has failed"
    assert deliver(id) is None, "the next isn't due"
    workshop.later(15)
    assert deliver(id) == "done"
    assert deliver(id) is None
    assert marked(workshop, file)


def test_a_deliverer_looks_after_what_could_not_be_ended_for_as_long_as_the_catalog_is_away(
        make_workshop: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else would: its process gives signs of life, and goes on running the job as far as the catalog can tell."""
    monkeypatch.setattr(delivery, "_IDLE", 0.0)
    workshop = make_workshop(mark)
    file = ordered(workshop)
    services = workshop.services
    catalog, fail_job, tries = services.catalog, services.catalog.fail_job, [0]

    def away(*args: Any, **asked: Any) -> Any:
        tries[0] += 1
        raise CatalogUnavailable("it is away")

    catalog.finish_job = catalog.fail_job = away
    deliverer = delivery.Deliverer(catalog, services.leases, services.runner, services.wakes, rests=False, clock=lambda: workshop.now)
    assert deliverer.deliver(workshop.job(file, "mark").id) is None
    assert eventually(lambda: tries[0] > 4)
    assert workshop.job(file, "mark").state == "running"
    catalog.fail_job = fail_job
    assert workshop.until(file, "mark", "queued").failure == "it could not be ended"


# --- both ---


def run_by(workshop: Any, how: str) -> None:
    if how == "loop":
        workshop.drain()
    else:
        for job in workshop.services.catalog.unsent_jobs(now=workshop.now, before=1.0):
            workshop.services.deliverer.deliver(job.id)


def claimed(workshop: Any) -> Claim:
    services = workshop.services
    claim, = services.catalog.claim_jobs(services.leases.instance(), now=workshop.now, steps=services.runner.steps.known)
    return claim  # type: ignore[no-any-return]


@pytest.mark.parametrize("how", ["loop", "deliverer"])
@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_a_clock_that_jumps_by_a_day_neither_holds_up_a_job_nor_doubles_it(make_workshop: Make, how: str, jump: float) -> None:
    """While it is queued, while it waits for its next attempt, while it runs."""
    workshop = make_workshop(mark)
    queued, failed, running = ordered(workshop, "queued"), ordered(workshop, "failed", failing=1), ordered(workshop, "running", number=1)
    claims = {claim.job.file_id: claim for claim in [claimed(workshop) for _ in range(3)]}
    workshop.services.runner.run(claims[failed.id])
    workshop.services.catalog.release_job(claims[queued.id], now=workshop.now)
    workshop.later(jump)
    run_by(workshop, how)
    assert marked(workshop, queued) and marked(workshop, failed)
    assert workshop.job(running, "mark").state == "running", "its process lives, whatever the clock says"
    workshop.services.runner.run(claims[running.id])
    assert marked(workshop, running)


@pytest.mark.parametrize("how", ["loop", "deliverer"])
def test_a_process_that_was_taken_for_dead_has_no_effect_any_more(make_workshop: Make, how: str) -> None:
    dead, workshop = make_workshop(mark), make_workshop(mark)
    file = ordered(dead)
    claim = claimed(dead)
    instance, = workshop.services.catalog.instances()
    assert workshop.services.catalog.bury(instance)
    assert [job.id for job in workshop.services.catalog.recover_jobs(now=workshop.now)] == [claim.job.id]
    run_by(workshop, how)
    assert marked(workshop, file)
    with pytest.raises(StorageFailed):
        dead.services.catalog.finish_job(claim, Outcome({"fence": 0}), now=dead.now)
    assert dead.services.runner.run(claim) is None
    assert marked(workshop, file) and workshop.job(file, "mark").attempts == 2


def test_a_claim_whose_commit_is_unknown_is_let_go(make_workshop: Make) -> None:
    """Else it would run for ever, under a process that lives and knows nothing of it."""
    workshop = make_workshop(mark)
    file = ordered(workshop)
    catalog, claim_jobs = workshop.services.catalog, workshop.services.catalog.claim_jobs

    def lost(*args: Any, **asked: Any) -> Any:
        claim_jobs(*args, **asked)
        catalog.claim_jobs = claim_jobs
        raise CommitUnknown("the answer to COMMIT was lost")

    catalog.claim_jobs = lost
    with workshop.working():
        workshop.until(file, "mark", "done")
    assert marked(workshop, file) and workshop.job(file, "mark").attempts == 2


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_what_a_step_says_can_be_kept(make_workshop: Make, database: str, request: pytest.FixtureRequest) -> None:
    """Whatever it says: else nobody could look after the other jobs either."""
    workshop = make_workshop(mutter, **({"database": request.getfixturevalue("postgres_url")} if database == "postgresql" else {}))
    file = ordered(workshop, step="mutter")
    MUTTERED.clear()
    with workshop.working():
        assert eventually(lambda: workshop.job(file, "mutter").phrase) == "reading caf? \ufffd"
        MUTTERED.set()
        assert workshop.until(file, "mutter", "dead").failure == "no entry caf? \ufffd"


def test_one_part_of_looking_after_does_not_wait_for_another(make_workshop: Make) -> None:
    """What can't be told of those that run holds up neither those that ended untold nor those that others left."""
    dead, workshop = make_workshop(mark), make_workshop(mark)
    left = ordered(dead, "left")
    claimed(dead)
    catalog, finish_job = workshop.services.catalog, workshop.services.catalog.finish_job
    instance, = catalog.instances()
    assert catalog.bury(instance)

    def untold(*args: Any, **asked: Any) -> Any:
        raise RuntimeError("this can't be told")

    def once(*args: Any, **asked: Any) -> Any:
        catalog.finish_job = finish_job
        raise StorageFailed("the disk is away")

    catalog.report_jobs, catalog.finish_job = untold, once
    ended = ordered(workshop, "ended")
    with workshop.working(workers=1):
        eventually(lambda: workshop.job(ended, "mark").failure == "it could not be ended")
        workshop.later(10)
        for file in (ended, left):
            workshop.until(file, "mark", "done")
