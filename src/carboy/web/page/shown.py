"""How values look to people. Pure: values in, text out."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

from markupsafe import Markup, escape

_JOINERS = "\u200c\u200d"
"""Scripts and emoji need these; every other invisible character is shown by its number."""

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")


def size(value: int) -> str:
    """Bytes in decimal units, with three figures: ``3.42 MB``."""
    if value < 1000:
        return "1 byte" if value == 1 else f"{value} bytes"
    amount, unit = float(value), 0
    while amount >= 999.5:
        amount, unit = amount / 1000, unit + 1
    places = 2 if amount < 9.995 else 1 if amount < 99.95 else 0
    number = f"{amount:.{places}f}"
    return f"{number.rstrip('0').rstrip('.') if places else number} {_UNITS[unit]}"


def count(number: int, one: str, many: str = "") -> str:
    """``1 file``, ``2 files``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def day(seconds: float) -> str:
    """``22 Nov 2026``, in UTC."""
    at = datetime.fromtimestamp(seconds, UTC)
    return f"{at.day} {at:%b %Y}"


def moment(seconds: float) -> str:
    """``22 Nov 2026, 23:54 UTC``."""
    return f"{day(seconds)}, {datetime.fromtimestamp(seconds, UTC):%H:%M} UTC"


def ago(seconds: float, now: float) -> str:
    """When it was, as near as one wants to know: a page without scripts doesn't know the reader's time zone."""
    passed = now - seconds
    if passed < 60:
        return "just now"
    if passed < 3600:
        return f"{int(passed // 60)} min ago"
    if passed < 86400:
        return f"{count(int(passed // 3600), 'hour')} ago"
    return "yesterday" if passed < 2 * 86400 else day(seconds)


def until(seconds: float, now: float) -> str:
    """How long it is yet: ``in 3 days``."""
    left = seconds - now
    if left <= 0:
        return "over"
    for length, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if left >= length:
            return f"in {count(round(left / length), unit)}"
    return "in a minute"


def name(text: str) -> Markup:
    """A name as it is, but that nothing in it can hide or turn the rest around: invisible and direction characters are shown by their
    numbers, and what runs from right to left does so within the name."""
    shown = Markup("").join(
        Markup('<span class="odd">U+{:04X}</span>').format(ord(char)) if _is_odd(char) else escape(char) for char in text)
    return Markup("<bdi>{}</bdi>").format(shown)


def plain(text: str) -> str:
    """The same where there can be no markup: in titles and attributes."""
    return "".join(f"\\u{ord(char):04x}" if _is_odd(char) else char for char in text)


def _is_odd(char: str) -> bool:
    return unicodedata.category(char) in ("Cf", "Cc", "Zl", "Zp", "Cs", "Co") and char not in _JOINERS


_KINDS = (
    ("application/pdf", "pdf", "PDF"), ("image/", "image", "Image"), ("video/", "video", "Video"), ("audio/", "audio", "Audio"),
    ("text/csv", "sheet", "Table"), ("text/html", "code", "HTML"), ("text/x-", "code", "Code"), ("text/javascript", "code", "Code"),
    ("text/", "text", "Text"), ("application/json", "code", "JSON"), ("application/zip", "archive", "Archive"),
    ("application/gzip", "archive", "Archive"), ("application/x-7z", "archive", "Archive"), ("application/x-tar", "archive", "Archive"),
    ("application/x-rar", "archive", "Archive"), ("application/zstd", "archive", "Archive"), ("application/x-xz", "archive", "Archive"),
    ("application/x-bzip2", "archive", "Archive"), ("application/epub", "text", "Book"), ("font/", "other", "Font"),
)


_ACCEPTED = {"image/*": "images", "video/*": "videos", "audio/*": "sound", "text/*": "text", "application/pdf": "PDF"}


def accepted(patterns: Sequence[str]) -> str:
    """The media types that a space takes, as people call them."""
    return ", ".join(_ACCEPTED.get(pattern, pattern) for pattern in patterns)


def kind(media_type: str) -> tuple[str, str]:
    """The picture and the word for a type of file."""
    for start, picture, word in _KINDS:
        if media_type.startswith(start):
            return picture, word
    if "sheet" in media_type or "excel" in media_type:
        return "sheet", "Table"
    if "presentation" in media_type or "powerpoint" in media_type:
        return "image", "Slides"
    if "word" in media_type or "opendocument.text" in media_type or "rtf" in media_type:
        return "text", "Document"
    return "other", "File"
