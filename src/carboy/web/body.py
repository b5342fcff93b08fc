"""The body of a request as a Source: straight from the socket where that is possible, else from ``wsgi.input``.

Under Carboy's own worker (gunicorn's gthread), an HTTP/1.1 body with a Content-Length is read by :mod:`carboy.web.body_socket`, or by
:mod:`carboy.web.body_tls` over TLS, and a chunked one piece by piece as gunicorn's parser gives it.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any

from carboy.config import Settings
from carboy.errors import InvalidRequest
from carboy.streams import LARGE, BufferPool, Ending, Pace, Source
from carboy.web.body_socket import CONTINUE, SocketSource
from carboy.web.body_tls import TlsSource
from carboy.web.tls import end_reading


class ChunkedSource:
    """A chunked body under gunicorn, piece by piece as its parser gives them: a cut loses nothing that came before."""

    remaining: int | None = None

    def __init__(self, sock: socket.socket, body: Any, pace: Pace, *, expects_continue: bool = False) -> None:
        self.ended: Ending = "open"
        self.received = 0
        self._sock = sock
        self._body = body
        self._pace = pace
        self._continue = expects_continue
        self._stopped = False

    def lend(self) -> Iterator[memoryview]:
        try:
            if self._continue:
                self._sock.sendall(CONTINUE)
            self._sock.settimeout(self._pace.idle)
            yield from self._pieces()
        except TimeoutError:
            self.ended = "slow"
        except OSError:
            self.ended = "stopped" if self._stopped else "cut"
        except Exception as error:
            if type(error).__module__ != "gunicorn.http.errors":
                raise
            if not _is_early_end(error):
                raise InvalidRequest(f"the chunked body is malformed: {error}") from error
            self.ended = "stopped" if self._stopped else "cut"
        finally:
            self._body.failed = self.ended != "complete"

    def give(self) -> Iterator[bytes]:
        return map(bytes, self.lend())

    def stop(self) -> None:
        self._stopped = True
        end_reading(self._sock)

    def _pieces(self) -> Iterator[memoryview]:
        reader = self._body.reader
        for piece in reader.parser or ():
            if piece:
                self.received += len(piece)
                self._pace.count(len(piece))
                yield memoryview(piece)
            if self._pace.slow():
                self.ended = "slow"
                return
        reader.parser = None
        self.ended = "complete"


def _is_early_end(error: Exception) -> bool:
    """Whether gunicorn's parser says of a chunked body that no more came, rather than something wrong."""
    return type(error).__name__ == "NoMoreData" or len(getattr(error, "term", b"--")) < 2


class InputSource:
    """A body from ``wsgi.input``: other servers. ``remaining`` is None where no length was declared."""

    def __init__(self, stream: Any, length: int | None, pace: Pace, *, terminated: bool) -> None:
        self.ended: Ending = "open"
        self.remaining = length if length is not None or terminated else 0
        self.received = 0
        self._stream = stream
        self._pace = pace
        self._stopped = False

    def lend(self) -> Iterator[memoryview]:
        try:
            while self.remaining != 0 and not self._stopped:
                data = self._stream.read(LARGE if self.remaining is None else min(LARGE, self.remaining))
                if not data:
                    break
                self.received += len(data)
                if self.remaining is not None:
                    self.remaining -= len(data)
                yield memoryview(data)
        except TimeoutError:
            self.ended = "slow"
            return
        except OSError:
            self.ended = "cut"
            return
        self.ended = "stopped" if self._stopped else "cut" if self.remaining else "complete"

    def give(self) -> Iterator[bytes]:
        return map(bytes, self.lend())

    def stop(self) -> None:
        self._stopped = True


def trailers(environ: Mapping[str, Any]) -> Mapping[str, str] | None:
    """The fields behind a chunked body that has been read to its end, by lower-case names. None where this server doesn't show any."""
    if "carboy.worker" not in environ or "gunicorn.socket" not in environ:
        return None
    reader = environ["wsgi.input"].reader
    if type(reader).__name__ != "ChunkedReader":
        return {}
    return {name.lower(): value for name, value in reader.req.trailers}


def source_of(environ: dict[str, Any], length: int | None, settings: Settings, pool: BufferPool) -> Source:
    """The request's body. ``length`` is its Content-Length."""
    pace = Pace(settings.body_idle, settings.body_min_rate, settings.body_rate_window, time.monotonic)
    body = environ["wsgi.input"]
    sock = environ.get("gunicorn.socket")
    owned = "carboy.worker" in environ
    expects = owned and environ.get("HTTP_EXPECT", "").lower() == "100-continue"
    if owned and sock is not None and _untouched(body):
        kind = type(body.reader).__name__
        if kind == "LengthReader":
            length_source = TlsSource if isinstance(sock, ssl.SSLSocket) else SocketSource
            return length_source(sock, body.reader, pool, pace, expects_continue=expects)
        if kind == "ChunkedReader" and body.reader.buf.tell() == 0:
            return ChunkedSource(sock, body, pace, expects_continue=expects)
        return InputSource(body, 0, pace, terminated=True)
    if sock is not None:
        sock.settimeout(settings.body_idle)
    return InputSource(body, length, pace, terminated=bool(environ.get("wsgi.input_terminated")))


def _untouched(body: Any) -> bool:
    """Whether this is gunicorn's Body of which nothing has been read yet."""
    return type(body).__module__ == "gunicorn.http.body" and body.buf.tell() == 0
