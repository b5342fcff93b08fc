"""Celery's workers, as processes, with a real Redis: Carboy's own, and those of an application's own Celery."""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from faults.disk import until
from faults.plant import TESTS, Worker, send
from fixtures_redis import RedisServer

from carboy.cli.main import main
from carboy.config import of_application
from carboy.jobs import Job
from carboy.model import File
from carboy.web.brokered import broker_of


class Shop:
    """Services here, workers there."""

    def __init__(self, workshop: Any, redis: RedisServer) -> None:
        self.workshop, self.redis = workshop, redis
        self.folder: Path = workshop.folder
        self.workers: list[Worker] = []

    def worker(self, *options: str, **settings: object) -> Worker:
        said = {"CARBOY_BROKER": self.redis.url, "CARBOY_STEP_MODULES": '["faults.job_steps"]', "PYTHONPATH": TESTS,
                "EFFECTS": self.folder / "effects", **settings}
        line = "--data", str(self.folder / "data"), *options
        self.workers.append(Worker(self.folder / f"worker{len(self.workers)}.log", said, *line))
        return self.workers[-1].start()

    def put(self, name: str, **plan: object) -> File:
        self.workshop.now = time.time()
        file: File = self.workshop.put(name, json.dumps({"name": name, **plan}).encode())
        return file

    def job(self, file: File) -> Job:
        job: Job = self.workshop.job(file, "effect")
        return job

    def until(self, file: File, state: str) -> Job:
        until(lambda: self.job(file).state == state, f"{file.path} is {state}", 30)
        return self.job(file)


@pytest.fixture
def shop(make_workshop: Callable[..., Any], redis_server: RedisServer) -> Iterator[Shop]:
    shop = Shop(make_workshop(broker=redis_server.url, step_modules=("faults.job_steps",)), redis_server)
    yield shop
    for worker in shop.workers:
        worker.kill()


def test_a_worker_runs_jobs_and_its_dispatcher_comes_again_when_it_was_killed(shop: Shop) -> None:
    worker = shop.worker("--concurrency", "1")
    shop.until(shop.put("a"), "done")
    dispatcher, = worker.dispatchers()
    send(dispatcher, signal.SIGKILL)
    shop.until(shop.put("b"), "done")
    assert worker.dispatchers() != [dispatcher]
    assert worker.stop() == 0
    until(lambda: not worker.processes(), "nothing is left of the worker")
    assert shop.workshop.services.catalog.instances() == [], "who has ended in order gives others nothing to bury"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_job_that_does_not_end_in_time_is_queued_again(shop: Shop, number: signal.Signals) -> None:
    """Its attempt doesn't count. SIGTERM is Celery's warm shutdown, SIGQUIT its cold one, with a soft one before."""
    worker = shop.worker("--concurrency", "1", CARBOY_GRACEFUL_TIMEOUT=1)
    file = shop.put("long", seconds=100)
    shop.until(file, "running")
    send(worker.pid, number)
    job = shop.until(file, "queued")
    assert (job.attempts, job.failure) == (0, None)
    until(lambda: not worker.processes(), "the worker has ended")


def test_a_worker_takes_its_queues_alone_and_no_steps_that_it_does_not_know(make_workshop: Callable[..., Any], shop: Shop) -> None:
    shop.workshop = make_workshop(broker=shop.redis.url, step_modules=("faults.job_steps",), job_queues={"effect": "slow"})
    shop.worker("--queues", "carboy", "--concurrency", "1")
    ignorant = shop.worker("--queues", "slow", "--concurrency", "1", CARBOY_STEP_MODULES="[]")
    file = shop.put("queued")
    broker = broker_of(shop.workshop.settings)
    until(lambda: broker.waiting("slow") == 0 and shop.redis.say("EXISTS", "unacked") == 0, "its id was delivered")
    assert shop.job(file).state == "queued"
    assert ignorant.stop() == 0
    shop.worker("--queues", "slow", "--concurrency", "1", CARBOY_JOB_QUEUES='{"effect": "slow"}')
    assert shop.until(file, "done").attempts == 1
    broker.close()


# --- an application's own Celery ---

