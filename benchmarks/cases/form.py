"""A multipart form of 1 GiB: ours against our raw PUT, Flask's `save()` and Starlette's `form()`."""

from __future__ import annotations

from benchmarks.cases.raw_put import carboy_put
from benchmarks.clients import curl
from benchmarks.lab import CPU, WALL, Contender, Lab, Stage, find, take_turns
from benchmarks.outcome import Outcome, Row, Target
from benchmarks.servers.base import Server
from benchmarks.servers.carboy import Carboy
from benchmarks.servers.python import Flask, Starlette

NAME = "form"
TITLE = "1 GiB as a multipart form"
_FLASK, _STARLETTE = "Flask `save()`", "Starlette `form()`"


def run(lab: Lab) -> Outcome:
    """Measure it."""
    with Stage(lab) as stage:
        ours = stage.ours(Carboy)
        contenders = [carboy_form(lab, "Carboy, form", ours),
                      carboy_put(lab, ours, "Carboy, raw body")]
        for name, make in ((_FLASK, Flask), (_STARLETTE, Starlette)):
            if server := stage.peer(make, name):
                contenders.append(_form(lab, name, server, "/upload", "no check, no sync; the body is written twice"))
        rows = take_turns(stage, contenders)
        return Outcome(NAME, TITLE, "`curl -F file=@…` of one file, one server process, one connection.", [CPU, WALL], rows, _targets(rows),
                       stage.missing, stage.notes(), plot="cpu")


def carboy_form(lab: Lab, name: str, server: Carboy, what: str = "CRC-64/NVME, synced, in the catalog") -> Contender:
    """Our own form."""
    return _form(lab, name, server, "/files/main/form/", what)


def _form(lab: Lab, name: str, server: Server, target: str, what: str) -> Contender:
    headers = server.headers if isinstance(server, Carboy) else ()
    return Contender(name, server, lambda _: curl.form(server.url + target, lab.payload, headers), what, isinstance(server, Carboy))


def _targets(rows: list[Row]) -> list[Target]:
    limits = (("Carboy, raw body", "our own raw PUT", 1.3), (_FLASK, _FLASK, 0.4), (_STARLETTE, _STARLETTE, 0.4))
    ours = rows[0].figures["cpu"]
    return [Target(f"form of 1 GiB: CPU / {words}", ours.over(other.figures["cpu"]), limit)
            for name, words, limit in limits if (other := find(rows, name))]
