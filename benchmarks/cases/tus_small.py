"""4 KiB files by tus, each in the request that creates it, over 16 kept-alive connections, one server process."""

from __future__ import annotations

import base64
import os

from benchmarks.cases.small_files import CONNECTIONS, COST, RATE, SIZE, Sender, put_request, take_turns
from benchmarks.clients import http
from benchmarks.lab import Lab, Stage
from benchmarks.outcome import Outcome
from benchmarks.servers.carboy import Carboy
from benchmarks.servers.nginx import Nginx
from benchmarks.servers.tus import Tusd, TusServer

NAME = "tus_small"
TITLE = "4 KiB files by tus, one request each"


def run(lab: Lab) -> Outcome:
    """Measure it."""
    count = lab.pick(8000, 1000)
    with Stage(lab) as stage:
        rows = take_turns(lab, _senders(stage), count)
        how = f"creation-with-upload, {count} files a round over {CONNECTIONS} kept-alive connections, one server process."
        return Outcome(NAME, TITLE, how, [RATE, COST], rows, (), stage.missing, stage.notes(), plot="rate")


def _senders(stage: Stage) -> list[Sender]:
    ours = stage.ours(Carboy)
    durable, loose = "CRC-64/NVME, synced, in the catalog", "no check, no sync, no record"
    senders = [Sender("Carboy, tus", ours, lambda name: _creation(name, "/tus/main/", ours.headers), f"{durable}, as an upload too", True),
               Sender("Carboy, raw PUT", ours, lambda name: put_request(name, ours.headers), durable, True)]
    if nginx := stage.peer(Nginx, "nginx DAV PUT"):
        senders.append(Sender("nginx DAV PUT", nginx, lambda name: http.head("PUT", f"/{name}", SIZE) + os.urandom(SIZE), loose))
    for name, tus in (("@tus/server", TusServer), ("tusd", Tusd)):
        if server := stage.peer(tus, name):
            senders.append(Sender(name, server, lambda name: _creation(name, "/files/"), "no check, no sync"))
    return senders


def _creation(name: str, target: str, headers: tuple[str, ...] = ()) -> bytes:
    metadata = base64.b64encode(f"small/{name}".encode()).decode()
    fields = ("Tus-Resumable: 1.0.0", f"Upload-Length: {SIZE}", f"Upload-Metadata: filename {metadata}",
              "Content-Type: application/offset+octet-stream", *headers)
    return http.head("POST", target, SIZE, fields) + os.urandom(SIZE)
