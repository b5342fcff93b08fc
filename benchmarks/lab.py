"""Where cases run: the folder, the payload, the servers of a case, and rounds that take turns."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.clients.curl import TransferFailed
from benchmarks.envs import Unavailable
from benchmarks.outcome import Figure, Row, Series
from benchmarks.servers.base import Server

MIB, GIB = 1 << 20, 1 << 30
S = TypeVar("S", bound=Server)

CPU = Figure("cpu", "CPU s / GiB")
WALL = Figure("wall", "wall s / GiB")
_SETTLE = 0.2
_BLOCK = 8 * MIB


@dataclass(frozen=True, slots=True)
class Contender:
    """One way of moving the payload: ``move(i)`` does it once, in round ``i``; None means that nothing is stored."""

    name: str
    server: Server
    move: Callable[[int], None]
    what: str = ""
    ours: bool = False
    stores: bool = True


@dataclass(frozen=True, slots=True)
class Lab:
    """What a case is given. ``folder`` is where servers keep their files: tmpfs, or a disk in the second pass."""

    folder: Path
    payload: Path
    size: int
    rounds: int
    quick: bool
    only_ours: bool
    storage: str
    say: Callable[[str], None]

    def pick(self, full: int, quick: int) -> int:
        """One of two sizes of a case."""
        return quick if self.quick else full

    def scale(self) -> float:
        """Payloads per GiB: what figures of one payload are multiplied by."""
        return GIB / self.size


class Stage(ExitStack):
    """The servers of one case; they stop, and their files go, when it ends."""

    def __init__(self, lab: Lab) -> None:
        super().__init__()
        self.lab = lab
        self.missing: dict[str, str] = {}
        self.versions: dict[str, str] = {}

    def ours(self, make: Callable[[Path], S], name: str = "carboy") -> S:
        """Start one of ours: it must be there."""
        folder = self.lab.folder / re.sub(r"\W+", "-", name)
        self.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.mkdir(parents=True)
        server = make(folder)
        self.enter_context(server)
        return server

    def peer(self, make: Callable[[Path], S], name: str) -> S | None:
        """Start a peer. None, and noted with the reason, if it can't be had."""
        if self.lab.only_ours:
            return None
        try:
            server = self.ours(make, name)
        except Unavailable as error:
            self.miss(name, str(error))
            return None
        self.versions[name] = server.version
        return server

    def miss(self, name: str, why: str) -> None:
        """Note loudly that a peer isn't measured."""
        self.lab.say(f"!! {name} is not measured: {why}")
        self.missing[name] = why

    def notes(self) -> list[str]:
        """Which versions were measured."""
        return sorted({version for version in self.versions.values() if version})


def take_turns(stage: Stage, contenders: Sequence[Contender]) -> list[Row]:
    """A B C A B C …: CPU and wall seconds per GiB of each round. One round before isn't counted: it warms everything, and
    a peer that fails in it is out, and noted."""
    able = [contender for contender in contenders if _works(stage, contender)]
    results: dict[str, list[tuple[float, float]]] = {contender.name: [] for contender in able}
    for number in range(stage.lab.rounds):
        for contender in able:
            results[contender.name].append(_told(stage.lab, contender, number))
    return [_row(contender, results[contender.name]) for contender in able]


def _works(stage: Stage, contender: Contender) -> bool:
    try:
        _told(stage.lab, contender, -1)
    except TransferFailed as error:
        if contender.ours:
            raise
        stage.miss(contender.name, str(error))
        return False
    return True


def _told(lab: Lab, contender: Contender, number: int) -> tuple[float, float]:
    cpu, wall = _measure(lab, contender, number)
    lab.say(f"   {round_name(number)}: {contender.name}: {cpu:.2f} CPU s/GiB, {wall:.2f} wall s/GiB")
    return cpu, wall


def _row(contender: Contender, results: Sequence[tuple[float, float]]) -> Row:
    cpu, wall = zip(*results, strict=True)
    return Row(contender.name, {"cpu": Series.of(cpu), "wall": Series.of(wall)}, contender.what, contender.ours)


def round_name(number: int) -> str:
    """Rounds count from 1; the one before isn't counted."""
    return f"round {number + 1}" if number >= 0 else "warm-up"


def _measure(lab: Lab, contender: Contender, number: int) -> tuple[float, float]:
    if lab.storage != "tmpfs":
        os.sync()  # what the one before left to be written must not be written on this one's time
    before, started = contender.server.cpu(), time.perf_counter()
    contender.move(number + 1)
    wall = time.perf_counter() - started
    time.sleep(_SETTLE)  # work that a server puts off until after its answer is its cost too
    cpu = contender.server.cpu() - before
    if contender.stores:
        if contender.server.largest() != lab.size:
            raise TransferFailed(f"{contender.name} keeps {contender.server.largest()} bytes of {lab.size}")
        contender.server.discard()
    return cpu * lab.scale(), wall * lab.scale()


def find(rows: Sequence[Row], name: str) -> Row | None:
    """The row of that contender, if it was measured."""
    return next((row for row in rows if row.name == name), None)


def make_payload(path: Path, size: int) -> Path:
    """A file of random bytes: no boundary, no pattern, nothing to compress."""
    with path.open("wb") as file:
        for _ in range(size // _BLOCK):
            file.write(os.urandom(_BLOCK))
    return path


def warm(folder: Path, size: int) -> Path:
    """Touch the memory that tmpfs will use, and see to it that it stays touched. The file returned must be kept as long.

    In a virtual machine a page costs several times as much when it is used for the first time, and a host may take free pages
    back in whole blocks (free page reporting), within a second. So one page in 32 is kept: no free block is whole.
    """
    kept, freed = folder / "kept", folder / "freed"
    block, page = bytes(31 * 4096), bytes(4096)
    with kept.open("wb", buffering=0) as keep, freed.open("wb", buffering=0) as free:
        for _ in range(size // (32 * 4096)):
            free.write(block)
            keep.write(page)
    freed.unlink()
    return kept
