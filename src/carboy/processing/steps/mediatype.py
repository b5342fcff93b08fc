"""The media type of a content, by more of it than its first bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carboy.config import Settings
from carboy.jobs import Outcome
from carboy.mediatypes import TEXT, accepts, is_active
from carboy.processing import insides
from carboy.processing.step import Context, step

_ZIPS = ("application/zip", "application/epub+zip", "application/java-archive", "application/vnd.android.package-archive")
_ZIP_FAMILIES = ("application/vnd.openxmlformats-", "application/vnd.oasis.opendocument.", "application/vnd.ms-")
_MP4 = ("video/mp4", "audio/mp4")


def _rules(settings: Settings, space: str) -> Mapping[str, Any]:
    rules = settings.spaces.get(space)
    return {"accept": rules.accept if rules else ()}


@step("mediatype", spaces=(), configure=_rules)
def mediatype(context: Context, *, accept: tuple[str, ...] = ()) -> Outcome:
    """``media_type`` as it is now, and what it ``was`` where that has changed. A type that the space doesn't take is only told, as
    ``found`` with ``refused``: the file was taken already. Nothing that browsers would run becomes, or ceases to be, by this."""
    was = context.media_type
    found = _looked(context, was) if context.blob.size else None
    if found in (None, was) or is_active(found or "") or context.file is None or context.file.space != context.job.space:
        return Outcome({"media_type": was})
    if not accepts(found or "", accept, context.name):
        return Outcome({"media_type": was, "found": found, "refused": True})
    return Outcome({"media_type": found, "was": was}, media_type=found)


def _looked(context: Context, was: str) -> str | None:
    """The type where it is surer than the one known; None where there is nothing to add."""
    size = context.blob.size
    with context.stream() as content:
        if was in _ZIPS or was.startswith(_ZIP_FAMILIES):
            return insides.zip_type(content, size) if content.read(2) == b"PK" else None
        if was in _MP4:
            return insides.mp4_type(content, size)
        if was == TEXT:
            return insides.text_type(content, size, lambda done: context.progress(done / size, "reading"))
    return None
