"""A step that derives a file, for servers whose system calls are looked at."""

from __future__ import annotations

from carboy.processing.step import Context, step


@step("attach", spaces=("derived",))
def attach(context: Context) -> None:
    with context.stream() as source:
        context.attach("half", source.read(context.blob.size // 2), "application/octet-stream")
