"""The virus scan, by clamd."""

from __future__ import annotations

from typing import Literal

from carboy.config import Settings
from carboy.errors import ConfigError, StepFailed
from carboy.jobs import Outcome
from carboy.processing.clamd import Clamd, ClamdAway
from carboy.processing.running import pause_before
from carboy.processing.step import Context, step

LONGEST_PAUSE = 600.0
RETRIES = 1000
"""Some days: clamd may be away over a weekend, and what waits for it is held back meanwhile."""
_BACKOFF = 2.0
_PATIENCE = 900.0
"""Seconds that clamd may take after the last byte."""
_PASSING = "pass"
"""Jobs of this variant let through what can't be looked at, where their file's space says so still. No others do: the content may be in
a space that says otherwise."""


def _rules(settings: Settings, space: str) -> dict[str, str]:
    if not settings.clamd:
        raise ConfigError(f"the step 'scan' of the space {space!r} wants the setting clamd, such as unix:/run/clamav/clamd.ctl",
                          setting="clamd")
    Clamd(settings.clamd).check()
    rules = settings.spaces.get(space)
    return {"clamd": settings.clamd, "unscanned": rules.unscanned if rules else "hold"}


def _variant(settings: Settings, space: str) -> str:
    rules = settings.spaces.get(space)
    return _PASSING if rules and rules.unscanned == "pass" else ""


@step("scan", spaces=(), configure=_rules, variant=_variant, retries=RETRIES, backoff=_BACKOFF, priority=1)
def scan(context: Context, *, clamd: str, unscanned: Literal["hold", "pass"] = "hold") -> Outcome:
    """``verdict``: ``clean``; ``infected`` with its ``signature``, and nobody is given the content any more; or ``unscanned`` with the
    ``reason``: then what is held back stays so, unless the space says that it may pass. While clamd is away it is tried again."""
    size = context.blob.size or 1
    try:
        with context.stream() as content:
            verdict = Clamd(clamd).scan(content, patience=_PATIENCE,
                                        meanwhile=lambda sent: context.progress(min(0.99, sent / size), "scanning"))
    except ClamdAway as error:
        pause = min(LONGEST_PAUSE, pause_before(context.job.attempts, _BACKOFF))
        raise StepFailed(str(error), retry=pause) from error
    if verdict.kind == "infected":
        return Outcome({"verdict": "infected", "signature": verdict.told}, quarantine=verdict.told)
    before = (context.job.result or {}).get("signature")
    if verdict.kind == "unscanned" and before:
        return Outcome({"verdict": "infected", "signature": before, "reason": verdict.told}, quarantine=before)
    if verdict.kind == "unscanned":
        passes = unscanned == "pass" and context.job.version.endswith(f"-{_PASSING}")
        return Outcome({"verdict": "unscanned", "reason": verdict.told}, release=passes)
    return Outcome({"verdict": "clean"})
