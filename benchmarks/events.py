"""How soon a client learns that a job has ended: small files are sent one after another, each goes through the step `digest`, and somebody
listens to `/api/v1/events`. The times count from when the job's end was written to the catalog, which the event tells, and from the
upload's answer.

    python -m benchmarks.events [--times 200]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.clients import http
from benchmarks.servers.carboy import Carboy

LISTENING = "GET", "/api/v1/events?kinds=job.*"
STEPS = {"CARBOY_SPACES": '{"main": {"steps": ["digest"]}}'}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=200)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder, Carboy(Path(folder), 2, variables=STEPS) as server:
        ends, wholes = measured(server, times)
    for name, found in (("from the job's end", ends), ("from the upload's answer", wholes)):
        found.sort()
        print(f"{name}: median {statistics.median(found) * 1000:.0f} ms, p99 {found[int(len(found) * 0.99)] * 1000:.0f} ms, "
              f"worst {found[-1] * 1000:.0f} ms of {times}")


def measured(server: Carboy, times: int) -> tuple[list[float], list[float]]:
    """Seconds until the client has the event: from the job's end, and from the upload's answer."""
    got: dict[str, tuple[float, dict[str, Any]]] = {}
    heard = threading.Condition()

    def listen(connection: socket.socket) -> None:
        for name, data in events(connection):
            if name == "job.done":
                with heard:
                    got[data["file_id"]] = (time.time(), data)
                    heard.notify()
                if len(got) == times:
                    return

    with socket.create_connection((server.host, server.port)) as listening, http.Connection(server.host, server.port) as sending:
        listening.sendall(http.head(*LISTENING, 0, server.headers))
        listener = threading.Thread(target=listen, args=(listening,), daemon=True)
        listener.start()
        answered: dict[str, float] = {}
        for number in range(times):
            body = os.urandom(4096)
            answer = sending.exchange_whole([http.head("PUT", f"/files/main/{number}.bin", len(body), server.headers) + body])
            file = json.loads(answer.partition(b"\r\n\r\n")[2])
            answered[file["id"]] = time.time()
            with heard:
                assert heard.wait_for(lambda: file["id"] in got, 60), "no event came"  # noqa: B023 - within the round
    return ([at - moment(data["at"]) for at, data in got.values()], [got[id][0] - at for id, at in answered.items()])


def moment(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def events(connection: socket.socket) -> Iterator[tuple[str, dict[str, Any]]]:
    """``(event, data)`` as they come. A chunked body's own lines are none of an event's, and pass."""
    name, pending = "", b""
    while piece := connection.recv(65536):
        *lines, pending = (pending + piece).split(b"\n")
        for line in lines:
            field, _, value = line.strip().partition(b": ")
            if field == b"event":
                name = value.decode()
            elif field == b"data":
                yield name, json.loads(value)


if __name__ == "__main__":
    main()
