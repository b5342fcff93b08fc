"""The last of what a content goes through: once this is done, the file is processed."""

from __future__ import annotations

from typing import Any

from carboy.processing.step import Context, step


@step("processed", spaces=())
def processed(context: Context) -> dict[str, Any]:
    """The file's id, its size and its SHA-256, where that is known."""
    sha256 = context.results.get("digest", {}).get("sha256")
    return {"file_id": context.job.file_id, "size": context.blob.size, "sha256": sha256}
