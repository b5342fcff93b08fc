"""HTTP/1.1 messages as bytes on their way: heads that can be altered, bodies that keep their framing (RFC 9112)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

PIECE = 2**16


@dataclass(frozen=True, slots=True)
class Head:
    """A start line and its fields, as they came."""

    start: str
    fields: tuple[tuple[str, str], ...]

    @property
    def raw(self) -> bytes:
        lines = [self.start, *(f"{name}: {value}" for name, value in self.fields)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    @property
    def method(self) -> str:
        return self.start.split(" ")[0]

    @property
    def target(self) -> str:
        return self.start.split(" ")[1]

    @property
    def status(self) -> int:
        return int(self.start.split(" ")[1])

    def get(self, name: str) -> str:
        """A field's first value; empty where there is none."""
        return next((value for each, value in self.fields if each.lower() == name), "")

    @property
    def length(self) -> int | None:
        return int(self.get("content-length")) if self.get("content-length") else None

    @property
    def chunked(self) -> bool:
        return self.get("transfer-encoding").lower() == "chunked"


def without(head: Head, name: str) -> Head:
    return Head(head.start, tuple(field for field in head.fields if field[0].lower() != name))


def replaced(head: Head, name: str, change: Callable[[str], str]) -> Head:
    """With another value where the field is; the same head where it isn't."""
    return Head(head.start, tuple((each, change(value) if each.lower() == name else value) for each, value in head.fields))


def read_head(reader: BinaryIO) -> Head | None:
    """The next message's; None where the other end is done."""
    lines: list[str] = []
    while line := reader.readline():
        text = line.decode("latin-1").rstrip("\r\n")
        if text:
            lines.append(text)
        elif lines:
            fields = (line.partition(":") for line in lines[1:])
            return Head(lines[0], tuple((name, value.strip()) for name, _, value in fields))
    return None


class Body:
    """A message's content in pieces, each to be framed again as it came."""

    def __init__(self, content: Iterator[bytes], *, chunked: bool = False, until_closed: bool = False) -> None:
        self._content = content
        self._chunked, self.until_closed = chunked, until_closed
        self.trailer = b""

    def pieces(self) -> Iterator[bytes]:
        """What was not read yet."""
        return self._content

    def framed(self, piece: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked and piece else piece

    def ending(self) -> bytes:
        return b"0\r\n" + self.trailer + b"\r\n" if self._chunked else b""


def body_of(head: Head, reader: BinaryIO, before: Callable[[], None] = lambda: None, *, bodiless: bool = False) -> Body:
    """The body that belongs to a head; ``before`` is called when its first byte is wanted. Requests without a length have none, answers go on
    until the connection closes."""
    is_answer = head.start.startswith("HTTP/")
    if bodiless or (not is_answer and not head.length and not head.chunked):
        return Body(iter(()))
    if head.chunked:
        body = Body(iter(()), chunked=True)
        body._content = _chunks(reader, body, before)
        return body
    return Body(_plain(reader, head.length, before), until_closed=head.length is None)


def _plain(reader: BinaryIO, length: int | None, before: Callable[[], None]) -> Iterator[bytes]:
    before()
    left = length
    while left is None or left > 0:
        piece = reader.read1(PIECE if left is None else min(left, PIECE))  # type: ignore[attr-defined]
        if not piece:
            if left:
                raise ConnectionResetError("the body was cut")
            return
        left = None if left is None else left - len(piece)
        yield piece


def _chunks(reader: BinaryIO, body: Body, before: Callable[[], None]) -> Iterator[bytes]:
    before()
    while size := int(reader.readline().partition(b";")[0] or b"0", 16):
        yield from _plain(reader, size, lambda: None)
        reader.readline()
    while (line := reader.readline()) not in (b"\r\n", b"\n", b""):
        body.trailer += line
