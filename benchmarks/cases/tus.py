"""1 GiB in one PATCH of tus: ours against our own raw PUT, nginx and the other tus servers."""

from __future__ import annotations

from benchmarks.cases.raw_put import DERIVED, TUSD_PER_NGINX, carboy_put, raw_put, tus_patch
from benchmarks.lab import CPU, WALL, Contender, Lab, Stage, find, take_turns
from benchmarks.outcome import Outcome, Row, Target
from benchmarks.servers.carboy import Carboy
from benchmarks.servers.nginx import Nginx
from benchmarks.servers.tus import Tusd, TusServer

NAME = "tus"
TITLE = "1 GiB by tus, in one PATCH"
OURS = "Carboy, tus PATCH"


def run(lab: Lab) -> Outcome:
    """Measure it."""
    with Stage(lab) as stage:
        rows = take_turns(stage, contenders(stage))
        return Outcome(NAME, TITLE, "A POST that creates the upload, then `curl -X PATCH -T` of one file; one server process, one connection.",
                       [CPU, WALL], rows, _targets(rows), stage.missing, stage.notes(), plot="cpu")


def contenders(stage: Stage) -> list[Contender]:
    """All that can be had."""
    ours = stage.ours(Carboy)
    what = "CRC-64/NVME, synced, in the catalog"
    found = [tus_patch(stage.lab, OURS, ours, f"{what}, resumable from each half second", headers=ours.headers, target="/tus/main/", ours=True),
             carboy_put(stage.lab, ours, "Carboy, raw PUT", what)]
    if nginx := stage.peer(Nginx, "nginx DAV PUT"):
        found.append(raw_put(stage.lab, "nginx DAV PUT", nginx, "no check, no sync"))
    for name, tus in (("@tus/server PATCH", TusServer), ("tusd PATCH", Tusd)):
        if server := stage.peer(tus, name):
            found.append(tus_patch(stage.lab, name, server))
    return found


def _targets(rows: list[Row]) -> list[Target]:
    ours, nginx, tusd = find(rows, OURS), find(rows, "nginx DAV PUT"), find(rows, "tusd PATCH")
    targets = []
    if ours and nginx:
        ratio = ours.figures["cpu"].over(nginx.figures["cpu"])
        targets.append(Target("tus PATCH of 1 GiB: CPU / nginx DAV PUT", ratio, 1.15, 1.0))
        if not tusd:
            targets.append(Target("tus PATCH of 1 GiB: CPU / tusd", ratio.by(1 / TUSD_PER_NGINX), 0.7, 0.6, note=DERIVED))
    if ours and tusd:
        targets.append(Target("tus PATCH of 1 GiB: CPU / tusd", ours.figures["cpu"].over(tusd.figures["cpu"]), 0.7, 0.6))
    return targets
