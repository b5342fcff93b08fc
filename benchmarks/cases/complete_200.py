"""Completing an upload of 1 GiB in 200 parts: the complete call alone, against that of an upload of 1 MiB."""

from __future__ import annotations

import mmap
import time

from benchmarks.clients import http
from benchmarks.lab import MIB, Lab, Stage, round_name
from benchmarks.outcome import Figure, Outcome, Row, Series, Target
from benchmarks.servers.carboy import Carboy

NAME = "complete_200"
TITLE = "Completing an upload of 200 parts"
_PARTS = 200
_SMALL_PER_ROUND = 5


def run(lab: Lab) -> Outcome:
    """Measure it."""
    big, small, crumbs = f"{lab.size / MIB:.0f} MiB in {_PARTS} parts", "1 MiB in 1 part", f"1 MiB in {_PARTS} parts"
    times: dict[str, list[float]] = {big: [], small: [], crumbs: []}
    with Stage(lab) as stage, lab.payload.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
        server = stage.ours(Carboy)
        uploads = Uploads(server, memoryview(content))
        for number in range(-1, lab.rounds):
            for name, size, parts in ((big, lab.size, _PARTS), (small, MIB, 1), (crumbs, MIB, _PARTS)):
                taken = [uploads.complete(f"{name}-{number}-{again}.bin".replace(" ", "-"), size, parts)
                         for again in range(1 if size > MIB else _SMALL_PER_ROUND)]
                lab.say(f"   {round_name(number)}: {name}: completed in {min(taken):.2f}–{max(taken):.2f} ms")
                if number >= 0:
                    times[name].append(sorted(taken)[len(taken) // 2])
            server.discard()
        uploads.close()
    rows = [Row(f"Carboy, {name}", {"ms": Series.of(values)}, ours=name == big) for name, values in times.items()]
    target = Target("completing 1 GiB in 200 parts: time / completing 1 MiB", rows[0].figures["ms"].over(rows[1].figures["ms"]), 1.2)
    return Outcome(NAME, TITLE, "`POST /chunk-upload` with `chunk_size` for each part, then `POST /chunk-upload/complete`, which alone is "
                   f"timed. Of the small ones the median of {_SMALL_PER_ROUND} a round.",
                   [Figure("ms", "complete, ms")], rows, [target], plot="ms")


class Uploads:
    """Chunked uploads over one connection."""

    def __init__(self, server: Carboy, content: memoryview) -> None:
        self._connection, self._headers = http.Connection(server.host, server.port), server.headers
        self._content = content

    def complete(self, name: str, size: int, parts: int) -> float:
        """Upload in ``parts``; milliseconds of the complete call."""
        stride = -(-size // parts)
        for index in range(parts):
            self._part(name, stride, index, self._content[index * stride:min(size, (index + 1) * stride)])
        body = http.form_body([], {"file_id": name, "total_chunks": str(parts)})
        request = http.head("POST", "/chunk-upload/complete", len(body), (http.FORM, *self._headers)) + body
        started = time.perf_counter()
        self._connection.exchange(request)
        return (time.perf_counter() - started) * 1000

    def _part(self, name: str, stride: int, index: int, content: memoryview) -> None:
        opening, closing = http.form_frame({"chunk_size": str(stride), "index": str(index), "file_id": name})
        opening += http.file_header("chunk", "blob")
        closing = b"\r\n" + closing
        length = len(opening) + len(content) + len(closing)
        self._connection.exchange(http.head("POST", "/chunk-upload", length, (http.FORM, *self._headers)) + opening, content, closing)

    def close(self) -> None:
        """Hang up."""
        self._connection.__exit__()
        self._content.release()
