"""The program ``carboy``, as an operator uses it: beside a server that runs, and on settings that are wrong."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from fixtures_server import ServerFactory, eventually

from carboy.cli.common import Duration
from carboy.cli.main import main


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without carboy.toml, an environment without CARBOY_ variables."""
    for name in [name for name in os.environ if name.startswith("CARBOY_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def carboy(*args: str | Path, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args], env=env)


def done(*args: str | Path, env: dict[str, str] | None = None) -> str:
    """The standard output of a command that succeeds."""
    result = carboy(*args, env=env)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A new, empty data folder."""
    done("db", "upgrade", "--data", tmp_path / "data")
    return tmp_path / "data"


# --- what is wrong is said in one line -----------------------------------------------------------------------------


@pytest.mark.parametrize(("toml", "env", "args", "says"), [
    ("port = ", {}, ["serve"], "carboy.toml is not TOML"),
    ("port = 'high'", {}, ["serve"], "port"),
    ("prot = 80", {}, ["serve"], "prot: there is no such setting"),
    ("[spaces.main]\nmax = 1", {}, ["token", "list"], "spaces.main.max: there is no such setting"),
    ("[spaces.Photos]", {}, ["sweep"], "'Photos' is not a space's name"),
    ("[spaces.main]\nstorage = 'cloud'", {}, ["serve", "--port", "0"], "there is no storage 'cloud'"),
    ("max_size = '5 apples'", {}, ["fsck"], "'5 apples' is not a size"),
    ("", {"CARBOY_PORT": "70000"}, ["serve"], "port"),
    ("", {"CARBOY_SPACES": "{"}, ["serve"], "spaces"),
    ("", {"CARBOY_ADMIN_TOKEN": "short"}, ["serve"], "at least 32 characters"),
    ("", {}, ["--config", "missing.toml", "serve"], "'missing.toml'"),
    ("", {}, ["serve", "--config", "missing.toml"], "'missing.toml'"),
    ("", {}, ["token", "list", "--data", "nowhere"], "'nowhere'"),
])
def test_a_wrong_setting_is_one_clear_line(elsewhere: Path, toml: str, env: dict[str, str], args: list[str], says: str) -> None:
    elsewhere.joinpath("carboy.toml").write_text(toml)
    result = carboy(*args, env=env)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert says in result.stderr


def test_what_could_not_be_done_is_one_clear_line(data: Path) -> None:
    result = carboy("token", "revoke", "unknown", "--data", data)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "Error: there is no such token\n")


def test_a_folder_that_may_not_be_made_is_one_clear_line(elsewhere: Path) -> None:
    elsewhere.joinpath("file").touch()
    result = carboy("db", "upgrade", "--data", "file/data")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = carboy("serve", "--port", str(port))
    assert (result.exit_code, result.stderr) == (1, f"Error: cannot listen on 127.0.0.1 port {port}: Address already in use\n")


def test_an_address_of_another_machine_is_one_clear_line() -> None:
    result = carboy("serve", "--host", "192.0.2.1", "--port", "0")
    assert (result.exit_code, result.stderr) == (1, "Error: cannot listen on 192.0.2.1 port 0: Cannot assign requested address\n")


@pytest.mark.parametrize(("written", "seconds"), [("45s", 45), ("90m", 5400), ("12h", 43200), ("30d", 2592000), ("2w", 1209600)])
def test_durations(written: str, seconds: int) -> None:
    assert Duration().convert(written, None, None) == seconds


@pytest.mark.parametrize("written", ["", "30", "d", "-1d", "0d", "1.5d", "30 d", "30days", "٣d"])
def test_what_is_no_duration(written: str) -> None:
    with pytest.raises(click.BadParameter, match="as 30d"):
        Duration().convert(written, None, None)


# --- tokens --------------------------------------------------------------------------------------------------------


def test_tokens_are_made_listed_and_revoked(data: Path) -> None:
    made = json.loads(done("token", "create", "--name", "scanner", "--scope", "main:read,write", "--scope", "photos:read",
                           "--expires", "30d", "--json", "--data", data))
    assert made["scopes"] == ["main:read,write", "photos:read"]
    assert made["expires_at"] > made["created_at"]
    [listed] = json.loads(done("token", "list", "--json", "--data", data))
    assert {**listed, "secret": made["secret"]} == made
    done("token", "revoke", made["id"], "--data", data)
    assert "revoked" in done("token", "list", "--data", data)


def test_only_the_secret_goes_to_standard_output(data: Path) -> None:
    """So that TOKEN=$(carboy token create …) works; and nothing that is kept holds it."""
    result = carboy("token", "create", "--name", "ci", "--scope", "*:admin", "--data", data)
    secret = result.stdout.removesuffix("\n")
    assert result.exit_code == 0
    assert len(secret) >= 40
    assert not set(secret) & set(" \n")
    assert secret not in result.stderr
    assert secret not in done("token", "list", "--json", "--data", data)
    assert not any(secret.encode() in file.read_bytes() for file in data.rglob("*") if file.is_file())


@pytest.mark.parametrize("scope", ["main", "main:", ":read", "main:fly", "main:read,", ""])
def test_a_scope_that_means_nothing_is_refused(data: Path, scope: str) -> None:
    result = carboy("token", "create", "--name", "x", "--scope", scope, "--data", data)
    assert result.exit_code == 1
    assert "SPACE:ACTION" in result.stderr
    assert done("token", "list", "--data", data) == ""


def test_a_token_counts_in_the_running_server_until_it_is_revoked(server: ServerFactory) -> None:
    one = server()
    made = json.loads(done("token", "create", "--name", "reader", "--scope", "main:read", "--json", "--data", one.data))
    bearer = {"Authorization": f"Bearer {made['secret']}"}
    assert one.request("GET", "/files/main/", bearer).status == 200
    assert one.request("PUT", "/files/main/x", bearer, b"x").status == 403
    done("token", "revoke", made["id"], "--data", one.data)
    eventually(lambda: one.request("GET", "/files/main/", bearer).status == 401)


# --- upkeep --------------------------------------------------------------------------------------------------------


def blobs(data: Path) -> list[Path]:
    return sorted(path for path in (data / "blobs").rglob("*") if path.is_file())


def findings(data: Path, *flags: str) -> dict[str, Any]:
    result = carboy("fsck", "--json", "--data", data, *flags)
    report: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == (1 if report["findings"] else 0)
    return report


def test_sweep_frees_the_bytes_of_deleted_files(server: ServerFactory) -> None:
    one = server()
    assert one.request("PUT", "/files/main/kept", body=b"kept").status == 201
    assert one.request("PUT", "/files/main/gone", body=b"gone").status == 201
    assert one.request("DELETE", "/files/main/gone?permanent").status == 204
    swept = json.loads(done("sweep", "--json", "--data", one.data, env={"CARBOY_DELETE_GRACE": "0"}))
    assert swept["deleted"] == 1
    assert [path.read_bytes() for path in blobs(one.data)] == [b"kept"]


def test_fsck_finds_nothing_in_a_sound_store(server: ServerFactory) -> None:
    one = server()
    assert one.request("PUT", "/files/main/a", body=b"a" * 1000).status == 201
    report = findings(one.data, "--deep")
    assert (report["blobs"], report["bytes"], report["findings"]) == (1, 1000, [])
    assert "1 blobs, 1000 bytes" in done("fsck", "--data", one.data)


def test_fsck_adds_the_files_up(server: ServerFactory) -> None:
    one = server()
    assert one.request("PUT", "/files/main/a/b.txt", body=b"12345").status == 201
    with closing(sqlite3.connect(one.data / "catalog.sqlite3")) as catalog, catalog:
        catalog.execute("UPDATE folders SET bytes = 6")
    [finding] = findings(one.data)["findings"]
    assert (finding["kind"], finding["storage"], finding["key"], "a/" in finding["detail"]) == ("miscounted", "catalog", "", True)


def test_fsck_finds_what_is_missing_cut_damaged_and_unknown(server: ServerFactory) -> None:
    one = server()
    for name in ("missing", "cut", "damaged"):
        assert one.request("PUT", f"/files/main/{name}", body=name.encode() * 100).status == 201
    one.stop()
    by_name = {path.read_bytes()[:3]: path for path in blobs(one.data)}
    by_name[b"mis"].unlink()
    os.truncate(by_name[b"cut"], 5)
    by_name[b"dam"].write_bytes(b"DAMAGED" * 100)
    stray = one.data / "blobs" / "ab" / ("ab" * 16)
    stray.write_bytes(b"stray")

    shallow = {(each["kind"], each["key"]) for each in findings(one.data)["findings"]}
    assert shallow == {("missing", key(by_name[b"mis"])), ("cut", key(by_name[b"cut"])), ("orphan", key(stray))}
    deep = {(each["kind"], each["key"]) for each in findings(one.data, "--deep")["findings"]}
    assert deep - shallow == {("damaged", key(by_name[b"dam"]))}
    assert stray.exists(), "fsck changes nothing"


def key(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


# --- the server ----------------------------------------------------------------------------------------------------


def test_serve_says_where_it_is_answers_and_stops_when_asked(server: ServerFactory) -> None:
    one = server()
    assert one.request("GET", "/healthz").status == 200
    assert one.stop() == 0
    assert one.token not in one.log()


def test_a_killed_server_starts_again_on_the_same_data(server: ServerFactory) -> None:
    one = server()
    assert one.request("PUT", "/files/main/x", body=b"kept").status == 201
    one.kill()
    assert one.restart().request("GET", "/files/main/x").body == b"kept"


def test_the_first_token_is_written_for_its_owner_alone_and_not_logged(server: ServerFactory) -> None:
    one = server(env={"CARBOY_ADMIN_TOKEN": ""})
    file = one.data / "first-token"
    secret = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert secret not in one.log()
    assert one.request("GET", "/files/main/", {"Authorization": f"Bearer {secret}"}).status == 200
    one.restart()
    assert file.read_text().strip() == secret


def test_the_version_is_shown() -> None:
    assert done("--version").startswith("carboy 0.")
