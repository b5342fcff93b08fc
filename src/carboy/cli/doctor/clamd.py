"""The virus scanner."""

from __future__ import annotations

from collections.abc import Iterator

from carboy.cli.doctor.finding import Finding, ok, problem
from carboy.config import Settings
from carboy.processing.clamd import Clamd, ClamdAway


def check(settings: Settings) -> Iterator[Finding]:
    """Says nothing where none is named. Raises ConfigError for what is no address."""
    if not settings.clamd:
        return
    clamd = Clamd(settings.clamd)
    clamd.check()
    try:
        yield ok("clamd", f"clamd answers: {clamd.version()}")
    except ClamdAway as error:
        yield problem("clamd", str(error), "see that it runs and that Carboy's user may connect; until then files wait for their scan")
