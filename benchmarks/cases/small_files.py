"""4 KiB files, one request each, over 16 kept-alive connections, two server processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.clients import http, many
from benchmarks.lab import Lab, Stage, find, round_name
from benchmarks.outcome import Figure, Outcome, Row, Series, Target
from benchmarks.servers.base import Server
from benchmarks.servers.carboy import Carboy
from benchmarks.servers.python import Flask

NAME = "small_files"
TITLE = "4 KiB files, one request each"
SIZE = 4096
CONNECTIONS = 16
RATE, COST = Figure("rate", "files / s", 0), Figure("cpu", "CPU ms / file", 3)
_FLASK = "Flask `save()`"


@dataclass(frozen=True, slots=True)
class Sender:
    """A way of sending one small file: ``request(name)`` is the whole request."""

    name: str
    server: Server
    request: Callable[[str], bytes]
    what: str
    ours: bool = False


def run(lab: Lab) -> Outcome:
    """Measure it."""
    count = lab.pick(8000, 1000)
    with Stage(lab) as stage:
        rows = take_turns(lab, _senders(stage), count)
        flask = find(rows, _FLASK)
        targets = [Target("4 KiB uploads, 2 workers, 16 connections: files/s / Flask `save()`",
                          rows[0].figures["rate"].over(flask.figures["rate"]), 0.5, 1.0, at_least=True)] if flask else []
        how = f"{count} files a round over {CONNECTIONS} kept-alive connections, two server processes."
        return Outcome(NAME, TITLE, how, [RATE, COST], rows, targets, stage.missing, stage.notes(), plot="rate")


def _senders(stage: Stage) -> list[Sender]:
    ours = stage.ours(lambda folder: Carboy(folder, 2))
    durable = "CRC-64/NVME, synced, in the catalog"
    senders = [Sender("Carboy, raw body", ours, lambda name: put_request(name, ours.headers), durable, True),
               Sender("Carboy, form", ours, lambda name: form_request(name, "/files/main/small/", ours.headers), durable, True)]
    if flask := stage.peer(lambda folder: Flask(folder, 2), _FLASK):
        senders += [Sender(_FLASK, flask, lambda name: form_request(name, "/upload"), "no check, no sync, no record"),
                    Sender("Flask, raw body", flask, _flask_raw, "no check, no sync, no record")]
    return senders


def put_request(name: str, headers: tuple[str, ...] = ()) -> bytes:
    """A raw PUT to ours."""
    return http.head("PUT", f"/files/main/small/{name}", SIZE, headers) + os.urandom(SIZE)


def form_request(name: str, target: str, headers: tuple[str, ...] = ()) -> bytes:
    """A form of one file."""
    body = http.form_body([("file", name, os.urandom(SIZE))])
    return http.head("POST", target, len(body), (http.FORM, *headers)) + body


def _flask_raw(name: str) -> bytes:
    return http.head("PUT", f"/raw/{name}", SIZE) + os.urandom(SIZE)


def take_turns(lab: Lab, senders: list[Sender], count: int) -> list[Row]:
    """A B C A B C …, after a round that isn't counted."""
    rates: dict[str, list[float]] = {sender.name: [] for sender in senders}
    costs: dict[str, list[float]] = {sender.name: [] for sender in senders}
    for number in range(-1, lab.rounds):
        for sender in senders:
            names = (f"{abs(hash(sender.name)) % 997}-{number + 1}-{index}.bin" for index in range(count))
            requests, before = [sender.request(name) for name in names], sender.server.cpu()
            load = many.send_all(sender.server.host, sender.server.port, requests, CONNECTIONS)
            cost = (sender.server.cpu() - before) / count * 1000
            lab.say(f"   {round_name(number)}: {sender.name}: {count / load.seconds:.0f} files/s, "
                    f"{cost:.3f} CPU ms each (sending took {load.own_cpu / load.seconds:.0%} of a core)")
            if number >= 0:
                rates[sender.name].append(count / load.seconds)
                costs[sender.name].append(cost)
    return [Row(sender.name, {"rate": Series.of(rates[sender.name]), "cpu": Series.of(costs[sender.name])}, sender.what, sender.ours)
            for sender in senders]
