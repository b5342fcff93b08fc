"""A server with a space for every rule and people with every kind of right: ``site``, shared by all tests over HTTP.

Tests use names of their own in it. After each test its log must hold no traceback and no secret.
"""

from __future__ import annotations

import json
import os
import re
import select
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

import pytest
import wire
from fixtures_postgres import PostgresServer
from fixtures_s3 import S3Server
from fixtures_server import USED, Server

CONFIG = """
classic = "tutorial"

[spaces]
tutorial = {}
images = { accept = ["image/*"] }
papers = { accept = ["text/plain", "application/pdf"] }
small = { max_size = "1 KiB" }
kept = { versions = 2 }
twins = { on_conflict = "rename" }
once = { on_conflict = "refuse" }
home = { private = true }
shop = { public = "read" }
inbox = { public = "write" }
vault = {}
"""

ALL = "read,write,delete"
OPEN = ["main", "tutorial", "images", "papers", "small", "kept", "twins", "once", "home", "shop", "inbox"]
PEOPLE: Mapping[str, list[str]] = {
    "ann": [f"{space}:{ALL}" for space in OPEN],
    "bob": [f"{space}:{ALL}" for space in OPEN],
    "carl": [f"{space}:{ALL}" for space in OPEN],
    "reader": [f"{space}:read" for space in OPEN],
    "writer": [f"{space}:write" for space in OPEN],
    "keeper": ["vault:admin"],
    "stranger": ["elsewhere:read,write,delete,admin"],
}
"""Who has which scopes. Nobody but ``keeper`` and ``admin`` has any in the space ``vault``, ``stranger`` none in any space. ``carl`` appears in
transcripts alone, so that lists of what is his are short."""

PIECE = 2**18


class Site:
    """A server, its people, and what it has kept."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.secrets = {"admin": server.token}
        self.ids: dict[str, str] = {}

    def settle(self) -> Site:
        """Give everybody a token."""
        for name, scopes in PEOPLE.items():
            made = self.ask("POST", "/api/v1/tokens", body=json.dumps({"name": name, "scopes": scopes}).encode())
            assert made.status == 201, made
            self.secrets[name], self.ids[name] = made.json()["secret"], made.json()["id"]
        return self

    # --- asking ---

    def auth(self, who: str = "admin") -> dict[str, str]:
        return {} if who == "nobody" else {"Authorization": f"Bearer {self.secrets[who]}"}

    def ask(self, method: str, target: str, headers: wire.Headers = (), body: bytes | None = None, *, who: str = "admin") -> wire.Response:
        """One request on a connection of its own."""
        return wire.request(self.server.url, method, target, self.fields(who, headers), body)

    def fields(self, who: str, headers: wire.Headers = ()) -> list[tuple[str, str]]:
        return [*self.auth(who).items(), *(headers.items() if isinstance(headers, Mapping) else headers)]

    def pour(self, method: str, target: str, headers: wire.Headers, pieces: Iterable[bytes], *, who: str = "admin") -> wire.Response:
        """A body of any size, sent until it ends or the server answers: real clients stop then, too."""
        with self.server.connect() as connection:
            connection.send(wire.head(method, target, self.fields(who, headers)))
            for piece in pieces:
                if select.select([connection.socket], [], [], 0)[0]:
                    break
                with suppress(ConnectionError):
                    connection.send(piece)
            return connection.response(method)

    def form(self, target: str, parts: Iterable[bytes], headers: Mapping[str, str] | None = None, *, who: str = "admin") -> wire.Response:
        return self.ask("POST", target, {"Content-Type": FORM, **(headers or {})}, multipart(*parts), who=who)

    def content(self, target: str, *, who: str = "admin") -> bytes:
        """What a GET gives; it must succeed."""
        answer = self.ask("GET", target, who=who)
        assert answer.status == 200, answer
        return answer.body

    def paths(self, space: str, prefix: str = "", *, who: str = "admin") -> list[str]:
        """The paths of a space's first thousand files."""
        answer = self.ask("GET", f"/api/v1/files?space={space}&prefix={prefix}&limit=1000", who=who)
        return [file["path"] for file in answer.json()["files"]]

    # --- looking behind it ---

    def kept(self) -> tuple[frozenset[str], tuple[tuple[str, int], ...]]:
        """Everything that a request could leave: the blobs on disk, and the number of rows of each table."""
        return self.blobs(), self.rows()

    def must_be_as(self, before: tuple[frozenset[str], tuple[tuple[str, int], ...]]) -> None:
        """Nothing was left and nothing went since ``kept`` gave this."""
        blobs, rows = self.kept()
        assert (sorted(blobs - before[0]), sorted(before[0] - blobs)) == ([], [])
        assert rows == before[1]

    def blobs(self) -> frozenset[str]:
        root = self.server.data / "blobs"
        return frozenset(str(path.relative_to(root)) for path in root.glob("*/*"))

    def rows(self) -> tuple[tuple[str, int], ...]:
        with closing(sqlite3.connect(f"file:{self.server.data / 'catalog.sqlite3'}?mode=ro", uri=True)) as catalog:
            names = [name for name, in catalog.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
            return tuple((name, catalog.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0])
                         for name in names if not name.startswith(("instances", "texts", "unread")))  # upkeep changes these

    def cpu(self) -> float:
        """Seconds of processor time that the server has used so far, in all its processes."""
        ticks = 0
        for pid in [self.server.pid, *self.server.workers()]:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def must_keep_its_secrets(self, since: int = 0) -> None:
        told = self.server.log()[since:]
        for name, secret in self.secrets.items():
            assert secret not in told, f"the token of {name} is in the log"


