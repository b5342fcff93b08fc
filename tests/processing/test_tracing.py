"""The id of the request that ordered a job is in what is logged about it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from fixtures_server import Server, ServerFactory, eventually

from carboy.tracing import begin, request_id, working_for
from carboy.web.logs import RequestIds

STEPS = '''
import logging
from carboy.processing.step import step

log = logging.getLogger("carboy.mine")

@step("near")
def near(context):
    log.info("near of %s\\nand more", context.name)

@step("apart", isolated=True)
def apart(context):
    log.warning("apart of %s\\nand more", context.name)

@step("failing", retries=0)
def failing(context):
    raise ValueError("no")
'''


@pytest.fixture
def stepping(server: ServerFactory, tmp_path: Path) -> Server:
    """With steps of one's own, and a log of JSON."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "mine.py").write_text(STEPS)
    return server(env={"PYTHONPATH": str(tmp_path / "lib"), "CARBOY_STEP_MODULES": '["mine"]', "CARBOY_LOG_FORMAT": "json"}, allow_errors=True)


def told(one: Server, message: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in one.log().splitlines() if line.startswith("{")]
    return [line for line in lines if message in line["message"]]


def the_one(one: Server, message: str) -> dict[str, Any]:
    line, = eventually(lambda: told(one, message))
    return line


def test_all_lines_about_a_job_have_the_id_of_its_request(stepping: Server) -> None:
    made = stepping.request("PUT", "/files/main/a.txt", body=b"abc")
    assert made.status == 201
    id = made.header("X-Request-ID")
    ended = {}
    for step in ("near", "apart", "failing"):
        state = "dead" if step == "failing" else "done"
        ended[step] = the_one(stepping, f"({step}) {state}")
        assert ended[step]["request_id"] == id
        assert (ended[step]["step"], ended[step]["state"], ended[step]["attempt"]) == (step, state, 1)
        assert ended[step]["file"] == made.json()["id"]
        assert ended[step]["seconds"] >= 0
    near = the_one(stepping, "near of a.txt")
    assert (near["request_id"], near["logger"], near["message"]) == (id, "carboy.mine", "near of a.txt\nand more")
    apart = the_one(stepping, "apart of a.txt")
    assert (apart["request_id"], apart["level"]) == (id, "warning")
    assert apart["message"] == "carboy.mine: apart of a.txt\\nand more", "another process can't begin a line of its own"
    assert apart["job"] == ended["apart"]["job"]
    assert the_one(stepping, "(failing) failed")["request_id"] == id


def test_each_request_has_its_own(stepping: Server) -> None:
    ids = {}
    for name in "abc":
        made = stepping.request("PUT", f"/files/main/{name}", body=name.encode())
        ids[name] = made.header("X-Request-ID")
    for name in "abc":
        assert the_one(stepping, f"near of {name}\n")["request_id"] == ids[name]


def test_a_thread_works_for_another_request_and_then_for_its_own_again() -> None:
    begin("mine")
    with pytest.raises(ZeroDivisionError), working_for("theirs"):
        assert request_id() == "theirs"
        raise ZeroDivisionError
    assert request_id() == "mine"
    begin("")


def test_a_line_that_has_an_id_keeps_it() -> None:
    record = logging.LogRecord("carboy", logging.INFO, "", 0, "x", (), None)
    record.request_id = "given"
    with working_for("another"):
        assert RequestIds().filter(record)
        assert record.request_id == "given"
        fresh = logging.LogRecord("carboy", logging.INFO, "", 0, "x", (), None)
        RequestIds().filter(fresh)
        assert fresh.request_id == "another"  # type: ignore[attr-defined]
