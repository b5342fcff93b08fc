"""A catalog that the first Carboy filled (schema 0001) goes on in this one: every row, every byte, and sums that are right from the start."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from fixtures_postgres import PostgresServer
from fixtures_server import Server

from carboy import checksums
from carboy.catalog import schema
from carboy.catalog.sql import open_catalog
from carboy.model import Filter, key_for, new_id

TOKEN, TOKEN_ID = "the-token-of-the-first-carboy-0123456789", "0" * 32
CONFIG = """
classic = "chunked"

[spaces]
chunked = {}
main = { versions = 5 }
photos = { quota = "1 kB", owner_quota = "600 B" }
"""


class Before:
    """A data folder and a catalog of schema 0001, filled by hand: no code of today made a row of it."""

    def __init__(self, data: Path, url: str) -> None:
        self.data, self.url = data, url
        self.contents: dict[tuple[str, str], bytes] = {}
        self.ids: dict[tuple[str, str], str] = {}
        data.mkdir()
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(Path(schema.__file__).with_name("migrations")).replace("%", "%%"))
            config.attributes["connection"] = connection
            command.upgrade(config, "0001")
        assert "folders" not in sa.inspect(engine).get_table_names()
        with engine.begin() as connection:
            self._fill(connection)
        engine.dispose()

    def _fill(self, connection: sa.Connection) -> None:
        for number in range(40):
            self._file(connection, "main", f"a/b{number % 3}/{number}.txt", b"%d" % number * (number + 1), owner=("ann", "bob", None)[number % 3])
        self._file(connection, "main", "top", b"the current one", owner="ann", older=[b"the first", b"the second one"])
        self._file(connection, "main", "a.folder/x", b"between a and a/", owner=None)
        self._file(connection, "photos", "sunset", b"s" * 500, owner="ann", metadata={"title": "Sonnenuntergang \U0001f305", "n": [1, None]})
        self._upload(connection)
        self._add(connection, "tokens", id=TOKEN_ID, name="first", secret_sha256=hashlib.sha256(TOKEN.encode()).digest(),
                  scopes=json.dumps({"*": ["admin"]}), created_at=1.0, expires_at=None, revoked_at=None)
        self._add(connection, "condemned", storage="local", key=key_for(new_id()), since=1.0)

    def _file(self, connection: sa.Connection, space: str, path: str, data: bytes, *, owner: str | None, older: Sequence[bytes] = (),
              metadata: Mapping[str, Any] = {}) -> None:
        id = self.ids[space, path] = new_id()
        self.contents[space, path] = data
        blobs = [self._blob(connection, each) for each in [*older, data]]
        self._add(connection, "files", id=id, space=space, path=path, owner=owner, media_type="text/plain", metadata=json.dumps(metadata),
                  blob_id=blobs[-1], version=len(blobs), created_at=1000.0, modified_at=1000.0 + len(self.ids))
        for number, blob in enumerate(blobs[:-1], 1):
            self._add(connection, "versions", file_id=id, number=number, blob_id=blob, media_type="text/plain", created_at=1000.0)

    def _blob(self, connection: sa.Connection, data: bytes) -> str:
        id = new_id()
        self._bytes(id, data)
        self._add(connection, "blobs", id=id, storage="local", key=key_for(id), size=len(data), sha256=None, created_at=1000.0,
                  crc64nvme=checksums.crc64nvme(data).to_bytes(8, "big"))
        return id

    def _upload(self, connection: sa.Connection) -> None:
        """Half of one is there."""
        id = new_id()
        self._bytes(id, b"first half")
        self._add(connection, "uploads", id=id, space="chunked", path="later.txt", owner=TOKEN_ID, protocol="classic", storage="local", key=key_for(id),
                  state="receiving", name="classic:later.txt", size=20, chunk_size=10, media_type=None, metadata="{}", driver_state="{}", if_match=None,
                  created_at=1000.0, touched_at=1000.0, expires_at=4e9, file_id=None, failure=None)
        self._add(connection, "spans", upload_id=id, start=0, end=10, crc=checksums.crc64nvme(b"first half").to_bytes(8, "big"))
        self._add(connection, "chunks", upload_id=id, index=0, size=10, crc=checksums.crc64nvme(b"first half").to_bytes(8, "big"), start=0, key=None)

    def _bytes(self, id: str, data: bytes) -> None:
        path = self.data / "blobs" / key_for(id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def _add(self, connection: sa.Connection, table: str, **values: Any) -> None:
        connection.execute(sa.table(table, *map(sa.column, values)).insert(), values)

    def total(self, space: str, owner: str | None = None) -> int:
        """The bytes of current contents."""
        if owner is None:
            return sum(len(data) for (where, _), data in self.contents.items() if where == space)
        names = [f"a/b{number % 3}/{number}.txt" for number in range(40) if ("ann", "bob", None)[number % 3] == owner]
        return sum(len(self.contents["main", name]) for name in [*names, *(["top"] if owner == "ann" else [])])


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def upgraded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Before, Server]]:
    """What was, and a server of this version on it."""
    folder = tmp_path_factory.mktemp("upgrade")
    (folder / "carboy.toml").write_text(CONFIG)
    data, env = folder / "data", {"CARBOY_ADMIN_TOKEN": ""}
    url = f"sqlite:///{data / 'catalog.sqlite3'}"
    if request.param == "postgresql":
        postgres: PostgresServer = request.getfixturevalue("postgres_server")
        env["CARBOY_DATABASE"] = url = postgres.new_database()
    before = Before(data, url)
    if request.param == "postgresql":
        refused = carboy(before, "fsck")
        assert (refused.returncode, refused.stderr) == (1, "Error: the catalog's schema is older; run `carboy db upgrade`\n")
        assert carboy(before, "db", "upgrade").returncode == 0
    server = Server(data, args=["--config", str(folder / "carboy.toml")], env=env, token=TOKEN).start()
    yield before, server
    server.stop()
    server.must_be_sound()


def carboy(before: Before, *args: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("CARBOY_")} | {"CARBOY_DATABASE": before.url}
    return subprocess.run([sys.executable, "-m", "carboy.cli.main", *args], cwd=before.data.parent, env=env, capture_output=True, text=True)


def test_everything_is_there_and_right(upgraded: tuple[Before, Server]) -> None:
    before, one = upgraded
    for (space, path), data in before.contents.items():
        answer = one.request("GET", f"/files/{space}/{path}")
        assert (answer.status, answer.body) == (200, data)
        told = one.request("GET", f"/api/v1/files/{before.ids[space, path]}").json()
        assert (told["path"], told["size"], told["tags"]) == (path, len(data), [])
    assert one.request("GET", f"/api/v1/files/{before.ids['photos', 'sunset']}").json()["metadata"] == {
        "title": "Sonnenuntergang \U0001f305", "n": [1, None]}
    assert one.request("GET", "/files/main/top?version=1").body == b"the first"


def test_sums_and_usage_are_what_the_files_add_up_to(upgraded: tuple[Before, Server]) -> None:
    before, _ = upgraded
    catalog = open_catalog(before.url)
    try:
        assert catalog.miscounted() == []
        usage = catalog.usage("main")
        assert (usage.files, usage.bytes, usage.older, usage.trash) == (42, before.total("main"), len(b"the first" + b"the second one"), 0)
        assert catalog.usage("main", "ann").bytes == before.total("main", "ann")
        assert catalog.usage("main", "ann").older == usage.older
        assert (catalog.usage("main", "bob").bytes, catalog.usage("main", "bob").older) == (before.total("main", "bob"), 0)
        sums = catalog.folder_sums("main", ["", "a/", "a/b1/", "a.folder/", "none/"])
        assert {path: folder.files for path, folder in sums.items()} == {"": 42, "a/": 40, "a/b1/": 13, "a.folder/": 1, "none/": 0}
        assert sums["a/"].bytes == sum(len(data) for (_, path), data in before.contents.items() if path.startswith("a/"))
    finally:
        catalog.close()


def test_lists_and_search_know_the_old_files(upgraded: tuple[Before, Server]) -> None:
    before, _ = upgraded
    catalog = open_catalog(before.url)
    try:
        largest = catalog.listed("main", sort="size", descending=True, filter=Filter(owner="bob"), limit=1).files[0]
        assert largest.path == "a/b1/37.txt"
        assert [file.path for file in catalog.search("photos", ["sonnen"]).files] == ["sunset"]
        assert [file.path for file in catalog.search("main", ["b1/37"]).files] == ["a/b1/37.txt"]
    finally:
        catalog.close()


def test_quotas_count_what_was_there(upgraded: tuple[Before, Server]) -> None:
    _, one = upgraded
    assert one.request("PUT", "/files/photos/too-much", body=b"x" * 501).status == 507
    assert one.request("PUT", "/files/photos/enough", body=b"x" * 500).status == 201


def test_the_upload_under_way_goes_on(upgraded: tuple[Before, Server]) -> None:
    one = upgraded[1]
    [upload] = one.request("GET", "/api/v1/uploads?space=chunked").json()["uploads"]
    assert (upload["path"], upload["received"], upload["missing"]) == ("later.txt", 10, [[10, 20]])
    boundary = "x"
    parts = {"file_id": "later.txt", "index": "1", "offset": "10", "total": "20"}
    body = "".join(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in parts.items())
    body += f'--{boundary}\r\nContent-Disposition: form-data; name="chunk"; filename="c"\r\n\r\n2nd  half!\r\n--{boundary}--\r\n'
    answer = one.request("POST", "/chunk-upload", {"Content-Type": f"multipart/form-data; boundary={boundary}"}, body.encode())
    assert answer.status == 200, answer
    both = json.dumps({"file_id": "later.txt", "total_chunks": 2}).encode()
    assert one.request("POST", "/chunk-upload/complete", {"Content-Type": "application/json"}, both).status == 200
    assert one.request("GET", "/files/chunked/later.txt").body == b"first half2nd  half!"


def test_the_catalog_as_it_was_is_kept_beside_it(upgraded: tuple[Before, Server]) -> None:
    before, one = upgraded
    copy = before.data / "catalog.sqlite3.0001"
    assert copy.exists() == before.url.startswith("sqlite")
    if copy.exists():
        engine = sa.create_engine(f"sqlite:///{copy}")
        with engine.connect() as connection:
            assert connection.execute(sa.text("SELECT count(*) FROM files")).scalar() == len(before.contents)
            assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() == "0001"
        engine.dispose()
    one.restart()
    assert one.request("GET", "/files/main/top").body == b"the current one"


def test_the_catalog_says_whose_code_works_with_it(upgraded: tuple[Before, Server]) -> None:
    """Older nodes read it."""
    engine = sa.create_engine(upgraded[0].url)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT oldest FROM compatibility")).scalars().all() == ["0003"]
    engine.dispose()


def test_fsck_finds_nothing(upgraded: tuple[Before, Server]) -> None:
    done = carboy(upgraded[0], "fsck", "--deep")
    assert done.returncode == 0, done.stdout + done.stderr
