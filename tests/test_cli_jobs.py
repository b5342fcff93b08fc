"""``carboy jobs``: what files go through, as an operator sees and changes it on this machine's data."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from carboy.bootstrap import close, open_carboy, prepare
from carboy.cli.main import main
from carboy.config import load
from carboy.processing.loop import Loop

CONFIG = """
data = "data"
durability = "relaxed"
step_modules = ["gated_steps"]
[spaces]
main = {}
home = { private = true }
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a carboy.toml, and files whose jobs are over at once."""
    for name in [name for name in os.environ if name.startswith("CARBOY_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATES", str(tmp_path))
    (tmp_path / "carboy.toml").write_text(CONFIG)
    services = open_carboy(load())
    prepare(services)
    close(services)
    for name, said in {"a": "fine", "b": "die", "c": "fine"}.items():
        (tmp_path / name).write_text(said)
        assert carboy("put", name, name).exit_code == 0
    return tmp_path


def carboy(*args: str) -> Result:
    return CliRunner().invoke(main, args)


def told(*args: str) -> Any:
    result = carboy(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def drain() -> None:
    """Run what is due."""
    services = open_carboy(load())
    Loop(services.catalog, services.leases, services.runner, services.wakes).drain()
    services.leases.close()
    close(services)


def test_steps_are_ordered_for_files_and_shown(folder: Path) -> None:
    ordered = told("jobs", "run", "gate", "a", "b", "--args", '{"size": 4}')
    assert [job["state"] for job in ordered] == ["queued", "queued"]
    drain()
    fine, dead = told("jobs", "show", *[job["id"] for job in ordered])
    assert (fine["state"], fine["result"], dead["state"], dead["failure"]) == ("done", {"said": "fine", "size": 4}, "dead", "the gate is shut")
    assert told("jobs", "list", "--state", "dead") == [dead]
    assert {job["id"] for job in told("jobs", "list", "--file", fine["file_id"])} == {fine["id"]}
    shown = carboy("jobs", "show", dead["id"]).stdout
    assert "the gate is shut" in shown and "gate" in carboy("jobs", "list").stdout


def test_all_files_that_a_step_takes_go_through_it() -> None:
    assert len(told("jobs", "run", "gate", "--all")) == 3
    assert told("jobs", "run", "pictures", "--all") == []
    assert len(told("jobs", "list", "--limit", "2")) == 2
    assert len(told("jobs", "list", "--limit", "0")) == 3


def test_jobs_of_all_spaces_are_listed_or_of_one(folder: Path) -> None:
    (folder / "carboy.toml").write_text((folder / "carboy.toml").read_text() + "\n[spaces.other]\n")
    assert carboy("put", "--space", "other", "a", "d").exit_code == 0
    both = [*told("jobs", "run", "gate", "a"), *told("jobs", "run", "gate", "--space", "other", "d")]
    assert told("jobs", "list") == both[::-1]
    assert told("jobs", "list", "--space", "other") == both[1:]
    assert both[1]["file_id"] in carboy("jobs", "list").stdout.splitlines()[0].split("  ")
    assert carboy("jobs", "list", "--space", "nowhere").exit_code == 1


def test_jobs_are_cancelled_and_tried_again() -> None:
    id = told("jobs", "run", "gate", "c")[0]["id"]
    assert told("jobs", "cancel", id)[0]["state"] == "cancelled"
    drain()
    assert told("jobs", "retry", id)[0]["state"] == "queued"
    drain()
    assert told("jobs", "show", id)[0]["state"] == "done"
    assert "the job is done" in carboy("jobs", "cancel", id).stderr


@pytest.mark.parametrize(("args", "said", "code"), [
    (("run", "gate"), "--all", 2), (("run", "gate", "a", "--all"), "--all", 2), (("run", "nothing", "a"), "there is no step", 1),
    (("run", "nothing", "--all"), "there is no step", 2), (("run", "gate", "a", "--args", "[]"), "JSON object", 2),
    (("run", "gate", "a", "--args", '{"x": 1}'), "no argument 'x'", 1), (("run", "gate", "nowhere"), "there is no file", 1),
    (("show", "0" * 32), "there is no such job", 1), (("retry", "0" * 32), "there is no such job", 1)])
def test_what_can_not_be_is_told(args: tuple[str, ...], said: str, code: int) -> None:
    result = carboy("jobs", *args)
    assert (result.exit_code, said in result.stderr) == (code, True), result.output
