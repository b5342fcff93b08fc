"""Trees of files on a disk: walked without following links, written without leaving their root."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Outcome = Literal["copied", "linked", "kept", "left out"]


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of one file of a tree. ``name`` is where it lies in the tree, as text that may hold lone surrogates for bytes that are
    no UTF-8. ``kept``: it was there already. ``left out``: it was not taken, and ``reason`` says why."""

    name: str
    outcome: Outcome
    size: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Walked:
    """A file of a tree, open for reading, or (``file`` None) what can't be taken, and why. Whoever is given it closes it."""

    path: str
    file: int | None
    size: int = 0
    modified_at: float = 0.0
    changed: tuple[int, int] = (0, 0)
    reason: str = ""

    def told(self, outcome: Outcome, reason: str = "") -> Moved:
        return Moved(self.path, outcome, self.size, reason)

    def unchanged(self) -> bool:
        """Whether nobody wrote to it since it was opened, as far as its size and times tell."""
        return self.file is not None and _state(os.fstat(self.file)) == self.changed

    def close(self) -> None:
        if self.file is not None:
            os.close(self.file)


def walk(root: Path) -> Iterator[Walked]:
    """Every file below ``root``, by name. Symbolic links are told of and not followed; folders are opened relative to one another, so
    that nobody can exchange one for a link meanwhile."""
    unread: list[Walked] = []

    def note(error: OSError) -> None:
        unread.append(Walked(os.path.relpath(str(error.filename), root), None, reason=f"can't be read: {error.strerror}"))

    for folder, folders, files, opened in os.fwalk(root, onerror=note):
        folders.sort()
        inside = os.path.relpath(folder, root)
        within = "" if inside == "." else f"{inside}/"
        links = [name for name in folders if _is_link(name, opened)]
        for name in sorted([*files, *links]):
            yield _opened(within + name, name, opened)
        yield from unread
        unread.clear()


def _opened(path: str, name: str, folder: int) -> Walked:
    try:
        before = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(before.st_mode):
            return Walked(path, None, reason="is a symbolic link")
        if not stat.S_ISREG(before.st_mode):
            return Walked(path, None, reason="is no regular file")
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        return Walked(path, None, reason=f"can't be read: {error.strerror}")
    status = os.fstat(file)
    return Walked(path, file, status.st_size, status.st_mtime, _state(status))


def _is_link(name: str, folder: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _state(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
