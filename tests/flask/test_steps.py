"""Steps of an application: entered, ordered, run within its context, and what comes of them."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fixtures_flask import PNG, AppFactory
from fixtures_server import eventually
from flask import Flask, current_app

from carboy import Carboy, Context, Job, StepFailed
from carboy.config import of_application
from carboy.errors import ConfigError, Conflict, InvalidRequest, NotFound, Pending
from carboy.processing.registry import known_steps
from carboy.processing.step import step_of
from carboy.testing import run_jobs, temporary_carboy


@dataclass
class Counted:
    words: int
    by: str


@pytest.fixture
def carboy(app: Flask) -> Carboy:
    """It counts words, of texts alone, and upon order writes them in capitals."""
    carboy = Carboy(app)
    carboy.space("other")

    @carboy.step("words", accept=["text/*"])
    def words(context: Context) -> Counted:
        with context.stream() as source:
            return Counted(len(source.read().split()), current_app.name)

    @carboy.step("capitals", after=["words"], spaces=[])
    def capitals(context: Context, *, times: int = 1, language: str = "en") -> dict[str, Any]:
        with context.stream() as source:
            context.attach("capitals.txt", source.read().upper() * times, "text/plain", language=language)
        return {"before": dict(context.results)}

    return carboy


def test_new_contents_go_through_it(app: Flask, carboy: Carboy) -> None:
    text, picture = carboy.put("main", "a.txt", b"three words here"), carboy.put("other", "me.png", PNG)
    [job] = carboy.jobs(text)
    assert (job.step, job.state, list(carboy.jobs(picture))) == ("words", "queued", [])
    assert [(one.id, one.state) for one in run_jobs(carboy)] == [(job.id, "done")]
    assert carboy.results(text) == {"words": {"words": 3, "by": app.name}}, "it ran within the application's context"
    assert carboy.job(job.id).result == {"words": 3, "by": app.name}


def test_its_function_stays_one(carboy: Carboy) -> None:
    @carboy.step("twice", spaces=[])
    def twice(context: Any, *, number: int) -> int:
        return number * 2

    assert twice(None, number=4) == 8
    assert (step_of(twice).name, step_of(twice).retries) == ("twice", 3)


def test_it_is_ordered_by_hand_with_typed_arguments(carboy: Carboy) -> None:
    file = carboy.put("main", "a.txt", b"ab")
    job = carboy.run(file, "capitals", times="2")
    assert (job.state, job.args, job.after) == ("waiting", {"times": 2}, ("words",))
    assert carboy.run(file.id, "capitals", times=2).id == job.id, "the same is ordered once"
    assert carboy.run(file, "capitals").id != job.id
    assert {one.state for one in carboy.run_jobs()} == {"done"}
    assert carboy.job(job.id).result == {"before": {"words": {"words": 1, "by": carboy.services and "app0"}}}


@pytest.mark.parametrize(("step", "args", "told"), [
    ("capitals", {"times": "often"}, "times"), ("capitals", {"time": 1}, "'time'; it takes language, times"), ("capital", {}, "capitals, digest"),
    ("words", {}, "isn't for 'me.png'"), ("capitals", {"language": object()}, "language"),
])
def test_what_it_can_not_take_is_told_at_once(carboy: Carboy, step: str, args: dict[str, Any], told: str) -> None:
    file = carboy.put("main", "me.png", PNG)
    with pytest.raises(InvalidRequest, match=told):
        carboy.run(file, step, **args)
    assert list(carboy.jobs()) == []


def test_what_it_derives_is_read_and_sent(app: Flask, carboy: Carboy) -> None:
    file = carboy.put("main", "a.txt", b"ab")
    carboy.run(file, "capitals", language="de")
    run_jobs(carboy)
    [made] = carboy.derived(file)
    assert (made.step, made.name, made.media_type, made.facts) == ("capitals", "capitals.txt", "text/plain", {"language": "de"})
    assert carboy.open_derived(file, "capitals", "capitals.txt").read() == b"AB"

    app.add_url_rule("/capitals", "capitals", lambda: carboy.send_derived(file, "capitals", "capitals.txt", download=True))
    answer = app.test_client().get("/capitals", headers={"Range": "bytes=1-"})
    assert (answer.status_code, answer.data, answer.content_type) == (206, b"B", "text/plain")
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=\"capitals.txt\"")
    with pytest.raises(NotFound):
        carboy.open_derived(file, "capitals", "small.txt")


def test_they_are_of_the_present_content(carboy: Carboy) -> None:
    file = carboy.put("main", "a.txt", b"ab")
    carboy.run(file, "capitals")
    run_jobs(carboy)
    carboy.put("main", "a.txt", b"c d")
    assert (carboy.derived(file), carboy.results(file)) == ([], {})
    run_jobs(carboy)
    assert carboy.results(file)["words"]["words"] == 2


def test_jobs_are_listed(carboy: Carboy) -> None:
    files = [carboy.put(space, f"{number}.txt", b"x") for number, space in enumerate(["main", "main", "other"])]
    assert [job.file_id for job in carboy.jobs()] == [file.id for file in reversed(files)]
    assert [job.space for job in carboy.jobs(space="other")] == ["other"]
    assert len(list(carboy.jobs(step="words"))) == 3 and list(carboy.jobs(step="digest")) == []
    cancelled = carboy.cancel_job(next(iter(carboy.jobs(files[0]))))
    assert [job.id for job in carboy.jobs(state="cancelled")] == [cancelled.id]
    with pytest.raises(NotFound):
        carboy.job("0" * 32)


def test_a_job_that_dies_is_tried_anew_upon_request(app: Flask) -> None:
    carboy, fails = Carboy(app), [True]

    @carboy.step("moody", retries=2)
    def moody(context: Context) -> None:
        if fails:
            raise ValueError("not today")

    carboy.put("main", "a.txt", b"x")
    with pytest.raises(StepFailed, match=r"moody.*a\.txt.*ValueError: not today"):
        run_jobs(carboy)
    [job] = carboy.jobs()
    assert (job.state, job.attempts, job.failure) == ("dead", 3, "ValueError: not today")
    fails.clear()
    assert carboy.retry_job(job).state == "queued"
    assert [one.state for one in run_jobs(carboy)] == ["done"]
    with pytest.raises(Conflict):
        carboy.retry_job(job.id)


def test_a_test_may_want_jobs_to_die(app: Flask) -> None:
    carboy = Carboy(app)

    @carboy.step("never", retries=0)
    def never(context: Context) -> None:
        raise StepFailed("never")

    with temporary_carboy(app):
        carboy.put("main", "a.txt", b"x")
        [job] = run_jobs(dead=True)
        assert (job.state, job.failure) == ("dead", "never")


def test_the_innermost_temporary_one_is_meant() -> None:
    with pytest.raises(RuntimeError, match="temporary_carboy"):
        run_jobs()
    with temporary_carboy() as outer:
        file = outer.put("main", "a.txt", b"x")
        outer.run(file, "digest")
        with temporary_carboy() as inner:
            assert run_jobs() == []
            inner.run(inner.put("main", "b.txt", b"y"), "digest")
            assert [job.step for job in run_jobs()] == ["digest"]
        [job] = run_jobs()
        assert job.result == {"sha256": hashlib.sha256(b"x").hexdigest(), "size": 1}


def test_held_files_are_released(app: Flask) -> None:
    carboy = Carboy(app)
    carboy.space("papers", hold=["look"], steps=["early"])
    carboy.step("early", spaces=[], priority=1)(lambda context: context.attach("x.txt", b"X", "text/plain"))
    sent = []

    @carboy.step("look", spaces=[])
    def look(context: Context) -> None:
        assert carboy.open_derived(file, "early", "x.txt").read() == b"X", "Python's calls are trusted"
        with pytest.raises(Pending), app.test_request_context():
            carboy.send_derived(file, "early", "x.txt")
        with app.test_request_context():
            sent.append(carboy.send_derived(file, "early", "x.txt", pending=True).status_code)

    file = carboy.put("papers", "a.txt", b"x")
    assert carboy.get(file).blob.held == 1
    run_jobs(carboy)
    assert (carboy.get(file).blob.held, sent) == (0, [200])


def test_a_module_of_steps(app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "our_steps.py").write_text("import flask\nfrom carboy import step\n\n\n@step('whose')\ndef whose(context):\n"
                                           "    return flask.current_app.name\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    app.config["CARBOY_STEP_MODULES"] = ["our_steps"]
    carboy = Carboy(app)
    file = carboy.put("main", "a.txt", b"x")
    run_jobs(carboy)
    assert carboy.results(file) == {"whose": {"value": app.name}}


def test_names_are_checked(app: Flask, carboy: Carboy) -> None:
    with pytest.raises(ConfigError, match="already"):
        carboy.step("words")(lambda context: 1)
    with pytest.raises(ConfigError, match="no step's name"):
        carboy.step("two words")
    with pytest.raises(ConfigError, match="no context"):
        carboy.step("none")(lambda: 1)
    carboy.step("digest")(lambda context: 1)
    with pytest.raises(ConfigError, match="'digest' already"):
        carboy.put("main", "a", b"")


def test_the_spaces_that_it_names_are_there(app: Flask, carboy: Carboy) -> None:
    carboy.step("astray", spaces=["papres"])(lambda context: 1)
    with pytest.raises(ConfigError, match="'astray' is for the space 'papres', which isn't there; there is main, other"):
        carboy.put("main", "a", b"")


def test_it_may_not_come_late(app: Flask, carboy: Carboy) -> None:
    with app.app_context():
        carboy.put("main", "a", b"")
        with pytest.raises(ConfigError, match="too late"):
            carboy.step("late")(lambda context: 1)
    with pytest.raises(ConfigError, match="too late"):
        carboy.step("late")(lambda context: 1)


def test_each_application_has_its_own_context(make_app: AppFactory) -> None:
    carboy = Carboy()

    @carboy.step("whose")
    def whose(context: Context) -> str:
        return str(current_app.name)

    for app in (make_app(), make_app()):
        carboy.init_app(app)
        with app.app_context():
            file = carboy.put("main", "a", b"")
            run_jobs(carboy)
            assert carboy.results(file) == {"whose": {"value": app.name}}


def test_a_worker_runs_what_the_application_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``flask carboy worker``, a process of its own, with the application's spaces and steps."""
    (tmp_path / "shop.py").write_text("""
from flask import Flask, current_app
from carboy import Carboy

app = Flask(__name__)
app.config["WHOSE"] = "the shop's"
carboy = Carboy(app)
carboy.space("papers")


@carboy.step("whose", spaces=["papers"])
def whose(context):
    return {"whose": current_app.config["WHOSE"], "name": context.name}
""")
    monkeypatch.syspath_prepend(str(tmp_path))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CARBOY_", "FLASK_"))}
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen([sys.executable, "-m", "flask", "--app", "shop", "carboy", "worker"], cwd=tmp_path, env=env, stdout=log,
                                  stderr=log)
    shop = importlib.import_module("shop")
    try:
        file = shop.carboy.put("papers", "a.txt", b"x")
        [job] = shop.carboy.jobs(file)
        eventually(lambda: shop.carboy.job(job.id).is_over or worker.poll() is not None)
        assert shop.carboy.results(file) == {"whose": {"whose": "the shop's", "name": "a.txt"}}, (tmp_path / "log").read_text()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
        assert "Traceback" not in (tmp_path / "log").read_text()
    finally:
        worker.kill()
        worker.wait()
        shop.carboy.close()


