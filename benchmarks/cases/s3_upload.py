"""1 GiB into S3: ours by raw body, form and tus against the tutorial's Flask form, and against boto3 from a file."""

from __future__ import annotations

from dataclasses import replace

from benchmarks import procs
from benchmarks.cases.form import carboy_form
from benchmarks.cases.raw_put import carboy_put, tus_patch
from benchmarks.clients import curl, http
from benchmarks.lab import CPU, MIB, WALL, Contender, Lab, Stage, find, take_turns
from benchmarks.outcome import Figure, Outcome, Row, Series, Target
from benchmarks.servers.carboy import Carboy
from benchmarks.servers.s3 import CarboyS3, FlaskS3, Swift

NAME = "s3_upload"
TITLE = "1 GiB into S3"
ABOVE = Figure("above", "peak above idle, MiB", 1)
HOW = ("The server's own processes alone are counted, not the S3 server's; on a machine of two cores that one takes most of the wall time. "
       "Idle is after a transfer of 4 KiB, the peak is the kernel's high-water mark (VmHWM).")
_FLASK = "Flask form, boto3 `upload_fileobj`"
_OURS = {"Carboy, raw body": "raw PUT", "Carboy, form": "form", "Carboy, tus PATCH": "tus PATCH"}
_WHAT = "CRC-64/NVME proved by S3, in the catalog"


def run(lab: Lab) -> Outcome:
    """Measure it."""
    with Stage(lab) as stage:
        swift = stage.ours(Swift, "swift")
        gauges = [Gauge(contender) for contender in _contenders(stage, swift)]
        rows = with_peaks(take_turns(stage, [gauge.contender for gauge in gauges]), gauges)
        return Outcome(NAME, TITLE, f"`curl -T`, `curl -F` and `curl -X PATCH -T` of one file, one server process, one connection. {HOW}",
                       [CPU, WALL, ABOVE], rows, _targets(rows), stage.missing, [*stage.notes(), swift.version], plot="cpu")


def _contenders(stage: Stage, swift: Swift) -> list[Contender]:
    lab, (raw, form, tus) = stage.lab, _OURS
    servers = {name: stage.ours(lambda folder: CarboyS3(folder, swift), name) for name in _OURS}
    for server in servers.values():
        touch(server)
    found = [carboy_put(lab, servers[raw], raw, _WHAT), carboy_form(lab, form, servers[form], _WHAT),
             tus_patch(lab, tus, servers[tus], f"{_WHAT}, resumable", headers=servers[tus].headers, target="/tus/main/", ours=True)]
    if flask := stage.peer(lambda folder: FlaskS3(folder, swift, lab.payload), _FLASK):
        _touch_form(flask)
        found.append(Contender(_FLASK, flask, lambda _: curl.form(f"{flask.url}/upload", lab.payload), "the body is written to a file first"))
    stored = "boto3 `upload_file`, from a file"
    if boto := stage.peer(lambda folder: FlaskS3(folder, swift, lab.payload), stored):
        found.append(Contender(stored, boto, lambda _: curl.post(f"{boto.url}/stored"), "nothing is received"))
    return found


def touch(server: Carboy) -> None:
    """A transfer of 4 KiB: what is set up once is there then."""
    with http.Connection(server.host, server.port) as connection:
        connection.exchange(http.head("PUT", "/files/main/touch.bin", 4096, server.headers) + bytes(4096))
    curl.get(server.file_url("touch.bin"), 4096, server.headers, follow=True)


def _touch_form(server: FlaskS3) -> None:
    body = http.form_body([("file", "touch.bin", bytes(4096))])
    with http.Connection(server.host, server.port) as connection:
        connection.exchange(http.head("POST", "/upload", len(body), (http.FORM,)) + body)


class Gauge:
    """A contender whose peaks of memory are noted, round by round."""

    def __init__(self, contender: Contender) -> None:
        self._inner = contender
        self._idle = procs.rss(contender.server.worker())
        self.peaks: list[float] = []
        self.contender = replace(contender, move=self._move)

    def _move(self, number: int) -> None:
        worker = self._inner.server.worker()
        procs.reset_peak_rss(worker)
        self._inner.move(number)
        self.peaks.append((procs.peak_rss(worker) - self._idle) / MIB)


def with_peaks(rows: list[Row], gauges: list[Gauge]) -> list[Row]:
    """The rows with the peaks of the counted rounds."""
    peaks = {gauge.contender.name: gauge.peaks[1:] for gauge in gauges}
    return [replace(row, figures={**row.figures, "above": Series.of(peaks[row.name])}) for row in rows]


def _targets(rows: list[Row]) -> list[Target]:
    flask = find(rows, _FLASK)
    ours = [(words, row) for name, words in _OURS.items() if (row := find(rows, name))]
    cpu = [Target(f"{words} of 1 GiB into S3: CPU / Flask form with `upload_fileobj`", row.figures["cpu"].over(flask.figures["cpu"]), 0.7)
           for words, row in ours if flask]
    return cpu + [Target(f"{words} of 1 GiB into S3: peak above idle", row.figures["above"], 64, unit="MiB") for words, row in ours]
