"""``flask carboy import|export|backup|restore|scrub``: an application's files come, leave and are kept."""

from __future__ import annotations

from pathlib import Path

from fixtures_flask import stored_bytes
from flask import Flask

from carboy import Carboy


def test_files_come_leave_and_are_saved(app: Flask, tmp_path: Path) -> None:
    carboy = Carboy(app)
    carboy.space("photos", accept=["image/*"])
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a.txt").write_bytes(b"text")

    def run(*args: str | Path) -> tuple[int, str]:
        result = app.test_cli_runner().invoke(args=["carboy", *map(str, args)])
        return result.exit_code, result.output

    code, said = run("import", tmp_path / "tree", "--space", "photos")
    assert (code, "accepts image/*" in said) == (1, True)
    assert run("import", tmp_path / "tree")[0] == 0
    assert [file.path for file in carboy.list("main")] == ["a.txt"]
    assert run("backup", tmp_path / "backup", "--copy")[0] == 0
    assert run("export", tmp_path / "out", "--space", "main")[0] == 0
    assert (tmp_path / "out/a.txt").read_bytes() == b"text"
    stored_bytes(app)[0].write_bytes(b"TEXT")
    assert run("scrub")[0] == 1
    assert run("scrub", "--repair", tmp_path / "backup")[0] == 0
    code, said = run("restore", tmp_path / "backup")
    assert (code, "not empty" in said) == (1, True)
