"""100 uploads into S3 at once: the memory of the process that takes them. All bytes are compared afterwards."""

from __future__ import annotations

import mmap
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from threading import Barrier

from benchmarks import procs
from benchmarks.cases.memory import Sampler
from benchmarks.cases.raw_put import tus_create
from benchmarks.cases.s3_upload import touch
from benchmarks.clients import http
from benchmarks.clients.curl import TransferFailed
from benchmarks.lab import GIB, MIB, Lab, Stage
from benchmarks.outcome import Figure, Outcome, Row, Series, Target
from benchmarks.servers.s3 import CarboyS3, Swift

NAME = "s3_many"
TITLE = "100 uploads into S3 at once"
_UPLOADS = 100
_BUDGET = 256
"""MiB of memory that Carboy's settings give a process for parts on their way, by default."""
_EACH = 1.5
"""MiB for each connection: a buffer of 1 MiB to receive into, and its thread."""
_COLUMNS = [Figure("idle", "idle RSS, MiB", 1), Figure("peak", "peak RSS, MiB", 1), Figure("pss", "peak PSS, MiB", 1),
            Figure("above", "peak above idle, MiB", 1), Figure("spool", "temporary files at most, MiB", 0), Figure("cpu", "CPU s / GiB"),
            Figure("wall", "wall s", 1)]
_TUS = ("Tus-Resumable: 1.0.0", "Upload-Offset: 0", "Content-Type: application/offset+octet-stream")


@dataclass(frozen=True, slots=True)
class Crowd:
    """Uploads over as many connections, all begun before one goes on. Each has other bytes: the payload from another place on."""

    server: CarboyS3
    content: memoryview
    size: int
    tus: bool

    def run(self) -> None:
        """All are answered 2xx when this returns, or it raises TransferFailed."""
        together = Barrier(_UPLOADS)
        with ThreadPoolExecutor(_UPLOADS) as pool:
            list(pool.map(lambda number: self._upload(number, together), range(_UPLOADS)))

    def _upload(self, number: int, together: Barrier) -> None:
        server = self.server
        method, target, extra = "PUT", f"/files/main/many/{number}.bin", ()
        if self.tus:
            headers = ("Tus-Resumable: 1.0.0", f"Upload-Length: {self.size}", *server.headers)
            method, target, extra = "PATCH", tus_create(server, headers, "/tus/main/").removeprefix(server.url), _TUS
        with http.Connection(server.host, server.port) as connection:
            together.wait()
            connection.exchange_whole([http.head(method, target, self.size, (*server.headers, *extra)), *self._pieces(number)])

    def _pieces(self, number: int) -> list[memoryview]:
        """Small ones: a socket's timeout is for each."""
        content = self.bytes_of(number)
        return [content[at:at + MIB] for at in range(0, self.size, MIB)]

    def bytes_of(self, number: int) -> memoryview:
        start = number * 4099 * 8 % (len(self.content) - self.size)
        return self.content[start:start + self.size]


def run(lab: Lab) -> Outcome:
    """Measure it."""
    size = lab.pick(50, 12) * MIB
    rows = [_row(lab, f"Carboy, {_UPLOADS} {words} of {size // MIB} MiB", size, tus)
            for words, tus in (("raw bodies", False), ("tus PATCHes", True))]
    targets = [Target(f"{row.name.removeprefix('Carboy, ')} into S3 at once: peak above idle", row.figures["above"],
                      _BUDGET + _UPLOADS * _EACH, unit="MiB") for row in rows]
    how = (f"One server process, a fresh one for each row, with its default of {_BUDGET} MiB for parts on their way; what finds no room waits "
           "in temporary files, which are on tmpfs here. Idle is after a transfer of 4 KiB. Peak RSS is the kernel's own high-water mark "
           "(VmHWM), PSS and temporary files are sampled. All bytes are read from S3 and compared afterwards.")
    return Outcome(NAME, TITLE, how, _COLUMNS, rows, targets)


def _row(lab: Lab, name: str, size: int, tus: bool) -> Row:
    with Stage(lab) as stage, lab.payload.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
        swift = stage.ours(Swift, "swift")
        server = stage.ours(lambda folder: CarboyS3(folder, swift))
        touch(server)
        swift.discard()
        with memoryview(content) as view:
            crowd = Crowd(server, view, size, tus)
            figures = _measured(crowd)
            _verify(crowd, swift)
        swift.discard()
    lab.say(f"   {name}: " + ", ".join(f"{key} {value:.1f}" for key, value in figures.items()) + "; all bytes are right")
    return Row(name, {key: Series.of([value]) for key, value in figures.items()}, ours=True)


def _measured(crowd: Crowd) -> dict[str, float]:
    server = crowd.server
    worker = server.worker()
    idle, cpu, started = procs.rss(worker), server.cpu(), time.perf_counter()
    procs.reset_peak_rss(worker)
    with Sampler(worker) as sampler:
        crowd.run()
    peak = procs.peak_rss(worker)
    return {"idle": idle / MIB, "peak": peak / MIB, "pss": sampler.highest / MIB, "above": (peak - idle) / MIB,
            "spool": sampler.unlinked / MIB, "cpu": (server.cpu() - cpu) / (_UPLOADS * crowd.size) * GIB,
            "wall": time.perf_counter() - started}


def _verify(crowd: Crowd, swift: Swift) -> None:
    """Each upload is there once, to the byte. Raises TransferFailed."""
    wanted = {bytes(crowd.bytes_of(number)[:64]): crowd.bytes_of(number) for number in range(_UPLOADS)}
    keys = swift.objects()
    for key in keys:
        pieces = swift.pieces(key)
        piece = next(pieces)
        rest = wanted.pop(piece[:64], memoryview(b""))
        for got in chain([piece], pieces):
            if rest[:len(got)] != got:
                raise TransferFailed(f"object {key} has other bytes than were sent")
            rest = rest[len(got):]
        if rest:
            raise TransferFailed(f"object {key} lacks {len(rest)} bytes")
    if wanted:
        raise TransferFailed(f"{len(wanted)} uploads are not in S3, which has {len(keys)} objects")
