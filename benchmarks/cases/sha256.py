"""A raw PUT whose SHA-256 the client declared, so that it is computed as the bytes come."""

from __future__ import annotations

import hashlib
from pathlib import Path

from benchmarks.cases.raw_put import DERIVED, TUSD_PER_NGINX, carboy_put
from benchmarks.clients import curl
from benchmarks.lab import CPU, WALL, Contender, Lab, Stage, find, take_turns
from benchmarks.outcome import Outcome, Row, Target
from benchmarks.servers.carboy import Carboy, repr_digest
from benchmarks.servers.nginx import Nginx

NAME = "sha256"
TITLE = "1 GiB as a raw body with a declared SHA-256"
_WITH, _WITHOUT, _NGINX = "Carboy, SHA-256 declared", "Carboy, none declared", "nginx DAV PUT"


def run(lab: Lab) -> Outcome:
    """Measure it."""
    declared = repr_digest(_sha256(lab.payload))
    with Stage(lab) as stage:
        ours = stage.ours(Carboy)
        contenders = [carboy_put(lab, ours, _WITH, "CRC-64/NVME and SHA-256", (declared,)), carboy_put(lab, ours, _WITHOUT)]
        if nginx := stage.peer(Nginx, _NGINX):
            contenders.append(Contender(_NGINX, nginx, lambda number: curl.put(f"{nginx.url}/{number}.bin", lab.payload), "no check"))
        rows = take_turns(stage, contenders)
        return Outcome(NAME, TITLE, "`curl -T` with and without `Repr-Digest: sha-256=…`.", [CPU, WALL], rows, _targets(rows),
                       stage.missing, stage.notes(), plot="cpu")


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _targets(rows: list[Row]) -> list[Target]:
    checked, plain, nginx = rows[0].figures, rows[1].figures, find(rows, _NGINX)
    targets = [Target("declared SHA-256: wall / without", checked["wall"].over(plain["wall"]), 1.2)]
    if nginx:
        ratio = checked["cpu"].over(nginx.figures["cpu"]).by(1 / TUSD_PER_NGINX)
        targets.insert(0, Target("declared SHA-256: CPU / tusd without any check", ratio, 1.3, note=DERIVED))
    return targets
