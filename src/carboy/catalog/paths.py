"""Paths as ordered text: prefixes are ranges, folders are prefixes. Pure functions."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

from carboy.errors import InvalidRequest

_LAST = "\U0010ffff"


def successor(prefix: str) -> str | None:
    """The least text, in code point order, after all that start with ``prefix``; None if there is none."""
    kept = prefix.rstrip(_LAST)
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)


def after(path: str) -> str:
    """The least path after ``path``: no path holds a control character."""
    return path + "\x01"


def inside(path: str) -> tuple[str, str]:
    """The range ``[low, high)`` of everything in ``path`` taken as a folder."""
    return path + "/", path + "0"


def ancestors(path: str) -> list[str]:
    """``a`` and ``a/b`` for ``a/b/c``."""
    folders, at = [], path.find("/")
    while at >= 0:
        folders.append(path[:at])
        at = path.find("/", at + 1)
    return folders


def folder_of(path: str, prefix: str) -> str | None:
    """The folder, with its slash, in which a listing of ``prefix`` hides ``path``; None if it shows the file."""
    slash = path.find("/", len(prefix))
    return None if slash < 0 else path[:slash + 1]


def numbered(path: str, number: int) -> str:
    """``a/b (2).txt`` for the second twin of ``a/b.txt``. A leading dot begins no extension."""
    folder, slash, name = path.rpartition("/")
    dot = name.rfind(".")
    stem, extension = (name[:dot], name[dot:]) if dot > 0 else (name, "")
    return f"{folder}{slash}{stem} ({number}){extension}"


def first_free(taken: Callable[[int], bool], few: int = 8) -> int:
    """The first number that is not taken, if it is one of the ``few`` first; else one that follows a taken one, found
    in a logarithm of the numbers taken."""
    for number in range(1, few + 1):
        if not taken(number):
            return number
    low, high = few, 2 * few
    while taken(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if taken(middle) else (low, middle)
    return high


def to_cursor(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).rstrip(b"=").decode()


def to_moment(at: float, id: str) -> str:
    """The cursor of a list by time and id."""
    return to_cursor(f"{at!r} {id}")


def from_moment(cursor: str) -> tuple[float, str]:
    """Raises InvalidRequest for what :func:`to_moment` didn't make."""
    at, _, id = from_cursor(cursor).partition(" ")
    try:
        return float(at), id
    except ValueError:
        raise InvalidRequest("the cursor is none that was given out", cursor=cursor) from None


def from_cursor(cursor: str) -> str:
    """Raises InvalidRequest for what :func:`to_cursor` didn't make."""
    try:
        last = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        last = "\0"
    if "\0" in last:
        raise InvalidRequest("the cursor is none that was given out", cursor=cursor)
    return last
