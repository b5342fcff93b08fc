"""What a case found out, as data: the reports are drawn from this and nothing else."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Series:
    """One figure, once per round."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        return cls(tuple(round(value, 6) for value in values))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def over(self, other: Series) -> Series:
        """The ratios pair by pair; rounds that only one of them has are left out."""
        return Series.of(mine / theirs for mine, theirs in zip(self.values, other.values, strict=False) if theirs)

    def by(self, factor: float) -> Series:
        """All of them times ``factor``."""
        return Series.of(value * factor for value in self.values)


@dataclass(frozen=True, slots=True)
class Figure:
    """A column: how it is headed, and how many digits follow the point."""

    key: str
    heading: str
    digits: int = 2


@dataclass(frozen=True, slots=True)
class Row:
    """One contender's figures by key."""

    name: str
    figures: Mapping[str, Series]
    what: str = ""
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """What was asked of a figure, and what it is. ``limit`` and ``aim`` are at most unless ``at_least``."""

    text: str
    values: Series
    limit: float
    aim: float | None = None
    at_least: bool = False
    unit: str = "×"
    note: str = ""

    def reaches(self, limit: float) -> bool:
        return self.values.median >= limit if self.at_least else self.values.median <= limit

    @property
    def verdict(self) -> str:
        if not self.reaches(self.limit):
            return "missed"
        return "met, and the aim" if self.aim is not None and self.reaches(self.aim) else "met"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case, measured."""

    case: str
    title: str
    how: str
    columns: Sequence[Figure]
    rows: Sequence[Row]
    targets: Sequence[Target] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    plot: str = ""
    storage: str = "tmpfs"
    when: str = ""
    rounds: int = 0
    quick: bool = False

    @property
    def key(self) -> str:
        return f"{self.case}@{self.storage}"


def load(data: Mapping[str, Any]) -> Outcome:
    """The Outcome that ``dataclasses.asdict`` turned into ``data``."""
    return Outcome(**{
        **data,
        "columns": [Figure(**column) for column in data["columns"]],
        "rows": [Row(**{**row, "figures": {key: _series(value) for key, value in row["figures"].items()}}) for row in data["rows"]],
        "targets": [Target(**{**target, "values": _series(target["values"])}) for target in data["targets"]],
    })


def _series(data: Mapping[str, Any]) -> Series:
    return Series(tuple(data["values"]))
