"""A proxy in front of an S3 server that does to single requests what a script says: HTTP/1.1 over real TCP.

The Host header is signed, so requests are passed on as they came, but for ``Expect``, which the proxy answers itself.

    with Proxy(server.endpoint) as proxy:
        proxy.on(lose_answer, "CompleteMultipartUpload")     # the next one; times=, after= and where= say otherwise
        ...
        assert proxy.count("CompleteMultipartUpload") == 2
"""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

from faults.messages import Body, Head, body_of, read_head, without

LIMIT = 60.0
"""Seconds after which a server that says nothing, or a gate that nobody opens, counts as broken."""


class Cut(Exception):
    """The connection is over, as the script wanted it or because somebody went."""


@dataclass(slots=True)
class Request:
    """A request that came by: the n-th, and what became of it."""

    number: int
    head: Head
    operation: str
    path: str
    query: dict[str, str]
    fault: str = ""
    status: int = 0
    """What the client was answered; 0 for nothing."""
    done: int = 0
    """What the server answered; 0 for nothing, or if it was never asked."""

    @property
    def key(self) -> str:
        """The object's name; empty for a bucket's own requests."""
        return unquote(self.path.lstrip("/").partition("/")[2])


def operation(method: str, path: str, query: dict[str, str], copies: bool) -> str:
    """S3's name for the request, path style."""
    if not path.lstrip("/").partition("/")[2]:
        uploads = {"GET": "ListMultipartUploads"} if "uploads" in query else {}
        names = {"GET": "ListObjects", "HEAD": "HeadBucket", "PUT": "CreateBucket", "DELETE": "DeleteBucket", "POST": "DeleteObjects"} | uploads
    elif "uploadId" in query:
        names = {"PUT": "UploadPartCopy" if copies else "UploadPart", "POST": "CompleteMultipartUpload", "GET": "ListParts",
                 "DELETE": "AbortMultipartUpload"}
    else:
        names = {"PUT": "CopyObject" if copies else "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject",
                 "POST": "CreateMultipartUpload"}
    return names.get(method, method)


Change = Callable[[bytearray], None]


def unchanged(data: bytearray) -> None:
    """Leaves a body as it is."""


class Exchange:
    """One request, in the hands of a fault."""

    def __init__(self, request: Request, client: socket.socket, reader: BinaryIO, upstream: tuple[str, int]) -> None:
        self.request = request
        self._client, self._reader = client, reader
        self._body = body_of(request.head, reader, self._continue)
        self._upstream = socket.create_connection(upstream, LIMIT)
        self._answers = self._upstream.makefile("rb")

    def forward(self, *, part: float = 1.0, change: Change = unchanged) -> None:
        """Pass the request on, or this part of its body alone. ``change`` may alter the body's first piece."""
        self._upstream.sendall(without(self.request.head, "expect").raw)
        _copy(self._body, self._upstream, self.request.head, part, change)

    def answer(self) -> Head:
        """What the server says, its head; the body waits for :meth:`give`."""
        head = read_head(self._answers)
        while head and 100 <= head.status < 200:
            head = read_head(self._answers)
        if not head:
            raise Cut("the server answered nothing")
        self.request.done = head.status
        return head

    def give(self, head: Head, *, part: float = 1.0, change: Change = unchanged) -> None:
        """Pass the answer on, or this part of its body alone. ``change`` may alter the body's first piece."""
        body = body_of(head, self._answers, bodiless=self.request.head.method == "HEAD" or head.status in (204, 304))
        self._client.sendall(head.raw)
        _copy(body, self._client, head, part, change)
        self.request.status = head.status
        if body.until_closed:
            raise Cut

    def refuse(self, status: int, code: str, *, early: bool = False) -> None:
        """Answer with an error as S3 does; without asking for the body, and closing, with ``early``."""
        if not early:
            for _ in self._body.pieces():
                pass
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>as the script says</Message></Error>'
        closing = "Connection: close\r\n" if early else ""
        lines = f"HTTP/1.1 {status} Fault\r\nContent-Type: application/xml\r\n{closing}Content-Length: {len(text)}\r\n\r\n"
        self._client.sendall((lines + ("" if self.request.head.method == "HEAD" else text)).encode())
        self.request.status = status
        if early:
            raise Cut

    def reset(self) -> None:
        """Both connections end with a RST."""
        for one in (self._client, self._upstream):
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Cut

    def silence(self) -> None:
        """Say nothing until the client goes or :meth:`Proxy.release` is called."""
        with suppress(OSError):
            while self._client.recv(2**16):
                pass
        raise Cut

    def close(self) -> None:
        self._answers.close()
        self._upstream.close()

    def _continue(self) -> None:
        """Before the first byte of a body that the client holds back."""
        if self.request.head.get("expect").lower() == "100-continue":
            self._client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def _copy(body: Body, to: socket.socket, head: Head, part: float, change: Change) -> None:
    """Send a body, or its first part; the first piece as it was changed."""
    left = None if part == 1.0 else int((head.length or 0) * part)
    for number, piece in enumerate(body.pieces()):
        data = bytearray(piece)
        if number == 0:
            change(data)
        to.sendall(body.framed(bytes(data[:left])))
        if left is not None and (left := left - len(data)) <= 0:
            return
    to.sendall(body.ending())


