"""Preconditions of RFC 9110 section 13, evaluated in the order of section 13.2.2 against what is stored now. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from carboy.web.http import Fields, etags, parse_http_date

Outcome = Literal["proceed", "not_modified", "failed"]


@dataclass(frozen=True, slots=True)
class Validators:
    """What a file is now: a strong entity tag, quoted, and its Last-Modified in whole seconds since 1970."""

    etag: str
    modified: int


def evaluate(headers: Fields, now: Validators) -> Outcome:
    """Whether a GET or HEAD goes on (``proceed``), is a 304 or a 412.

    Raises InvalidRequest for a malformed ``If-Match`` or ``If-None-Match``. A date that isn't one is ignored, as RFC
    9110 demands.
    """
    match = etags(headers.get("If-Match"))
    if match is not None:
        if not strongly_matches(match, now.etag):
            return "failed"
    elif _modified_since(headers.get("If-Unmodified-Since"), now.modified):
        return "failed"
    return _cached(headers, now)


def _cached(headers: Fields, now: Validators) -> Outcome:
    none_match = etags(headers.get("If-None-Match"), "If-None-Match")
    if none_match is not None:
        return "not_modified" if weakly_matches(none_match, now.etag) else "proceed"
    return "not_modified" if _modified_since(headers.get("If-Modified-Since"), now.modified) is False else "proceed"


def _modified_since(field: str | None, modified: int) -> bool | None:
    """Whether it changed after the date; None where there is no valid date."""
    date = parse_http_date(field) if field else None
    return None if date is None else modified > date


def range_holds(if_range: str | None, validators: Validators, now: float) -> bool:
    """Whether ``If-Range`` (section 13.1.5) lets the ranges be served: it is absent, the same strong entity tag, or
    exactly the Last-Modified, of a second that is over (a second in which the file may still change proves nothing)."""
    if if_range is None:
        return True
    value = if_range.strip()
    if value.startswith(('"', "W/")):
        return value == validators.etag
    return parse_http_date(value) == validators.modified and now >= validators.modified + 1


def strongly_matches(tags: tuple[str, ...], etag: str) -> bool:
    """Section 8.8.3.2: a weak tag equals nothing."""
    return tags == ("*",) or etag in tags


def weakly_matches(tags: tuple[str, ...], etag: str) -> bool:
    """Section 8.8.3.2: the same characters, weak or not."""
    return tags == ("*",) or etag in (tag.removeprefix("W/") for tag in tags)
