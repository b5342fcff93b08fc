"""The part of the catalog's contract that tells operators how much there is of everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from carboy.catalog.base_hooks import HookDepth
from carboy.jobs import JobState
from carboy.model import Usage


@dataclass(frozen=True, slots=True)
class StepDepth:
    """How many jobs of a step in a queue are in a state; of queued ones since when the first of them is due, None where none is yet."""

    step: str
    queue: str
    state: JobState
    count: int
    due_since: float | None


@dataclass(frozen=True, slots=True)
class StoredFigures:
    """Contents in one storage: how many there are, their bytes, and how many of them are damaged, quarantined, or held back until their
    steps are through."""

    storage: str
    blobs: int
    bytes: int
    damaged: int
    quarantined: int
    held: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How much there is, at one moment."""

    usage: Mapping[str, Usage]
    """By space."""
    stored: Sequence[StoredFigures]
    receiving: Mapping[str, int]
    """Uploads that take bytes, by protocol."""
    jobs: Sequence[StepDepth]
    """Those that something can still come of: waiting, queued, running, dead."""
    hooks: Sequence[HookDepth]


class Figures(Protocol):
    """It costs a look at every content: it is not for every request."""

    def standing(self, *, now: float) -> Standing: ...
