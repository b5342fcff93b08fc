"""What a camera wrote beside the pixels (EXIF 2.32), as plain facts. What is broken, or makes no sense, is left out. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

EXIF_PART, GPS_PART = 0x8769, 0x8825
_MAKE, _MODEL, _CHANGED_AT = 0x010F, 0x0110, 0x0132
_TAKEN = ((0x9003, 0x9011), (0x9004, 0x9012))
"""When it was taken, when it was digitised, each with the tag of its offset from UTC."""
_CHANGED_OFFSET = 0x9010
_TEXT = 100
"""Characters of a text that are kept."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where it was taken: degrees, north and east positive (WGS 84), and metres above the sea where they are told."""

    latitude: float
    longitude: float
    altitude: float | None = None


def taken_at(first: Mapping[int, Any], exif: Mapping[int, Any]) -> str | None:
    """When the picture was taken, as RFC 3339 says it; without an offset from UTC where the camera told none, which most don't."""
    for tag, offset in _TAKEN:
        if found := _instant(exif.get(tag), exif.get(offset)):
            return found
    return _instant(first.get(_CHANGED_AT), exif.get(_CHANGED_OFFSET))


def make(first: Mapping[int, Any]) -> str | None:
    return _text(first.get(_MAKE))


def model(first: Mapping[int, Any]) -> str | None:
    return _text(first.get(_MODEL))


def position(gps: Mapping[int, Any]) -> Position | None:
    """Of the tags 1 to 6; None unless both coordinates are there and on the globe."""
    latitude, longitude = _degrees(gps.get(2), gps.get(1), "S", 90.0), _degrees(gps.get(4), gps.get(3), "W", 180.0)
    if latitude is None or longitude is None:
        return None
    return Position(latitude, longitude, _altitude(gps.get(6), gps.get(5)))


def _instant(told: Any, offset: Any) -> str | None:
    try:
        moment = datetime.strptime(str(_text(told)), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    zone = _text(offset) or ""
    return moment.isoformat() + (zone if re.fullmatch(r"[+-](0\d|1[0-4]):[0-5]\d", zone) else "")


def _text(told: Any) -> str | None:
    if isinstance(told, bytes):
        told = told.decode("utf-8", "replace")
    if not isinstance(told, str):
        return None
    return "".join(one for one in told.partition("\0")[0] if one.isprintable()).strip()[:_TEXT] or None


def _degrees(told: Any, where: Any, negative: str, most: float) -> float | None:
    if not isinstance(told, Sequence) or isinstance(told, (str, bytes)) or not 1 <= len(told) <= 3:
        return None
    parts = [_number(one) for one in told]
    if any(one is None or one < 0 for one in parts):
        return None
    degrees = sum(one / 60**power for power, one in enumerate(parts) if one is not None)
    return round(-degrees if _text(where) == negative else degrees, 7) if degrees <= most else None


def _altitude(told: Any, below: Any) -> float | None:
    metres = _number(told)
    if metres is None or abs(metres) > 100_000:
        return None
    return round(-metres if below in (1, b"\x01") else metres, 2)


def _number(told: Any) -> float | None:
    try:
        number = float(told)
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if math.isfinite(number) else None
