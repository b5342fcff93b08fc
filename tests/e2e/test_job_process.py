"""The process that runs jobs beside the web: begins with the server, comes again, ends with it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures_server import Server, eventually

from carboy.catalog.sql import open_catalog
from carboy.jobs import Job

STEPS = '''
import os
import time

from carboy.processing.step import step


@step("slow")
def slow(context):
    """Ends when a file of this name is there, however often it is begun."""
    with open(os.environ["TRACES"] + "/begun", "a") as file:
        file.write(f"{os.getpid()}\\n")
    while not os.path.exists(os.environ["TRACES"] + "/go"):
        context.progress(0.5, "waiting")
        time.sleep(0.01)
    return {"pid": os.getpid()}
'''


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    (tmp_path / "slowsteps.py").write_text(STEPS)
    return tmp_path


@pytest.fixture
def env(traces: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(traces), "TRACES": str(traces), "CARBOY_STEP_MODULES": '["slowsteps"]', "CARBOY_LEASE_EXPIRY": "3"}


def begun(traces: Path) -> list[int]:
    """The processes that began the step, one after another."""
    path = traces / "begun"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def only_job(server: Server) -> Job:
    catalog = open_catalog(f"sqlite:///{server.data}/catalog.sqlite3")
    try:
        job, = catalog.jobs()[0]
        return job
    finally:
        catalog.close()


def put(server: Server) -> dict[str, Any]:
    answer = server.request("PUT", "/files/main/a.bin", body=b"abc")
    assert answer.status == 201
    return json.loads(answer.body)  # type: ignore[no-any-return]


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_job_is_run_beside_the_web(server: Callable[..., Server], env: dict[str, str], traces: Path) -> None:
    live = server(env=env)
    put(live)
    pid = eventually(lambda: begun(traces))[0]
    assert pid == live.job_process() and pid not in live.workers()
    (traces / "go").touch()
    assert eventually(lambda: only_job(live).state == "done" and only_job(live)).result == {"pid": pid}


def test_it_is_killed_and_another_one_goes_on(server: Callable[..., Server], env: dict[str, str], traces: Path) -> None:
    live = server(env=env)
    put(live)
    first = eventually(lambda: begun(traces))[0]
    os.kill(first, signal.SIGKILL)
    second = eventually(lambda: begun(traces)[1:])[0]
    assert second == live.job_process() != first
    (traces / "go").touch()
    job = eventually(lambda: only_job(live).state == "done" and only_job(live))
    assert (job.result, job.attempts, job.fence) == ({"pid": second}, 2, 2)


def test_a_stop_leaves_the_job_to_the_next_start(server: Callable[..., Server], env: dict[str, str], traces: Path) -> None:
    """What doesn't end in time isn't counted as an attempt."""
    live = server(env={**env, "CARBOY_GRACEFUL_TIMEOUT": "1"})
    put(live)
    first = eventually(lambda: begun(traces))[0]
    live.stop()
    assert is_gone(first)
    job = only_job(live)
    assert (job.state, job.attempts, job.failure) == ("queued", 0, None)
    (traces / "go").touch()
    live.start()
    assert eventually(lambda: only_job(live).state == "done" and only_job(live)).attempts == 1


def test_a_stop_waits_for_what_is_under_way(server: Callable[..., Server], env: dict[str, str], traces: Path) -> None:
    live = server(env=env)
    put(live)
    eventually(lambda: begun(traces))
    os.kill(live.pid, signal.SIGTERM)
    eventually(lambda: "Carboy is ready" in live.log())
    (traces / "go").touch()
    eventually(lambda: not live.running)
    assert only_job(live).state == "done"


def test_it_ends_with_a_server_that_is_killed(server: Callable[..., Server], env: dict[str, str], traces: Path) -> None:
    live = server(env={**env, "CARBOY_GRACEFUL_TIMEOUT": "1"})
    put(live)
    pid = eventually(lambda: begun(traces))[0]
    os.kill(live.pid, signal.SIGKILL)
    eventually(lambda: is_gone(pid))
    live.kill()


def test_without_it_jobs_wait(server: Callable[..., Server], env: dict[str, str], traces: Path) -> None:
    live = server(env=env, args=("--no-worker",))
    put(live)
    assert live.request("GET", "/files/main/a.bin").status == 200
    assert live.job_process() is None and only_job(live).state == "queued"
