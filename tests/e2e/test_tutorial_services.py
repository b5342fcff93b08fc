"""The whole tutorial, endpoint by endpoint, with its own client code: one Carboy on PostgreSQL and a real S3 server, whose jobs Celery delivers by
Redis to a worker with a data folder of its own, as on another machine."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from fixtures_nodes import Node, Nodes
from fixtures_postgres import PostgresServer
from fixtures_redis import RedisServer
from fixtures_s3 import S3Server
from fixtures_server import eventually

pytest.importorskip("celery", reason="NOT TESTED with Celery: it is not installed")

CHUNK_SIZE = 5 * 1024 * 1024
STEPS = """
from carboy import step


@step("process_file", spaces=["main"], after=["digest"])
def process_file(context):
    lines = 0
    with context.stream() as f:
        for number, chunk in enumerate(iter(lambda: f.read(1024 * 1024), b"")):
            lines += chunk.count(b"\\n")
            context.progress(f.tell() / max(1, context.blob.size), f"part {number}")
    context.attach("lines.txt", str(lines).encode(), "text/plain")
    return {"lines": lines, "digest_first": "digest" in context.results}
"""


@dataclass
class Service:
    """Carboy with everything that the tutorial wants beside it."""

    node: Node
    s3: S3Server
    bucket: str
    log: Path

    def stored(self, path: str) -> bytes:
        answer = self.node.request("GET", f"/files/main/{path}")
        assert answer.status == 200, answer
        return answer.body

    def worker_log(self) -> str:
        return self.log.read_text(errors="replace")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer, s3_server: S3Server,
            shared_redis: RedisServer) -> Iterator[Service]:
    if shared_redis.process is None:
        shared_redis.start()
    shared_redis.say("FLUSHALL")
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / "tutorial_steps.py").write_text(STEPS)
    env = {"CARBOY_BROKER": shared_redis.url, "CARBOY_STEP_MODULES": '["tutorial_steps"]', "PYTHONPATH": str(folder)}
    nodes = Nodes(folder, 1, postgres_server.new_database(), s3_server, s3_server.new_bucket(), env=env)
    nodes.start()
    log = folder / "worker.log"
    own = {name: value for name, value in os.environ.items() if not name.startswith(("CARBOY_", "AWS_"))}
    with log.open("wb") as output:
        worker = subprocess.Popen([sys.executable, "-m", "carboy.cli.main", "worker", "--concurrency", "2", "--config", str(nodes.config),
                                   "--data", str(folder / "run")], cwd=folder, env={**own, **nodes.env}, stdin=subprocess.DEVNULL,
                                  stdout=output, stderr=output, start_new_session=True)
    one = Service(nodes[0], s3_server, nodes.bucket, log)
    try:
        eventually(lambda: "worker is ready" in one.worker_log() or worker.poll() is not None)
        assert worker.poll() is None, one.worker_log()
        yield one
        worker.terminate()
        assert worker.wait(60) == 0, one.worker_log()[-4000:]
        assert "Traceback" not in one.worker_log()
    finally:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
        nodes.close()
    nodes[0].must_be_sound()


# --- the tutorial's client -----------------------------------------------------------------------------------------


def split_file(file_path: Path, chunk_size: int = CHUNK_SIZE) -> Iterator[tuple[int, bytes]]:
    with open(file_path, "rb") as f:
        index = 0
        while True:
            chunk = f.read(chunk_size)
            if not chunk:
                break
            yield index, chunk
            index += 1


@dataclass
class Client:
    """As it stands there but for the token: with threads, progress, and polling."""

    url: str
    token: str
    shown: list[int] = field(default_factory=list)
    """The percentages of the progress bar."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def post(self, path: str, **given: Any) -> dict[str, Any]:
        answer = requests.post(self.url + path, headers={"Authorization": f"Bearer {self.token}"}, timeout=300, **given)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def upload(self, path: str, file_path: Path) -> dict[str, Any]:
        with open(file_path, "rb") as f:
            return self.post(path, files={"file": f})

    def upload_chunk(self, file_id: str, index: int, chunk: bytes) -> None:
        told = self.post("/chunk-upload", files={"chunk": (f"chunk_{index}", chunk)}, data={"index": index, "file_id": file_id})
        assert told == {"message": f"Chunk {index} received"}

    def upload_file(self, file_path: Path, file_id: str, workers: int = 4) -> dict[str, Any]:
        """All chunks in threads, in whatever order they come, then the merge."""
        total_chunks = -(-file_path.stat().st_size // CHUNK_SIZE)
        uploaded = 0

        def send(part: tuple[int, bytes]) -> None:
            nonlocal uploaded
            self.upload_chunk(file_id, *part)
            with self.lock:
                uploaded += 1
                self.shown.append(uploaded * 100 // total_chunks)

        with ThreadPoolExecutor(max_workers=workers) as executor:
            list(executor.map(send, split_file(file_path)))
        return self.post("/chunk-upload/complete", data={"file_id": file_id, "total_chunks": total_chunks})

    def task(self, task_id: str) -> dict[str, Any]:
        answer = requests.get(f"{self.url}/tasks/{task_id}", headers={"Authorization": f"Bearer {self.token}"}, timeout=300)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def wait_for(self, task_id: str, seen: Callable[[dict[str, Any]], None] = lambda told: None) -> dict[str, Any]:
        """Poll as the tutorial's page does, every half second there."""
        end = time.monotonic() + 120
        while not (told := self.task(task_id))["ready"]:
            seen(told)
            assert time.monotonic() < end, told
            threading.Event().wait(0.02)
        return told


@pytest.fixture
def client(service: Service) -> Client:
    return Client(service.node.url, service.node.token)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two parts and a rest."""
    path = tmp_path_factory.mktemp("files") / "My video.mp4"
    path.write_bytes(random.Random("video").randbytes(2 * CHUNK_SIZE + 12_345))
    return path


# --- endpoint by endpoint ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["/upload", "/stream-upload"])
def test_one_file(service: Service, client: Client, video: Path, route: str) -> None:
    assert client.upload(route, video) == {"message": "File My_video.mp4 uploaded successfully"}
    assert service.stored("My_video.mp4") == video.read_bytes()
    with pytest.raises(requests.HTTPError, match="400"):
        client.post(route)


def test_chunks_in_threads_with_progress_and_the_merge(service: Service, client: Client, video: Path) -> None:
    assert client.upload_file(video, "merged.mp4")["message"] == "File merged.mp4 uploaded successfully"
    assert client.shown == [33, 66, 100]
    assert service.stored("merged.mp4") == video.read_bytes()


def test_a_merge_that_comes_too_early_names_what_is_missing(service: Service, client: Client, video: Path) -> None:
    for index, chunk in split_file(video):
        if index != 1:
            client.upload_chunk("gap.mp4", index, chunk)
    answer = requests.post(f"{client.url}/chunk-upload/complete", headers=service.node.auth, data={"file_id": "gap.mp4", "total_chunks": 3}, timeout=60)
    assert (answer.status_code, answer.json()["missing"]) == (409, [1])


def test_a_file_is_processed_in_the_background_while_its_client_polls(service: Service, client: Client, video: Path) -> None:
    seen: list[tuple[str, float]] = []
    begun = client.upload("/async-upload", video)
    assert begun == {"message": "File My_video.mp4 uploaded", "task_id": begun["task_id"]}
    assert service.stored("My_video.mp4") == video.read_bytes(), "it is there at once"
    told = client.wait_for(begun["task_id"], lambda one: seen.append((one["state"], one["progress"])))
    data = video.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    assert (told["state"], told["status"], told["successful"], told["progress"]) == ("SUCCESS", "SUCCESS", True, 1.0)
    assert (told["result"]["sha256"], told["result"]["size"]) == (sha256, len(data))
    assert told["result"]["steps"]["process_file"]["lines"] == data.count(b"\n")
    assert {state for state, _ in seen} <= {"PENDING", "STARTED", "PROGRESS"}
    assert [share for _, share in seen] == sorted(share for _, share in seen), "progress goes one way"
    derived = service.node.request("GET", f"/api/v1/files/{told['result']['file_id']}/derived/process_file/lines.txt")
    assert derived.body == str(data.count(b"\n")).encode()


def test_it_is_celery_that_delivers_them(service: Service, client: Client, shared_redis: RedisServer, tmp_path: Path) -> None:
    """A worker that is told nothing gets to know of a job by Redis; what Redis forgets comes again from the catalog."""
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\n")
    told = client.wait_for(client.upload("/async-upload", tmp_path / "a.txt")["task_id"])
    assert told["state"] == "SUCCESS"
    bindings = shared_redis.say("KEYS", "_kombu.binding.*")
    assert b"_kombu.binding.carboy" in list(bindings), bindings  # type: ignore[call-overload]
    shared_redis.say("FLUSHALL")
    told = client.wait_for(client.upload("/async-upload", tmp_path / "a.txt")["task_id"])
    assert (told["state"], told["result"]["steps"]["process_file"]["lines"]) == ("SUCCESS", 2)


def test_many_at_once(service: Service, client: Client, tmp_path: Path) -> None:
    def one(number: int) -> tuple[int, dict[str, Any]]:
        path = tmp_path / f"many-{number}.txt"
        path.write_bytes(b"line\n" * number)
        return number, client.wait_for(client.upload("/async-upload", path)["task_id"])

    with ThreadPoolExecutor(8) as threads:
        for number, told in threads.map(one, range(16)):
            assert told["result"]["steps"]["process_file"]["lines"] == number
            assert service.stored(f"many-{number}.txt") == b"line\n" * number


def test_a_file_goes_to_s3(service: Service, client: Client, video: Path) -> None:
    before = set(service.s3.keys(service.bucket))
    assert client.upload("/upload-s3", video) == {"message": "File My_video.mp4 uploaded to S3"}
    data = video.read_bytes()
    assert service.stored("My_video.mp4") == data
    new = set(service.s3.keys(service.bucket)) - before
    assert data in [service.s3.client().get_object(Bucket=service.bucket, Key=key)["Body"].read() for key in new]


def test_the_client_that_the_page_shows(service: Service, tmp_path: Path) -> None:
    """docs/classic.md: its code, as it stands there, but for the address."""
    page = (Path(__file__).parents[2] / "docs/classic.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "film.mkv").write_bytes(random.Random("film").randbytes(12_000_000))
    script = "\n".join(blocks).replace("http://127.0.0.1:8080", service.node.url)
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "TOKEN": service.node.token}, capture_output=True,
                         text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    printed, state = ran.stdout.splitlines()
    assert f"```text\n{printed}\n```" in page
    assert state == f"SUCCESS {hashlib.sha256((tmp_path / 'film.mkv').read_bytes()).hexdigest()}"
    assert service.stored("film.mkv") == (tmp_path / "film.mkv").read_bytes()


def test_nothing_was_lost_on_the_way(service: Service, client: Client) -> None:
    """Every job of the module has ended, and each well."""
    def jobs() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = service.node.request("GET", "/api/v1/jobs?space=main&limit=1000").json()["jobs"]
        return found

    eventually(lambda: all(job["state"] in ("done", "dead", "cancelled") for job in jobs()))
    assert {job["state"] for job in jobs()} == {"done"}
