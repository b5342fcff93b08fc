"""Steps for the fault tests of jobs. A file's content says what befalls its job, so that one file's job can be killed and another's not."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from carboy.processing.step import Context, step


@step("effect", retries=1000, backoff=0.05)
def effect(context: Context) -> dict[str, Any]:
    """Writes a line for each beginning, and attaches a file that names the attempt: the effect. ``kill`` is where the first attempt ends its
    process (``before``, ``during``, ``after`` the effect), ``seconds`` how long each takes."""
    with context.stream() as source:
        plan = json.loads(source.read() or b"{}")
    kill = plan.get("kill") if is_new(context) else None
    note(context, "begun")
    until = time.monotonic() + plan.get("seconds", 0.0)
    _end_here(kill == "before")
    while time.monotonic() < until:
        context.progress(0.5, "working")
        time.sleep(0.01)
        _end_here(kill == "during")
    context.attach("effect.txt", f"{context.job.id} {context.job.fence}".encode(), "text/plain")
    note(context, "effect")
    _end_here(kill == "after")
    return {"fence": context.job.fence}


def note(context: Context, what: str) -> None:
    """One line in the log that all processes append to."""
    log = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(log, f"{context.job.id} {context.job.fence} {what} {os.getpid()}\n".encode())
    finally:
        os.close(log)


def is_new(context: Context) -> bool:
    """Whether its step was never begun before; its process may have been killed before it got so far."""
    try:
        with open(os.environ["EFFECTS"]) as log:
            return not any(line.startswith(context.job.id) for line in log)
    except FileNotFoundError:
        return True


def _end_here(now: bool) -> None:
    if now:
        os.kill(os.getpid(), signal.SIGKILL)
