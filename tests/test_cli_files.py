"""The commands for files, as an operator uses them: on this machine's data, beside a running server."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fixtures_server import Server, ServerFactory

from carboy.cli.main import main

CONFIG = """
[spaces]
main = { versions = 3 }
other = {}
home = { private = true }
brief = { trash = 0 }
capped = { quota = "1 kB" }
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a carboy.toml, an environment without CARBOY_ variables."""
    for name in [name for name in os.environ if name.startswith("CARBOY_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "carboy.toml").write_text(CONFIG)
    return tmp_path


def carboy(*args: str | Path, input: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args], input=input)


def done(*args: str | Path, input: bytes | None = None) -> str:
    """The standard output of a command that succeeds."""
    result = carboy(*args, input=input)
    assert result.exit_code == 0, result.output
    return result.stdout


def told(*args: str | Path, input: bytes | None = None) -> Any:
    return json.loads(done(*args, "--json", input=input))


def refused(*args: str | Path, input: bytes | None = None) -> str:
    """The one line that says why not."""
    result = carboy(*args, input=input)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def data(elsewhere: Path) -> Path:
    """A new, empty data folder where the commands look for it."""
    done("db", "upgrade")
    return elsewhere / "data"


@pytest.fixture
def live(elsewhere: Path, server: ServerFactory) -> Server:
    """A server on the same data."""
    return server(data=elsewhere / "data", args=["--config", str(elsewhere / "carboy.toml")])


def put(path: str, data: bytes = b"bytes", *more: str) -> dict[str, Any]:
    answer: dict[str, Any] = told("put", "-", path, *more, input=data)
    return answer


def paths(*args: str) -> list[str]:
    return [file["path"] for file in told("ls", "-r", *args)["files"]]


def test_what_is_put_is_served_and_what_was_sent_is_got(live: Server, elsewhere: Path) -> None:
    put("from/here", b"from here")
    assert live.request("GET", "/files/main/from/here").body == b"from here"
    assert live.request("PUT", "/files/main/from/there", body=b"from there").status == 201
    done("get", "from/there")
    assert (elsewhere / "there").read_bytes() == b"from there"


def test_put_takes_a_file_to_a_path_or_into_a_folder(data: Path, elsewhere: Path) -> None:
    (elsewhere / "local.txt").write_bytes(b"text")
    assert told("put", "local.txt", "a/b.txt", "-m", "from=disk")["metadata"] == {"from": "disk"}
    assert told("put", "local.txt", "a/")["path"] == "a/local.txt"
    assert told("put", "local.txt", "a/b.txt")["version"] == 1 + 1
    assert paths("a/") == ["a/b.txt", "a/local.txt"]
    assert "KEY=VALUE" in carboy("put", "local.txt", "c", "-m", "from").stderr
    assert "'..'" in refused("put", "local.txt", "a/../c")


def test_get_replaces_nothing_unless_told_and_gives_older_contents(data: Path, elsewhere: Path) -> None:
    put("a", b"first")
    put("a", b"second")
    done("get", "a")
    assert "already" in refused("get", "a")
    done("get", "a", "--version", "1", "--force")
    assert (elsewhere / "a").read_bytes() == b"first"
    assert CliRunner().invoke(main, ["get", "a", "-"]).stdout_bytes == b"second"
    assert "no version 7" in refused("get", "a", "b", "--version", "7")
    assert sorted(path.name for path in elsewhere.iterdir() if path.is_file()) == ["a", "carboy.toml"]


def test_ls_shows_folders_files_and_one_file(data: Path) -> None:
    for path in ("top", "a/one", "a/b/two"):
        put(path)
    listed = told("ls")
    assert (listed["folders"], [file["path"] for file in listed["files"]]) == (["a/"], ["top"])
    assert told("ls", "a/")["folders"] == ["a/b/"]
    assert paths() == ["a/b/two", "a/one", "top"]
    assert [file["path"] for file in told("ls", "a/one")["files"]] == ["a/one"]
    lines = done("ls").splitlines()
    assert lines[0].split() == ["a/"]
    assert lines[1].split()[0] == "5"
    assert "no file 'nowhere'" in refused("ls", "nowhere")
    assert "no space 'unknown'" in refused("ls", "--space", "unknown")


def test_stat_tells_all_and_names_can_not_harm_the_terminal(data: Path) -> None:
    made = put("a", b"first")
    put("a", b"second")
    seen = told("stat", "a")
    assert (seen["id"], seen["size"], seen["version"], [one["size"] for one in seen["versions"]]) == (made["id"], 6, 2, [5])
    put("right\u202eleft")
    assert "\u202e" not in done("ls")
    assert "\\u202e" in done("ls")


def test_mv_and_cp_take_files_and_folders(live: Server) -> None:
    first = put("a/one")
    assert told("mv", "a/one", "b/")["path"] == "b/one"
    assert told("stat", "b/one")["id"] == first["id"]
    assert told("cp", "b/one", "b/two")["id"] != first["id"]
    assert told("mv", "b/", "c/") == {"files": 2}
    assert told("cp", "c/", "d/", "--to-space", "other") == {"files": 2}
    assert (paths(), paths("--space", "other")) == (["c/one", "c/two"], ["d/one", "d/two"])
    assert "already" in refused("mv", "c/one", "c/two")
    assert told("mv", "c/one", "c/two", "--on-conflict", "rename")["path"] == "c/two (1)"
    assert live.request("GET", "/files/other/d/one").body == b"bytes"


def test_rm_puts_into_the_trash_and_trash_gives_back(live: Server) -> None:
    ids = {path: put(path)["id"] for path in ("a", "b", "f/c", "f/d")}
    done("rm", "a")
    assert carboy("rm", "f/").exit_code == 2
    assert told("rm", "f/", "b", "-r") == {"files": 3}
    assert paths() == []
    lying = told("trash", "list")
    assert {one["path"]: one["id"] for one in lying} == ids
    assert all(one["deleted_at"] < one["expires_at"] for one in lying)
    assert told("trash", "restore", ids["a"])["path"] == "a"
    assert told("trash", "restore", ids["b"], "--to", "again/b")["path"] == "again/b"
    assert told("trash", "purge", ids["f/c"]) == {"files": 1}
    assert told("trash", "purge", "--all") == {"files": 1}
    assert told("trash", "list") == []
    assert carboy("trash", "purge").exit_code == 2
    assert "no such file in the trash" in refused("trash", "restore", ids["f/c"])
    assert live.request("GET", "/files/main/again/b").body == b"bytes"


def test_what_goes_past_the_trash(data: Path) -> None:
    put("a")
    done("rm", "a", "--permanent")
    put("b", b"x", "--space", "brief")
    done("rm", "b", "--space", "brief")
    assert told("trash", "list") == told("trash", "list", "--space", "brief") == []


def test_tags_and_metadata_change(data: Path) -> None:
    put("a", b"x", "-m", "colour=red", "-m", "size=large")
    changed = told("tag", "a", "--add", "new", "--add", "blue", "--unset", "size", "--set", "colour=green")
    assert (sorted(changed["tags"]), changed["metadata"]) == (["blue", "new"], {"colour": "green"})
    assert told("tag", "a", "--remove", "new")["tags"] == ["blue"]
    assert done("tag", "a").splitlines() == ["tags      blue", "metadata  colour=green"]


def test_a_private_space_is_seen_whole_or_as_one_owner(data: Path) -> None:
    put("a", b"anns", "--space", "home", "--owner", "ann")
    put("a", b"bobs", "--space", "home", "--owner", "bob")
    assert paths("--space", "home") == ["ann/a", "bob/a"]
    assert paths("--space", "home", "--owner", "ann") == ["a"]
    assert told("stat", "a", "--space", "home", "--owner", "bob")["owner"] == "bob"


def test_a_link_leads_to_its_file_until_it_is_revoked(data: Path) -> None:
    put("a", b"shared")
    made = told("link", "create", "a", "--name", "for ann", "--expires", "1h", "--max-uses", "9")
    assert made["address"].startswith("/s/")
    assert (made["state"], made["max_uses"], made["file_id"]) == ("active", 9, told("stat", "a")["id"])
    assert [one["id"] for one in told("link", "list")] == [made["id"]]
    assert "for ann" in done("link", "list")
    assert done("link", "create", "f/", "--inbox", "--max-size", "5 MB").startswith("/s/")
    done("link", "revoke", made["id"])
    assert {one["id"]: one["state"] for one in told("link", "list")}[made["id"]] == "revoked"
    assert "not a size" in carboy("link", "create", "a", "--max-size", "large").stderr
    assert "no such link" in refused("link", "revoke", "unknown")


def test_usage_and_quotas(data: Path) -> None:
    put("a", b"x" * 600, "--space", "capped")
    assert told("usage", "capped")["capped"] == {"files": 1, "bytes": 600, "older": 0, "trash": 0, "total": 600, "quota": 1000, "free": 400}
    assert "1000 bytes" in refused("put", "-", "b", "--space", "capped", input=b"x" * 600)
    assert "capped               1 files, 600 bytes of 1000" in done("usage")
    put("c", b"123", "--owner", "ann")
    assert told("usage", "main", "--owner", "ann")["main"]["total"] == 3


def test_the_audit_log_tells_who_did_what(live: Server) -> None:
    assert live.request("PUT", "/files/main/by-token", body=b"x").status == 201
    made = put("by-hand")
    done("rm", "by-hand")
    entries = [json.loads(line) for line in done("audit", "--json").splitlines()]
    assert [(one["action"], one["path"], one["kind"]) for one in entries if one["path"]] == [
        ("file.trash", "by-hand", "trusted"), ("file.create", "by-hand", "trusted"), ("file.create", "by-token", "token")]
    assert len(done("audit", "--file", made["id"]).splitlines()) == 2
    assert len(done("audit", "--limit", "1").splitlines()) == 1
    assert done("audit", "--action", "file.move") == ""
    assert len(done("audit", "--since", "1h", "--space", "main", "--limit", "0").splitlines()) == 3