APPLICATION = '''
from celery import Celery, Task
from flask import Flask, current_app

from carboy import Carboy


def add_celery(app):
    class FlaskTask(Task):
        def __call__(self, *args, **kwargs):
            with app.app_context():
                return self.run(*args, **kwargs)

    celery = Celery(app.name, task_cls=FlaskTask, set_as_current=False)
    celery.conf.update(broker_url={broker!r}, task_ignore_result=True, broker_connection_retry_on_startup=True)
    app.extensions["celery"] = celery


app = Flask("shop")
app.config.update(CARBOY_DATA={data!r}, CARBOY_DURABILITY="relaxed", TESTING=True)
{first}
{second}


@carboy.step("greet")
def greet(context):
    return {{"application": current_app.name, "pid": __import__("os").getpid()}}


celery = app.extensions["celery"]
'''
CELERY, CARBOY = "add_celery(app)", "carboy = Carboy(app)"
OWN = (sys.executable, "-m", "celery", "--app", "shop:celery", "worker", "--concurrency", "1", "--loglevel", "INFO", "--pool")
FLASK = (sys.executable, "-m", "flask", "--app", "shop", "carboy", "worker", "--concurrency", "1")


@pytest.mark.parametrize(("line", "first", "second"), [
    ((*OWN, "prefork"), CELERY, CARBOY),
    ((*OWN, "threads"), CARBOY, CELERY),
    (FLASK, CELERY, CARBOY),
], ids=["celery worker", "celery worker, threads, Carboy first", "flask carboy worker"])
def test_the_workers_of_an_applications_own_celery_run_its_jobs(
        tmp_path: Path, redis_server: RedisServer, line: tuple[str, ...], first: str, second: str) -> None:
    """Within the application's context, and no setting names a broker."""
    source = APPLICATION.format(broker=redis_server.url, data=str(tmp_path / "data"), first=first, second=second)
    (tmp_path / "shop.py").write_text(source)
    here = runpy.run_path(str(tmp_path / "shop.py"))
    app, carboy = here["app"], here["carboy"]
    worker = Worker(tmp_path / "worker.log", {"PYTHONPATH": tmp_path}, line=line, ready="ready")
    try:
        worker.start()
        with app.app_context():
            file = carboy.put("main", "a.txt", b"hello")
            job = carboy.services.catalog.jobs_of(file.blob.id)[0]
            until(lambda: carboy.services.catalog.job(job.id).state == "done", "the job is done", 30)
            result = carboy.services.catalog.job(job.id).result
        assert result["application"] == "shop" and result["pid"] in worker.processes() and result["pid"] != os.getpid()
        assert worker.stop() == 0
        until(lambda: not worker.processes(), "nothing is left of the worker")
    finally:
        worker.kill()
        app.extensions["carboy"].close()


# --- brokers ---


@pytest.mark.parametrize("url", ["memory://"])
def test_another_broker_than_redis_does(make_workshop: Callable[..., Any], url: str) -> None:
    workshop = make_workshop(broker=url, step_modules=("faults.job_steps",))
    file = workshop.put("a", b"{}")
    broker = broker_of(workshop.settings)
    assert broker.waiting("carboy") == 0
    broker.send(workshop.job(file, "effect"))
    assert broker.waiting("carboy") == 1
    broker.close()


def test_what_is_no_brokers_address_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    runner = CliRunner()
    env = {"CARBOY_BROKER": "redis"}
    assert runner.invoke(main, ["db", "upgrade", "--data", str(tmp_path / "data")], env=env).exit_code == 0
    done = runner.invoke(main, ["worker", "--data", str(tmp_path / "data")], env=env)
    assert done.exit_code == 2 and "broker: write an address, such as redis://localhost:6379/0" in done.output


def test_doctor_asks_the_broker(tmp_path: Path, redis_server: RedisServer) -> None:
    from carboy.cli.doctor.broker import check

    settings = of_application({"data": tmp_path, "broker": redis_server.url})
    finding, = check(settings)
    assert finding.status == "ok" and "0 jobs wait in its queue carboy" in finding.what
    away, = check(settings.model_copy(update={"broker": "redis://127.0.0.1:1/0"}))
    assert away.status == "problem" and "can't be reached" in away.what
    assert list(check(settings.model_copy(update={"broker": ""}))) == []
