"""A client of Server-Sent Events on a raw socket, by the WHATWG's own words: fields, blocks, the last event id."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import wire


@dataclass(frozen=True, slots=True)
class Event:
    """One that was dispatched. ``id`` is its own; None for one without."""

    kind: str
    data: Any
    id: str | None


class Stream:
    """A stream that is open; a context manager. ``last_id`` is what a browser would ask with next."""

    def __init__(self, url: str, headers: Mapping[str, str], query: str = "", *, last_id: str | None = None,
                 connection: wire.Connection | None = None) -> None:
        self.connection = connection or wire.Connection(url)
        self.last_id = last_id
        resuming = {"Last-Event-ID": last_id} if last_id else {}
        self.connection.send(wire.head("GET", f"/api/v1/events{query}", {**headers, **resuming, "Accept": "text/event-stream"}))
        self.head = self.connection._head()
        self.comments: list[str] = []
        self._text = ""
        if self.head.status == 200:
            self.block()  # how long to wait before asking again, and the place where it begins

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def refusal(self) -> wire.Response:
        """The answer, where it is no stream."""
        body, _ = self.connection._body(self.head, "GET")
        return wire.Response(self.head.status, self.head.reason, self.head.headers, body)

    def events(self) -> Iterator[Event]:
        """Until the server ends the stream."""
        with suppress(wire.Closed):
            while True:
                event = self.block()
                if event:
                    yield event

    def next(self, kind: str = "") -> Event:
        """The next event, of this kind if one is named. Fails where the stream ends before."""
        for event in self.events():
            if not kind or event.kind == kind:
                return event
        raise AssertionError(f"the stream ended without {kind or 'any event'}")

    def until(self, done: Any) -> list[Event]:
        """The events up to the first for which ``done`` holds."""
        found = []
        for event in self.events():
            found.append(event)
            if done(event):
                return found
        raise AssertionError(f"the stream ended after {found}")

    def has_ended(self) -> bool:
        """Whether the server ended it well: waits for that, and passes over events that still come."""
        list(self.events())
        return True

    def block(self) -> Event | None:
        """What stands before the next empty line; None where that dispatches nothing. Raises wire.Closed at the end."""
        while "\n\n" not in self._text:
            size = int(self.connection._until(b"\r\n"), 16)
            self._text += self.connection._exactly(size).decode()
            assert self.connection._exactly(2) == b"\r\n"
            if not size:
                raise wire.Closed(b"")
        block, _, self._text = self._text.partition("\n\n")
        kind, data, id = "message", [], None
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not name:
                self.comments.append(value)
            elif name == "id":
                self.last_id = id = value
            elif name == "event":
                kind = value
            elif name == "data":
                data.append(value)
        return Event(kind, json.loads("\n".join(data)), id) if data else None
