"""The clock: whether it says a possible time, runs evenly, and agrees with the one that stamps files."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from carboy.cli.doctor.disk import is_own
from carboy.cli.doctor.finding import Finding, ok, problem, warning
from carboy.config import Settings

_BUILT = 1_767_225_600
"""The start of 2026: no server runs before it was made."""
_PAUSE = 0.2
_UNEVEN = 0.05
_SKEW = 2.0


def check(settings: Settings) -> Iterator[Finding]:
    if time.time() < _BUILT:
        yield problem("clock", f"it is said to be {time.strftime('%Y-%m-%d', time.gmtime())}", "set the clock (timedatectl set-ntp true)")
        return
    yield _runs()
    data = settings.data.absolute()
    if data.is_dir() and is_own(data):
        yield stamps(data)


def _runs() -> Finding:
    """The clock of day beside the one that only counts."""
    day, steady = time.time(), time.monotonic()
    time.sleep(_PAUSE)
    off = (time.time() - day) - (time.monotonic() - steady)
    if abs(off) > _UNEVEN:
        return warning("clock", f"it moved {off:+.2f} s within {_PAUSE} s", "something sets it; let one time service do so, by slewing")
    return ok("clock", "it runs evenly")


def stamps(data: Path) -> Finding:
    """A new file's time is the storage's. Carboy decides nothing by it, but people read it."""
    try:
        with tempfile.NamedTemporaryFile(prefix=".doctor-", dir=data) as file:
            file.write(b"x")
            file.flush()
            off = Path(file.name).stat().st_mtime - time.time()
    except OSError:
        return warning("clock", "the storage's clock could not be asked", "see what is said of the disk")
    if abs(off) > _SKEW:
        return warning("clock", f"the storage's clock is {off:+.0f} s off this machine's", "let both be set by a time service")
    return ok("clock", "the storage's clock agrees")
