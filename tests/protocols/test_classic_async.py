"""The tutorial's ``/async-upload`` and ``/tasks/{id}``: a task ends once everything that its file goes through has."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from fixtures_flask import AppFactory, a_file, make_app
from fixtures_server import Server, ServerFactory, eventually
from fixtures_site import FORM, Site, file, multipart
from flask import Flask

from carboy import Carboy, Context, StepFailed
from carboy.jobs import Job
from carboy.processing.tasks import task_of

__all__ = ["make_app"]


def begun(server: Server, name: str, data: bytes) -> str:
    """The task of a new file."""
    answer = server.request("POST", "/async-upload", {"Content-Type": FORM}, multipart(file("file", name, data)))
    assert (answer.status, answer.json()["message"]) == (200, f"File {name} uploaded"), answer
    return str(answer.json()["task_id"])


def ended(server: Server, task: str) -> dict[str, Any]:
    """The task, once it is ready."""
    return eventually(lambda: (told := server.request("GET", f"/tasks/{task}").json())["ready"] and told)  # type: ignore[no-any-return]


# --- the server's own worker ---------------------------------------------------------------------------------------


def test_its_result_is_what_was_found_out(site: Site) -> None:
    told = ended(site.server, begun(site.server, "async.txt", b"hello"))
    [stored] = site.ask("GET", "/api/v1/files?space=tutorial&prefix=async.txt").json()["files"]
    sha256 = hashlib.sha256(b"hello").hexdigest()
    assert told == {"task_id": told["task_id"], "state": "SUCCESS", "status": "SUCCESS", "ready": True, "successful": True, "progress": 1.0,
                    "phrase": "", "result": {"file_id": stored["id"], "size": 5, "sha256": sha256,
                                             "steps": {"digest": {"sha256": sha256, "size": 5}}}}
    assert stored["sha256"] == sha256


def test_the_same_again_is_a_task_of_its_own(site: Site) -> None:
    tasks = {begun(site.server, "again.txt", b"same") for _ in range(3)}
    assert len(tasks) == 3
    states = {site.ask("GET", f"/tasks/{task}").status for task in tasks}
    assert states == {200, 404}, "those of contents that were replaced are gone with them"


def test_without_a_worker_it_is_pending_until_there_is_one(server: ServerFactory) -> None:
    one = server(env={"CARBOY_WORKER": "false"})
    task = begun(one, "a.txt", b"x" * 1000)
    told = one.request("GET", f"/tasks/{task}").json()
    assert (told["state"], told["ready"], told["successful"], told["progress"], told["result"]) == ("PENDING", False, None, 0.0, None)
    one.stop()
    again = server(data=one.data, token=one.token)
    assert ended(again, task)["state"] == "SUCCESS"


# --- with steps of one's own ---------------------------------------------------------------------------------------


class Shop:
    """An application with the classic endpoints, whose jobs run when the test says so."""

    def __init__(self, app: Flask) -> None:
        self.client = app.test_client()
        self.carboy = Carboy(app, expose=["classic"], url_prefix="/", authenticate=lambda: "ann", authorise=lambda *asked: True)

    def begin(self, data: bytes, name: str = "a.bin") -> str:
        answer = self.client.post("/async-upload", data={"file": a_file(data, name)})
        assert answer.status_code == 200, answer.text
        return str(answer.json["task_id"])

    def task(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/tasks/{id}").json
        return found


@pytest.fixture
def shop(make_app: AppFactory) -> Iterator[Shop]:
    yield Shop(make_app())


def test_it_ends_after_all_steps_of_the_space_in_whatever_order(make_app: AppFactory) -> None:
    """Also after those that come after the digest."""
    shop, states = Shop(make_app(CARBOY_SPACES={"main": {"steps": ["digest"]}})), list[str]()

    def look(context: Context) -> dict[str, int]:
        context.progress(0.5, f"half of {context.job.step}")
        shop.carboy.services.runner.look_after()
        states.append(" ".join(str(shop.task(task)[name]) for name in ("state", "progress", "phrase")))
        return {"bytes": context.blob.size}

    shop.carboy.step("early", priority=1)(look)
    shop.carboy.step("late", after=["digest"])(look)
    task = shop.begin(b"hello")
    ran = shop.carboy.run_jobs()
    assert (ran[-1].id, ran[-1].step) == (task, "processed")
    assert sorted(states) == ["PROGRESS 0.125 half of early", "PROGRESS 0.625 half of late"]
    told = shop.task(task)
    assert told["state"] == "SUCCESS"
    assert told["result"]["steps"] == {"digest": {"sha256": hashlib.sha256(b"hello").hexdigest(), "size": 5}, "early": {"bytes": 5},
                                       "late": {"bytes": 5}}


def test_it_fails_with_the_step_that_dies_and_goes_on_when_that_is_tried_anew(shop: Shop) -> None:
    fails = [True]

    @shop.carboy.step("moody", retries=0)
    def moody(context: Context) -> None:
        if fails:
            raise StepFailed("not today")

    task = shop.begin(b"x")
    shop.carboy.run_jobs()
    told = shop.task(task)
    assert (told["state"], told["ready"], told["successful"], told["result"]) == ("FAILURE", True, False, "moody: not today")
    fails.clear()
    shop.carboy.retry_job(next(shop.carboy.jobs(step="moody")))
    assert shop.task(task)["state"] == "PROGRESS"
    shop.carboy.run_jobs()
    assert shop.task(task)["state"] == "SUCCESS"


def test_it_is_revoked_with_what_is_cancelled(shop: Shop) -> None:
    shop.carboy.step("other")(lambda context: None)
    task = shop.begin(b"x")
    shop.carboy.cancel_job(next(shop.carboy.jobs(step="other")))
    told = shop.task(task)
    assert (told["state"], told["ready"], told["result"]) == ("REVOKED", True, None)


def test_equal_contents_keep_their_tasks(make_app: AppFactory) -> None:
    """Where a space keeps the bytes of equal files once."""
    shop = Shop(make_app(CARBOY_SPACES={"main": {"dedup": True}}))
    first = shop.begin(b"the same", "a.txt")
    shop.carboy.run_jobs()
    second, third = shop.begin(b"the same", "b.txt"), shop.begin(b"the same", "c.txt")
    shop.carboy.run_jobs()
    told = [shop.task(task) for task in (first, second, third)]
    assert [one["state"] for one in told] == ["SUCCESS"] * 3
    assert [one["result"]["file_id"] for one in told] == [shop.carboy.at("main", name).id for name in ("a.txt", "b.txt", "c.txt")]


def test_any_job_is_a_task(shop: Shop) -> None:
    shop.carboy.step("count", spaces=[])(lambda context: 7)
    job = shop.carboy.run(shop.carboy.put("main", "a", b"x"), "count")
    assert shop.task(job.id)["state"] == "PENDING"
    shop.carboy.run_jobs()
    assert shop.task(job.id)["result"] == {"value": 7}


# --- states --------------------------------------------------------------------------------------------------------



def job(step: str, state: Any, **more: Any) -> Job:
    return Job(step, "blob", "file", "main", None, step, "1", state, **more)


@pytest.mark.parametrize(("before", "last", "state", "progress"), [
    (["queued", "queued"], "waiting", "PENDING", 0.0), (["waiting", "queued"], "waiting", "PENDING", 0.0), (["running", "queued"], "waiting", "STARTED", 0.0),
    (["half", "queued"], "waiting", "PROGRESS", 0.1667), (["done", "queued"], "waiting", "PROGRESS", 0.3333),
    (["done", "running"], "waiting", "PROGRESS", 0.3333), (["retry", "queued"], "waiting", "RETRY", 0.0), (["retry", "half"], "waiting", "PROGRESS", 0.1667),
    (["done", "done"], "queued", "PROGRESS", 0.6667), (["done", "done"], "running", "PROGRESS", 0.6667), (["done", "done"], "done", "SUCCESS", 1.0),
    (["dead", "half"], "waiting", "FAILURE", 0.1667), (["cancelled", "done"], "waiting", "REVOKED", 0.3333),
    (["cancelled", "dead"], "waiting", "FAILURE", 0.0), (["done", "done"], "dead", "FAILURE", 0.6667), (["done", "queued"], "cancelled", "REVOKED", 0.3333),
    ([], "queued", "PENDING", 0.0), ([], "running", "STARTED", 0.0),
])
def test_states(before: list[str], last: str, state: str, progress: float) -> None:
    special = {"half": {"state": "running", "progress": 0.5}, "retry": {"state": "queued", "attempts": 1}}
    siblings = [job(f"s{number}", **special.get(one, {"state": one})) for number, one in enumerate(before)]
    end = job("processed", last, after=tuple(one.step for one in siblings))
    other = job("other", "dead", failure="not waited for")
    told = task_of(end, [*siblings, other, end])
    assert (told.state, told.progress) == (state, progress)
    assert told.is_ready == (state in ("SUCCESS", "FAILURE", "REVOKED"))


