"""What a backup folder says of itself: ``manifest.jsonl``, one line for each stored content, and ``backup.json``, which vouches for it
and for the catalog beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from carboy import __version__
from carboy.engine.reading import look, pieces
from carboy.errors import InvalidRequest
from carboy.model import Blob, Key, Span, key_for

CATALOG, MANIFEST, NOTE = "catalog.sqlite3", "manifest.jsonl", "backup.json"
FORMAT = 1
Sums = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """The bytes of one key. With ``spans`` they are those of an upload under way: only what lies in these is meant."""

    key: Key
    size: int
    crc64nvme: int = 0
    sha256: bytes | None = None
    spans: tuple[Span, ...] | None = None

    @classmethod
    def of(cls, blob: Blob) -> Entry:
        return cls(blob.key, blob.size, blob.crc64nvme, blob.sha256)

    @property
    def blob(self) -> Blob:
        return Blob(self.key[3:], "local", self.key, self.size, self.crc64nvme, self.sha256)

    def line(self) -> str:
        told: dict[str, Any] = {"key": self.key, "size": self.size}
        if self.spans is None:
            told |= {"crc64nvme": f"{self.crc64nvme:016x}"} | ({"sha256": self.sha256.hex()} if self.sha256 else {})
        else:
            told["spans"] = [[span.start, span.end, f"{span.crc:016x}"] for span in self.spans]
        return json.dumps(told) + "\n"

    @classmethod
    def read(cls, line: str) -> Entry:
        """Raises InvalidRequest for a line that is none."""
        try:
            told = json.loads(line)
            key = key_for(str(told["key"])[3:])
            if key != told["key"] or len(key) != 35 or not set(key[3:]) <= set("0123456789abcdef"):
                raise ValueError("no key")
            spans = [Span(start, end, int(crc, 16)) for start, end, crc in told["spans"]] if "spans" in told else None
            return cls(key, int(told["size"]), int(told.get("crc64nvme", "0"), 16), bytes.fromhex(told.get("sha256", "")) or None,
                       None if spans is None else tuple(spans))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidRequest(f"a line of the backup's {MANIFEST} can't be read") from error


@dataclass(frozen=True, slots=True)
class Note:
    """What ``backup.json`` says. ``catalog`` lists the files that the catalog may be: two while it is exchanged. ``at`` is None for a
    backup that was never completed."""

    at: float | None = None
    catalog: tuple[Sums, ...] = ()
    manifest: tuple[Sums, ...] = ()
    blobs: int = 0
    bytes: int = 0

    def write(self, folder: Path) -> None:
        told = {"format": FORMAT, "carboy": __version__, "at": self.at, "blobs": self.blobs, "bytes": self.bytes,
                "catalog": list(self.catalog), "manifest": list(self.manifest)}
        with replacing(folder / NOTE) as text:
            json.dump(told, text, indent=1)
            text.write("\n")


def read_note(folder: Path) -> Note | None:
    """None where there is none. Raises InvalidRequest for one that this Carboy can't read."""
    try:
        told = json.loads((folder / NOTE).read_text())
        if told["format"] != FORMAT:
            raise InvalidRequest(f"the backup is of another format: {told['format']}")
        return Note(told["at"], tuple(told["catalog"]), tuple(told["manifest"]), told["blobs"], told["bytes"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(f"the {NOTE} in {str(folder)!r} can't be read") from error


def sums_of(path: Path) -> Sums:
    """Size and CRC-64/NVME of a file, as a note keeps them."""
    with path.open("rb") as file:
        seen = look(pieces(file.fileno()))
    return {"size": seen.size, "crc64nvme": f"{seen.crc64nvme:016x}"}


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A text that takes the path, durably, when it is whole."""
    new = path.with_name(path.name + ".new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as text:
        yield text
        text.flush()
        os.fsync(text.fileno())
    take_name(new, path)


def take_name(new: Path, path: Path) -> None:
    """Rename, durably."""
    new.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Former:
    """The lines of an earlier manifest, asked for in the order of their keys and read as far as that."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._next: Entry | None = None
        self._advance()

    def has(self, entry: Entry) -> bool:
        """Whether this content, whole, was there. Keys must come in their order."""
        while self._next and self._next.key < entry.key:
            self._advance()
        found = self._next
        return found is not None and found.spans is None and (found.key, found.size, found.crc64nvme) == (
            entry.key, entry.size, entry.crc64nvme)

    def _advance(self) -> None:
        self._next = None
        with suppress(StopIteration):
            self._next = Entry.read(next(self._lines))
