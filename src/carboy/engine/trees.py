"""Trees of files on a disk: walked without following links, written without leaving their root."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

from carboy.engine.reading import pieces
from carboy.storage.copying import copy_bytes, link_open_file

_NOFOLLOW = os.O_NOFOLLOW | os.O_CLOEXEC

Outcome = Literal["copied", "linked", "kept", "left out", "pruned", "due", "elsewhere"]


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of one file of a tree. ``name`` is where it lies in the tree, as text that may hold lone surrogates for bytes that are
    no UTF-8. ``kept``: it was there already. ``left out``: it was not taken, and ``reason`` says why. ``due``: it would be taken.
    ``elsewhere``: it is kept where this doesn't reach."""

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
        file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _NOFOLLOW, dir_fd=folder)
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


class Tree:
    """A folder that files are written into and nothing outside of it: names are followed from its root, folder by folder, through no
    symbolic link. A context; it makes the folder where there is none. Raises OSError."""

    def __init__(self, root: Path) -> None:
        self._path = root
        self._folder: tuple[str, int] | None = None
        self._unsynced: set[str] = set()

    def __enter__(self) -> Tree:
        self._path.mkdir(parents=True, exist_ok=True)
        self._root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self

    def __exit__(self, *raised: object) -> None:
        self._leave()
        os.close(self._root)

    def is_empty(self) -> bool:
        return not os.listdir(self._root)

    def open(self, name: str) -> int | None:
        """What is there, open for reading; None for nothing. Raises OSError where it is no regular file."""
        folder, last = self._enter(name)
        try:
            file = os.open(last, os.O_RDONLY | os.O_NONBLOCK | _NOFOLLOW, dir_fd=folder)
        except FileNotFoundError:
            return None
        if stat.S_ISREG(os.fstat(file).st_mode):
            return file
        os.close(file)
        raise FileExistsError(errno.EEXIST, "there is something that is no file")

    @contextmanager
    def writing(self, name: str) -> Iterator[Made]:
        """A new file, seen at its name once it is kept."""
        folder, last = self._enter(name)
        made = Made(folder, last)
        try:
            yield made
        finally:
            made.close()

    @contextmanager
    def lines(self, name: str) -> Iterator[TextIO]:
        """A text in the root that takes its name, an older one's too, when it is whole."""
        temporary = f"{name}.new"
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _NOFOLLOW, 0o666, dir_fd=self._root)
        with os.fdopen(file, "w", encoding="utf-8") as text:
            yield text
            text.flush()
            os.fsync(text.fileno())
        os.replace(temporary, name, src_dir_fd=self._root, dst_dir_fd=self._root)

    def sync(self) -> None:
        """All names are on stable storage."""
        self._leave()
        for folder in sorted(self._unsynced):
            os.fsync(self._enter(folder + "x")[0])
        os.fsync(self._root)

    def _enter(self, name: str) -> tuple[int, str]:
        """The folder of a name, open, made where it isn't there, and the last part of the name."""
        within, _, last = name.rpartition("/")
        if not within:
            return self._root, last
        if self._folder is None or self._folder[0] != within:
            self._leave()
            self._folder = (within, self._descend(within))
        return self._folder[1], last

    def _descend(self, within: str) -> int:
        at = os.dup(self._root)
        path = ""
        for part in within.split("/"):
            self._unsynced.add(path)
            try:
                below = _folder(part, at)
            finally:
                os.close(at)
            at, path = below, f"{path}{part}/"
        self._unsynced.add(path)
        return at

    def _leave(self) -> None:
        if self._folder:
            os.close(self._folder[1])
            self._folder = None


class Made:
    """A file on its way into a tree, under a name of its own until it is kept."""

    def __init__(self, folder: int, name: str) -> None:
        self._folder, self._name = folder, name
        self._temporary = f".carboy-{secrets.token_hex(8)}"
        self._file: int | None = None
        self._kept = False

    def take(self, source: int, *, link: bool = False) -> bool:
        """The open file's bytes; whether by hard link."""
        if link and link_open_file(source, self._temporary, self._folder):
            self._file = os.open(self._temporary, os.O_RDONLY | _NOFOLLOW, dir_fd=self._folder)
            return True
        copy_bytes(source, 0, self._create(), 0, os.fstat(source).st_size)
        return False

    def write(self, pieces: Iterable[bytes]) -> bool:
        file = self._create()
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(file, view):]
        return False

    def pieces(self) -> Iterator[bytes]:
        """What was written, read again."""
        assert self._file is not None
        return pieces(self._file)

    def keep(self, modified_at: float) -> None:
        """It is durable, and has its time and its name."""
        assert self._file is not None
        os.utime(self._file, (modified_at, modified_at))
        os.fsync(self._file)
        os.rename(self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._kept = True

    def close(self) -> None:
        if self._file is None:
            return
        os.close(self._file)
        if not self._kept:
            os.unlink(self._temporary, dir_fd=self._folder)

    def _create(self) -> int:
        self._file = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW, 0o666, dir_fd=self._folder)
        return self._file


def _folder(name: str, within: int) -> int:
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=within)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | _NOFOLLOW, dir_fd=within)
