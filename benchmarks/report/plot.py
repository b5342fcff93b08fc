"""Bars with whiskers, as SVG drawn by hand: readable on light and on dark, nothing to install."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.outcome import Series

_LABELS, _BARS, _VALUES = 210, 420, 70
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
    step, top = _scale(max(bar.series.high for bar in data))
    width, height = _LABELS + _BARS + _VALUES, _TOP + _LINE * len(data) + _FOOT
    foot = height - _FOOT
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
             f"<title>{escape(title)}, {escape(unit)}</title>", f"<style>{_STYLE}</style>",
             f'<text class="title" x="8" y="22">{escape(title)}</text>',
             *_grid(step, top, foot), *(_bar(bar, _TOP + _LINE * index, top, digits) for index, bar in enumerate(data)),
             f'<text class="tick" x="{_LABELS + _BARS}" y="{foot + 30}" text-anchor="end">{escape(unit)}: median, min–max</text>', "</svg>"]
    return "\n".join(parts) + "\n"


def _scale(highest: float) -> tuple[float, float]:
    """A round step, and the multiple of it at which the axis ends."""
    power = 10.0 ** -9
    while highest / (power * 10) > 1:
        power *= 10
    step = next(factor * power for factor in (0.2, 0.5, 1, 2, 5, 10) if highest / (factor * power) <= 6)
    return step, step * (int(highest / step) + 1)


def _grid(step: float, top: float, foot: int) -> list[str]:
    lines = []
    for index in range(round(top / step) + 1):
        x = _LABELS + _BARS * index * step / top
        lines.append(f'<path class="grid" d="M{x:.1f} {_TOP - 8}V{foot}"/>'
                     f'<text class="tick" x="{x:.1f}" y="{foot + 14}" text-anchor="middle">{index * step:,.6g}</text>')
    return lines


def _bar(bar: Bar, y: int, top: float, digits: int) -> str:
    median, low, high = (_LABELS + _BARS * value / top for value in (bar.series.median, bar.series.low, bar.series.high))
    kind, whisker = "ours" if bar.ours else "peer", f"M{low:.1f} {y + 11}H{high:.1f}M{low:.1f} {y + 6}v10M{high:.1f} {y + 6}v10"
    return (f'<text x="{_LABELS - 10}" y="{y + 16}" text-anchor="end">{escape(bar.label)}</text>'
            f'<rect class="{kind}" x="{_LABELS}" y="{y}" width="{median - _LABELS:.1f}" height="22" rx="2"/>'
            f'<path class="whisker" d="{whisker}"/>'
            f'<text class="value" x="{high + 8:.1f}" y="{y + 16}">{bar.series.median:,.{digits}f}</text>')
