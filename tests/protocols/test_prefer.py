"""``Prefer`` (RFC 7240) on uploads: an answer waits for the content's jobs, or says that it doesn't."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import wire
from fixtures_gates import CONFIG, Gated
from fixtures_server import eventually
from fixtures_site import FORM, file, multipart

from carboy.web.prefer import Preferences, preferences

GRAMMAR = {
    "": Preferences(), "wait=10": Preferences(wait=10), "WAIT = 10": Preferences(wait=10), 'wait="7"': Preferences(wait=7),
    "respond-async": Preferences(respond_async=True), "respond-async, wait=3": Preferences(3, True), "wait=3;x=y, respond-async": Preferences(3, True),
    "wait=5, wait=9": Preferences(wait=5), "wait": Preferences(), "wait=": Preferences(), "wait=-1": Preferences(), "wait=1.5": Preferences(),
    "wait=99999999999": Preferences(), "wait=٣": Preferences(), "respond-async=no": Preferences(), "return=minimal": Preferences(minimal=True),
    "return=representation": Preferences(), "handling=lenient, return=MINIMAL": Preferences(minimal=True), ",,,": Preferences(),
    'x="a, wait=4", wait=2': Preferences(wait=2), "\"": Preferences(), "wait=1" + ", x" * 5000: Preferences(wait=1),
    "a" * 333 + " " * 666 + '"': Preferences(), 'wait = "2" ; a=b': Preferences(wait=2),
}


@pytest.mark.parametrize("value", GRAMMAR)
def test_the_field_is_read_as_the_rfc_says(value: str) -> None:
    assert preferences(value) == GRAMMAR[value]


def running(gated: Gated, path: str) -> None:
    """The file's job is at its gate."""
    def job() -> bool:
        answer = gated.ask("GET", f"/files/{path}")
        jobs = gated.api("GET", "/api/v1/jobs?space=gated&state=running&limit=1000")["jobs"] if answer.status == 200 else []
        return any(gated.api("GET", f"/api/v1/files/{job['file_id']}")["path"] == path.partition("/")[2] for job in jobs)

    eventually(job)


@pytest.mark.parametrize("prefer", ["wait=60", "wait=60, respond-async"])
def test_an_answer_waits_until_the_jobs_are_over(gated: Gated, prefer: str) -> None:
    name = f"waits{len(prefer)}"
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(gated.ask, "PUT", f"/files/gated/{name}", {"Prefer": prefer}, b"x")
        running(gated, f"gated/{name}")
        assert not asked.done()
        gated.open(name)
        answer = asked.result(wire.LIMIT)
    assert (answer.status, answer.header("Preference-Applied")) == (201, "wait=60")
    assert [job["state"] for job in answer.json()["jobs"]] == ["done"]


def test_an_answer_waits_no_longer_than_it_may(gated: Gated) -> None:
    answer = gated.ask("PUT", "/files/gated/short", {"Prefer": "wait=0"}, b"x")
    assert (answer.status, answer.header("Preference-Applied")) == (201, "wait=0")
    assert answer.json()["jobs"][0]["state"] in ("queued", "running")
    both = gated.ask("PUT", "/files/gated/short", {"Prefer": "respond-async, wait=1"}, b"y")
    assert (both.status, both.header("Preference-Applied")) == (202, "respond-async, wait=1")
    assert both.json()["jobs"][0]["state"] in ("queued", "running")
    gated.open("short")


def test_respond_async_is_answered_at_once(gated: Gated) -> None:
    answer = gated.ask("PUT", "/files/gated/async", {"Prefer": "respond-async"}, b"x")
    stored = answer.json()
    assert (answer.status, answer.header("Preference-Applied"), answer.header("Location")) == (202, "respond-async", "/files/gated/async")
    assert answer.header("ETag") == stored["etag"] and len(stored["jobs"]) == 1
    assert gated.ask("GET", "/files/gated/async").body == b"x", "it is stored all the same"
    gated.open("async")


def test_without_jobs_nothing_is_put_off(gated: Gated) -> None:
    answer = gated.ask("PUT", "/files/main/none", {"Prefer": "respond-async, wait=60"}, b"x")
    assert (answer.status, answer.header("Preference-Applied")) == (201, None)


def test_what_a_job_died_of_is_not_the_uploads_failure(gated: Gated) -> None:
    gated.open("dead", "die")
    answer = gated.ask("PUT", "/files/gated/dead", {"Prefer": "wait=60"}, b"x")
    assert (answer.status, answer.json()["jobs"][0]["state"]) == (201, "dead")


