"""gunicorn's gthread worker, changed where a silent client would otherwise hold a thread.

A request's head, and the TLS handshake before the first, are gathered by the main loop and have one total deadline; a thread is
taken only once the head is whole.
Closing after a refused body lingers in the main loop too, without blocking it. ``100 Continue`` waits until the application
wants the body, so that a refusal comes before it is sent. Written against gunicorn 27.0; tests/test_gunicorn.py fails when
what it leans on changes.
"""

from __future__ import annotations

import errno
import re
import selectors
import signal
import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

from gunicorn import util
from gunicorn.http import errors, get_parser
from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn, ThreadWorker
from werkzeug import Response
from werkzeug.exceptions import (
    BadRequest,
    ExpectationFailed,
    HTTPException,
    InternalServerError,
    RequestHeaderFieldsTooLarge,
    RequestTimeout,
    RequestURITooLarge,
)

from carboy.heeding import Heed
from carboy.web import access, http, tls
from carboy.web.balance import NO_MORE
from carboy.web.logs import begin_request

TOLD = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
"""The signals by which a worker is told to end."""
MAX_HEAD = 64 * 2**10
_TOKEN = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_ORIGIN = re.compile(rb"\r\norigin:([^\r\n]*+)\r\n", re.IGNORECASE)
_BARE_LF = re.compile(rb"(?<!\r)\n")
_LINGER = 2.0
_BREATH = 0.02
_PASS, _PASSES = 0.0005, 4
"""So many seconds, and so often, a connection is left to a process that has fewer; then whoever sees it takes it."""
_LINGER_BYTES = 4 * 2**20
_STACK = 512 * 2**10
_REFUSALS: tuple[tuple[type[Exception], HTTPException], ...] = (
    (errors.InvalidRequestLine, BadRequest("The request line is malformed.")),
    (errors.InvalidRequestMethod, BadRequest("The method is malformed.")),
    (errors.InvalidHTTPVersion, BadRequest("This is not HTTP/1.0 or HTTP/1.1.")),
    (errors.LimitRequestLine, RequestURITooLarge("The request line is too long.")),
    (errors.LimitRequestHeaders, RequestHeaderFieldsTooLarge("There are too many header fields, or one is too long.")),
    (errors.ExpectationFailed, ExpectationFailed("Of expectations only 100-continue is met.")),
    (errors.ParseException, BadRequest("A header field is malformed, or contradicts another.")),
)
"""What HTTP says where gunicorn's parser refuses; the first that fits."""


def hold_continue(worker: Any, request: Any) -> None:
    """gunicorn's ``pre_request`` hook: the application's body source sends 100 Continue, not gunicorn."""
    request._expected_100_continue = False


def whole_head(data: bytes | bytearray) -> bool:
    """Whether the parser can decide on this head without waiting for more: it is complete, or already wrong."""
    return b"\r\n\r\n" in data or _BARE_LF.search(data) is not None


