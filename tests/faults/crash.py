"""Cut the power, kill the server, and check what clients were told.

    python tests/faults/crash.py --rounds 200 --fs ext4,xfs --seconds 3 --json crash.json

Every round puts mixed load on the real server, strikes at a random moment, starts the server again over what is left and
compares it with the journal of answers. The kinds of fault take turns:

- ``power``: the file system stops dead (its journal's tail is lost), then the server is killed and the disk mounted again;
- ``power at start``: the same while the server starts for the first time over an empty disk;
- ``kill``: ``kill -9`` of the whole process group;
- ``kill at call``: ``kill -9`` of a worker when one of its threads enters its n-th system call of one kind (strace); the
  service then goes on for a while with another worker, or the group is killed at once.

The exit status is 1 if anything was lost or wrong. The seed of a round repeats its load, not its timing.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import get_args

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults.check import LOST, Check
from faults.disk import MIB, Disk, FileSystem, until, why_not
from faults.journal import Journal
from faults.load import Load
from faults.runner import CARBOY, Client, Server
from faults.tracer import Tracer

KINDS = ("power", "kill", "power", "kill at call", "power", "power at start")
ROUNDS_PER_DISK = 3
CALLS = ("pwrite64", "fdatasync", "fsync", "sendto", "openat", "ftruncate", "write", "close", "copy_file_range")
SETTINGS = {"CARBOY_DELETE_GRACE": 1, "CARBOY_SWEEP_INTERVAL": 1, "CARBOY_ORPHAN_INTERVAL": 2}
"""The sweeper runs often, so that it is in the middle of something when the power goes."""


@dataclass(slots=True)
class Round:
    """What one round did and found."""

    number: int
    kind: str
    fs: str
    seed: int
    after_seconds: float = 0.0
    struck_at: str = ""
    told: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Bench:
    """One disk with one server over it, for a few rounds."""

    def __init__(self, folder: Path, fs: FileSystem, command: Sequence[str], settings: Mapping[str, object]) -> None:
        folder.mkdir()
        self._folder = folder
        self.disk = Disk(folder, fs)
        self.disk.mount()
        self.server = Server(self.disk.root / "data", folder / "server.log", command=command, settings=SETTINGS | settings)
        self.journal = Journal()

    def strike(self, turn: Round, seconds: float) -> None:
        """Load, the fault, and the server dead on a disk that is mounted again."""
        chance = random.Random(turn.seed)
        turn.after_seconds = _milliseconds(chance.uniform(0.05, seconds))
        if turn.kind == "power at start":
            self._strike_at_start(turn)
        else:
            self.server.start()
            load = Load(partial(Client, self.server.address, timeout=30), self.journal, turn.seed).start()
            time.sleep(turn.after_seconds)
            self._strike_under_load(turn, chance, seconds)
            self.server.kill()
            load.stop()
            turn.told = dict(sorted(load.told.items()))
        if turn.kind.startswith("power"):
            self.disk.unmount()
            self.disk.mount()

    def check(self, turn: Round) -> None:
        """Start again, compare with what clients were told, stop."""
        self.server.start()
        try:
            check = Check(self.server, self.journal).run()
        finally:
            self.server.kill()
        turn.counts, turn.problems = dict(sorted(check.counts.items())), check.problems

    def close(self) -> None:
        self.server.kill()
        self.disk.destroy()

    def _strike_under_load(self, turn: Round, chance: random.Random, seconds: float) -> None:
        if turn.kind == "power":
            self.journal.dark = True
            self.disk.cut_power()
        elif turn.kind == "kill at call":
            self._kill_at_call(turn, chance, seconds)

    def _strike_at_start(self, turn: Round) -> None:
        self.server.spawn()
        time.sleep(turn.after_seconds / 3)
        self.disk.cut_power()
        self.server.kill()

    def _kill_at_call(self, turn: Round, chance: random.Random, seconds: float) -> None:
        call, when = chance.choice(CALLS), int(200 ** chance.random())
        turn.struck_at = f"{call} number {when} of a thread"
        with Tracer(self.server, f"{call}:signal=KILL:when={when}") as tracer:
            try:
                until(tracer.somebody_died, "a worker was killed", seconds)
            except TimeoutError:
                turn.struck_at += ", which none made"
            if chance.random() < 0.5:
                tracer.detach()
                time.sleep(chance.uniform(0, seconds / 2))


def _milliseconds(seconds: float) -> float:
    return int(seconds * 1000) / 1000


def run(folder: Path, *, rounds: int, systems: Sequence[FileSystem], seconds: float, seed: int, kinds: Sequence[str] = KINDS,
        command: Sequence[str] = CARBOY, settings: Mapping[str, object] = MappingProxyType({}),
        report: Callable[[Round], None] = lambda turn: None) -> list[Round]:
    """``rounds`` rounds, the kinds in turn and the file systems too; a disk serves up to three rounds, so that what an
    earlier fault left behind meets a later one."""
    done: list[Round] = []
    bench: Bench | None = None
    try:
        for number in range(rounds):
            disk = number // ROUNDS_PER_DISK
            kind, fs = kinds[number % len(kinds)], systems[(disk + disk // 2) % len(systems)]  # each kind meets each system
            if bench is None or number % ROUNDS_PER_DISK == 0 or kind == "power at start" or done[-1].problems:
                if bench:
                    bench.close()
                bench = Bench(folder / f"disk-{number}", fs, command, settings)
            done.append(Round(number + 1, kind, fs, seed + number))
            try:
                bench.strike(done[-1], seconds)
                bench.check(done[-1])
            except Exception as error:  # a server that doesn't start again is a finding, and other rounds go on
                done[-1].problems.append(f"failed: {error!r}")
            report(done[-1])
    finally:
        if bench:
            bench.close()
    return done


def summary(rounds: Sequence[Round]) -> dict[str, object]:
    """The figures of all rounds together."""
    counts: Counter[str] = Counter()
    told: Counter[str] = Counter()
    for turn in rounds:
        counts.update(turn.counts)
        told.update(turn.told)
    return {
        "rounds": len(rounds),
        "rounds_by_kind": dict(Counter(f"{turn.kind}, {turn.fs}" for turn in rounds)),
        "rounds_with_problems": sum(bool(turn.problems) for turn in rounds),
        "lost": counts[LOST],
        "problems": sum(len(turn.problems) for turn in rounds),
        "counts": dict(sorted(counts.items())),
        "told": dict(sorted(told.items())),
    }


def _print_round(turn: Round) -> None:
    counts = Counter(turn.counts)
    print(f"{turn.number:4} {turn.kind:15} {turn.fs:5} {turn.after_seconds:6.2f} s  {counts['files_acknowledged']:5} files "
          f"{counts['chunks_acknowledged']:4} chunks {counts['bytes_read_back'] / MIB:7.1f} MiB read back  "
          f"lost {counts[LOST]}  {turn.struck_at}", flush=True)
    for problem in turn.problems:
        print(f"       {problem}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--fs", default="ext4,xfs", help="file systems, with commas between")
    parser.add_argument("--seconds", type=float, default=3.0, help="the longest load before the fault")
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds of fault, with commas between")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--json", type=Path, help="write the report there")
    chosen = parser.parse_args()
    systems = [fs for fs in get_args(FileSystem) if fs in chosen.fs.split(",")]
    if reason := why_not("strace"):
        print(f"crash: {reason}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing stays mounted
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(10**9)
    print(f"seed {seed}, Linux {platform.release()}, Python {platform.python_version()}", flush=True)
    with tempfile.TemporaryDirectory(prefix="carboy-crash-") as folder:
        rounds = run(Path(folder), rounds=chosen.rounds, systems=systems, seconds=chosen.seconds, seed=seed,
                     kinds=chosen.kinds.split(","), report=_print_round)
    figures = summary(rounds)
    print(json.dumps(figures, indent=2))
    if chosen.json:
        about = {"seed": seed, "kernel": platform.release(), "python": platform.python_version(), "seconds": chosen.seconds}
        chosen.json.write_text(json.dumps(about | figures | {"each": [asdict(turn) for turn in rounds]}, indent=1) + "\n")
    return 1 if figures["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
