"""A server whose space ``main`` lies in a bucket behind the fault proxy, clients that go on after whatever they are told, and what must be
true in the end."""

from __future__ import annotations

import hashlib
import http.client
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from faults.disk import until
from faults.journal import Content
from faults.proxy import Proxy
from faults.runner import Answer, Client, Server
from faults.sequential import Sequential
from fixtures_s3 import S3Server

MIB = 2**20
DEADLINE = 10.0
"""Seconds for which the server tries again; one attempt may be silent for half of it."""
SAID = {503: {"storage_unavailable", "busy"}, 409: {"range_busy", "interrupted"}, 500: {"storage_failed", "bytes_damaged"}}
"""How a request may fail: with which status, and codes."""
TRIES = 20

Send = Callable[["Lab", str, Content, list[str]], None]


def storage_environment(s3: S3Server, bucket: str, endpoint: str, **settings: object) -> dict[str, object]:
    """A server's settings: the storage ``bulk`` in this bucket, and the space ``main`` on it."""
    storage = {"type": "s3", "bucket": bucket, "endpoint": endpoint, "region": s3.region, "style": "path", "part_size": 5 * MIB, **settings}
    return {**{f"CARBOY_STORAGES__BULK__{name.upper()}": value for name, value in storage.items()}, "CARBOY_SPACES__MAIN__STORAGE": "bulk",
            "CARBOY_SPACES__MAIN__TRASH": 0, "CARBOY_DELETE_GRACE": 0, **s3.env}


@dataclass
class Lab:
    """``told`` are the failures that clients heard of."""

    server: Server
    proxy: Proxy
    s3: S3Server
    bucket: str
    told: list[str] = field(default_factory=list)

    def must_read(self, path: str, content: Content) -> None:
        with closing(Client(self.server.address)) as client:
            answer = client.get(path)
        assert answer.status == 200, answer
        assert hashlib.sha256(answer.body).hexdigest() == content.sha256(), f"{path} has {len(answer.body)} bytes that are not its own"

    def must_be_tidy(self) -> None:
        """The catalog and the bucket agree; and when all files are gone and the server has ended, the bucket is empty."""
        self.proxy.clear()
        self.must_agree()
        with closing(Client(self.server.address)) as client:
            for path in files(client):
                assert client.delete(path).ok
            for upload in client.uploads():
                assert client.ask("DELETE", f"/uploads/{upload['id']}").ok
        self._bury()
        assert self.server.stop() == 0
        self.must_run("sweep")
        assert self.s3.keys(self.bucket) == []
        assert self.s3.multiparts(self.bucket) == []

    def _bury(self) -> None:
        """Processes that were killed are taken for dead by who goes on writing."""
        with closing(Client(self.server.address)) as client, closing(sqlite3.connect(self.server.data / "catalog.sqlite3")) as catalog:
            until(lambda: client.put("alive", b"x") and client.delete("alive").ok and self._alive(catalog), "the dead are buried")

    def _alive(self, catalog: sqlite3.Connection) -> bool:
        """Whether only processes of the server that runs count as alive."""
        return {pid for pid, in catalog.execute("SELECT pid FROM writers")} <= set(self.server.processes())

    def must_agree(self) -> None:
        self.must_run("sweep")
        self.must_run("fsck")

    def must_run(self, *command: str) -> None:
        done = self.server.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def lab(folder: Path, s3: S3Server, *, workers: int = 1, deadline: float = DEADLINE, **settings: object) -> Iterator[Lab]:
    bucket = s3.new_bucket()
    with Proxy(s3.endpoint) as proxy:
        environment = storage_environment(s3, bucket, proxy.url, deadline=deadline) | settings
        server = Server(folder / "data", folder / "server.log", workers=workers, settings={"CARBOY_SWEEP": "false", **environment})
        try:
            yield Lab(server.start(), proxy, s3, bucket)
        finally:
            server.kill()
    assert proxy.errors == []
    assert "Traceback" not in server.said(), server.said()[-6000:]


def files(client: Client) -> list[str]:
    """The paths of the space's files."""
    answer = client.ask("GET", "/api/v1/files?space=main&limit=1000")
    assert answer.ok, answer
    return [file["path"] for file in answer.json()["files"]]


def heard(answer: Answer | None, told: list[str]) -> bool:
    """Whether it went well; else it must say in a clear way what was wrong, or nothing at all."""
    if answer is None:
        told.append("nothing")
    elif not answer.ok:
        code = answer.code if answer.body else ""  # that of a HEAD can't be told
        assert code in {*SAID.get(answer.status, ()), ""}, answer
        told.append(f"{answer.status} {code}".strip())
    return answer is not None and answer.ok


def asked(ask: Callable[[], Answer]) -> Answer | None:
    """None where no answer came."""
    try:
        return ask()
    except (OSError, http.client.HTTPException):
        return None


def insist(ask: Callable[[], Answer], told: list[str]) -> Answer:
    """Ask until it goes well."""
    for _ in range(TRIES):
        answer = asked(ask)
        if heard(answer, told):
            assert answer
            return answer
        time.sleep(0.2)
    raise AssertionError(f"it never went well: {told}")


# --- one upload each, by clients that go on as real ones do ---


def put(lab: Lab, path: str, content: Content, told: list[str]) -> None:
    """The whole body again, until it is stored."""
    with closing(Client(lab.server.address)) as client:
        insist(partial(client.put, path, content.read()), told)


def tus(lab: Lab, path: str, content: Content, told: list[str]) -> None:
    """In several requests; after each failure from where it stands, which is never before what was acknowledged."""
    upload, sizes = Sequential(path, content, "tus"), iter([6 * MIB, 100_000, 300_000])
    with closing(Client(lab.server.address)) as client:
        upload.note(insist(partial(upload.create, client, 0), told))
        while not upload.completed:
            answer = asked(partial(upload.append, client, next(sizes, content.size)))
            if heard(answer, told):
                assert answer
                upload.note(answer)
            else:
                acknowledged = upload.offset
                upload.note(insist(partial(upload.stand, client), told))
                assert upload.offset >= acknowledged, f"{path} stands at {upload.offset}; {acknowledged} were acknowledged"
            assert len(told) < TRIES, told


def chunks(lab: Lab, path: str, content: Content, told: list[str]) -> None:
    """Four chunks in any order, each until it is acknowledged."""
    chance = random.Random(path)
    cuts = [0, *sorted(chance.sample(range(1, content.size), 3)), content.size]
    with closing(Client(lab.server.address)) as client:
        for index in chance.sample(range(4), 4):
            start, end = cuts[index:index + 2]
            insist(partial(client.chunk, path, index, content.read(start, end), offset=start, total=content.size), told)
