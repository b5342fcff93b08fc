"""A receiver of webhooks: a real HTTP server that keeps what it is sent and answers as it is told."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from certificates import Certificate
from fixtures_server import eventually


@dataclass(frozen=True)
class Got:
    """A request that came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def kind(self) -> str:
        return str(self.json["type"])

    @property
    def path_of_file(self) -> str:
        return str(self.json["data"]["path"])

    def is_signed(self, secret: str) -> bool:
        """Checked as the specification's text has it, by none of Carboy's code."""
        key = base64.b64decode(secret.split("_", 1)[1])
        content = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.{self.body.decode()}"
        expected = "v1," + base64.b64encode(hmac.new(key, content.encode(), hashlib.sha256).digest()).decode()
        return any(hmac.compare_digest(one, expected) for one in self.headers["webhook-signature"].split(" "))


Reply = Callable[[BaseHTTPRequestHandler, Got], None]
"""Answers the request, in whatever way."""


def status(code: int, body: bytes = b"", **headers: str) -> Reply:
    def reply(handler: BaseHTTPRequestHandler, got: Got) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return reply


class Receiver:
    """``got`` is all that came, in its order. ``reply`` says how each is answered; 204 unless told otherwise."""

    def __init__(self, certificate: Certificate | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        self.got: list[Got] = []
        self.reply: Reply = status(204)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                got = Got(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                receiver.got.append(got)
                receiver.reply(self, got)

            do_GET = do_PUT = do_POST

            def log_message(self, *_: object) -> None:
                """Nothing."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Whoever asked has left."""

        self._server = Server((host, port), Handler)
        self.scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.cert, certificate.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
            self.scheme = "https"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hook?a=b"

    @property
    def kinds(self) -> list[str]:
        return [one.kind for one in self.got]

    def wait_for(self, count: int) -> list[Got]:
        eventually(lambda: len(self.got) >= count)
        return self.got

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def receiving(certificate: Certificate | None = None, **where: Any) -> Iterator[Receiver]:
    receiver = Receiver(certificate, **where)
    try:
        yield receiver
    finally:
        receiver.close()
