"""What the web counts: requests, the bodies that they bring, the uploads that come of them, and what is under way."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from werkzeug import Response

from carboy.measuring import Meter
from carboy.metrics import (
    BODIES,
    BODIES_NOW,
    BODY_SLOTS,
    EVENT_STREAMS,
    RECEIVED,
    REQUEST_SECONDS,
    REQUESTS,
    REQUESTS_NOW,
    SENT,
    THREADS,
    UPLOAD_SECONDS,
    UPLOADS,
)
from carboy.streams import Source
from carboy.web.slots import Slots

if TYPE_CHECKING:
    from carboy.web.call import Call

NO_ROUTE = "none"
_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})
_CLASSES = ("1xx", "1xx", "2xx", "3xx", "4xx", "5xx")
_EARLY: Mapping[str, str] = {"cut": "cut", "slow": "slow", "stopped": "stopped"}
_WITHOUT_BYTES = frozenset({"", "direct", "api"})
"""Protocols whose requests bring none of an upload's own."""
_BRING = frozenset({"PUT", "POST", "PATCH"})
_FORMS = ("application/json", "application/x-www-form-urlencoded")
"""What comes beside an upload: its last word, a password."""
_WHOLE = frozenset({"raw", "form", "link"})
"""Protocols whose uploads are one request each, and over when that fails."""


class Traffic:
    """Of one application in one process. What is under way is read off from time to time, so that it costs no request anything."""

    def __init__(self, meter: Meter, slots: Slots, places: Slots, threads: int) -> None:
        self._meter = meter
        self._slots = slots
        self._places = places
        self._threads = threads
        self._lock = threading.Lock()
        self._bodies: dict[Call, int] = {}
        meter.sample(self._sample)

    # --- bodies ---

    def begins(self, call: Call) -> None:
        """Its body is about to be received; its source is there."""
        if brings_bytes(call):
            with self._lock:
                self._bodies[call] = 0
            self._meter.touch()

    def ends(self, call: Call) -> None:
        with self._lock:
            counted = self._bodies.pop(call, None)
        if counted is not None and (more := received(call) - counted):
            self._meter.add(RECEIVED, (call.protocol,), more)

    def _sample(self) -> bool:
        """Long bodies count while they come."""
        with self._lock:
            for call, counted in self._bodies.items():
                self._bodies[call] = came = received(call)
                if came > counted:
                    self._meter.add(RECEIVED, (call.protocol,), came - counted)
        self._meter.set(BODIES_NOW, self._slots.held)
        self._meter.set(BODY_SLOTS, self._slots.total)
        self._meter.set(EVENT_STREAMS, self._places.held)
        self._meter.set(THREADS, self._threads)
        return bool(self._slots.held or self._places.held)

    # --- requests ---

    def stored(self, call: Call) -> None:
        """An upload has become a file."""
        self._meter.add(UPLOADS, (call.protocol or "other", "complete"))

    def answered(self, call: Call, response: Response) -> None:
        """The answer is known. What is sent of it Carboy's own server tells; elsewhere it is as much as was promised."""
        seconds, status = time.perf_counter() - call.began, response.status_code
        self.request(call.route, call.method, status)
        self._meter.observe(REQUEST_SECONDS, seconds, (call.route,))
        call.environ["carboy.route"] = call.route
        if "carboy.worker" not in call.environ and call.method != "HEAD":
            self._meter.add(SENT, (call.route,), response.content_length or 0)
        if call.protocol and call.has_body and brings_bytes(call):
            self._brought(call, status, call.stored_at - call.began if call.stored_at else seconds)

    def request(self, route: str, method: str, status: int) -> None:
        """One that was answered."""
        self._meter.add(REQUESTS, (route, method if method in _METHODS else "other", _CLASSES[status // 100]))

    def _brought(self, call: Call, status: int, seconds: float) -> None:
        how = outcome(call.__dict__.get("source"), status)
        self._meter.add(BODIES, (call.protocol, how))
        if how == "complete":
            self._meter.observe(UPLOAD_SECONDS, seconds, (call.protocol,))
        elif call.protocol in _WHOLE:
            self._meter.add(UPLOADS, (call.protocol, how))


class Threads:
    """Those of a server's process that have a connection to see to."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._lock = threading.Lock()
        self._busy = 0
        meter.sample(self._sample)

    def __enter__(self) -> None:
        with self._lock:
            self._busy += 1
        self._meter.touch()

    def __exit__(self, *ended: object) -> None:
        with self._lock:
            self._busy -= 1

    def _sample(self) -> bool:
        self._meter.set(REQUESTS_NOW, self._busy)
        return self._busy > 0


def count_sent(meter: Meter, environ: Mapping[str, Any], length: int) -> None:
    """What the server has sent of an answer's body."""
    if length:
        meter.add(SENT, (environ.get("carboy.route", NO_ROUTE),), length)


def count_form(meter: Meter, source: Source, sizes: Sequence[int], status: int) -> None:
    """A form that a view of an application receives has come, with files of these sizes, or was refused."""
    how = outcome(source, status)
    meter.add(BODIES, ("receives", how))
    meter.add(RECEIVED, ("receives",), sum(sizes))
    if sizes or how != "complete":
        meter.add(UPLOADS, ("receives", how), len(sizes) or 1)


def brings_bytes(call: Call) -> bool:
    """Whether the request is one that brings bytes of an upload."""
    if call.protocol in _WITHOUT_BYTES or call.method not in _BRING:
        return False
    return call.route == "files" or not str(call.environ.get("CONTENT_TYPE", "")).startswith(_FORMS)


def received(call: Call) -> int:
    """How many bytes of the body have come."""
    source: Source = call.source
    length, remaining = call.length, source.remaining
    if length is None or remaining is None:
        return int(getattr(source, "received", 0))
    return length - remaining


def outcome(source: Source | None, status: int) -> str:
    """What has become of a body."""
    if source and source.ended in _EARLY:
        return source.ended
    if status >= 400:
        return "failed" if status >= 500 and status != 503 else "refused"
    return "complete"
