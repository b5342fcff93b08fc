"""``carboy migrate`` between a disk and a real S3 server, beside a server that takes files, gives them and deletes them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fixtures_s3 import S3Server
from fixtures_server import Server, eventually


def settings(s3: S3Server, bucket: str, storage: str) -> str:
    return (f'sweep_interval = 0.3\ndelete_grace = 2\n[storages.bulk]\nbucket = "{bucket}"\nendpoint = "{s3.endpoint}"\nregion = "{s3.region}"\n'
            f'style = "path"\n[spaces.main]\nstorage = "{storage}"\nversions = 2\ntrash = 0\n')


class Program:
    """A server and the program on one configuration."""

    def __init__(self, folder: Path, s3: S3Server, storage: str) -> None:
        self.s3, self.bucket = s3, s3.new_bucket()
        self.config = folder / "carboy.toml"
        self.set(storage)
        self.server = Server(folder / "data", args=["--config", str(self.config)], env=s3.env)

    def set(self, storage: str) -> None:
        self.config.write_text(settings(self.s3, self.bucket, storage))

    def run(self, *arguments: str) -> str:
        env = {name: value for name, value in os.environ.items() if not name.startswith("CARBOY_")}
        done = subprocess.run([sys.executable, "-m", "carboy.cli.main", *arguments, "--config", str(self.config), "--data", str(self.server.data)],
                              capture_output=True, text=True, env={**env, **self.s3.env}, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


class Client:
    """Puts, replaces, reads and deletes files of its own, and knows what they have to be."""

    def __init__(self, server: Server, number: int) -> None:
        self.contents: dict[str, bytes] = {}
        self._server = server
        self._chance = random.Random(f"client {number}")
        self._name = f"client{number}"

    def work(self, ended: threading.Event) -> None:
        while not ended.is_set():
            path = f"/files/main/{self._name}/{self._chance.randrange(8)}"
            if self._chance.random() < 0.4:
                data = self._chance.randbytes(self._chance.choice([10, 70_000, 700_000, 6_000_000]))
                assert self._server.request("PUT", path, body=data).status in (200, 201)
                self.contents[path] = data
            elif self._chance.random() < 0.15 and path in self.contents:
                assert self._server.request("DELETE", path).status == 204
                del self.contents[path]
            else:
                self.look(path)

    def look(self, path: str) -> None:
        answer = self._server.request("GET", path)
        if path in self.contents:
            assert (answer.status, answer.body == self.contents[path]) == (200, True)
        else:
            assert answer.status == 404


@pytest.mark.parametrize(("source", "target"), [("local", "bulk"), ("bulk", "local")])
def test_beside_traffic_nothing_is_lost_and_nothing_is_left(s3_server: S3Server, tmp_path: Path, source: str, target: str) -> None:
    program = Program(tmp_path, s3_server, source)
    server = program.server.start()
    clients, ended = [Client(server, number) for number in range(3)], threading.Event()
    try:
        with ThreadPoolExecutor() as threads:
            working = [threads.submit(client.work, ended) for client in clients]
            eventually(lambda: sum(len(client.contents) for client in clients) > 10 or any(one.done() for one in working))
            try:
                told = [program.run("migrate", "--space", "main", "--to", target) for _ in range(2)]
            finally:
                ended.set()
            for one in working:
                one.result()
        assert "copied" in told[0]
        program.set(target)
        server.restart()
        assert server.request("PUT", "/files/main/new", body=b"new").status == 201
        done = program.run("migrate", "--space", "main", "--to", target)
        assert f"nothing of 'main' is left outside of '{target}'" in done
        assert "new files still go" not in done
        for client in clients:
            for path in client.contents:
                client.look(path)
        assert server.request("GET", "/files/main/new").body == b"new"
        if source == "local":
            eventually(lambda: not list((server.data / "blobs").glob("*/*")))
        else:
            eventually(lambda: not s3_server.keys(program.bucket))
        program.run("fsck", "--deep")
    finally:
        server.stop()
    server.must_be_sound()