Fault = Callable[[Exchange], None]


@dataclass(slots=True)
class Rule:
    """Which requests a fault befalls. ``struck`` is set when it has begun with one."""

    fault: Fault
    operations: Sequence[str]
    times: float
    after: int
    where: Callable[[Request], bool]
    struck: threading.Event = field(default_factory=threading.Event)

    def takes(self, request: Request) -> bool:
        if self.times <= 0 or (self.operations and request.operation not in self.operations) or not self.where(request):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.times -= 1
        return True


class Proxy:
    """Listens while it is open. Its methods may be called from any thread."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        assert parts.hostname and parts.port
        self._upstream = parts.hostname, parts.port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._clients: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._chance: tuple[object, float, Sequence[Fault]] | None = None
        self.requests: list[Request] = []
        self.errors: list[Exception] = []
        """What went wrong in the proxy itself: none, in a sound test."""
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    # --- the script ---

    def on(self, fault: Fault, *operations: str, times: float = 1, after: int = 0, where: Callable[[Request], bool] = lambda _: True) -> Rule:
        """The next ``times`` requests of these operations (of all, if none is named) meet this, the first ``after`` excepted."""
        rule = Rule(fault, operations, times, after, where)
        with self._lock:
            self._rules.append(rule)
        return rule

    def at_random(self, seed: object, rate: float, faults: Sequence[Fault]) -> None:
        """Besides, one of these at this rate. The n-th request of an operation meets the same with the same seed."""
        with self._lock:
            self._chance = seed, rate, faults

    def clear(self) -> None:
        """All requests from now on pass; who was left without an answer is cut."""
        with self._lock:
            self._rules, self._chance = [], None
        self.release()

    def release(self) -> None:
        """Cut every connection that is open now."""
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def count(self, *operations: str, fault: str | None = None) -> int:
        """How many requests of these operations came, or met this fault."""
        with self._lock:
            return sum((not operations or one.operation in operations) and fault in (None, one.fault) for one in self.requests)

    # --- its life ---

    def __enter__(self) -> Proxy:
        self._begin(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.release()
        for thread in self._threads:
            thread.join(LIMIT)

    def _begin(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with self._lock:
                    self._clients.add(client)
                self._begin(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        reader = client.makefile("rb")
        try:
            while head := read_head(reader):
                self._exchange(head, client, reader)
        except (Cut, OSError):
            pass
        except Exception as error:
            self.errors.append(error)
        finally:
            with self._lock:
                self._clients.discard(client)
            reader.close()
            client.close()

    def _exchange(self, head: Head, client: socket.socket, reader: BinaryIO) -> None:
        request, fault = self._note(head)
        exchange = Exchange(request, client, reader, self._upstream)
        try:
            fault(exchange)
        finally:
            exchange.close()

    def _note(self, head: Head) -> tuple[Request, Fault]:
        parts = urlsplit(head.target)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        name = operation(head.method, parts.path, query, bool(head.get("x-amz-copy-source")))
        with self._lock:
            request = Request(len(self.requests), head, name, parts.path, query)
            rule = next((rule for rule in self._rules if rule.takes(request)), None)
            fault = rule.fault if rule else self._drawn(request)
            request.fault = getattr(fault, "__name__", "") if fault is not passed else ""
            self.requests.append(request)
        if rule:
            rule.struck.set()
        return request, fault

    def _drawn(self, request: Request) -> Fault:
        if self._chance is None:
            return passed
        seed, rate, faults = self._chance
        chance = random.Random(f"{seed}/{request.operation}/{sum(one.operation == request.operation for one in self.requests)}")
        return chance.choice(faults) if chance.random() < rate else passed


def passed(exchange: Exchange) -> None:
    """No fault: to the server, and its answer back."""
    exchange.forward()
    exchange.give(exchange.answer())
