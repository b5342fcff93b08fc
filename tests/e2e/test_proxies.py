"""What deploy/ ships, really run: nginx and Caddy before the server, systemd's unit and the image as far as this machine lets them."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import proxies
import pytest
import wire
from fixtures_server import Server, ServerFactory, eventually
from proxies import DEPLOY, program

ROOT = DEPLOY.parent


@contextmanager
def proxied(kind: str, one: Server, folder: Path) -> Iterator[str]:
    with (proxies.nginx if kind == "nginx" else proxies.caddy)(one, folder) as url:
        yield url


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for the tests of this module."""
    server = Server(tmp_path_factory.mktemp("proxies") / "data").start()
    yield server
    server.stop()
    server.must_be_sound()


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def proxy(request: pytest.FixtureRequest, one: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a proxy before it."""
    with proxied(request.param, one, tmp_path_factory.mktemp("proxy") / "run") as url:
        yield url


def on_disk(one: Server) -> int:
    return max((path.stat().st_size for path in (one.data / "blobs").glob("*/*")), default=0)


# --- nginx and Caddy -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
def test_half_a_body_arrives_before_the_rest_is_sent(server: ServerFactory, tmp_path: Path, chunked: bool) -> None:
    for kind in ("nginx", "caddy"):
        one = server()
        data = os.urandom(8_000_000)
        with proxied(kind, one, tmp_path / f"{kind}-{chunked}") as url, wire.Connection(url) as connection:
            framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(data))}
            connection.send(wire.head("PUT", "/files/main/film", {**one.auth, **framing}))
            half = len(data) // 2
            if chunked:
                connection.chunk(data[:half])
            else:
                connection.send(data[:half])
            eventually(lambda one=one: on_disk(one) > 3_000_000)  # type: ignore[misc]
            if chunked:
                connection.chunk(data[half:])
                connection.chunk(b"")
            else:
                connection.send(data[half:])
            assert connection.response("PUT").status == 201
            assert connection.request("GET", "/files/main/film", one.auth).body == data


def test_a_large_body_and_what_is_fetched_of_it(proxy: str, one: Server) -> None:
    data = os.urandom(24_000_000)
    target = f"/files/main/{hashlib.sha256(data).hexdigest()}"
    with wire.Connection(proxy) as connection:
        put = connection.request("PUT", target, one.auth, data)
        assert put.status == 201
        got = connection.request("GET", target, {**one.auth, "Accept-Encoding": "gzip"})
        direct = one.request("GET", target)
        assert got.body == direct.body == data
        for name in ("ETag", "Last-Modified", "Content-Type", "Content-Disposition", "Content-Security-Policy", "X-Content-Type-Options", "Vary"):
            assert got.header(name) == direct.header(name), name
        assert got.header("X-Request-ID")
        part = connection.request("GET", target, {**one.auth, "Range": "bytes=5000000-", "If-Range": got.header("ETag") or ""})
        assert (part.status, part.body) == (206, data[5_000_000:])
        assert connection.request("GET", target, {**one.auth, "If-None-Match": got.header("ETag") or ""}).status == 304
        assert connection.request("HEAD", target, one.auth).header("Content-Length") == str(len(data))


def test_addresses_come_through_as_they_were_sent(proxy: str, one: Server) -> None:
    for name in ("a%20b%2Bc", "%C3%BC", "semi%3Bcolon", "100%25", "double%2F%2Fslash", "q%3Fm"):
        through, direct = (wire.request(url, "PUT", f"/files/main/{name}", one.auth, b"x") for url in (proxy, one.url))
        assert through.status in (200, 201, 400)
        assert through.json().get("path") == direct.json().get("path"), name


def test_a_refusal_comes_before_the_body(proxy: str) -> None:
    """And is Carboy's own; the client doesn't send 100 MB for nothing. Caddy hands it on once another piece of the body comes."""
    with wire.Connection(proxy) as connection:
        connection.send(wire.head("PUT", "/files/main/x", {"Authorization": "Bearer wrong", "Content-Length": "100000000"}) + bytes(1000))
        for _ in range(600):
            if select.select([connection.socket], [], [], 0.1)[0]:
                break
            connection.send(bytes(1000))
        answer = connection.response("PUT")
    assert (answer.status, answer.json()["code"]) == (401, "unauthenticated")


def test_nginx_sends_downloads_itself(server: ServerFactory, tmp_path: Path) -> None:
    one = server(env={"CARBOY_ACCEL": "x-accel-redirect"})
    data = os.urandom(12_000_000)
    with proxies.nginx(one, tmp_path / "nginx") as url:
        stored = wire.request(url, "PUT", "/files/main/a b.html".replace(" ", "%20"), one.auth, data).json()
        got = wire.request(url, "GET", "/files/main/a%20b.html", one.auth)
        assert (got.status, got.body) == (200, data)
        assert "X-Accel-Redirect" in dict(one.request("GET", "/files/main/a%20b.html").headers)
        assert got.header("ETag") == stored["etag"]
        assert got.header("X-Accel-Redirect") is None
        assert got.header("Content-Security-Policy") == "default-src 'none'; sandbox"
        assert got.header("X-Content-Type-Options") == "nosniff"
        assert got.header("X-Request-ID")
        assert (got.header("Content-Disposition") or "").startswith(("attachment", "inline"))
        part = wire.request(url, "GET", "/files/main/a%20b.html", {**one.auth, "Range": "bytes=1000000-1999999", "If-Range": stored["etag"]})
        assert (part.status, part.body) == (206, data[1_000_000:2_000_000])
        changed = wire.request(url, "GET", "/files/main/a%20b.html", {**one.auth, "Range": "bytes=1000000-1999999", "If-Range": '"other"'})
        assert (changed.status, len(changed.body)) == (200, len(data))
        assert wire.request(url, "GET", "/_carboy/00/anything", one.auth).status == 404


def test_nginx_logs_neither_queries_nor_the_secrets_of_links(one: Server, tmp_path: Path) -> None:
    with proxies.nginx(one, tmp_path / "nginx") as url:
        for target in ("/s/hidden/file?password=hidden", "/files/main/seen?token=hidden"):
            wire.request(url, "GET", target, {**one.auth, "Referer": "http://example.org/s/hidden"})
        log = tmp_path / "nginx/access.log"
        eventually(lambda: log.read_text().count("\n") == 2)
    assert "hidden" not in log.read_text()
    assert "/files/main/seen" in log.read_text()


# --- systemd -------------------------------------------------------------------------------------------------------


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, starting the program that is here."""
    carboy = Path(sys.executable).with_name("carboy")
    text = proxies.replaced((DEPLOY / "carboy.service").read_text(), {"ExecStart=/opt/carboy/bin/carboy": f"ExecStart={carboy}"})
    (tmp_path / "carboy.service").write_text(text)
    return tmp_path / "carboy.service"


def test_systemd_takes_the_unit(unit: Path) -> None:
    done = subprocess.run([program("systemd-analyze"), "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "carboy.service" in line]) == (0, [])


def test_the_unit_leaves_little_exposed(unit: Path) -> None:
    """By systemd's own count, where 10 is everything and 0 nothing."""
    done = subprocess.run([program("systemd-analyze"), "security", "--offline=true", "--threshold=20", str(unit)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_the_server_makes_no_system_call_that_the_unit_forbids(server: ServerFactory, tmp_path: Path) -> None:
    """Start, upload, download, a new worker and the end, counted by strace."""
    strace, analyze = program("strace"), program("systemd-analyze")
    allowed = calls(analyze, "@system-service") - calls(analyze, "@privileged")
    if not allowed:
        pytest.skip("systemd-analyze names no system calls here")
    counts, one = tmp_path / "counts", server(start=False)
    one._command[:0] = [strace, "-f", "-qq", "-c", "-o", str(counts)]
    one.start()
    assert one.request("PUT", "/files/main/a", body=bytes(3_000_000)).status == 201
    assert len(one.request("GET", "/files/main/a").body) == 3_000_000
    arbiter, = one.workers()
    os.kill(arbiter, 15)
    eventually(lambda: not one.running)
    used = {line.split()[-1] for line in counts.read_text().splitlines()[2:] if "---" not in line} - {"total"}
    as_root = {"fchown"}  # SQLite's, where it runs as root only
    assert {"openat", "fdatasync", "accept4"} <= used
    assert used - allowed <= as_root


def calls(analyze: str, name: str) -> set[str]:
    """The system calls of systemd's set of this name."""
    told = subprocess.run([analyze, "syscall-filter", name], capture_output=True, text=True, timeout=60).stdout
    members = {line.strip() for line in told.splitlines()[1:]} - {""}
    return {one for member in members if not member.startswith("#") for one in (calls(analyze, member) if member.startswith("@") else {member})}


# --- the image -----------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, lines that go on joined."""
    text = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text())
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def test_the_image_runs_as_a_user_of_its_own_and_keeps_its_data_in_a_volume() -> None:
    found = instructions()
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in found} <= known
    last = dict(found)
    assert last["USER"] == "carboy"
    assert last["VOLUME"] == "/srv/carboy"
    assert "CARBOY_DATA=/srv/carboy" in last["ENV"]
    assert (last["ENTRYPOINT"], last["CMD"]) == ('["carboy"]', '["serve"]')
    assert [base for name, base in found if name == "FROM"] == ["python:3.13-slim AS build", "python:3.13-slim"]


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    copied = [source for name, rest in instructions() if name == "COPY" and "--from" not in rest for source in rest.split()[:-1]]
    assert "requirements.lock" in copied
    for source in copied:
        assert (ROOT / source).exists()
        taken = [rule for rule in rules if fnmatch.fnmatch(source, rule.lstrip("!"))]
        assert taken[-1].startswith("!"), source
    assert not any(fnmatch.fnmatch("data", rule[1:]) for rule in rules if rule.startswith("!"))


def test_the_images_health_check_tells_a_server_that_answers_from_one_that_does_not(one: Server) -> None:
    check = dict(instructions())["HEALTHCHECK"].partition("CMD ")[2]
    _, *command = json.loads(check)
    port = one.url.rpartition(":")[2]
    codes = [subprocess.run([sys.executable, *command], env={**os.environ, "CARBOY_PORT": each}, capture_output=True, timeout=60).returncode
             for each in (port, str(proxies.free_port()))]
    assert codes == [0, 1]


def test_the_image_is_built_and_serves(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "info"], capture_output=True).returncode:
        pytest.skip("NOT TESTED: there is no docker daemon")
    subprocess.run([docker, "build", "--tag", "carboy-test", "--file", str(DEPLOY / "Dockerfile"), str(ROOT)], check=True, capture_output=True)
    done = subprocess.run([docker, "run", "--rm", "carboy-test", "--version"], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("carboy ")
