"""A download of 1 GiB, against nginx with sendfile."""

from __future__ import annotations

import shutil

from benchmarks.clients import curl
from benchmarks.lab import CPU, WALL, Contender, Lab, Stage, find, take_turns
from benchmarks.outcome import Outcome, Target
from benchmarks.servers.carboy import Carboy
from benchmarks.servers.nginx import Nginx

NAME = "download"
TITLE = "1 GiB downloaded"
_NGINX = "nginx sendfile"


def run(lab: Lab) -> Outcome:
    """Measure it."""
    with Stage(lab) as stage:
        ours = stage.ours(Carboy)
        url = ours.file_url("download.bin")
        curl.put(url, lab.payload, ours.headers)
        contenders = [Contender("Carboy", ours, lambda _: curl.get(url, lab.size, ours.headers), "sendfile", ours=True, stores=False)]
        if nginx := stage.peer(Nginx, _NGINX):
            shutil.copyfile(lab.payload, nginx.store / "download.bin")
            contenders.append(Contender(_NGINX, nginx, lambda _: curl.get(f"{nginx.url}/download.bin", lab.size), "sendfile", stores=False))
        rows = take_turns(stage, contenders)
        other = find(rows, _NGINX)
        targets = []
        if other:
            ratio = rows[0].figures["cpu"].over(other.figures["cpu"])
            targets.append(Target("download of 1 GiB: CPU / nginx sendfile", ratio, 1.1))
        return Outcome(NAME, TITLE, "`curl -o /dev/null`, one connection, the file in the page cache.", [CPU, WALL], rows, targets,
                       stage.missing, stage.notes(), plot="cpu")
