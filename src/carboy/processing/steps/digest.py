"""The SHA-256 of a content, where it isn't known yet."""

from __future__ import annotations

import hashlib

from carboy.config import Settings
from carboy.jobs import Outcome
from carboy.processing.step import Context, step

_PIECE = 2**20


def _rules(settings: Settings, space: str) -> dict[str, bool]:
    rules = settings.spaces.get(space)
    return {"dedup": rules is not None and rules.dedup, "private": rules is not None and rules.private}


@step("digest", spaces=(), configure=_rules)
def digest(context: Context, *, dedup: bool = False, private: bool = False) -> Outcome:
    """SHA-256, as hexadecimal digits. Where the space keeps equal files once, this is where they are joined: with what is in the space, in
    a private one with what the owner has there."""
    known = context.blob.sha256
    if known is None:
        known = _read(context)
    return Outcome({"sha256": known.hex(), "size": context.blob.size}, sha256=known, same_in=_where(context, private) if dedup else None)


def _where(context: Context, private: bool) -> tuple[str, str | None] | None:
    """Nowhere for a file that has gone to another space meanwhile, or that is nobody's where each has its own."""
    file = context.file
    if file is None or file.space != context.job.space or (private and file.owner is None):
        return None
    return file.space, file.owner if private else None


def _read(context: Context) -> bytes:
    found, done = hashlib.sha256(), 0
    with context.stream() as source:
        while piece := source.read(_PIECE):
            found.update(piece)
            done += len(piece)
            context.progress(done / context.blob.size, "reading")
    return found.digest()
