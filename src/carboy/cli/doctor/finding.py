"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's: ``what`` is the case, ``advice`` is what to do about it, empty where all is well."""

    status: Literal["ok", "warning", "problem"]
    check: str
    what: str
    advice: str = ""

    def line(self) -> str:
        return f"{self.status:<8} {self.check:<9} {self.what}" + (f": {self.advice}" if self.advice else "")


def ok(check: str, what: str) -> Finding:
    return Finding("ok", check, what)


def warning(check: str, what: str, advice: str) -> Finding:
    return Finding("warning", check, what, advice)


def problem(check: str, what: str, advice: str) -> Finding:
    return Finding("problem", check, what, advice)
