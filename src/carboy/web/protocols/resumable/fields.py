"""The header fields of Resumable Uploads for HTTP (draft-ietf-httpbis-resumable-upload), in the grammar of RFC 9651, and what its versions
differ in. Pure: values in, values out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from carboy.errors import InvalidRequest
from carboy.model import MAX_SIZE

BODY = "application/partial-upload"
"""The media type of bytes that go on at an offset."""
VERSION_FIELD = "Upload-Draft-Interop-Version"
PROBLEM = "https://iana.org/assignments/http-problem-types#"

_KEY = r"[a-z*][a-z0-9_.*-]*"
_BARE = (r"-?\d{1,12}\.\d{1,3}|@?-?\d{1,15}|%?\"(?:[ !#-\[\]-~]|\\[\"\\])*\"|:[A-Za-z0-9+/=]*:|\?[01]"
         r"|[A-Za-z*][\w!#$%&'*+.^`|~:/-]*")
_ITEM = re.compile(rf"(?a: *({_BARE})(?:; *{_KEY}(?:=(?:{_BARE}))?)* *)")
_INTEGER = re.compile(r"-?[0-9]{1,15}")
_LARGEST = 10**15 - 1
"""Integers of structured fields have fifteen digits at most."""
_CONTENT_RANGE = re.compile(r" *bytes +([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*) *", re.IGNORECASE)


# --- versions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Version:
    """What a version of the draft does otherwise than others. The plain values are those of the newest."""

    number: int | None
    """As ``Upload-Draft-Interop-Version`` has it; None for requests without it, which get no 104."""
    complete: str = "Upload-Complete"
    """The field that says whether the upload is complete; ``Upload-Incomplete`` says the contrary."""
    unsaid: bool | None = None
    """What an append without that field means; None: it must have it."""
    body: str | None = BODY
    """The type that an append must have; None: any."""
    appended: int = 204
    """The status of an append after which more is to come."""
    progress: bool = True
    """Whether a 104 tells how much is there."""
    age: str | None = "max-age"
    """What ``Upload-Limit`` calls the time that is left; None: there is no such field."""


VERSIONS: Mapping[int, Version] = MappingProxyType({
    3: Version(3, complete="Upload-Incomplete", unsaid=True, progress=False, body=None, appended=201, age=None),
    4: Version(4, progress=False, body=None, appended=201, age=None),
    5: Version(5, body=None, appended=201, age=None),
    6: Version(6, age="expires"),
    **{number: Version(number) for number in range(7, 11)},
})
"""By interop version: -01, -02, -03, -04 and -05, then -06 to -13."""
FINAL = Version(None)
"""For requests that name no version, or one that is not served: as the RFC will be."""


def version(value: str | None) -> Version:
    """The one that ``Upload-Draft-Interop-Version`` names."""
    number = integer(value)
    return FINAL if number is None else VERSIONS.get(number, FINAL)


# --- items ---------------------------------------------------------------------------------------------------------


def boolean(value: str | None) -> bool | None:
    """A Boolean; None for anything else, which counts as absent."""
    item = _item(value)
    return item == "?1" if item in ("?0", "?1") else None


def integer(value: str | None) -> int | None:
    """An Integer that isn't negative; None for anything else, which counts as absent."""
    item = _item(value)
    return int(item) if item and _INTEGER.fullmatch(item) and int(item) >= 0 else None


def _item(value: str | None) -> str | None:
    """A bare item, as it was written, without its parameters."""
    found = _ITEM.fullmatch(value) if value else None
    return found[1] if found else None


def completeness(known: Version, value: str | None) -> bool | None:
    """Whether the version's field says that the upload is complete; None where it doesn't say."""
    said = boolean(value)
    return said if said is None or known.complete == "Upload-Complete" else not said


def told_completeness(known: Version, complete: bool) -> dict[str, str]:
    """The version's field."""
    return {known.complete: "?1" if complete == (known.complete == "Upload-Complete") else "?0"}


def limits(known: Version, largest: int, seconds: float | None = None) -> dict[str, str]:
    """``Upload-Limit``: the largest upload in bytes, where that is a limit, and the time that is left. Empty before it was invented."""
    if known.age is None:
        return {}
    size = [f"max-size={largest}"] if largest <= _LARGEST else []
    found = size + ([f"{known.age}={max(0, int(seconds))}"] if seconds is not None else [])
    return {"Upload-Limit": ", ".join(found) or "min-size=0"}


# --- parts ---------------------------------------------------------------------------------------------------------


def content_range(value: str) -> tuple[int, int, int | None]:
    """``Content-Range`` (RFC 9110 section 14.4) of a part: where it begins, its length, and the length of the whole where that is told.
    Raises InvalidRequest."""
    found = _CONTENT_RANGE.fullmatch(value)
    start, last, size = (int(found[1]), int(found[2]), None if found[3] == "*" else int(found[3])) if found else (0, -1, None)
    if last < start or last >= (MAX_SIZE if size is None else size) or (size or 0) > MAX_SIZE:
        raise InvalidRequest("Content-Range must be 'bytes FIRST-LAST/SIZE', or * for a size that isn't known yet", field="Content-Range")
    return start, last + 1 - start, size
