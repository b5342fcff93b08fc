"""What people type: curl against the real server."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_server import ServerFactory
from fixtures_site import Site

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="NOT TESTED: curl is not installed")

MIB = 2**20


class Answer:
    """What curl says after its body: the status, and how many bytes went each way."""

    def __init__(self, out: bytes) -> None:
        body, _, told = out.rpartition(b"\n")
        self.body = body
        self.status, self.sent, self.received = (int(number) for number in told.split())


Curl = Callable[..., Answer]


@pytest.fixture
def curl(site: Site, tmp_path: Path) -> Curl:
    """``curl ARGUMENTS`` in a folder of the test's own, with Ann's token; the last argument is the address without the server."""

    def run(*arguments: str, stdin: bytes | None = None) -> Answer:
        *options, target = arguments
        command = ["curl", "-q", "-sS", "--max-time", "60", "-H", f"Authorization: Bearer {site.secrets['ann']}",
                   "-w", "\n%{http_code} %{size_upload} %{size_download}", *options, site.server.url + target]
        done = subprocess.run(command, cwd=tmp_path, input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        return Answer(done.stdout)

    return run


def make(folder: Path, name: str, size: int) -> bytes:
    data = random.Random(name).randbytes(size)
    (folder / name).write_bytes(data)
    return data


def test_up_and_down(curl: Curl, tmp_path: Path) -> None:
    """-T appends the file's name to an address that ends with a slash."""
    data = make(tmp_path, "film.mkv", 5 * MIB + 3)
    up = curl("-T", "film.mkv", "/files/main/curl/")
    assert (up.status, json.loads(up.body)["path"], up.sent) == (201, "curl/film.mkv", len(data))
    assert curl("-T", "film.mkv", "/files/main/curl/").status == 200
    assert curl("-o", "back.mkv", "/files/main/curl/film.mkv").status == 200
    assert (tmp_path / "back.mkv").read_bytes() == data


@pytest.mark.parametrize("have", [0, 1, 2 * MIB, 4 * MIB - 1])
def test_a_download_is_resumed(curl: Curl, tmp_path: Path, have: int) -> None:
    """-C - asks for what is missing, and only that comes."""
    data = make(tmp_path, "film.mkv", 4 * MIB)
    curl("-T", "film.mkv", "/files/main/curl/resumed.mkv")
    (tmp_path / "part.mkv").write_bytes(data[:have])
    down = curl("-C", "-", "-o", "part.mkv", "/files/main/curl/resumed.mkv")
    assert (down.status, down.received) == (206 if have else 200, len(data) - have)
    assert (tmp_path / "part.mkv").read_bytes() == data


def test_a_download_that_was_killed_is_resumed(curl: Curl, site: Site, tmp_path: Path) -> None:
    data = make(tmp_path, "film.mkv", 8 * MIB)
    curl("-T", "film.mkv", "/files/main/curl/killed.mkv")
    slow = subprocess.Popen(["curl", "-q", "-sS", "-N", "--limit-rate", "2M", "-H", f"Authorization: Bearer {site.secrets['ann']}",
                             site.server.url + "/files/main/curl/killed.mkv"], stdout=subprocess.PIPE)
    assert slow.stdout
    (tmp_path / "part.mkv").write_bytes(slow.stdout.read(MIB))
    slow.kill()
    slow.stdout.close()
    slow.wait()
    assert curl("-C", "-", "-o", "part.mkv", "/files/main/curl/killed.mkv").status == 206
    assert (tmp_path / "part.mkv").read_bytes() == data


def test_from_a_pipe(curl: Curl) -> None:
    """-T - is a body of unknown length."""
    up = curl("-T", "-", "/files/main/curl/pipe.bin", stdin=b"x" * 300_000)
    assert (up.status, json.loads(up.body)["size"]) == (201, 300_000)


def test_a_form(curl: Curl, tmp_path: Path) -> None:
    """-F, with several files, fields, another name, an empty file and one from a pipe."""
    for name, size in [("one.bin", 1000), ("two.bin", 2 * MIB), ("empty.bin", 0)]:
        make(tmp_path, name, size)
    up = curl("-F", "title=Summer", "-F", "files=@one.bin", "-F", "files=@two.bin;filename=zwei.bin", "-F", "files=@empty.bin",
              "-F", "files=@-;filename=pipe.bin", "-F", "note=é ü", "/files/main/curl/form/", stdin=b"piped")
    assert up.status == 201
    files = {file["name"]: file for file in json.loads(up.body)["files"]}
    assert {name: file["size"] for name, file in files.items()} == {"one.bin": 1000, "zwei.bin": 2 * MIB, "empty.bin": 0, "pipe.bin": 5}
    assert all(file["metadata"] == {"title": "Summer", "note": "é ü"} for file in files.values())
    assert curl("-o", "back", "/files/main/curl/form/zwei.bin").status == 200
    assert (tmp_path / "back").read_bytes() == (tmp_path / "two.bin").read_bytes()


def test_the_tutorials_form(curl: Curl, tmp_path: Path) -> None:
    make(tmp_path, "photo.jpg", 70_000)
    for address in ("/upload", "/stream-upload"):
        up = curl("-F", "file=@photo.jpg", address)
        assert (up.status, json.loads(up.body)) == (200, {"message": "File photo.jpg uploaded successfully"})


