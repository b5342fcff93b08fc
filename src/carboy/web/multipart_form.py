"""A ``multipart/form-data`` body as events, fed from a Source: nothing is kept but the part of a boundary.

The parser is the ``multipart`` library's; this gives it large pieces and turns its complaints into Carboy's errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from carboy import checksums
from carboy.config import Settings
from carboy.engine.receive import Digests
from carboy.errors import InvalidRequest, TooLarge
from carboy.streams import Source, digest_error, ending_error
from carboy.web import http

_MAX_BOUNDARY = 70
_BROKEN = re.compile("[\r\n\0]")


@dataclass(frozen=True, slots=True)
class Part:
    """The head of a part. ``filename`` is None for a text field."""

    name: str
    filename: str | None
    segment: MultipartSegment

    def digests(self) -> Digests:
        """A part may carry digests of its own. Raises InvalidRequest."""
        return http.expected_digests({name.lower(): value for name, value in self.segment.headerlist})


Event = Part | bytes | None
"""A part's head, then its bytes, then None for its end."""


def boundary_of(content_type: str, most: int = _MAX_BOUNDARY) -> str | None:
    """The boundary of a form's Content-Type (RFC 2046 section 5.1.1: 1 to 70 characters, or to ``most``); None for what is no form.

    Raises InvalidRequest.
    """
    kind, options = parse_options_header(content_type)
    if kind.strip().lower() != "multipart/form-data":
        return None
    boundary: str = options.get("boundary", "")
    if not 1 <= len(boundary) <= most or not boundary.isascii() or not boundary.isprintable():
        raise InvalidRequest(f"the Content-Type of a form needs a boundary of 1 to {most} characters", field="Content-Type")
    return boundary


class _Parser:
    """The library's parser, which also knows parts without a body: after their headers comes the delimiter, whose CRLF is the empty line at
    once (RFC 2046 section 5.1.1: the body, with the line break before it, may be missing)."""

    def __init__(self, boundary: str, settings: Settings) -> None:
        self._parser = PushMultipartParser(boundary, max_header_size=settings.max_part_header, max_header_count=16)
        self._bodiless = b"\r\n\r\n--" + boundary.encode()
        self._held = b""

    def parse(self, data: bytes) -> Iterator[MultipartSegment | bytes | None]:
        if self._held:
            data = self._held + data
        while (at := data.find(self._bodiless)) >= 0:
            yield from self._parse(data[:at + 2])
            headers_end = False
            for event in self._parse(data[at + 2:at + 4]):
                headers_end = isinstance(event, MultipartSegment)
                yield event
            yield from self._parse(b"\r\n" if headers_end else b"")
            data = data[at + 4:]
        end = len(data) - self._begun(data)
        self._held = data[end:]
        yield from self._parse(data[:end] if self._held else data)

    def close(self) -> Iterator[MultipartSegment | bytes | None]:
        """There is no more. Raises MultipartError where something is missing."""
        yield from self._parse(self._held)
        self._parser.close()

    def _parse(self, data: bytes) -> Iterator[MultipartSegment | bytes | None]:
        if data:
            yield from self._parser.parse(data)

    def _begun(self, data: bytes) -> int:
        """How many bytes at the end may be the beginning of a delimiter after headers."""
        start = max(0, len(data) - len(self._bodiless) + 1)
        while (at := data.find(b"\r", start)) >= 0:
            if self._bodiless.startswith(data[at:]):
                return len(data) - at
            start = at + 1
        return 0


class FormReader:
    """Reads one form. Fields go into ``pairs`` as they come, and into ``fields`` (the last of a name counts); files are the caller's.
    None of them has more than ``most`` bytes (None: no telling)."""

    def __init__(self, source: Source, boundary: str, settings: Settings, digests: Digests = ()) -> None:
        self.fields: dict[str, str] = {}
        self.pairs: list[tuple[str, str]] = []
        self.most = source.remaining
        self._source = source
        self._settings = settings
        self._running = [(name, checksums.new(name), digest) for name, digest in digests]
        self._parser = _Parser(boundary, settings)
        self._parts = 0
        self._fields_size = 0

    def files(self) -> Iterator[Event]:
        """The events of the file parts. After the last the whole body has been read and its digests verified.

        Raises InvalidRequest for what is no form, TooLarge past a limit, BodyCut, TooSlow, DigestMismatch.
        """
        text: list[bytes] | None = None
        for event in self._events():
            if isinstance(event, MultipartSegment):
                part = self._part(event)
                text = [] if part.filename is None else None
                if text is None:
                    yield part
            elif text is None:
                yield event
            elif event is None:
                self._keep_field(part.name, b"".join(text))
            else:
                self._count_field(len(event))
                text.append(event)

    def _events(self) -> Iterator[MultipartSegment | bytes | None]:
        received = 0
        try:
            for data in self._source.give():
                received += len(data)
                for _, running, _ in self._running:
                    running.update(data)
                yield from self._parser.parse(data)
            failure = ending_error(self._source, received)
            if failure:
                raise failure
            yield from self._parser.close()
        except ParserLimitReached as error:
            raise InvalidRequest(f"the form breaks a limit: {error}") from error
        except MultipartError as error:
            raise InvalidRequest(f"the body is not a form with this boundary: {error}") from error
        self._verify()

    def _verify(self) -> None:
        for name, running, digest in self._running:
            if running.digest() != digest:
                raise digest_error(name, digest, running.digest())

    def _part(self, segment: MultipartSegment) -> Part:
        self._parts += 1
        if self._parts > self._settings.max_form_parts:
            raise TooLarge(f"a form may have {self._settings.max_form_parts} parts", limit=self._settings.max_form_parts)
        if any(_BROKEN.search(value) for _, value in segment.headerlist):
            raise InvalidRequest("a header of a part has a line break or a NUL in it")
        return Part(segment.name or "", segment.filename, segment)

    def _count_field(self, size: int) -> None:
        self._fields_size += size
        if self._fields_size > self._settings.max_fields_size:
            raise TooLarge(f"the text fields of a form may hold {self._settings.max_fields_size} bytes together",
                           limit=self._settings.max_fields_size)

    def _keep_field(self, name: str, value: bytes) -> None:
        if len(value) > self._settings.max_field_size:
            raise TooLarge(f"the field {name!r} holds more than {self._settings.max_field_size} bytes", field=name,
                           limit=self._settings.max_field_size)
        try:
            text = value.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"the field {name!r} is not UTF-8", field=name) from None
        if "\0" in name or b"\0" in value:
            raise InvalidRequest(f"the field {name!r} is no text: it has a NUL", field=name)
        self.fields[name] = text
        self.pairs.append((name, text))


def drained(events: Iterator[Event]) -> None:
    """Read on to the end of the form and drop what comes."""
    for _ in events:
        pass


def part_data(events: Iterator[Event]) -> Iterator[bytes]:
    """The bytes of the part whose head was the last event."""
    for event in events:
        if not isinstance(event, bytes):
            return
        yield event
