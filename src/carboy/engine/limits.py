"""Pure checks of sizes and types against a space's rules."""

from __future__ import annotations

from carboy.config import Settings, SpaceSettings
from carboy.errors import TooLarge, UnsupportedType
from carboy.mediatypes import accepts, detect
from carboy.model import Limits


def largest(settings: Settings, rules: SpaceSettings) -> int:
    """The largest file in bytes."""
    return min(settings.max_size, rules.max_size)


def quotas(rules: SpaceSettings) -> Limits:
    """How much the space, and each owner in it, may keep."""
    return Limits(rules.quota, rules.owner_quota)


def check_size(size: int | None, limit: int) -> None:
    """Raises TooLarge for a known size past the limit."""
    if size is not None and size > limit:
        raise TooLarge(f"{size} bytes are more than the {limit} that fit here", limit=limit, size=size)


def media_type(head: bytes, name: str, rules: SpaceSettings) -> str:
    """The type detected from the first bytes. Raises UnsupportedType if the space doesn't accept it."""
    detected = detect(head, name)
    if rules.accept and not accepts(detected, rules.accept, name):
        raise UnsupportedType(f"{name!r} is {detected}; this space accepts {', '.join(rules.accept)}",
                              detected=detected, accepted=list(rules.accept))
    return detected
