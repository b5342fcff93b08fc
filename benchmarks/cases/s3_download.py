"""1 GiB from S3: streamed through us, and by redirect, against what Flask code makes of it with boto3."""

from __future__ import annotations

from benchmarks.cases.s3_upload import ABOVE, HOW, Gauge, touch, with_peaks
from benchmarks.clients import curl
from benchmarks.lab import CPU, WALL, Contender, Lab, Stage, find, take_turns
from benchmarks.outcome import Outcome, Row, Target
from benchmarks.servers.s3 import CarboyS3, FlaskS3, Swift

NAME = "s3_download"
TITLE = "1 GiB from S3"
_STREAMED, _REDIRECTED = "Carboy, streamed", "Carboy, redirected to S3"
_WHOLE = "Flask, boto3 `download_fileobj`, `send_file`"
_PEERS = {_WHOLE: ("download", "all of it is in a file before the first byte is sent"),
          "Flask, boto3 `get_object`, streamed": ("stream", "pieces of 1 MiB; no check, cut where S3 breaks off")}


def run(lab: Lab) -> Outcome:
    """Measure it."""
    with Stage(lab) as stage:
        swift = stage.ours(Swift, "swift")
        gauges = [Gauge(contender) for contender in _contenders(stage, swift)]
        rows = with_peaks(take_turns(stage, [gauge.contender for gauge in gauges]), gauges)
        return Outcome(NAME, TITLE, f"`curl -o /dev/null`, one server process, one connection. {HOW}", [CPU, WALL, ABOVE], rows, _targets(rows),
                       stage.missing, [*stage.notes(), swift.version], plot="cpu")


def _contenders(stage: Stage, swift: Swift) -> list[Contender]:
    found = [_ours(stage, swift, _STREAMED, "CRC-64/NVME; taken up again where S3 breaks off", "false"),
             _ours(stage, swift, _REDIRECTED, "the client is given a signed address", "true")]
    # The peers read the same object: one in parts costs the S3 server, and who reads it, more than one in a piece.
    key = max(swift.objects().items(), key=lambda found: found[1])[0]
    for name, (route, what) in _PEERS.items():
        if server := stage.peer(lambda folder: FlaskS3(folder, swift, stage.lab.payload), name):
            found.append(_get(stage.lab, name, server, f"{server.url}/{route}/{key}", what))
    return found


def _ours(stage: Stage, swift: Swift, name: str, what: str, redirect: str) -> Contender:
    server = stage.ours(lambda folder: CarboyS3(folder, swift, variables={"CARBOY_STORAGES__BULK__REDIRECT": redirect}), name)
    touch(server)
    url = server.file_url("download.bin")
    curl.put(url, stage.lab.payload, server.headers)
    server.restart()  # what the upload took isn't the download's
    touch(server)
    return _get(stage.lab, name, server, server.file_url("download.bin"), what, server.headers)


def _get(lab: Lab, name: str, server: CarboyS3 | FlaskS3, url: str, what: str, headers: tuple[str, ...] = ()) -> Contender:
    return Contender(name, server, lambda _: curl.get(url, lab.size, headers, follow=True), what, isinstance(server, CarboyS3), stores=False)


def _targets(rows: list[Row]) -> list[Target]:
    ours = rows[0]
    whole = find(rows, _WHOLE)
    cpu = [Target(f"download of 1 GiB from S3: CPU / {_WHOLE}", ours.figures["cpu"].over(whole.figures["cpu"]), 1.0)] if whole else []
    return [*cpu, Target("download of 1 GiB from S3: peak above idle", ours.figures["above"], 16, unit="MiB")]