# --- forms ---

BOUNDARY = "----carboy-test"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def field(name: str, value: str | bytes | int) -> bytes:
    """A text field of a form."""
    data = value if isinstance(value, bytes) else str(value).encode()
    return f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + data


def file(name: str, filename: str | bytes, data: bytes = b"", *extra: str) -> bytes:
    """A file of a form; ``extra`` are further header lines of the part."""
    shown = filename if isinstance(filename, bytes) else filename.encode()
    lines = [b'Content-Disposition: form-data; name="' + name.encode() + b'"; filename="' + shown + b'"',
             b"Content-Type: application/octet-stream", *(line.encode() for line in extra), b"", data]
    return b"\r\n".join(lines)


def multipart(*parts: bytes) -> bytes:
    mark = f"--{BOUNDARY}".encode()
    return b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"


# --- fixtures ---


@pytest.fixture(scope="session")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "carboy.toml").write_text(CONFIG)
    server = Server(folder / "data", args=["--config", str(folder / "carboy.toml")])
    site = Site(server.start()).settle()
    yield site
    if server.running:
        server.stop()
    server.must_be_sound()
    site.must_keep_its_secrets()


@pytest.fixture
def site(request: pytest.FixtureRequest, shared_site: Site) -> Iterator[Site]:
    """The shared server, whose log must stay sound under this test."""
    yield from _watched(request, shared_site)


@pytest.fixture(scope="session")
def shared_postgres_site(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("postgres-site")
    (folder / "carboy.toml").write_text(CONFIG)
    where = {"CARBOY_DATABASE": postgres_server.new_database()}
    env = {**{name: value for name, value in os.environ.items() if not name.startswith("CARBOY_")}, **where}
    subprocess.run([sys.executable, "-m", "carboy.cli.main", "db", "upgrade", "--data", str(folder / "data")], check=True, env=env, cwd=folder)
    server = Server(folder / "data", args=["--config", str(folder / "carboy.toml")], env=where, workers=2)
    yield Site(server.start()).settle()
    if server.running:
        server.stop()
    server.must_be_sound()


@pytest.fixture(scope="session")
def shared_s3_site(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("s3-site")
    (folder / "carboy.toml").write_text(f"""{_in_bucket(CONFIG)}
main = {{ storage = "bulk" }}

[storages.bulk]
bucket = "{s3_server.new_bucket()}"
endpoint = "{s3_server.endpoint}"
region = "{s3_server.region}"
style = "path"
""")
    server = Server(folder / "data", args=["--config", str(folder / "carboy.toml")], env=s3_server.env, workers=2)
    yield Site(server.start()).settle()
    if server.running:
        server.stop()
    server.must_be_sound()


def _in_bucket(config: str) -> str:
    """The same spaces, kept in the storage ``bulk``."""
    return re.sub(r"^(\w+ = \{)(?= *(.?))", lambda found: f'{found[1]} storage = "bulk"{"" if found[2] == "}" else ","}', config, flags=re.MULTILINE)


@pytest.fixture
def s3_site(request: pytest.FixtureRequest, shared_s3_site: Site) -> Iterator[Site]:
    """The same with all spaces in a bucket of a real S3 server, and two workers."""
    yield from _watched(request, shared_s3_site)


@pytest.fixture
def postgres_site(request: pytest.FixtureRequest, shared_postgres_site: Site) -> Iterator[Site]:
    """The same on PostgreSQL, with two workers."""
    yield from _watched(request, shared_postgres_site)


def _watched(request: pytest.FixtureRequest, site: Site) -> Iterator[Site]:
    request.node.stash.setdefault(USED, []).append(site.server)
    since = len(site.server.log())
    yield site
    site.server.must_be_sound(since)
    site.must_keep_its_secrets(since)
