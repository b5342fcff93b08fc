"""What a file is by what stands further in than its first bytes: the names in a ZIP, the tracks of an MP4, the whole of a text. Bounded:
whatever the file says of itself, little is read of it, and texts once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

_OFFICE, _OPEN = "application/vnd.openxmlformats-officedocument.", "application/vnd.oasis.opendocument."
_END, _ENTRY, _LOCAL = b"PK\x05\x06", b"PK\x01\x02", b"PK\x03\x04"
_END_SIZE, _ENTRY_SIZE, _LOCAL_SIZE = 22, 46, 30
_MAX_COMMENT, _MAX_DIRECTORY, _MAX_DECLARED = 2**16, 8 * 2**20, 200
_PIECE = 2**20
_BINARY = bytes(set(range(32)) - set(b"\t\n\f\r\x1b"))
"""The bytes that no text contains (WHATWG MIME Sniffing, "binary data byte")."""
MAX_JSON = 8 * 2**20
"""Larger texts are not tried as JSON."""

_PARTS = (
    ("word/document.xml", f"{_OFFICE}wordprocessingml.document", "application/vnd.ms-word.document.macroenabled.12"),
    ("xl/workbook.xml", f"{_OFFICE}spreadsheetml.sheet", "application/vnd.ms-excel.sheet.macroenabled.12"),
    ("xl/workbook.bin", "application/vnd.ms-excel.sheet.binary.macroenabled.12", "application/vnd.ms-excel.sheet.binary.macroenabled.12"),
    ("ppt/presentation.xml", f"{_OFFICE}presentationml.presentation", "application/vnd.ms-powerpoint.presentation.macroenabled.12"),
    ("visio/document.xml", "application/vnd.ms-visio.drawing", "application/vnd.ms-visio.drawing.macroenabled.12"),
)
"""The main part of each kind of OOXML package, its type, and its type where it has macros."""
_MACROS = "vbaproject.bin"


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    size: int
    stored: bool
    at: int


# --- ZIP -----------------------------------------------------------------------------------------------------------


def zip_type(file: BinaryIO, size: int) -> str | None:
    """The type of a document, book or program that is a ZIP, ``application/zip`` for any other; None where it can't be read."""
    entries = list(_entries(file, size))
    names = {entry.name for entry in entries}
    if not entries:
        return None
    if entries[0].name == "mimetype" and (declared := _declared(file, entries[0])):
        return declared
    for part, plain, with_macros in _PARTS:
        if part in names and "[Content_Types].xml" in names:
            return with_macros if any(name.lower().endswith(_MACROS) for name in names) else plain
    if "AndroidManifest.xml" in names:
        return "application/vnd.android.package-archive"
    return "application/java-archive" if "META-INF/MANIFEST.MF" in names else "application/zip"


def _entries(file: BinaryIO, size: int) -> Iterator[_Entry]:
    """Those of the directory at the end (APPNOTE.TXT 4.3.12); none where it isn't whole, or too large."""
    tail = _read(file, max(0, size - _MAX_COMMENT - _END_SIZE), _MAX_COMMENT + _END_SIZE)
    found = tail.rfind(_END)
    end = tail[found:found + _END_SIZE]
    if found < 0 or len(end) < _END_SIZE:
        return
    length, start = int.from_bytes(end[12:16], "little"), int.from_bytes(end[16:20], "little")
    if length > _MAX_DIRECTORY or start + length > size:
        return
    directory, at = _read(file, start, length), 0
    while directory[at:at + 4] == _ENTRY and at + _ENTRY_SIZE <= length:
        head = directory[at:at + _ENTRY_SIZE]
        name, extra, comment = (int.from_bytes(head[place:place + 2], "little") for place in (28, 30, 32))
        yield _Entry(directory[at + _ENTRY_SIZE:at + _ENTRY_SIZE + name].decode("utf-8", "replace"), int.from_bytes(head[20:24], "little"),
                     head[10:12] == b"\0\0", int.from_bytes(head[42:46], "little"))
        at += _ENTRY_SIZE + name + extra + comment


def _declared(file: BinaryIO, entry: _Entry) -> str | None:
    """What the first entry ``mimetype`` of OpenDocument and EPUB says, where it is one of theirs."""
    head = _read(file, entry.at, _LOCAL_SIZE)
    if not entry.stored or entry.size > _MAX_DECLARED or head[:4] != _LOCAL or len(head) < _LOCAL_SIZE:
        return None
    skipped = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    said = _read(file, entry.at + _LOCAL_SIZE + skipped, entry.size).decode("latin-1").strip()
    return said if said == "application/epub+zip" or (said.startswith(_OPEN) and said[len(_OPEN):].replace("-", "").isalnum()) else None


# --- MP4 -----------------------------------------------------------------------------------------------------------

_WITHIN = {"moov", "trak", "mdia"}
_MAX_BOXES = 10_000


def mp4_type(file: BinaryIO, size: int) -> str | None:
    """``audio/mp4`` or ``video/mp4`` by the tracks that there are (ISO/IEC 14496-12); None where no track can be found."""
    handlers = set(_handlers(file, size))
    if "vide" in handlers:
        return "video/mp4"
    return "audio/mp4" if "soun" in handlers else None


def _handlers(file: BinaryIO, size: int) -> Iterator[str]:
    """The kinds of the tracks, in the order of the file."""
    open_boxes, boxes = [(0, size)], 0
    while open_boxes and boxes < _MAX_BOXES:
        at, end = open_boxes.pop()
        head = _read(file, at, 32) if at + 8 <= end else b""
        start, length = _measures(head, end - at)
        if len(head) < 8 or length < 8 or at + length > end:
            continue
        boxes += 1
        open_boxes.append((at + length, end))
        kind = head[4:8].decode("latin-1")
        if kind in _WITHIN:
            open_boxes.append((at + start, at + length))
        elif kind == "hdlr":
            yield head[start + 8:start + 12].decode("latin-1")


def _measures(head: bytes, rest: int) -> tuple[int, int]:
    """Where the content of a box begins, and its length with its head: 0 says to the end, 1 that it stands behind the name."""
    said = int.from_bytes(head[:4], "big")
    if said == 1:
        return 16, int.from_bytes(head[8:16], "big")
    return 8, said or rest


# --- text ----------------------------------------------------------------------------------------------------------


def text_type(file: BinaryIO, size: int, meanwhile: Callable[[int], None]) -> str | None:
    """What a content is whose beginning is text: ``application/octet-stream`` where binary bytes follow, ``application/json`` where it is
    that as a whole, and None where there is nothing more to say. ``meanwhile`` is called with how much was read."""
    file.seek(0)
    kept, done = [], 0
    while piece := file.read(_PIECE):
        if done == 0 and piece[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return None
        if len(piece.translate(None, _BINARY)) != len(piece):
            return "application/octet-stream"
        done += len(piece)
        meanwhile(done)
        if size <= MAX_JSON:
            kept.append(piece)
    return "application/json" if kept and _is_json(b"".join(kept)) else None


def _is_json(text: bytes) -> bool:
    if text.lstrip()[:1] not in (b"{", b"["):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)