class CarboyWorker(ThreadWorker):  # type: ignore[misc]
    """See the module. Settings come as gunicorn settings; ``header_timeout`` and ``balance`` are put on the application
    object."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._heads: OrderedDict[TConn, float] = OrderedDict()
        self._lingering: OrderedDict[TConn, float] = OrderedDict()
        self._serving = threading.local()
        self._passed = 0

    def init_process(self) -> None:
        threading.stack_size(_STACK)
        self.app.balance.join(self.age)
        self._ending = Heed(self._end_what_stays)
        super().init_process()

    def init_signals(self) -> None:
        """From here on what the arbiter tells is heeded; what it told already has waited (see :class:`carboy.web.server.CarboyArbiter`)."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, TOLD)

    def load_wsgi(self) -> None:
        self.wsgi: Any = partial(_call, self.app.wsgi())

    # --- heads ---

    def notify(self) -> None:
        """Called in each round of the main loop."""
        super().notify()
        self.app.balance.tell(self.nr_conns if self.alive else NO_MORE)

    def accept(self, listener: socket.socket) -> None:
        if self._passed < _PASSES and self.app.balance.is_anothers(self.nr_conns):
            self._passed += 1
            time.sleep(_PASS)  # the listener stays readable: who has fewer takes it meanwhile
            return
        self._passed = 0
        try:
            sock, address = listener.accept()  # one at a time: several workers share what comes
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(_BREATH)  # nothing to accept with: the listener stays readable until a connection has ended
            elif not isinstance(error, (BlockingIOError, ConnectionAbortedError)):
                raise
            return
        self.nr_conns += 1
        conn = TConn(self.cfg, sock, address, listener.getsockname())
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.app.tls is not None:
            self._encrypt(conn, self.app.tls)
            return
        conn.init()
        sock.setblocking(False)
        self._await_head(conn, bytearray())

    def _encrypt(self, conn: TConn, context: ssl.SSLContext) -> None:
        """What ``TConn.init`` would do in a thread, without waiting for the client."""
        try:
            conn.sock = context.wrap_socket(conn.sock, server_side=True, do_handshake_on_connect=False)
        except OSError:
            self._drop(conn)
            return
        conn.parser = get_parser(self.cfg, conn.sock, conn.client)
        conn.initialized = True
        self._heads[conn] = time.monotonic() + self.app.header_timeout
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._shake_hands, conn))
        self._shake_hands(conn, conn.sock)

    def _shake_hands(self, conn: TConn, sock: ssl.SSLSocket) -> None:
        """The next step of the handshake; after the last the head is read, within the same deadline."""
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            self.poller.modify(sock, selectors.EVENT_READ, partial(self._shake_hands, conn))
        except ssl.SSLWantWriteError:
            self.poller.modify(sock, selectors.EVENT_WRITE, partial(self._shake_hands, conn))
        except OSError as error:
            self._forget_head(conn)
            if getattr(error, "reason", "") == "HTTP_REQUEST":
                conn.sock = tls.as_plain(sock)
                self._refuse(conn, BadRequest("This port speaks HTTPS only: the address begins with https://."))
            else:
                self._drop(conn)
        else:
            head = bytearray()
            self.poller.modify(sock, selectors.EVENT_READ, partial(self._read_head, conn, head))
            self._read_head(conn, head, sock)

    def _await_head(self, conn: TConn, head: bytearray) -> None:
        if head and whole_head(head):
            self._dispatch(conn, head)
            return
        self._heads[conn] = time.monotonic() + self.app.header_timeout
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._read_head, conn, head))
        self._read_head(conn, head, conn.sock)

    def _read_head(self, conn: TConn, head: bytearray, sock: socket.socket) -> None:
        """As much as has come. Under TLS nothing may be left lying: what is decrypted already wakes nobody."""
        data = b"-"
        while data and not whole_head(head) and len(head) < MAX_HEAD:
            try:
                data = sock.recv(MAX_HEAD)
            except tls.NOT_YET:
                return
            except OSError:
                data = b""
            head += data
        self._forget_head(conn)
        if not data:
            self._drop(conn)
        elif len(head) >= MAX_HEAD and not whole_head(head):
            self._refuse(conn, RequestHeaderFieldsTooLarge(f"The request's head is longer than {MAX_HEAD} bytes."))
        else:
            self._dispatch(conn, head)

    def _dispatch(self, conn: TConn, head: bytearray) -> None:
        if self.app.cors.on:
            found = _ORIGIN.search(head)
            conn.origin = found[1].decode("latin-1").strip(" \t") if found else None
        conn.parser.unreader.unread(bytes(head))
        self.enqueue_req(conn)

    def _forget_head(self, conn: TConn) -> None:
        self._heads.pop(conn, None)
        self.poller.unregister(conn.sock)

    def murder_pending(self) -> None:
        super().murder_pending()
        self._expire(self._heads, self._late)
        self._expire(self._lingering, self._drop)

    def _late(self, conn: TConn) -> None:
        if tls.is_established(conn.sock):
            self._refuse(conn, RequestTimeout("The request's head came too slowly."))
        else:
            self._drop(conn)

    def _expire(self, waiting: OrderedDict[TConn, float], end: Callable[[TConn], None]) -> None:
        now = time.monotonic()
        while waiting:
            conn, deadline = next(iter(waiting.items()))
            if deadline > now:
                return
            del waiting[conn]
            self.poller.unregister(conn.sock)
            end(conn)

    # --- the end of a request ---

    def handle(self, conn: TConn) -> Any:
        self._serving.origin = getattr(conn, "origin", None)
        with self.app.busy:
            return super().handle(conn)

    def handle_request(self, req: Any, conn: TConn) -> bool:
        """A client that takes nothing is cut by the kernel (TCP_USER_TIMEOUT); that is an end like any other, and so is one that
        breaks off its TLS."""
        if req.version >= (1, 1) and not any(name == "HOST" for name, _ in req.headers):
            raise BadRequest("An HTTP/1.1 request needs a Host field (RFC 9112 section 3.2).")
        try:
            return bool(super().handle_request(req, conn))
        except (TimeoutError, ssl.SSLError) as error:
            raise ConnectionResetError(errno.ECONNRESET, "the client took no byte in time, or broke off") from error

    def finish_request(self, conn: TConn, fs: Any) -> None:
        try:
            keep = not fs.cancelled() and fs.result() is True
            conn.sock.setblocking(False)
            if keep:
                self._keep(conn)
            else:
                self._linger(conn)
        except Exception:
            self._drop(conn)

    def _keep(self, conn: TConn) -> None:
        """The connection waits for its next request, of which some may have come already."""
        ahead = bytearray(conn.parser.unreader.take_buffered())
        if ahead or tls.has_more(conn.sock):
            self._await_head(conn, ahead)
            return
        conn.set_timeout()
        if not self.alive:
            conn.timeout = min(conn.timeout, time.monotonic() + STOP_KEEPALIVE_LINGER)
        self.keepalived_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_client_socket_readable, conn))

    def on_client_socket_readable(self, conn: TConn, client: socket.socket) -> None:
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._await_head(conn, bytearray())

    # --- closing ---

    def _refuse(self, conn: TConn, refusal: HTTPException) -> None:
        self._answer_problem(conn.sock, conn.client, refusal, getattr(conn, "origin", None))
        self._linger(conn)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """What gunicorn's parser refuses is a problem (RFC 9457), as every other refusal. Only what the application did wrong is
        logged in full."""
        refusal = exc if isinstance(exc, BadRequest) else next((refusal for kind, refusal in _REFUSALS if isinstance(exc, kind)), None)
        if refusal is None or isinstance(exc, (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName)):
            self.log.error("the answer failed", exc_info=exc)
            refusal = InternalServerError()
        elif isinstance(exc, errors.InvalidHeader) and _TOKEN.fullmatch(str(exc.hdr)):
            refusal = BadRequest(f"The header field {exc.hdr} is malformed, or contradicts another.")
        self._answer_problem(client, addr, refusal, self._serving.origin)

    def _answer_problem(self, sock: socket.socket, client: Any, refusal: HTTPException, origin: str | None) -> None:
        id = begin_request()
        answer = http.problem(refusal, id)
        self.app.count_refusal(answer.status_code)
        answer.headers["X-Request-ID"] = id
        self.app.cors.mark(answer, origin)
        if self.app.settings.access_log:
            access.log_refusal(client[0] if isinstance(client, tuple) else "", refusal.code)
        try:
            util.write_nonblock(sock, _as_bytes(answer))
        except OSError:
            pass

    def _linger(self, conn: TConn) -> None:
        """Close after the client has had its chance to read the answer: bytes it still sends would reset the connection
        (RFC 9112 section 9.6)."""
        try:
            tls.end_writing(conn.sock)
        except OSError:
            self._drop(conn)
            return
        self._lingering[conn] = time.monotonic() + _LINGER
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._discard, conn, [_LINGER_BYTES]))

    def _discard(self, conn: TConn, left: list[int], sock: socket.socket) -> None:
        try:
            data = sock.recv(MAX_HEAD)
        except tls.NOT_YET:
            return
        except OSError:
            data = b""
        left[0] -= len(data)
        if not data or left[0] < 0:
            del self._lingering[conn]
            self.poller.unregister(sock)
            self._drop(conn)

    def _drop(self, conn: TConn) -> None:
        self.nr_conns -= 1
        conn.close()

    # --- stopping ---

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Let requests finish; shortly before the grace is over, ask the bodies that are still coming to end and be kept. Streams of
        events end at once."""
        if self.alive:
            self._ending()
        super().handle_exit(sig, frame)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Ends at once. gunicorn's shuts the pool of threads first, whose lock the main thread may hold at this very moment."""
        Worker.handle_quit(self, sig, frame)

    def _end_what_stays(self) -> None:
        self.app.stop_streams()
        time.sleep(max(0.5, self.cfg.graceful_timeout - 5))
        self.app.stop_bodies()


def _as_bytes(response: Response) -> bytes:
    """An answer that ends its connection, as it goes over the wire."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in response.headers)
    return f"HTTP/1.1 {response.status}\r\nConnection: close\r\n{fields}\r\n".encode("latin-1") + response.get_data()


def _call(application: Any, environ: dict[str, Any], start_response: Any) -> Any:
    """Tell the application that this worker serves it, and how to have the connection closed after the answer."""
    environ["carboy.worker"] = True
    environ["carboy.began"] = time.perf_counter()
    environ["carboy.close"] = start_response.__self__.force_close
    return application(environ, start_response)
