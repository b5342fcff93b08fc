"""Steps that wait until a test lets them go on: the module that servers of tests are told by ``CARBOY_STEP_MODULES``.

A content is let through once the folder ``GATES`` has a file that is named as the file is; what that file says, the step gives, or dies of.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import carboy
from carboy.errors import StepFailed
from carboy.processing.step import Context, step

assert carboy


@step("gate", spaces=(), retries=0)
def gate(context: Context, size: int = 1, pages: list[int] | None = None) -> dict[str, object]:
    path, pause, rounds = Path(os.environ["GATES"]) / context.name, threading.Event(), 0
    while not path.exists():
        rounds += 1
        context.progress(min(0.9, rounds / 1000), f"round {rounds}")
        pause.wait(0.01)
    said = path.read_text()
    if said == "die":
        raise StepFailed("the gate is shut")
    return {"said": said, "size": size}


@step("after", spaces=(), after=("gate",))
def after(context: Context) -> dict[str, object]:
    return {"before": dict(context.results["gate"])}


@step("pictures", spaces=(), accept=("image/*",))
def pictures(context: Context) -> None:
    """For images alone."""
