"""Whatever becomes of workers, of Redis, of the clock: each job has one effect, and none is lost. With the loop beside the web, and with Celery."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from faults.disk import until
from faults.jobs import run
from faults.plant import Plant, stopped
from fixtures_redis import RedisServer

from carboy.web.brokered import broker_of


@pytest.fixture(scope="module", params=["loop", "celery"])
def plant(request: pytest.FixtureRequest, shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """A server and one worker besides. Redis forgets what isn't acknowledged within a second."""
    if shared_redis.process is None:
        shared_redis.start()
    options = '{"visibility_timeout": 1, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}'
    with Plant(tmp_path_factory.mktemp("plant"), request.param, shared_redis, settings={"CARBOY_BROKER_OPTIONS": options}) as plant:
        yield plant


ONLY_CELERY = pytest.mark.parametrize("plant", ["celery"], indirect=True)


def came_out_right(plant: Plant, files: list[str]) -> bool:
    plant.mend()
    plant.settle()
    assert [plant.wrong_with(file) for file in files] == [[] for _ in files]
    return True


def ran_once(plant: Plant, file: str) -> bool:
    """Or as often as its process was taken for dead, where the machine was too busy for signs of life."""
    job = plant.job(file)
    return 1 <= plant.attempts()[job.id] <= job.attempts == 1 + sum(f"job {job.id} (effect) was left by" in line for line in plant.said().splitlines())


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_a_worker_that_is_killed_leaves_one_effect(plant: Plant, moment: str) -> None:
    """Killed before its effect, while it works, and after the effect but before the catalog knows."""
    files = [plant.put(f"{moment}-{number}", kill=moment, seconds=0.1) for number in range(2)]
    files.append(plant.put(f"{moment}-quiet", seconds=0.1))
    assert came_out_right(plant, files)
    attempts = plant.attempts()
    assert [attempts[plant.job(file).id] >= 2 for file in files[:2]] == [True, True]


@ONLY_CELERY
def test_an_upload_is_answered_and_its_job_done_though_redis_is_stopped_and_comes_back_empty(plant: Plant) -> None:
    assert plant.redis
    before = [plant.put(f"before-stop-{number}", seconds=0.2) for number in range(12)]  # more than the worker takes ahead
    plant.redis.kill()
    began = time.monotonic()
    files = [*before, *(plant.put(f"redis-away-{number}") for number in range(3))]
    assert time.monotonic() - began < 5, "uploads don't wait for the broker"
    plant.redis.start()
    assert came_out_right(plant, files)


@ONLY_CELERY
def test_what_redis_forgets_is_sent_again(plant: Plant) -> None:
    """Flushed with jobs queued and running."""
    assert plant.redis
    files = [plant.put(f"flushed-{number}", seconds=0.5) for number in range(8)]
    until(lambda: any(plant.begun(file) for file in files), "some run")
    plant.redis.say("FLUSHALL")
    assert came_out_right(plant, files)


@ONLY_CELERY
def test_a_redis_without_memory_delays_jobs_and_loses_none(plant: Plant) -> None:
    assert plant.redis
    noticed = plant.said().count("the broker is away")
    plant.redis.say("CONFIG", "SET", "maxmemory", "1mb")
    try:
        files = [plant.put(f"no-memory-{number}") for number in range(3)]
        until(lambda: plant.said().count("the broker is away") > noticed, "the dispatcher has noticed")
    finally:
        plant.redis.say("CONFIG", "SET", "maxmemory", "0")
    assert came_out_right(plant, files)


@ONLY_CELERY
def test_an_id_that_is_delivered_several_times_at_once_has_one_effect(plant: Plant) -> None:
    file = plant.put("twice", seconds=0.5)
    broker = broker_of(plant.services.settings.model_copy(update={"broker": plant.redis.url if plant.redis else ""}))
    for _ in range(10):
        broker.send(plant.job(file))
    broker.close()
    assert came_out_right(plant, [file])
    assert ran_once(plant, file)


@ONLY_CELERY
def test_a_job_that_takes_longer_than_the_visibility_timeout_runs_once(plant: Plant) -> None:
    file = plant.put("long", seconds=3.5)
    assert came_out_right(plant, [file])
    assert ran_once(plant, file)


def test_a_worker_that_is_stopped_and_goes_on_has_no_second_effect(plant: Plant) -> None:
    """It is taken for dead, and another does its job; what it still does when it wakes up counts for nothing."""
    file = plant.put("stopped", seconds=1.0)
    until(lambda: plant.begun(file), "the job runs")
    job, runner = plant.job(file), plant.runner_of(file)
    frozen = next((worker for worker in plant.workers_ if runner in worker.processes()), None)
    with stopped(frozen.processes() if frozen else [runner]), plant.another_worker():
        until(lambda: plant.job(file).state == "done", "another has done it")
    until(lambda: f"job {job.id} (effect) is not ours any more" in plant.said(), "the first has gone on, and noticed")
    assert came_out_right(plant, [file])


def test_a_worker_that_ends_lets_its_jobs_end(plant: Plant) -> None:
    """SIGTERM: what is under way is finished, and only then it ends."""
    file = plant.put("ending", seconds=0.6)
    until(lambda: plant.begun(file), "the job runs")
    worker = plant.workers_[0]
    assert worker.stop() == 0
    worker.start()
    assert came_out_right(plant, [file])
    assert ran_once(plant, file)


def test_kills_and_flushes_under_load_lose_nothing(plant: Plant) -> None:
    """A short round of the run that goes on for minutes elsewhere."""
    report = run(plant, 5, seed=7, clients=2)
    assert report.problems == [] and report.lost == 0
    assert report.effects == {1: report.jobs} and report.jobs >= report.uploads > 5 and sum(report.strikes.values()) >= 2, report


def test_nothing_is_left_over(plant: Plant) -> None:
    """Of the attempts that came to nothing no byte is left, and no temporary file."""
    plant.settle()
    assert plant.audit() == []
    assert list((plant.folder / "data" / "spool").glob("*")) == []
