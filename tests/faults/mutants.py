"""Carboy with one sync taken out: copies of its source that the checker of system calls must not pass.

The places are found in the source, so a sync that is added is tried from then on.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import carboy

SOURCE = Path(carboy.__file__).parent

_ARGUMENTS = r"\((?:[^()]|\([^()]*\))*\)"
SYNCS = (
    (re.compile(rf"\bos\.f(?:data)?sync{_ARGUMENTS}"), "None"),
    (re.compile(rf"\b(?:self\.)?_sync_\w+{_ARGUMENTS}"), "None"),
    (re.compile(rf"(?<!\.)\b_flush_all{_ARGUMENTS}"), "None"),
    (re.compile(r"\bsubmit\(_flush_all, lot\)"), "submit(dict)"),
    (re.compile(r"\bself\._flush\(\)"), "None"),
    (re.compile(r"(?:\b\w+\.)+(?:flush|sync)\(\)"), "{}"),
    (re.compile(r"'FULL' if durable else 'NORMAL'"), "'OFF'"),
    (re.compile(r"synchronous = FULL"), "synchronous = OFF"),
)
"""What syncs, or asks another to, and what takes its place."""
COMMANDS = frozenset({
    *(f"engine/{name}.py" for name in ("backup", "exporting", "importing", "manifest", "restoring", "scrub", "trees")), "storage/copying.py",
    ("storage/local.py", "self._sync_folder(key)"), ("storage/local.py", 'self._sync_folder(Key(f"{number:02x}/"))')})
"""Files, and lines of others, that serve commands and no request."""
ELSEWHERE = ("cli/", "storage/s3", "engine/migrating.py", "measuring.py", "processing/isolating/child.py")
"""What shows nothing to the checker: a server in S3 syncs by itself, and migrating is tried with one (tests/e2e/test_s3_migrating.py);
numbers of metrics need no sync, and what a child process writes is kept by the worker, which syncs it."""
_DEFINITION = re.compile(r"\s*def ")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A line of source without its indentation, and what it becomes. ``nth`` tells equal lines of a file apart."""

    file: str
    line: str
    instead: str
    nth: int

    def __str__(self) -> str:
        return f"{self.file}: {self.line}" + (f" #{self.nth + 1}" if self.nth else "")

    def write(self, folder: Path) -> Path:
        """Copy the package into ``folder`` and change the line; what to put first on PYTHONPATH."""
        shutil.copytree(SOURCE, folder / "carboy", ignore=shutil.ignore_patterns("__pycache__"))
        path = folder / "carboy" / self.file
        lines = path.read_text().splitlines(keepends=True)
        number = [number for number, line in enumerate(lines) if line.strip() == self.line][self.nth]
        lines[number] = lines[number].replace(self.line, self.instead)
        path.write_text("".join(lines))
        return folder


def every_mutant(*, commands: bool = False) -> Iterator[Mutant]:
    """One for each line of Carboy that syncs: of what answers to clients rest on, or of what ``commands`` do."""
    return (mutant for mutant in _everywhere() if _is_of_commands(mutant) == commands and not mutant.file.startswith(ELSEWHERE))


def _is_of_commands(mutant: Mutant) -> bool:
    return mutant.file in COMMANDS or (mutant.file, mutant.line) in COMMANDS


def _everywhere() -> Iterator[Mutant]:
    for path in sorted(SOURCE.rglob("*.py")):
        seen: Counter[str] = Counter()
        for line in map(str.strip, path.read_text().splitlines()):
            instead = _without_sync(line)
            if instead != line:
                yield Mutant(str(path.relative_to(SOURCE)), line, instead, seen[line])
                seen[line] += 1


def _without_sync(line: str) -> str:
    if _DEFINITION.match(line):
        return line
    for pattern, instead in SYNCS:
        line = pattern.sub(instead, line)
    return line
