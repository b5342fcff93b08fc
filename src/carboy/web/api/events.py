"""``GET /api/v1/events``: what happens, while it happens, as Server-Sent Events (WHATWG HTML, section 9.2).

A stream holds a thread, so there are so many and no more; what all of them tell is read once. It ends when the server stops, when its
token is good no more, and when the client goes; the client then asks again with the id of the last event that it got, and misses nothing.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from werkzeug import Response

from carboy.engine.news import Heard, Listener
from carboy.engine.watching import PROGRESS, Watch, Wish, of_job
from carboy.errors import CatalogUnavailable, InvalidRequest
from carboy.jobs import Happening
from carboy.web import schemas
from carboy.web.asking import query
from carboy.web.call import Call, Doc, Route
from carboy.web.download import set_idle_limit
from carboy.web.listening import has_left, place
from carboy.web.render import instant

HEARTBEAT = 15.0
"""Seconds after which something is sent even if nothing happens."""
_LOOK = 1.0
_PROVE_AGAIN = 3.0
_USERS_LIFE = 60.0
"""Seconds after which one of an application's users is to ask again: only a request tells whether they are still signed in."""
_SKEW = 30.0
"""Seconds by which clocks may differ, and an event be entered after it happened."""
_PIECE = 64 * 2**10
_RETRY = 2000
_ID = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,19})?)-([0-9]{1,12})", re.ASCII)
_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no",
            "X-Content-Type-Options": "nosniff"}


def stream(call: Call) -> Response:
    """What one may know of, from now on, or from where ``Last-Event-ID`` says. ``job.progress`` has no id: it is told to those alone who
    listen. An event ``reset`` says that what happened in between is no longer known: look at what is there."""
    asked = query(call, schemas.EventsQuery)
    if asked.job is not None:
        call.services.work.get(call.principal, asked.job)
    wish = Wish(asked.space, asked.file, asked.upload, asked.job, tuple(kind for kind in asked.kinds.split(",") if kind))
    services = call.services
    watch = Watch(call.principal, wish, services.settings, services.files, services.catalog)
    watch.begin()
    after, at, lost = _place(call, call.header("Last-Event-ID") or asked.last_event_id)
    if call.method == "HEAD":
        return Response(None, 200, _HEADERS)
    set_idle_limit(call.environ, services.settings.send_idle)
    return Response(_Stream(call, watch, after, at, lost), 200, _HEADERS, direct_passthrough=True)


def _place(call: Call, last: str | None) -> tuple[str | None, float, bool]:
    """Where in the log to go on, of which time that is, and whether what came before may be forgotten. Raises InvalidRequest."""
    if not last:
        return None, 0.0, False
    match = _ID.fullmatch(last)
    if not match:
        raise InvalidRequest("Last-Event-ID is the id of an event of this server", field="Last-Event-ID")
    at = float(match[2])
    kept = time.time() - at + _SKEW < call.services.settings.event_expiry
    return (match[1], at, False) if kept and call.services.news.is_known(match[1]) else (None, 0.0, True)


class _Stream:
    """The body of the answer."""

    def __init__(self, call: Call, watch: Watch, after: str | None, at: float, lost: bool) -> None:
        """Raises Busy."""
        self._call = call
        self._watch = watch
        self._lost = lost
        self._open = ExitStack()
        self._open.enter_context(place(call))
        try:
            self._listener: Listener = self._open.enter_context(
                call.services.news.listen(after, at=at, progress=watch.wish.takes(PROGRESS)))
        except BaseException:
            self._open.close()
            raise
        self._began = self._proved_at = time.monotonic()

    def close(self) -> None:
        """Whatever serves this calls it, begun or not. Repeatable."""
        self._open.close()

    def __iter__(self) -> Iterator[bytes]:
        with self._open:
            yield self._beginning().encode()
            sent_at = time.monotonic()
            while not self._is_over():
                heard = self._hear()
                for piece in _pieces(self._events(heard)):
                    yield piece
                    sent_at = time.monotonic()
                if time.monotonic() - sent_at >= HEARTBEAT:
                    yield f": all is well\nid: {self._reached()}\n\n".encode()
                    sent_at = time.monotonic()
                if not self._call.environ.get("wsgi.multithread", True) and not heard.happenings:
                    return  # the process does nothing else meanwhile: the client asks again

    def _beginning(self) -> str:
        reset = "event: reset\ndata: {}\n" if self._lost else ""
        return f"retry: {_RETRY}\n{reset}id: {self._reached()}\n\n"

    def _hear(self) -> Heard:
        try:
            return self._listener.hear(_LOOK)
        except CatalogUnavailable:
            time.sleep(_LOOK)
            return Heard()

    def _is_over(self) -> bool:
        return self._listener.stopped or has_left(self._call.environ) or not self._still_may()

    def _still_may(self) -> bool:
        """Whether who asked is still who they were: tokens are revoked, and expire."""
        principal, now = self._watch.principal, time.monotonic()
        if principal.kind == "user":
            return now - self._began < _USERS_LIFE
        if principal.kind != "token" or principal.id is None or now - self._proved_at < _PROVE_AGAIN:
            return True
        self._proved_at = now
        try:
            found = self._call.services.tokens.with_id(principal.id)
            signed_in = self._call.header("Authorization") is not None or self._call.web.sessions.of(self._call.environ) is not None
        except CatalogUnavailable:
            return True
        if found is None or not signed_in:
            return False
        self._watch.principal = replace(principal, scopes=found[1].scopes)
        return True

    def _events(self, heard: Heard) -> Iterator[str]:
        for job in heard.running:
            happening = of_job(job)
            if self._watch.shows(happening):
                yield self._event(happening)
        for happening in heard.happenings:
            if self._watch.shows(happening):
                yield self._event(happening)

    def _event(self, happening: Happening) -> str:
        told = self._watch.told(happening)
        data: dict[str, Any] = {**told, "at": instant(told["at"])}
        id = f"id: {_id(happening.cursor, happening.at)}\n" if happening.cursor else ""
        return f"{id}event: {happening.kind}\ndata: {json.dumps(data, default=dict)}\n\n"

    def _reached(self) -> str:
        return _id(self._listener.cursor, self._listener.at)


def _id(cursor: str, at: float) -> str:
    """A place in the log, and when that was: so it is known later whether what follows is still kept."""
    return f"{cursor}-{int(min(at, time.time()))}"


def _pieces(events: Iterable[str]) -> Iterator[bytes]:
    """Some events at a time: each piece is a write to the client."""
    gathered, size = [], 0
    for event in events:
        gathered.append(event)
        size += len(event)
        if size >= _PIECE:
            yield "".join(gathered).encode()
            gathered, size = [], 0
    if gathered:
        yield "".join(gathered).encode()


ROUTES = (
    Route("/api/v1/events", ("GET",), stream,
          Doc("What happens, while it happens", "Events", query=schemas.EventsQuery, answers={200: "text/event-stream"},
              headers=("Last-Event-ID",), errors=("busy",))),
)
