"""Which number and which length the parts of a multipart upload have, when anybody may write any of them in any order. Pure.

The numbers grow with the offset, so the parts need no allocation and are joined as they lie. ``1 + f(start)`` would do; where numbers are
plenty each place has several, and who writes there takes the one that its lease picks: what somebody taken for dead still sends rarely
falls on the number of the one who took over.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

MIN_PART, MAX_PART = 5 * 2**20, 5 * 2**30
"""How long a part may be, in bytes; the last one may be shorter."""
MAX_NUMBER = 10_000
_MAX_SLOT = MAX_PART - MIN_PART
FEW = 1000
"""Some servers take no more parts than this, and few uploads need more."""
_CHOICES = ((64, MIN_PART), (16, MIN_PART), (4, 256 * 2**20), (2, 2**30), (1, _MAX_SLOT))
"""How many numbers a place has, if it is then no longer than this."""
_RAMP = 64
"""Where the size is unknown, places grow to a 64th of what lies before them. The first 64, which are alike, have four numbers each."""
_RAMP_CHOICES = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """How one upload is divided into numbered places. ``unit`` is the length of each, None for one of unknown size: then they grow.
    ``choices`` is how many numbers each has, ``part`` the least length that is wanted."""

    unit: int | None
    choices: int
    part: int

    def slot(self, offset: int) -> int:
        """The place in which the offset lies."""
        if self.unit:
            return offset // self.unit
        ramp = _ramp()
        return bisect_right(ramp, offset) - 1 if offset < ramp[-1] else len(ramp) - 1 + (offset - ramp[-1]) // _MAX_SLOT

    def number(self, start: int, pick: int) -> int:
        """The number of a part that begins at ``start``, for the lease that picks this."""
        slot = self.slot(start)
        if self.unit:
            return 1 + slot * self.choices + pick % self.choices
        if slot < _RAMP:
            return 1 + slot * _RAMP_CHOICES + pick % _RAMP_CHOICES
        return 1 + _RAMP * _RAMP_CHOICES + slot - _RAMP

    def allows(self, start: int, end: int) -> bool:
        """Whether ``[start, end)`` may be a part that others follow: long enough, and what follows has another number."""
        return MIN_PART <= end - start <= MAX_PART and self.slot(end) > self.slot(start)

    def end(self, start: int) -> int:
        """Where a part that begins there best ends, so that parts fall on the same places whoever writes them."""
        end = self._next(start)
        while not self.allows(start, end):
            end = self._next(end)
        return end

    def _next(self, offset: int) -> int:
        if self.unit:
            step = max(self.part, self.unit)
            return (offset // step + 1) * step
        slot = self.slot(offset)
        start, end = _boundary(slot), _boundary(slot + 1)
        return (offset // self.part + 1) * self.part if end - start <= self.part else end

    def state(self) -> dict[str, Any]:
        """As JSON, for :func:`plan_of`."""
        return {"unit": self.unit, "choices": self.choices}


def plan(size: int | None, part: int, most: Callable[[], int] = lambda: MAX_NUMBER, *, alone: bool = False) -> Plan:
    """For an upload of this size (None: unknown), in parts of about ``part`` bytes. ``most`` is asked how many the server takes where a
    few may not do. With ``alone`` nobody else ever writes there, so that a place needs but one number."""
    if size is None:
        return Plan(None, 1, part)
    if (choices := 1 if alone else _choices_of_few(size)) and size <= FEW // choices * MIN_PART:
        return Plan(MIN_PART, choices, part)
    numbers = most()
    for choices, longest in _CHOICES[-1:] if alone else _CHOICES:
        unit = max(MIN_PART, -(-size // (numbers // choices)))
        if unit <= longest:
            return Plan(unit, choices, part)
    return Plan(_MAX_SLOT, 1, part)


def _choices_of_few(size: int) -> int:
    """How many numbers each place may have where few are needed; 0 where they would be too few."""
    return next((choices for choices, _ in _CHOICES if choices > 1 and size <= FEW // choices * MIN_PART), 0)


def plan_of(state: Mapping[str, Any], part: int) -> Plan:
    """The plan that the upload began with."""
    return Plan(state.get("unit"), state.get("choices", 1), part)


def _boundary(slot: int) -> int:
    ramp = _ramp()
    return ramp[slot] if slot < len(ramp) else ramp[-1] + (slot - len(ramp) + 1) * _MAX_SLOT


@cache
def _ramp() -> tuple[int, ...]:
    """Where the places of an unknown size begin, until they are as long as parts may be."""
    starts = [0]
    while (length := max(MIN_PART, starts[-1] // _RAMP)) < _MAX_SLOT:
        starts.append(starts[-1] + length)
    return tuple(starts)
