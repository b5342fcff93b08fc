"""Bars with whiskers, as SVG drawn by hand: readable on light and on dark, nothing to install."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.outcome import Series

_LETTER, _BARS, _VALUES = 7.2, 420, 70
_LINE, _TOP, _FOOT = 34, 44, 34
_STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 15px }
.tick, .value { fill: #59636e; font-size: 12px; font-variant-numeric: tabular-nums }
.peer { fill: #a8b1bb } .ours { fill: #0a7f78 }
.whisker { stroke: #1f2328; stroke-width: 1.5; fill: none } .grid { stroke: #d1d9e0; stroke-width: 1 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .tick, .value { fill: #9198a1 }
.peer { fill: #5b6570 } .ours { fill: #2bb5aa } .whisker { stroke: #f0f6fc } .grid { stroke: #3d444d }
}
""".strip()


@dataclass(frozen=True, slots=True)
class Bar:
    """One contender."""

    label: str
    series: Series
    ours: bool


def bars(title: str, unit: str, data: Sequence[Bar], digits: int = 2) -> str:
    """Horizontal bars of the medians, whiskers from minimum to maximum."""
    axis = _axis(data)
    width, height = axis.right + _VALUES, _TOP + _LINE * len(data) + _FOOT
    foot = height - _FOOT
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
             f"<title>{escape(title)}, {escape(unit)}</title>", f"<style>{_STYLE}</style>",
             f'<text class="title" x="8" y="22">{escape(title)}</text>',
             *_grid(axis, foot), *(_bar(axis, bar, _TOP + _LINE * index, digits) for index, bar in enumerate(data)),
             f'<text class="tick" x="{axis.right}" y="{foot + 30}" text-anchor="end">{escape(unit)}: median, min–max</text>', "</svg>"]
    return "\n".join(parts) + "\n"


@dataclass(frozen=True, slots=True)
class _Axis:
    """From 0 at ``left``, in ``count`` steps of a round figure, to ``right``."""

    left: int
    step: float
    count: int

    @property
    def right(self) -> int:
        return self.left + _BARS

    def at(self, value: float) -> float:
        return self.left + _BARS * value / (self.step * self.count)


def _axis(data: Sequence[Bar]) -> _Axis:
    highest = max(bar.series.high for bar in data)
    power = 10.0 ** (math.ceil(math.log10(highest)) - 1)
    step = next(factor * power for factor in (0.2, 0.5, 1, 2) if highest / (factor * power) <= 6)
    return _Axis(round(18 + _LETTER * max(len(bar.label) for bar in data)), step, int(highest / step) + 1)


def _grid(axis: _Axis, foot: int) -> list[str]:
    lines = []
    for index in range(axis.count + 1):
        x = axis.at(index * axis.step)
        lines.append(f'<path class="grid" d="M{x:.1f} {_TOP - 8}V{foot}"/>'
                     f'<text class="tick" x="{x:.1f}" y="{foot + 14}" text-anchor="middle">{index * axis.step:,.6g}</text>')
    return lines


def _bar(axis: _Axis, bar: Bar, y: int, digits: int) -> str:
    median, low, high = axis.at(bar.series.median), axis.at(bar.series.low), axis.at(bar.series.high)
    kind, whisker = "ours" if bar.ours else "peer", f"M{low:.1f} {y + 11}H{high:.1f}M{low:.1f} {y + 6}v10M{high:.1f} {y + 6}v10"
    return (f'<text x="{axis.left - 10}" y="{y + 16}" text-anchor="end">{escape(bar.label)}</text>'
            f'<rect class="{kind}" x="{axis.left}" y="{y}" width="{median - axis.left:.1f}" height="22" rx="2"/>'
            f'<path class="whisker" d="{whisker}"/>'
            f'<text class="value" x="{high + 8:.1f}" y="{y + 16}">{bar.series.median:,.{digits}f}</text>')
