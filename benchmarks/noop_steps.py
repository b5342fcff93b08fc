"""A step that does nothing, so that what is measured is what a job costs besides."""

from __future__ import annotations

from carboy import Context, step


@step("noop", spaces=[])
def noop(context: Context, *, number: int = 0) -> None:
    """Ends."""
