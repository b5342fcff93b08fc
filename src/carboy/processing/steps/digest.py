"""The SHA-256 of a content, where it isn't known yet."""

from __future__ import annotations

import hashlib

from carboy.jobs import Outcome
from carboy.processing.step import Context, step

_PIECE = 2**20


@step("digest", spaces=())
def digest(context: Context) -> Outcome:
    """SHA-256, as hexadecimal digits."""
    known = context.blob.sha256
    if known is None:
        known = _read(context)
    return Outcome({"sha256": known.hex(), "size": context.blob.size}, sha256=known)


def _read(context: Context) -> bytes:
    found, done = hashlib.sha256(), 0
    with context.stream() as source:
        while piece := source.read(_PIECE):
            found.update(piece)
            done += len(piece)
            context.progress(done / context.blob.size, "reading")
    return found.digest()
