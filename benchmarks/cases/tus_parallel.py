"""1 GiB by tus in 8 parts at once, and the request that puts them together; against the same in one PATCH."""

from __future__ import annotations

import mmap
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.cases.raw_put import tus_create
from benchmarks.clients import http
from benchmarks.lab import MIB, Lab, Stage, round_name
from benchmarks.outcome import Figure, Outcome, Row, Series
from benchmarks.servers.carboy import Carboy

NAME = "tus_parallel"
TITLE = "1 GiB by tus, in 8 parts at once"
PARTS = 8
_FIGURES = (Figure("wall", "wall s / GiB"), Figure("final", "final upload, ms", 1), Figure("cpu", "CPU s / GiB"))
_VERSION = "Tus-Resumable: 1.0.0"


def run(lab: Lab) -> Outcome:
    """Measure it."""
    found: dict[int, list[tuple[float, float, float]]] = {PARTS: [], 1: []}
    with Stage(lab) as stage, lab.payload.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
        server = stage.ours(Carboy)
        with memoryview(content) as bytes_:
            for number in range(-1, lab.rounds):
                for parts, results in found.items():
                    wall, final, cpu = _measure(lab, server, bytes_, parts)
                    lab.say(f"   {round_name(number)}: {parts} at once: {wall:.2f} wall s/GiB, {final:.1f} ms of them for the final upload, "
                            f"{cpu:.2f} CPU s/GiB")
                    if number >= 0:
                        results.append((wall, final, cpu))
    rows = [_row(f"Carboy, {parts} parts at once" if parts > 1 else "Carboy, 1 part", results, parts > 1) for parts, results in found.items()]
    how = ("`Upload-Concat: partial`, a PATCH of each part over a connection of its own, all at once; then `Upload-Concat: final`, whose "
           "answer comes when the file is there. One server process.")
    return Outcome(NAME, TITLE, how, _FIGURES, rows, (), {"@tus/server": "has no concatenation"}, stage.notes(), plot="wall")


def _row(name: str, results: list[tuple[float, float, float]], ours: bool) -> Row:
    return Row(name, {figure.key: Series.of(values) for figure, values in zip(_FIGURES, zip(*results, strict=True), strict=True)}, ours=ours)


def _measure(lab: Lab, server: Carboy, content: memoryview, parts: int) -> tuple[float, float, float]:
    stride = -(-lab.size // parts)
    before, started = server.cpu(), time.perf_counter()
    with ThreadPoolExecutor(parts) as threads:
        addresses = list(threads.map(lambda at: _send(server, content[at:at + stride]), range(0, lab.size, stride)))
    sent = time.perf_counter()
    tus_create(server, (_VERSION, f"Upload-Concat: final;{' '.join(addresses)}", *server.headers), "/tus/main/")
    done = time.perf_counter()
    cpu = server.cpu() - before
    assert server.largest() == lab.size, f"{server.largest() / MIB} MiB"
    server.discard()
    return (done - started) * lab.scale(), (done - sent) * 1000, cpu * lab.scale()


def _send(server: Carboy, part: memoryview) -> str:
    """A part, all of it; its address."""
    url = tus_create(server, (_VERSION, "Upload-Concat: partial", f"Upload-Length: {len(part)}", *server.headers), "/tus/main/")
    address = url.removeprefix(server.url)
    fields = (_VERSION, "Upload-Offset: 0", "Content-Type: application/offset+octet-stream", *server.headers)
    with http.Connection(server.host, server.port) as connection:
        connection.exchange_whole([http.head("PATCH", address, len(part), fields), part])
    return address
