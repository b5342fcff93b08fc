"""Carboy with one sync taken out: copies of its source that the checker of system calls must not pass."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import carboy

SOURCE = Path(carboy.__file__).parent
SYNCING = re.compile(r"os\.f(data)?sync\(|_sync_\w+\(|\.flush\b|synchronous =")
"""A line of source that syncs, or that asks another to."""
_DEFINITION = re.compile(r"\s*(def |\"\"\")")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A source line (without its indentation) and what takes its place. ``nth`` tells equal lines of a file apart."""

    file: str
    line: str
    instead: str = "pass"
    nth: int = 0

    def __str__(self) -> str:
        return f"{self.file}: {self.line}" + (f" #{self.nth + 1}" if self.nth else "")

    def write(self, folder: Path) -> Path:
        """Copy the package into ``folder`` and change the line; what to put first on PYTHONPATH. Raises LookupError."""
        shutil.copytree(SOURCE, folder / "carboy", ignore=shutil.ignore_patterns("__pycache__"))
        path = folder / "carboy" / self.file
        lines = path.read_text().splitlines(keepends=True)
        found = [number for number, line in enumerate(lines) if line.strip() == self.line]
        if self.nth >= len(found):
            raise LookupError(f"{self.file} has no line {self.line!r} (number {self.nth + 1}) any more")
        lines[found[self.nth]] = lines[found[self.nth]].replace(self.line, self.instead)
        path.write_text("".join(lines))
        return folder


def syncing_lines() -> Iterator[tuple[str, str, int]]:
    """Every line of Carboy that syncs, as ``(file, line, nth)``."""
    for path in sorted(SOURCE.rglob("*.py")):
        seen: Counter[str] = Counter()
        for line in path.read_text().splitlines():
            text = line.strip()
            if SYNCING.search(line) and not _DEFINITION.match(line):
                yield str(path.relative_to(SOURCE)), text, seen[text]
                seen[text] += 1
