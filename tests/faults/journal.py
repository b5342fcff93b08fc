"""What clients were told, and what must therefore be there afterwards.

Each operation has a beginning and, once the client knows, an end and an outcome. What a path may hold is decided by
these alone: the last acknowledged change, or any that overlaps it in time, or any whose outcome nobody was told.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Told = Literal["yes", "no", "nothing"]
"""A 2xx, a refusal that changed nothing, or no answer (or a 5xx, after which anything may be)."""

_POOL_SIZE = 4 * 2**20
_POOL = random.Random("carboy").randbytes(_POOL_SIZE + 2**20)


@dataclass(frozen=True, slots=True)
class Content:
    """``size`` bytes (none, or at least 16) that ``seed`` decides; no two contents share a block at the same place."""

    seed: int
    size: int

    def read(self, start: int = 0, end: int | None = None) -> bytes:
        end = self.size if end is None else min(end, self.size)
        head = hashlib.sha256(str(self.seed).encode()).digest()[:16]
        step = 4096
        blocks = range(start // step, -(-end // step))
        whole = b"".join(head + _POOL[at:at + step - 16] for at in map(self._place, blocks))
        return whole[start - (start // step) * step:][:end - start]

    def _place(self, block: int) -> int:
        return (self.seed * 2654435761 + block * 40503) % _POOL_SIZE

    def sha256(self) -> str:
        return hashlib.sha256(self.read()).hexdigest()


@dataclass(slots=True, eq=False)
class Change:
    """One operation: what each of its paths becomes (None: nothing), all or none."""

    paths: Mapping[str, Content | None]
    began: int
    ended: float = float("inf")
    told: Told = "nothing"
    earlier: bool = False
    """It stands for what an earlier check saw."""


@dataclass(slots=True, eq=False)
class Chunked:
    """One upload by chunks, and which of them were acknowledged."""

    file_id: str
    content: Content
    chunk_size: int
    how: Literal["offset", "stride", "bare"]
    told: dict[int, Told] = field(default_factory=dict)
    completed: Told | None = None
    sending: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def count(self) -> int:
        return max(1, -(-self.content.size // self.chunk_size))

    @property
    def acknowledged(self) -> list[int]:
        return sorted(index for index, told in self.told.items() if told == "yes")

    def span(self, index: int) -> tuple[int, int]:
        return index * self.chunk_size, min((index + 1) * self.chunk_size, self.content.size)

    def chunk(self, index: int) -> bytes:
        return self.content.read(*self.span(index))

    def fields(self, index: int) -> dict[str, int]:
        """What tells the server where the chunk belongs; nothing for a bare index."""
        if self.how == "offset":
            return {"offset": self.span(index)[0], "total": self.content.size}
        return {"chunk_size": self.chunk_size} if self.how == "stride" else {}

    @property
    def fresh(self) -> int:
        """How many chunks were never sent."""
        return self.count - len(self.told)

    @property
    def repeating(self) -> bool:
        """Whether a chunk is under way that was sent before."""
        return any(self.told.get(index) == "yes" or self.sending.count(index) > 1 for index in self.sending)

    def pick(self, chance: random.Random) -> int | None:
        """A chunk to send now: one never sent, in one case of 20 while others are left one sent before, at last those
        that were not acknowledged. None once all were."""
        with self.lock:
            fresh = [index for index in range(self.count) if index not in self.told]
            again = [index for index, told in self.told.items() if len(fresh) > 1 or told != "yes"]
            if again and (not fresh or chance.random() < 0.05):
                index = chance.choice(again)
            elif fresh:
                index = chance.choice(fresh)
            else:
                return None
            self.sending.append(index)
            self.told.setdefault(index, "nothing")
            return index

    def note(self, index: int, told: Told) -> None:
        """A chunk sent twice counts as acknowledged if one of the two was."""
        with self.lock:
            self.sending.remove(index)
            if self.told.get(index) != "yes":
                self.told[index] = told


class Journal:
    """All that was told since the disk was fresh. Used by many client threads at once."""

    def __init__(self) -> None:
        self._clock = itertools.count(1)
        self._lock = threading.Lock()
        self.changes: list[Change] = []
        self.chunked: list[Chunked] = []
        self.sequential: list[Any] = []
        """:class:`faults.sequential.Sequential`; only those who send touch what is in it."""
        self.dark = False
        """The power is going: whatever answer still comes was sent by nobody. The cut takes a few milliseconds here, and a sync
        that is under way in them may return success for bytes that are lost (also without any server: test_disk.py)."""

    def begin(self, paths: Mapping[str, Content | None]) -> Change:
        with self._lock:
            change = Change(dict(paths), next(self._clock))
            self.changes.append(change)
            return change

    def settle(self, change: Change, told: Told) -> None:
        with self._lock:
            change.told = told
            if told != "nothing":
                change.ended = next(self._clock)

    def tick(self) -> int:
        """The time now."""
        with self._lock:
            return next(self._clock)

    def start_chunked(self, upload: Chunked) -> Chunked:
        with self._lock:
            self.chunked.append(upload)
            return upload

    def start_sequential(self, upload: Any) -> None:
        with self._lock:
            self.sequential.append(upload)

    def allowed(self) -> dict[str, set[Content | None]]:
        """For every path ever touched, what it may hold."""
        by_path: dict[str, list[Change]] = defaultdict(list)
        for change in self.changes:
            for path in change.paths:
                by_path[path].append(change)
        return {path: _allowed(path, changes) for path, changes in by_path.items()}

    def groups(self) -> dict[tuple[str, ...], list[Change]]:
        """The paths that were always changed together, with their changes."""
        groups: dict[tuple[str, ...], list[Change]] = defaultdict(list)
        for change in self.changes:
            if len(change.paths) > 1:
                groups[tuple(sorted(change.paths))].append(change)
        return groups

    def pin(self, seen: Mapping[str, Content | None]) -> None:
        """After a check: what is there is the truth from here on, and older changes are over."""
        self.dark = False
        together = {path: group for group in self.groups() for path in group}
        self.changes.clear()
        self.chunked.clear()
        self.sequential.clear()
        for group in {together.get(path, (path,)) for path in seen}:
            change = self.begin({path: seen[path] for path in group})
            change.earlier = True
            self.settle(change, "yes")


def _allowed(path: str, changes: Iterable[Change]) -> set[Content | None]:
    """Contents of ``path`` that no later acknowledged change has replaced."""
    possible = [Change({path: None}, 0, 0, "yes"), *(change for change in changes if change.told != "no")]
    latest = max(change.began for change in possible if change.told == "yes")
    return {change.paths[path] for change in possible if change.ended >= latest}