@pytest.mark.parametrize("how", ["form", "widget", "draft"])
def test_other_ways_to_upload_heed_it_too(gated: Gated, how: str) -> None:
    name = f"other-{how}"
    prefer = {"Prefer": "respond-async"}
    if how == "draft":
        answer = gated.ask("PUT", f"/files/gated/{name}", {"Upload-Complete": "?1", "Upload-Draft-Interop-Version": "8", **prefer}, b"x")
    else:
        target = "/files/gated/" if how == "form" else "/widgets/dropzone/gated"
        answer = gated.ask("POST", target, {"Content-Type": FORM, **prefer}, multipart(file("file", name, b"x"), file("other", f"{name}2", b"y")))
    assert (answer.status, answer.header("Preference-Applied")) == (202, "respond-async")
    gated.open(name)
    gated.open(f"{name}2")


def test_all_files_of_a_form_are_waited_for(gated: Gated) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(gated.ask, "POST", "/files/gated/", {"Content-Type": FORM, "Prefer": "wait=60"},
                            multipart(file("a", "both1", b"x"), file("b", "both2", b"y")))
        running(gated, "gated/both1")
        gated.open("both1", "one")
        running(gated, "gated/both2")
        assert not asked.done()
        gated.open("both2", "two")
        answer = asked.result(wire.LIMIT)
    assert [[job["state"] for job in one["jobs"]] for one in answer.json()["files"]] == [["done"], ["done"]]


def test_the_answer_shows_the_file_as_its_jobs_left_it(gated: Gated) -> None:
    """The step digest tells the SHA-256."""
    stored = gated.put("sums/digested", headers={"Prefer": "wait=60"})
    assert (len(stored["sha256"]), stored["jobs"][0]["state"]) == (64, "done")


def test_return_minimal_leaves_the_file_out(gated: Gated) -> None:
    first, second = (gated.ask("PUT", "/files/main/minimal", {"Prefer": "return=minimal"}, body) for body in (b"one", b"two"))
    file = gated.api("GET", f"/api/v1/files/{first.header('Carboy-File')}")
    assert [(one.status, one.body, one.header("Preference-Applied")) for one in (first, second)] == [
        (201, b"", "return=minimal"), (204, b"", "return=minimal")]
    assert second.header("ETag") == file["etag"] and second.header("Location") == "/files/main/minimal"
    both = gated.ask("PUT", "/files/gated/minimal", {"Prefer": "return=minimal, respond-async"}, b"x")
    assert (both.status, both.body, both.header("Content-Length")) == (202, b"", "0")
    gated.open("minimal")


def test_waiting_answers_never_take_all_threads(tmp_path: Path) -> None:
    """Beyond what may wait at once others are answered at once: nobody is refused what is stored already."""
    server = Gated(tmp_path, config=CONFIG, env={"CARBOY_EVENT_STREAMS": "8"})
    server.start()
    answers: list[wire.Response] = []

    def put(number: int) -> None:
        answers.append(server.ask("PUT", f"/files/gated/crowd{number}", {"Prefer": "wait=60"}, b"x"))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(answers) == 4)  # a quarter of the places is one's own
    assert [(answer.status, answer.header("Preference-Applied")) for answer in answers] == [(201, None)] * 4
    for number in range(6):
        server.open(f"crowd{number}")
    for thread in threads:
        thread.join(wire.LIMIT)
    assert sorted(str(answer.header("Preference-Applied")) for answer in answers) == ["None"] * 4 + ["wait=60"] * 2
    server.stop()
    server.must_be_sound()


def test_who_has_gone_is_waited_for_no_longer(tmp_path: Path) -> None:
    server = Gated(tmp_path, config=CONFIG, env={"CARBOY_EVENT_STREAMS": "4"})
    server.start()
    with server.connect() as connection:
        connection.send(wire.head("PUT", "/files/gated/left", {**server.auth, "Prefer": "wait=60"}, b"x") + b"x")
        running(server, "gated/left")
    server.open("there")
    eventually(lambda: server.ask("PUT", "/files/gated/there", {"Prefer": "wait=60"}, b"x").header("Preference-Applied") == "wait=60")
    server.open("left")
    server.stop()
    server.must_be_sound()


def test_it_is_answered_again_as_the_first_time(gated: Gated) -> None:
    keyed = {"Prefer": "respond-async", "Idempotency-Key": "prefer-1"}
    first, again = (gated.ask("PUT", "/files/gated/keyed", keyed, b"x") for _ in range(2))
    assert (first.status, again.status, again.header("Preference-Applied")) == (202, 202, "respond-async")
    assert again.body == first.body
    gated.open("keyed")
