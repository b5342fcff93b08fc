"""50 files of 4 KiB in one form, against one request for each: one sync and one commit serve all 50."""

from __future__ import annotations

import os

from benchmarks.cases.small_files import CONNECTIONS, SIZE, put_request
from benchmarks.clients import http, many
from benchmarks.lab import Lab, Stage, round_name
from benchmarks.outcome import Figure, Outcome, Row, Series, Target
from benchmarks.servers.carboy import Carboy

NAME = "form_of_50"
TITLE = "50 files of 4 KiB in one form"
_FILES = 50


def run(lab: Lab) -> Outcome:
    """Measure it."""
    rates: dict[tuple[str, int], list[float]] = {}
    with Stage(lab) as stage:
        server = stage.ours(Carboy)
        for number in range(-1, lab.rounds):
            for connections in (1, CONNECTIONS):
                forms = lab.pick(40, 10) * (1 if connections == 1 else 4)
                for kind, files in (("form", forms * _FILES), ("request", forms * _FILES // 5)):
                    rate = _rate(server, kind, f"{number + 1}-{connections}", files, connections)
                    lab.say(f"   {round_name(number)}: one {kind}, {connections} connection(s): {rate:.0f} files/s")
                    if number >= 0:
                        rates.setdefault((kind, connections), []).append(rate)
    return _outcome(rates)


def _rate(server: Carboy, kind: str, prefix: str, files: int, connections: int) -> float:
    names = [f"{kind}-{prefix}-{index}.bin" for index in range(files)]
    if kind == "request":
        requests = [put_request(name, server.headers) for name in names]
    else:
        requests = [_form(server, names[start:start + _FILES]) for start in range(0, files, _FILES)]
    return files / many.send_all(server.host, server.port, requests, connections).seconds


def _form(server: Carboy, names: list[str]) -> bytes:
    body = http.form_body(("file", name, os.urandom(SIZE)) for name in names)
    return http.head("POST", "/files/main/small/", len(body), (http.FORM, *server.headers)) + body


def _outcome(rates: dict[tuple[str, int], list[float]]) -> Outcome:
    words = {1: "1 connection", CONNECTIONS: f"{CONNECTIONS} connections"}
    kinds = {"form": f"one form of {_FILES}", "request": "one request each"}
    rows = [Row(f"Carboy, {kinds[kind]}, {words[connections]}", {"rate": Series.of(values)}, ours=kind == "form")
            for (kind, connections), values in rates.items()]
    targets = [Target(f"50 files of 4 KiB in one form: files/s / one request each, {words[connections]}",
                      Series.of(rates["form", connections]).over(Series.of(rates["request", connections])), 5, at_least=True)
               for connections in (1, CONNECTIONS)]
    return Outcome(NAME, TITLE, "One server process, kept-alive connections.", [Figure("rate", "files / s", 0)], rows, targets, plot="rate")
