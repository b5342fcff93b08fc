"""How long a stalled writer keeps others waiting: a client goes silent in the middle of a tus PATCH, and another asks where the upload stands
and goes on. Through two server processes, so that the two are as often in different ones as not.

    python -m benchmarks.takeover [--times 100]
"""

from __future__ import annotations

import argparse
import socket
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.clients import http
from benchmarks.servers.carboy import Carboy

SIZE, SENT = 1_000_000, 300_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder, Carboy(Path(folder), 2) as server:
        taken = sorted(take_over(server) for _ in range(times))
    print(f"{times} take-overs: median {statistics.median(taken) * 1000:.0f} ms, worst {taken[-1] * 1000:.0f} ms, best {taken[0] * 1000:.0f} ms")


def take_over(server: Carboy) -> float:
    """Seconds from the second client's first request to the answer that all of the upload is there."""
    tus = (*server.headers, "Tus-Resumable: 1.0.0")
    with http.Connection(server.host, server.port) as connection:
        created = fields(connection, http.head("POST", "/tus/main/", 0, (*tus, f"Upload-Length: {SIZE}")))
    place = created["location"]
    body = ("Content-Type: application/offset+octet-stream",)
    with socket.create_connection((server.host, server.port)) as silent:
        silent.sendall(http.head("PATCH", place, SIZE, (*tus, *body, "Upload-Offset: 0")) + bytes(SENT))
        until_some_came(server, place, tus)
        started = time.perf_counter()
        with http.Connection(server.host, server.port) as connection:
            offset = int(fields(connection, http.head("HEAD", place, 0, tus))["upload-offset"])
            done = fields(connection, http.head("PATCH", place, SIZE - offset, (*tus, *body, f"Upload-Offset: {offset}")) + bytes(SIZE - offset))
        assert int(done["upload-offset"]) == SIZE, done
        return time.perf_counter() - started


def fields(connection: http.Connection, request: bytes) -> dict[str, str]:
    """The answer's header fields, by lower-case names."""
    lines = connection.exchange_whole([request]).partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def until_some_came(server: Carboy, place: str, tus: tuple[str, ...]) -> None:
    """Wait until the silent client's bytes are being written: then the range is held."""
    blobs = server.data / "blobs"
    while not any(blob.stat().st_size == SENT for blob in blobs.glob("*/*")):
        time.sleep(0.005)


if __name__ == "__main__":
    main()