def test_jobs_are_public_values(carboy: Carboy) -> None:
    carboy.put("main", "a.txt", b"x")
    assert all(isinstance(job, Job) for job in carboy.jobs())


PAGE = Path(__file__).parent.parent.parent / "docs/processing.md"


def test_the_code_of_the_page_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """Blocks that begin with a file's name are that file; the others together are ``page.py``."""
    files: dict[str, str] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        named = re.match(r"# (\w+\.py)\n", block)
        name = named[1] if named else "page.py"
        files[name] = files.get(name, "") + block + "\n"
    assert {"page.py", "test_papers.py", "paper_steps.py"} == set(files)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CARBOY_", "FLASK_", "PYTEST"))}
    ran = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_papers.py"], cwd=tmp_path, env=env,
                         capture_output=True, text=True, check=False)
    assert (ran.returncode, "1 passed" in ran.stdout) == (0, True), ran.stdout + ran.stderr


def test_the_steps_of_the_page_are_those_there_are() -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = set(re.findall(r"^\| `(\w+)` \|", text.partition("## The steps that there are")[2].partition("\n## ")[0], re.MULTILINE))
    assert set(known_steps(of_application({})).known) <= table


def test_a_step_of_a_module_runs_in_a_process_of_its_own(app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that the page shows."""
    [block] = re.findall(r"^```python\n# paper_steps.py\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "paper_steps.py").write_text(block)
    monkeypatch.syspath_prepend(str(tmp_path))
    app.config["CARBOY_STEP_MODULES"] = ["paper_steps"]
    carboy = Carboy(app)
    carboy.space("papers")
    file = carboy.put("papers", "a.pdf", b"%PDF-1.7\n/Type /Page\n/Type /Page\n")
    run_jobs(carboy)
    assert carboy.results(file) == {"pages": {"pages": 2}}
