"""The one rule of names and paths, whichever protocol brought them.

A path is ``segment/segment/name``: Unicode NFC, case kept and case-sensitive, never starting or ending with a slash.
What another system finds special (``CON``, a trailing dot or space, a backslash) is ordinary here, because blobs
never carry names on disk.
"""

from __future__ import annotations

import hashlib
import re
import string
import unicodedata
from urllib.parse import unquote

from carboy.errors import InvalidName

MAX_SEGMENT = 255
"""Bytes of UTF-8 in one segment."""
MAX_PATH = 4096
"""Bytes of UTF-8 in a path."""
MAX_DEPTH = 100
"""Segments in a path."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_DOTS = frozenset((".", ".."))
_PLAIN = frozenset(string.ascii_letters + string.digits + "_-.@+")
"""What stays as it is in the name of an owner's folder."""
_DECODINGS = 3
"""How often a path is decoded again in search of a hidden traversal."""


def clean_path(raw: str) -> str:
    """The path as it is stored. ``raw`` has been percent-decoded once and carries no leading slash.

    Raises InvalidName; its facts are the ``rule`` that was broken and the ``name`` in an escaped form.
    """
    path = unicodedata.normalize("NFC", raw)
    segments = path.split("/")
    _refuse_controls(path)
    _refuse_long(path, segments)
    for segment in segments:
        _refuse_segment(segment)
    _refuse_encoded(path)
    return path


def clean_folder(raw: str) -> str:
    """A folder's path with its trailing slash, and ``""`` for the space's root. ``raw`` may end with the slash or not.

    Raises InvalidName as :func:`clean_path`.
    """
    return f"{clean_path(raw.removesuffix('/'))}/" if raw else ""


def clean_prefix(raw: str) -> str:
    """The beginning of paths, as lists take it: NFC, and it may end anywhere. Raises InvalidName for what begins no path."""
    prefix = unicodedata.normalize("NFC", raw)
    _refuse_controls(prefix)
    return prefix


def clean_name(raw: str) -> str:
    """One segment from a form's filename: some browsers send a full path, of which the last part counts, after ``/`` or
    ``\\`` (RFC 7578 section 4.2). Raises InvalidName."""
    return clean_path(re.split(r"[/\\]", raw)[-1])


def classic_name(raw: str) -> str:
    """The name as the classic tutorial's endpoints make it: what ``secure_filename`` gives on POSIX.

    Raises InvalidName where nothing of it remains.
    """
    text = unicodedata.normalize("NFKD", raw).encode("ascii", "ignore").decode("ascii")
    text = re.sub(r"[^A-Za-z0-9_.-]", "", "_".join(text.replace("/", " ").split())).strip("._")
    if not text:
        raise _refusal(raw, "empty", "has no letter, digit or dash that a plain name can keep")
    return clean_path(text)


def folder_of(path: str) -> str:
    """The folder a path lies in, with its trailing slash: ``""`` at the top, so that folder + name is the path."""
    return path[:path.rfind("/") + 1]


def home_of(owner: str | None) -> str:
    """The folder of an owner in a private space, whatever its id looks like: one clean segment of at most 255 bytes, with a slash.
    Different owners have different folders; nobody's is ``nobody/``."""
    if owner is None:
        return "nobody/"
    plain = "".join(char if char in _PLAIN else "".join(f"={byte:02X}" for byte in char.encode("utf-8", "surrogatepass")) for char in owner)
    if plain in ("", "nobody") or plain[0] == ".":
        plain = f"={ord(owner[0]):02X}{plain[1:]}" if owner else "="
    return f"{plain}/" if len(plain) <= MAX_SEGMENT else f"=={hashlib.sha256(plain.encode()).hexdigest()}/"


def ancestors(path: str) -> list[str]:
    """The paths that must not be files for ``path`` to be one, shortest first: ``a``, ``a/b`` for ``a/b/c``."""
    return [path[:at] for at, char in enumerate(path) if char == "/"]


def shown(name: str) -> str:
    """A name fit for messages and logs: quoted, with control characters, surrogates and direction overrides escaped,
    and cut where it is long."""
    return repr(name if len(name) <= 100 else f"{name[:99]}…")


def _refusal(name: str, rule: str, what: str, **facts: int) -> InvalidName:
    return InvalidName(f"The name {shown(name)} {what}.", rule=rule, name=shown(name), **facts)


def _refuse_controls(path: str) -> None:
    if found := _CONTROL.search(path):
        raise _refusal(path, "control_character", f"contains the character U+{ord(found[0]):04X}; "
                       "control characters and lone surrogates are not allowed")


def _refuse_long(path: str, segments: list[str]) -> None:
    if len(path.encode()) > MAX_PATH:
        raise _refusal(path, "path_too_long", f"is too long; a path has at most {MAX_PATH} bytes of UTF-8", limit=MAX_PATH)
    if len(segments) > MAX_DEPTH:
        raise _refusal(path, "path_too_deep", f"is too deep; a path has at most {MAX_DEPTH} segments", limit=MAX_DEPTH)
    if max(len(segment.encode()) for segment in segments) > MAX_SEGMENT:
        raise _refusal(path, "name_too_long", f"is too long; each segment has at most {MAX_SEGMENT} bytes of UTF-8",
                       limit=MAX_SEGMENT)


def _refuse_segment(segment: str) -> None:
    if not segment:
        raise _refusal(segment, "empty_segment", "is empty; a path neither starts nor ends with a slash, "
                       "nor has two in a row")
    if not _DOTS.isdisjoint(segment.split("\\")):
        raise _refusal(segment, "dot_segment", "is '.' or '..', or has it between backslashes; "
                       "paths are absolute and never traverse")


def _refuse_encoded(path: str) -> None:
    again = path
    for _ in range(_DECODINGS):
        if "%" not in again:
            return
        again = unquote(again)
        if again[:1] in "/\\" or not _DOTS.isdisjoint(re.split(r"[/\\]", again)):
            raise _refusal(path, "encoded_traversal", "is a traversal once decoded again; encode a path once")
