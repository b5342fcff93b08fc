"""How recorded spans grow together. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from carboy.errors import Conflict
from carboy.model import Span

Combine = Callable[[int, int, int], int]
"""The CRC of two neighbours: ``combine(first, second, second_length)``."""


def merged(spans: Iterable[Span], combine: Combine) -> list[Span]:
    """In order, neighbours joined, empty ones left out. Raises Conflict where two overlap."""
    joined: list[Span] = []
    for span in sorted(span for span in spans if span.length):
        last = joined[-1] if joined else None
        if last and span.start < last.end:
            raise Conflict("bytes already recorded were recorded again", start=span.start, end=min(span.end, last.end))
        if last and span.start == last.end:
            joined[-1] = Span(last.start, span.end, combine(last.crc, span.crc, span.length))
        else:
            joined.append(span)
    return joined
