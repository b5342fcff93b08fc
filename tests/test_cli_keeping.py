"""import, export, backup, restore, scrub: as an operator runs them, beside a server, and what they leave behind."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fixtures_postgres import PostgresServer
from fixtures_server import ServerFactory, eventually

from carboy.cli.main import main


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("CARBOY_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def carboy(*args: str | Path, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args], env=env)


def told(*args: str | Path, exit_code: int = 0) -> Any:
    result = carboy(*args, "--json")
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def counts(report: dict[str, Any]) -> dict[str, int]:
    return {name: value["count"] for name, value in report.items() if name != "details"}


@pytest.fixture
def tree(elsewhere: Path) -> Path:
    for path, data in {"a": b"first", "b/c": b"second"}.items():
        (elsewhere / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / "tree" / path).write_bytes(data)
    return elsewhere / "tree"


def test_a_tree_comes_in_and_goes_out_beside_the_server(server: ServerFactory, tree: Path, elsewhere: Path) -> None:
    one = server()
    report = told("import", tree, "--to", "old/", "--owner", "ann", "--data", one.data)
    assert report == {"copied": {"count": 2, "bytes": 11}, "details": []}
    assert one.request("GET", "/files/main/old/b/c").body == b"second"
    assert counts(told("import", tree, "--to", "old/", "--link", "--data", one.data)) == {"kept": 2}
    assert one.request("PUT", "/files/main/new", body=b"new").status == 201
    assert counts(told("export", elsewhere / "out", "--data", one.data)) == {"copied": 3}
    assert (elsewhere / "out/main/old/b/c").read_bytes() == b"second"
    assert (elsewhere / "out/main/new").read_bytes() == b"new"
    assert "not empty" in carboy("export", elsewhere / "out", "--data", one.data).stderr
    assert counts(told("export", elsewhere / "out", "--into", "--data", one.data)) == {"kept": 3}
    assert counts(told("export", elsewhere / "some", "--space", "main", "--prefix", "old/", "--link", "--data", one.data)) == {"linked": 2}


def test_what_is_left_out_is_told_and_makes_exit_code_1(server: ServerFactory, tree: Path) -> None:
    one = server()
    (tree / "two\nlines").write_bytes(b"x")
    (tree / "link").symlink_to("a")
    result = carboy("import", tree, "--data", one.data)
    assert result.exit_code == 1
    assert "left out  link: is a symbolic link\n" in result.stderr
    assert "left out  two\\nlines: " in result.stderr
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [["copied", "2"], ["left", "out"]]
    assert counts(told("import", tree, "--data", one.data, exit_code=1)) == {"kept": 2, "left_out": 2}


def test_a_backup_of_a_running_server_starts_elsewhere(server: ServerFactory, elsewhere: Path) -> None:
    one = server()
    assert one.request("PUT", "/files/main/a", body=b"saved").status == 201
    token = json.loads(carboy("token", "create", "--name", "x", "--scope", "main:read", "--json", "--data", one.data).stdout)["secret"]
    report = told("backup", elsewhere / "backup", "--data", one.data)
    assert counts(report) == {"linked": 1}
    assert counts(told("backup", elsewhere / "backup", "--prune", "--data", one.data)) == {"kept": 1}
    assert counts(told("restore", elsewhere / "backup", "--data", elsewhere / "restored")) == {"copied": 1}
    assert carboy("fsck", "--deep", "--data", elsewhere / "restored").exit_code == 0
    other = server(data=elsewhere / "restored")
    bearer = {"Authorization": f"Bearer {token}"}
    assert other.request("GET", "/files/main/a", bearer).body == b"saved"
    assert "not empty" in carboy("restore", elsewhere / "backup", "--data", elsewhere / "restored").stderr
    assert "no backup" in carboy("restore", elsewhere / "nowhere", "--data", elsewhere / "third").stderr
    assert not (elsewhere / "third").exists()
    assert carboy("restore").exit_code == 2


def test_a_backup_folder_can_be_started_as_it_is(server: ServerFactory, elsewhere: Path) -> None:
    one = server()
    assert one.request("PUT", "/files/main/a", body=b"saved").status == 201
    assert carboy("backup", elsewhere / "backup", "--copy", "--data", one.data).exit_code == 0
    other = server(data=elsewhere / "backup", token=one.token)
    assert other.request("GET", "/files/main/a").body == b"saved"
    assert other.request("PUT", "/files/main/b", body=b"new").status == 201
    other.stop()
    assert "used as a data folder" in carboy("backup", elsewhere / "backup", "--data", one.data).stderr


def test_the_server_keeps_snapshots_that_can_be_gone_back_to(server: ServerFactory, elsewhere: Path) -> None:
    one = server(env={"CARBOY_SNAPSHOT_INTERVAL": "2", "CARBOY_SWEEP_INTERVAL": "0.2", "CARBOY_SNAPSHOTS_KEPT": "2"})
    folder = one.data / "snapshots"

    def kept() -> list[Path]:
        return sorted(folder.glob("catalog-*.sqlite3")) if folder.is_dir() else []

    first = eventually(kept)[0]
    assert one.request("PUT", "/files/main/a", body=b"later").status == 201
    eventually(lambda: not first.exists())
    assert 1 <= len(kept()) <= 3
    held = carboy("restore", "--snapshot", kept()[-1], "--data", one.data)
    assert held.exit_code == 1
    assert "a server runs" in held.stderr
    one.stop()
    assert oct(kept()[-1].stat().st_mode & 0o777) == "0o600"
    newest = kept()[-1]
    assert carboy("rm", "a", "--data", one.data).exit_code == 0
    assert carboy("restore", "--snapshot", newest, "--data", one.data).exit_code == 0
    assert carboy("get", "a", "--data", one.data).exit_code == 0
    assert (elsewhere / "a").read_bytes() == b"later"


def test_flipped_bits_are_kept_from_everybody_until_they_are_put_right(server: ServerFactory, elsewhere: Path) -> None:
    """Fault 21."""
    one = server()
    for name in ("flipped", "sound"):
        assert one.request("PUT", f"/files/main/{name}", body=name.encode() * 100_000).status == 201
    etag = one.request("HEAD", "/files/main/flipped").header("ETag")
    assert carboy("backup", elsewhere / "backup", "--copy", "--data", one.data).exit_code == 0
    [blob] = [path for path in (one.data / "blobs").glob("*/*") if path.read_bytes()[:4] == b"flip"]
    with blob.open("r+b") as file:
        file.seek(300_000)
        file.write(b"F")
    report = told("scrub", "--rate", "50MB", "--data", one.data, exit_code=1)
    assert (report["blobs"], [finding["kind"] for finding in report["findings"]]) == (2, ["damaged"])
    for method, headers in (("GET", {}), ("HEAD", {}), ("GET", {"Range": "bytes=0-3"})):
        answer = one.request(method, "/files/main/flipped", headers)
        assert answer.status == 500
        if method == "GET":
            assert answer.json()["code"] == "bytes_damaged"
    assert one.request("GET", "/files/main/flipped", {"If-None-Match": etag}).status == 304, "who has them has the right ones"
    assert one.request("GET", "/files/main/sound").body == b"sound" * 100_000
    assert "not the ones that were received" in carboy("get", "flipped", "--data", one.data).stderr
    assert not (elsewhere / "flipped").exists()
    assert carboy("fsck", "--data", one.data).exit_code == 1
    assert Counter(finding["kind"] for finding in told("scrub", "--repair", elsewhere / "backup", "--data", one.data)["findings"]) == {"repaired": 1}
    assert one.request("GET", "/files/main/flipped").body == b"flipped" * 100_000
    assert carboy("fsck", "--deep", "--data", one.data).exit_code == 0


def test_the_server_scrubs_by_itself_where_it_is_asked_to(server: ServerFactory) -> None:
    one = server(start=False)
    one.start()
    assert one.request("PUT", "/files/main/a", body=b"bytes" * 1000).status == 201
    one.stop()
    [blob] = list((one.data / "blobs").glob("*/*"))
    blob.write_bytes(b"BYTES" * 1000)
    again = server(data=one.data, token=one.token, env={"CARBOY_SCRUB_INTERVAL": "3600", "CARBOY_SWEEP_INTERVAL": "0.1"})
    eventually(lambda: again.request("GET", "/files/main/a").status == 500)
    assert "damaged: " in again.log()


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_with_postgresql_it_is_said_what_to_do(postgres_server: PostgresServer, elsewhere: Path, command: str) -> None:
    env = {"CARBOY_DATABASE": postgres_server.new_database()}
    assert carboy("db", "upgrade", env=env).exit_code == 0
    result = carboy(command, elsewhere / "backup", env=env)
    assert result.exit_code == 2
    assert "pg_dump" in result.stderr
    assert result.stderr.count("\n") == 1


def test_files_come_and_go_with_postgresql_too(postgres_server: PostgresServer, tree: Path, elsewhere: Path) -> None:
    env = {"CARBOY_DATABASE": postgres_server.new_database()}
    assert carboy("db", "upgrade", env=env).exit_code == 0
    assert carboy("import", tree, env=env).exit_code == 0
    assert "kept               2" in carboy("import", tree, env=env).stdout
    assert carboy("scrub", env=env).exit_code == 0
    assert carboy("export", elsewhere / "out", "--space", "main", env=env).exit_code == 0
    assert (elsewhere / "out/b/c").read_bytes() == b"second"
