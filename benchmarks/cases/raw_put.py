"""A raw body of 1 GiB: ours against what nginx, Flask, Starlette, copyparty and the tus servers make of it."""

from __future__ import annotations

import re

from benchmarks.clients import curl, http
from benchmarks.lab import CPU, WALL, Contender, Lab, Stage, find, take_turns
from benchmarks.outcome import Outcome, Row, Target
from benchmarks.servers.base import Server
from benchmarks.servers.carboy import Carboy
from benchmarks.servers.nginx import Nginx
from benchmarks.servers.python import Copyparty, Flask, Starlette
from benchmarks.servers.tus import Tusd, TusServer

NAME = "raw_put"
TITLE = "1 GiB as a raw body"
# Where tusd can't be had: its ratio to nginx, measured on such a machine with both (1.14 and 0.63 CPU s/GiB, 5 rounds).
TUSD_PER_NGINX = 1.87


def run(lab: Lab) -> Outcome:
    """Measure it."""
    with Stage(lab) as stage:
        rows = take_turns(stage, contenders(stage))
        return Outcome(NAME, TITLE, "`curl -T` of one file, one server process, one connection.", [CPU, WALL], rows, _targets(rows),
                       stage.missing, stage.notes(), plot="cpu")


def contenders(stage: Stage) -> list[Contender]:
    """All that can be had."""
    ours = stage.ours(Carboy)
    found = [carboy_put(stage.lab, ours)]
    for name, make, what in (("nginx DAV PUT", Nginx, "no check, no sync"), ("Flask, raw body", Flask, "no check, no sync"),
                             ("Starlette, raw body", Starlette, "no check, no sync"), ("copyparty PUT", Copyparty, "SHA-512, no sync")):
        if server := stage.peer(make, name):
            found.append(raw_put(stage.lab, name, server, what, "raw/" if make in (Flask, Starlette) else ""))
    for name, tus in (("@tus/server PATCH", TusServer), ("tusd PATCH", Tusd)):
        if server := stage.peer(tus, name):
            found.append(tus_patch(stage.lab, name, server))
    return found


def carboy_put(lab: Lab, server: Carboy, name: str = "Carboy", what: str = "CRC-64/NVME, synced, in the catalog",
               headers: tuple[str, ...] = ()) -> Contender:
    """Our own raw PUT."""
    def move(number: int) -> None:
        curl.put(server.file_url(f"{NAME}/{number}-{len(headers)}.bin"), lab.payload, (*server.headers, *headers))

    return Contender(name, server, move, what, ours=True)


def raw_put(lab: Lab, name: str, server: Server, what: str, prefix: str = "") -> Contender:
    """A peer's PUT."""
    return Contender(name, server, lambda number: curl.put(f"{server.url}/{prefix}{number}.bin", lab.payload), what)


def tus_patch(lab: Lab, name: str, server: Server, what: str = "no check, no sync", *, headers: tuple[str, ...] = (),
              target: str = "/files/", ours: bool = False) -> Contender:
    """All of it in one PATCH of tus."""
    def move(number: int) -> None:
        curl.patch(tus_create(server, ("Tus-Resumable: 1.0.0", f"Upload-Length: {lab.size}", *headers), target), lab.payload,
                   ("Tus-Resumable: 1.0.0", "Upload-Offset: 0", "Content-Type: application/offset+octet-stream", *headers))

    return Contender(name, server, move, what, ours)


def tus_create(server: Server, headers: tuple[str, ...], target: str) -> str:
    """A new tus upload's address (tus 1.0, creation)."""
    with http.Connection(server.host, server.port) as connection:
        answer = connection.exchange_whole([http.head("POST", target, 0, headers)])
    location = re.search(rb"\r\nlocation:[ \t]*(?:https?://[^/]+)?(\S+)", answer, re.IGNORECASE)
    assert location, answer
    return server.url + location[1].decode()


def _targets(rows: list[Row]) -> list[Target]:
    ours, nginx, tusd = find(rows, "Carboy"), find(rows, "nginx DAV PUT"), find(rows, "tusd PATCH")
    targets = []
    if ours and nginx:
        ratio = ours.figures["cpu"].over(nginx.figures["cpu"])
        targets.append(Target("raw PUT of 1 GiB: CPU / nginx DAV PUT", ratio, 1.15, 1.0))
        if not tusd:
            targets.append(Target("raw PUT of 1 GiB: CPU / tusd", ratio.by(1 / TUSD_PER_NGINX), 0.7, 0.6, note=DERIVED))
    if ours and tusd:
        targets.append(Target("raw PUT of 1 GiB: CPU / tusd", ours.figures["cpu"].over(tusd.figures["cpu"]), 0.7, 0.6))
    return targets


DERIVED = f"tusd was not measured in this run; it is taken as {TUSD_PER_NGINX} × nginx, as measured earlier on such a machine"
