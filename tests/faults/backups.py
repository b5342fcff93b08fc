"""Backups of a server under load: is everything in them that was acknowledged before they began?

    python tests/faults/backups.py --size 10GiB --dir /srv/tmp

fills a server, makes backups while clients upload, replace and delete, restores the last one, starts a server on it, and reads back every file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from faults.check import Check
from faults.disk import until
from faults.journal import Chunked, Content, Journal
from faults.load import Load
from faults.runner import Client, Server

from carboy.config import parse_size

MIB = 2**20
SETTINGS = {"CARBOY_DELETE_GRACE": 0, "CARBOY_SWEEP_INTERVAL": 0.05, "CARBOY_ORPHAN_INTERVAL": 1, "CARBOY_SPACES__MAIN__TRASH": 0}
"""A sweeper that removes what it may at once: a backup that doesn't hold it off loses bytes."""


@dataclass(slots=True)
class Outcome:
    """What came of it. ``problems`` must be empty."""

    problems: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    reports: list[Mapping[str, object]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Moment:
    """When a backup began, and which chunks had been acknowledged by then."""

    at: int
    chunked: Sequence[Chunked]


def moment(journal: Journal) -> Moment:
    chunked = [replace(upload, told=dict(upload.told), sending=[]) for upload in list(journal.chunked)]
    return Moment(journal.tick(), chunked)


def as_saved(journal: Journal, began: Moment, ended: int) -> Journal:
    """What a backup may hold that was made between the two moments: of changes that were acknowledged before it began all,
    of those that began before it ended anything, of later ones nothing."""
    saved = Journal()
    for change in journal.changes:
        if change.began < ended:
            known = change.ended < began.at or change.told == "no"
            saved.changes.append(change if known else replace(change, told="nothing", ended=float("inf")))
    saved.chunked = [upload for upload in began.chunked if upload.told]
    return saved


def run(folder: Path, *, size: int, seed: int = 1, backups: Sequence[Sequence[str]] = ((), ("--copy",)), clients: int = 6,
        **settings: object) -> Outcome:
    """``size`` bytes in a server's data, then these backups (the flags of each) one after another under load, into one folder. ``settings``
    are further environment variables of the server."""
    outcome, journal = Outcome(), Journal()
    with Server(folder / "data", folder / "server.log", settings=SETTINGS | settings) as server:
        with timed(outcome, "fill"):
            fill(server, journal, size)
        load = Load(partial(Client, server.address, timeout=30), journal, seed, clients=clients, budget=max(64 * MIB, size // 4)).start()
        until(lambda: load.told.total() > 20 * clients, "the clients are at work")
        began = ended = None
        for number, flags in enumerate(backups):
            acknowledged = load.told.total()
            began = moment(journal)
            with timed(outcome, f"backup {number + 1}"):
                outcome.reports.append(_backup(server, folder / "backup", flags, outcome))
            ended = journal.tick()
            outcome.counts["answers_during_backups"] += load.told.total() - acknowledged
        load.stop()
    assert began and ended
    _check(folder, as_saved(journal, began, ended), outcome)
    return outcome


def fill(server: Server, journal: Journal, size: int) -> None:
    """Files of 64 KiB to 64 MiB, by two clients."""
    sizes: list[int] = []
    while sum(sizes) < size:
        sizes.append(min(2 ** (16 + len(sizes) % 11), max(16, size - sum(sizes))))

    def put(numbers: range) -> None:
        with closing(Client(server.address)) as client:
            for number in numbers:
                content = Content(number + 1, sizes[number])
                change = journal.begin({f"filled/{number}": content})
                answer = client.put(f"filled/{number}", content.read())
                assert answer.status == 201, answer
                journal.settle(change, "yes")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(put, [range(start, len(sizes), 2) for start in range(2)]))


def _backup(server: Server, to: Path, flags: Sequence[str], outcome: Outcome) -> Mapping[str, object]:
    done = server.run("backup", str(to), "--json", *flags)
    if done.returncode:
        outcome.problems.append(f"backup: exit status {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
        return {}
    report: Mapping[str, object] = json.loads(done.stdout)
    return report


def _check(folder: Path, saved: Journal, outcome: Outcome) -> None:
    restored = Server(folder / "restored", folder / "restored.log", settings=SETTINGS)
    with timed(outcome, "restore"):
        done = restored.run("restore", str(folder / "backup"))
    if done.returncode:
        outcome.problems.append(f"restore: exit status {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
        return
    with timed(outcome, "fsck"):
        done = restored.run("fsck", "--deep")
    if done.returncode:
        outcome.problems.append(f"fsck: {(done.stdout + done.stderr)[-2000:]}")
    with restored, timed(outcome, "read back"):
        check = Check(restored, saved).run()
    outcome.problems += check.problems
    outcome.counts += check.counts


class timed:
    """How long the block took."""

    def __init__(self, outcome: Outcome, name: str) -> None:
        self._outcome, self._name = outcome, name

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._outcome.seconds[self._name] = round(time.monotonic() - self._began, 2)


def main() -> int:
    parser = argparse.ArgumentParser(description="Back a server up under load, restore it, and read everything back.")
    parser.add_argument("--size", default="10GiB", help="how much it holds (10GiB)")
    parser.add_argument("--dir", type=Path, help="where: three times the size is needed")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="carboy-backups-", dir=options.dir) as folder:
        outcome = run(Path(folder), size=int(parse_size(options.size)), seed=options.seed,
                      backups=(("--copy",), ("--copy", "--prune")))
    print(json.dumps({"seconds": outcome.seconds, "backups": outcome.reports, "counts": outcome.counts, "problems": outcome.problems}, indent=1))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
