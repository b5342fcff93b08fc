"""Memory of a worker during one upload of 10 GiB, as a raw body and as a form, against the worker at rest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from threading import Event, Thread

from benchmarks import procs
from benchmarks.clients import http
from benchmarks.lab import GIB, MIB, Lab, Stage
from benchmarks.outcome import Figure, Outcome, Row, Series, Target
from benchmarks.servers.carboy import Carboy

NAME = "memory"
TITLE = "Memory of a worker during one big upload"
_COLUMNS = [Figure("idle", "idle RSS, MiB", 1), Figure("peak", "peak RSS, MiB", 1), Figure("pss", "peak PSS, MiB", 1),
            Figure("above", "peak above idle, MiB", 1)]


def run(lab: Lab) -> Outcome:
    """Measure it."""
    size = lab.pick(10, 2) * GIB
    kinds = {f"Carboy, raw body of {size // GIB} GiB": False, f"Carboy, form of {size // GIB} GiB": True}
    rows = [_row(lab, name, size, form) for name, form in kinds.items()]
    targets = [Target(f"memory during one upload of {size // GIB} GiB above idle: {'form' if form else 'raw body'}",
                      row.figures["above"], 16, unit="MiB") for row, form in zip(rows, kinds.values(), strict=True)]
    how = ("One server process, a fresh one for each row; idle is after one upload of 4 KiB. "
           "Peak RSS is the kernel's own high-water mark (VmHWM), PSS is sampled.")
    return Outcome(NAME, TITLE, how, _COLUMNS, rows, targets)


def _row(lab: Lab, name: str, size: int, form: bool) -> Row:
    with Stage(lab) as stage:
        server = stage.ours(Carboy)
        _upload(server, 4096, form)
        worker = server.worker()
        idle = procs.rss(worker)
        procs.reset_peak_rss(worker)
        with Sampler(worker) as sampler:
            _upload(server, size, form)
        peak = procs.peak_rss(worker)
        assert server.largest() == size, f"kept {server.largest()} bytes of {size}"
        server.discard()
    figures = {"idle": idle, "peak": peak, "pss": sampler.highest, "above": peak - idle}
    lab.say(f"   {name}: " + ", ".join(f"{key} {value / MIB:.1f} MiB" for key, value in figures.items()))
    return Row(name, {key: Series.of([value / MIB]) for key, value in figures.items()}, ours=True)


class Sampler:
    """The highest PSS of a process, and the most bytes of its unlinked files, while the block runs, looked at ten times a second."""

    def __init__(self, pid: int) -> None:
        self._pid, self._over, self.highest, self.unlinked = pid, Event(), 0, 0
        self._thread = Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.1):
            self.highest = max(self.highest, procs.pss(self._pid))
            self.unlinked = max(self.unlinked, procs.unlinked(self._pid))

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()


def _upload(server: Carboy, size: int, form: bool) -> None:
    opening, closing = http.form_frame({})
    opening, closing = (opening + http.file_header("file", "big.bin"), b"\r\n" + closing) if form else (b"", b"")
    method, target, extra = ("POST", "/files/main/memory/", (http.FORM,)) if form else ("PUT", "/files/main/memory/big.bin", ())
    head = http.head(method, target, len(opening) + size + len(closing), (*server.headers, *extra))
    with http.Connection(server.host, server.port) as connection:
        connection.exchange_whole(chain([head + opening], _blocks(size), [closing]))


def _blocks(size: int) -> Iterator[memoryview]:
    block = memoryview(os.urandom(MIB))
    for start in range(0, size, MIB):
        yield block[:min(MIB, size - start)]
