"""The servers that applications run under: Flask's own, gunicorn's workers, waitress. Each is started for real."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import wire
from fixtures_server import eventually
from fixtures_site import FORM, field, file, multipart

APP = '''
from flask import Flask, request
from carboy import Carboy

app = Flask(__name__)
app.config.update(SECRET_KEY="s", MAX_CONTENT_LENGTH=1000)
carboy = Carboy(app, expose=["files"], authenticate=lambda: request.headers.get("X-User"))
small = carboy.space("small", max_size="100 kB")
carboy.space("big")
carboy.space("home", private=True)


@app.post("/small")
@carboy.receives(small)
def small_one():
    return {"name": request.files["f"].keep("small").name, "text": request.form.get("text", "")}


@app.post("/big")
@carboy.receives("big")
def big_one():
    kept = request.files["f"].keep("big")
    return {"size": kept.size, "crc": f"{kept.blob.crc64nvme:016x}", "url": carboy.url_for(kept)}


@app.get("/file/<path:path>")
def one(path):
    return carboy.send(carboy.at("big", path))


@app.get("/memory")
def memory():
    import resource
    return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
'''

SERVERS = {
    "flask": ["-m", "flask", "--app", "shop", "run", "--port", "{port}"],
    "gunicorn sync": ["-m", "gunicorn", "--no-control-socket", "--bind", "127.0.0.1:{port}", "--workers", "2", "shop:app"],
    "gunicorn gthread": ["-m", "gunicorn", "--no-control-socket", "--bind", "127.0.0.1:{port}", "--worker-class", "gthread", "--threads", "8", "--workers", "1", "shop:app"],
    "gunicorn preload": ["-m", "gunicorn", "--no-control-socket", "--bind", "127.0.0.1:{port}", "--threads", "8", "--workers", "2", "--preload", "shop:app"],
    "waitress": ["-m", "waitress", "--listen", "127.0.0.1:{port}", "shop:app"],
}
MEGABYTE = bytes(range(256)) * 4096


class Running:
    """One of them, with the application."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        (folder / "shop.py").write_text(APP)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        env = {key: value for key, value in os.environ.items() if not key.startswith(("CARBOY_", "FLASK_"))}
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen([sys.executable, *(part.format(port=port) for part in SERVERS[name])], cwd=folder,
                                         env={**env, "PYTHONPATH": str(folder)}, stdout=self._log, stderr=self._log, start_new_session=True)
        eventually(self._answers)

    def ask(self, method: str, target: str, headers: wire.Headers = (), body: bytes | None = None) -> wire.Response:
        return wire.request(self.url, method, target, headers, body)

    def form(self, target: str, *parts: bytes) -> wire.Response:
        return self.ask("POST", target, {"Content-Type": FORM}, multipart(*parts))

    def blobs(self) -> list[Path]:
        return list((self.folder / "instance/carboy/blobs").glob("*/*"))

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._log.close()

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log()
        with suppress(OSError):
            return self.ask("GET", "/memory").status == 200
        return False


@pytest.fixture(scope="module", params=SERVERS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    one = Running(request.param, tmp_path_factory.mktemp("shop"))
    yield one
    one.stop()
    assert "Traceback" not in one.log(), one.log()


def test_forms_and_what_becomes_of_them(running: Running) -> None:
    answer = running.form("/small", field("text", "ü"), file("f", "a.txt", b"hello"))
    assert (answer.status, answer.json()) == (200, {"name": "small", "text": "ü"})


def test_large_files_come_and_go_whole(running: Running) -> None:
    data = MEGABYTE * 20
    answer = running.form("/big", file("f", "big.bin", data))
    assert (answer.status, answer.json()["size"]) == (200, len(data)), answer
    for target in ("/file/big", answer.json()["url"]):
        whole = running.ask("GET", target)
        assert (whole.status, whole.header("content-length"), whole.body == data) == (200, str(len(data)), True)
        part = running.ask("GET", target, {"Range": "bytes=1000000-1999999"})
        assert (part.status, part.body == data[1_000_000:2_000_000]) == (206, True)
        head = running.ask("HEAD", target)
        assert (head.status, head.header("content-length"), head.body) == (200, str(len(data)), b"")
        several = running.ask("GET", target, {"Range": "bytes=0-9,100-109"})
        assert (several.status, data[100:110] in several.body) == (206, True)


def test_the_servers_own_routes_answer_below_the_prefix(running: Running) -> None:
    put = running.ask("PUT", "/carboy/files/home/a.txt", {"X-User": "ann"}, MEGABYTE)
    assert (put.status, put.header("location")) == (201, "/carboy/files/home/a.txt"), put
    assert running.ask("GET", "/carboy/files/home/a.txt", {"X-User": "ann"}).body == MEGABYTE
    assert running.ask("GET", "/carboy/files/home/a.txt", {"X-User": "bob"}).status == 404


def test_chunked_bodies(running: Running) -> None:
    """Where the server hands them on at all."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (MEGABYTE[:1000], MEGABYTE[1000:])) + b"0\r\n\r\n"
    with wire.Connection(running.url) as connection:
        connection.send(wire.head("PUT", "/carboy/files/home/c.txt", [("Transfer-Encoding", "chunked"), ("X-User", "ann")]) + body)
        assert connection.response("PUT").status == 201
    assert running.ask("GET", "/carboy/files/home/c.txt", {"X-User": "ann"}).body == MEGABYTE


def test_what_is_refused_is_told_and_leaves_nothing(running: Running) -> None:
    before = running.blobs()
    answer = running.form("/small", file("f", "a.bin", MEGABYTE))
    assert (answer.status, answer.json()["code"]) == (413, "too_large"), answer
    assert running.blobs() == before


def test_a_client_that_goes_away_leaves_nothing(running: Running) -> None:
    before = running.blobs()
    body = multipart(file("f", "a.bin", MEGABYTE))
    with wire.Connection(running.url) as connection:
        connection.send(wire.head("POST", "/big", [("Content-Type", FORM), ("Content-Length", str(len(body)))]) + body[:500_000])
    assert running.form("/small", file("f", "a.txt", b"still there")).status == 200
    eventually(lambda: len(running.blobs()) <= len(before) + 1)


def test_many_at_once(running: Running) -> None:
    statuses: list[int] = []

    def send(number: int) -> None:
        answer = running.form("/big", file("f", f"{number}.bin", MEGABYTE + bytes([number])))
        statuses.append(answer.status)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 8


def test_memory_stays_flat(running: Running) -> None:
    """A body of ten times more leaves the peak where it was, but for what buffers differ."""
    if running.name in ("gunicorn sync", "gunicorn preload"):
        pytest.skip("the answer may come from another worker")
    running.form("/big", file("f", "a.bin", MEGABYTE * 10))
    before = running.ask("GET", "/memory").json()["peak"]
    with wire.Connection(running.url) as connection:
        head = multipart(file("f", "a.bin", b"@"))
        start, end = head.split(b"@")
        size = 100 * len(MEGABYTE)
        connection.send(wire.head("POST", "/big", [("Content-Type", FORM), ("Content-Length", str(len(start) + size + len(end)))]) + start)
        for _ in range(100):
            connection.send(MEGABYTE)
        connection.send(end)
        assert connection.response("POST").json()["size"] == size
    assert running.ask("GET", "/memory").json()["peak"] - before < 30_000, "KiB"


def test_the_sweeper_runs_in_one_process(running: Running) -> None:
    eventually(lambda: (running.folder / "instance/carboy/sweeper.lock").exists())
    assert not re.search(r"upkeep (failed|is put off)", running.log())
