"""``flask carboy …``: the program's commands on the application's data."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from fixtures_flask import AppFactory, stored_bytes
from flask import Flask

from carboy import Carboy


@pytest.fixture
def carboy(app: Flask) -> Carboy:
    carboy = Carboy(app)
    carboy.space("rough", trash=0)
    return carboy


def run(app: Flask, *args: str) -> Result:
    return app.test_cli_runner().invoke(args=["carboy", *args])


def test_the_server_is_not_among_them(app: Flask, carboy: Carboy) -> None:
    listed = re.findall(r"^  (\w+)", run(app, "--help").output.partition("Commands:")[2], re.MULTILINE)
    assert {"sweep", "fsck", "upgrade", "token"} <= set(listed)
    assert not {"serve", "doctor", "db"} & set(listed)


def test_none_is_told_where_its_data_is(app: Flask, carboy: Carboy) -> None:
    for command in (["sweep"], ["token", "create"], ["upgrade"]):
        listed = run(app, *command, "--help").output
        assert "--data" not in listed and "--config" not in listed
    assert run(app, "sweep", "--data", "elsewhere").exit_code == 2


def test_tokens_of_the_applications_spaces(app: Flask, carboy: Carboy) -> None:
    assert run(app, "token", "list").output == "", "no first token is made"
    made = run(app, "token", "create", "--name", "backup", "--scope", "rough:read", "--json")
    assert (made.exit_code, json.loads(made.output)["scopes"]) == (0, ["rough:read"])
    assert "'backup' rough:read" in run(app, "token", "list").output


def test_sweep_and_fsck(app: Flask, carboy: Carboy) -> None:
    app.config["CARBOY_DELETE_GRACE"] = 0
    carboy.put("main", "kept", b"1")
    carboy.delete(carboy.put("rough", "gone", b"2"))
    assert run(app, "sweep").exit_code == 0
    assert len(stored_bytes(app)) == 1
    assert run(app, "fsck", "--deep").exit_code == 0
    stored_bytes(app)[0].write_bytes(b"x")
    found = run(app, "fsck", "--deep")
    assert (found.exit_code, "damaged" in found.output) == (1, True)


def test_upgrade_makes_what_is_not_there(app: Flask, carboy: Carboy) -> None:
    assert run(app, "upgrade").exit_code == 0
    assert (Path(app.instance_path) / "carboy" / "catalog.sqlite3").is_file()


def test_a_wrong_setting_is_one_line(app: Flask, carboy: Carboy) -> None:
    app.config["CARBOY_MAX_SIZE"] = "lots"
    result = run(app, "sweep")
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "'lots' is not a size" in result.output


def test_the_tree_of_a_folder_comes_and_goes(app: Flask, carboy: Carboy, tmp_path: Path) -> None:
    if "import" not in run(app, "--help").output:
        pytest.skip("there are no such commands yet")
    (tmp_path / "tree" / "a").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "b.txt").write_bytes(b"b")
    assert run(app, "import", str(tmp_path / "tree")).exit_code == 0
    assert carboy.open(carboy.at("main", "a/b.txt")).read() == b"b"
    carboy.close()
    assert run(app, "export", str(tmp_path / "out")).exit_code == 0
    assert (tmp_path / "out" / "main" / "a" / "b.txt").read_bytes() == b"b"


def test_they_run_as_flask_runs_them(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("from flask import Flask\nfrom carboy import Carboy\n\n\ndef create_app():\n"
                                      "    app = Flask(__name__)\n    Carboy(app)\n    return app\n")
    env = {**{name: value for name, value in os.environ.items() if not name.startswith(("CARBOY_", "FLASK_"))}}
    ran = subprocess.run([sys.executable, "-m", "flask", "--app", "shop", "carboy", "token", "create", "--name", "n", "--scope", "main:read"],
                         cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.startswith("carboy_")) == (0, True), ran.stderr
    assert (tmp_path / "instance" / "carboy" / "catalog.sqlite3").is_file()


def test_several_have_a_group_each(make_app: AppFactory) -> None:
    app = make_app()
    Carboy(app)
    Carboy(app, name="archive")
    assert app.test_cli_runner().invoke(args=["archive", "upgrade"]).exit_code == 0
    assert [path.name for path in Path(app.instance_path).iterdir()] == ["archive"]