def test_too_large_is_told_before_a_byte_is_sent(curl: Curl, tmp_path: Path) -> None:
    """curl waits for 100 Continue before a large body, and gets 413 instead."""
    make(tmp_path, "large.bin", 4 * MIB)
    up = curl("-T", "large.bin", "-H", "Expect: 100-continue", "--expect100-timeout", "60", "/files/small/")
    assert (up.status, up.sent) == (413, 0)
    assert json.loads(up.body)["limit"] == 1024


def test_too_large_is_told_to_who_does_not_wait(curl: Curl, tmp_path: Path) -> None:
    make(tmp_path, "large.bin", 16 * MIB)
    up = curl("-T", "large.bin", "-H", "Expect:", "/files/small/")
    assert (up.status, json.loads(up.body)["limit"]) == (413, 1024)
    form = curl("-F", "file=@large.bin", "-H", "Expect:", "/files/small/")
    assert (form.status, json.loads(form.body)["limit"]) == (413, 1024)


def test_names_as_curl_writes_them(curl: Curl, tmp_path: Path) -> None:
    """-T encodes the name for the address, -F writes it into the form, and -OJ takes it from the answer."""
    for name in ("with space.txt", "100%.txt", "été.txt", "a+b&c=d.txt"):
        (tmp_path / name).write_bytes(name.encode())
        assert json.loads(curl("-T", name, "/files/main/curl/names/").body)["name"] == name
        assert json.loads(curl("-F", f"file=@{name}", "/files/main/curl/forms/").body)["files"][0]["name"] == name
    (tmp_path / "with space.txt").unlink()
    assert curl("-OJ", "/files/main/curl/names/with%20space.txt").status == 200
    assert (tmp_path / "with space.txt").read_bytes() == b"with space.txt"


def test_parts_heads_conditions_and_deletes(curl: Curl, tmp_path: Path) -> None:
    data = make(tmp_path, "a.bin", 10_000)
    etag = json.loads(curl("-T", "a.bin", "/files/main/curl/").body)["etag"]
    assert curl("-r", "100-199", "/files/main/curl/a.bin").body == data[100:200]
    assert curl("-r", "-50", "/files/main/curl/a.bin").body == data[-50:]
    assert curl("-r", "10000-", "/files/main/curl/a.bin").status == 416
    assert f"ETag: {etag}".encode() in curl("-I", "/files/main/curl/a.bin").body
    assert curl("-H", f"If-None-Match: {etag}", "/files/main/curl/a.bin").status == 304
    assert curl("-X", "DELETE", "/files/main/curl/a.bin").status == 204
    assert curl("/files/main/curl/a.bin").status == 404


def test_many_at_once(curl: Curl, site: Site, tmp_path: Path) -> None:
    """-Z: twenty files, eight at a time, over shared connections."""
    contents = {f"{number:02}.bin": make(tmp_path, f"{number:02}.bin", 50_000 * number) for number in range(20)}
    arguments = [word for name in contents for word in ("-T", name, f"{site.server.url}/files/main/curl/many/")]
    done = subprocess.run(["curl", "-q", "-sS", "-Z", "--parallel-max", "8", "-H", f"Authorization: Bearer {site.secrets['ann']}", *arguments],
                          cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert {name: site.content(f"/files/main/curl/many/{name}") for name in contents} == contents


def test_all_of_it_is_there_after_a_restart_and_sound(server: ServerFactory, tmp_path: Path) -> None:
    """Files, versions, tokens and uploads under way; and fsck finds nothing amiss."""
    (tmp_path / "carboy.toml").write_text("[spaces]\nkept = { versions = 3 }\n")
    one = server(args=["--config", str(tmp_path / "carboy.toml")])
    made = one.request("POST", "/api/v1/tokens", body=b'{"name": "a", "scopes": ["kept:read,write"]}').json()
    bearer = ["-q", "-sS", "-H", f"Authorization: Bearer {made['secret']}"]
    for turn in range(3):
        make(tmp_path, "v.bin", 100_000 + turn)
        subprocess.run(["curl", *bearer, "-T", "v.bin", f"{one.url}/files/kept/"], cwd=tmp_path, check=True, capture_output=True)
    chunk = ["-F", "file_id=later", "-F", "index=0", "-F", "offset=0", "-F", "total=200000", "-F", "chunk=@v.bin"]
    subprocess.run(["curl", "-q", "-sS", "-H", f"Authorization: Bearer {one.token}", *chunk, f"{one.url}/chunk-upload"], cwd=tmp_path, check=True,
                   capture_output=True)
    one.restart()
    back = subprocess.run(["curl", *bearer, f"{one.url}/files/kept/v.bin"], cwd=tmp_path, check=True, capture_output=True)
    assert back.stdout == (tmp_path / "v.bin").read_bytes()
    assert len(one.request("GET", "/files/kept/v.bin?version=1").body) == 100_000
    [upload] = one.request("GET", "/api/v1/uploads").json()["uploads"]
    assert upload["missing"] == [[100_002, 200_000]]
    env = {name: value for name, value in os.environ.items() if not name.startswith("CARBOY_")}
    found = subprocess.run([sys.executable, "-m", "carboy.cli.main", "fsck", "--deep", "--data", str(one.data)], env=env, cwd=tmp_path,
                           capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
