"""What Carboy's worker and body lean on inside gunicorn. When one of these fails, read carboy.web.worker, the bodies and carboy.web.access
against the new gunicorn before the pin moves."""

from __future__ import annotations

import inspect
import re
import socket
import time
from collections.abc import Callable
from importlib.metadata import requires, version
from typing import Any

import pytest
from gunicorn import util
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.http import body, errors, get_parser, message, wsgi
from gunicorn.http.unreader import IterUnreader, SocketUnreader, Unreader
from gunicorn.workers import gthread
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn, ThreadWorker

from carboy.web import access
from carboy.web.server import gunicorn_settings
from carboy.web.worker import CarboyWorker

HEAD = b"PUT /a HTTP/1.1\r\nHost: x\r\n"


def unreader(*pieces: bytes) -> Any:
    return IterUnreader(iter(pieces))


def parsed(*pieces: bytes) -> Any:
    """The first request of a connection on which these pieces come."""
    return next(get_parser(Config(), list(pieces), ("127.0.0.1", 1)))


def code(function: Callable[..., Any]) -> str:
    return inspect.getsource(function)


def test_it_is_the_version_that_was_read() -> None:
    assert version("gunicorn").startswith("27.0.")
    assert any(re.match(r"gunicorn[^;]*<27\.1", line) for line in requires("carboy") or ())


# --- the parser ----------------------------------------------------------------------------------------------------


def test_a_body_with_a_length_is_an_untouched_body_over_a_length_reader() -> None:
    request = parsed(HEAD + b"Content-Length: 5\r\n\r\nhe")
    assert type(request.body).__module__ == "gunicorn.http.body"
    assert type(request.body).__name__ == "Body"
    assert request.body.buf.tell() == 0
    assert request.body.failed is False
    assert type(request.body.reader).__name__ == "LengthReader"
    assert request.body.reader.length == 5
    assert isinstance(request.body.reader.unreader, Unreader)


def test_a_chunked_body_is_read_by_a_generator_of_its_data() -> None:
    request = parsed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"2;x=y\r\nde\r\n0\r\nT: v\r\n\r\nnext")
    reader = request.body.reader
    assert type(reader).__name__ == "ChunkedReader"
    assert reader.buf.tell() == 0
    assert inspect.isgenerator(reader.parser)
    assert b"".join(reader.parser) == b"abcde"
    assert request.unreader.take_buffered() == b"next"


@pytest.mark.parametrize(("sent", "error"), [
    (b"3\r\nab", errors.NoMoreData), (b"zz\r\nab\r\n", errors.InvalidChunkSize), (b"3\r\nabcX\r\n", errors.ChunkMissingTerminator),
    (b"3;\r;\r\nabc\r\n", errors.InvalidChunkExtension), (b"0\r\nbad header\r\n\r\n", errors.InvalidHeader), (b"0\r\n", errors.ChunkMissingTerminator),
])
def test_what_a_chunked_body_fails_with(sent: bytes, error: type[Exception]) -> None:
    """A cut is an OSError, malformed ones aren't; all are of the module the source looks for."""
    reader = parsed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + sent).body.reader
    with pytest.raises(error) as failed:
        list(reader.parser)
    assert type(failed.value).__module__ == "gunicorn.http.errors"
    assert isinstance(failed.value, OSError) is (error is errors.NoMoreData)


def test_what_is_buffered_can_be_taken_and_put_back_without_reading() -> None:
    read = unreader(b"abcdef", b"never")
    assert read.read(2) == b"ab"
    assert read.take_buffered() == b"cdef"
    assert read.take_buffered() == b""
    read.unread(b"ef")
    read.unread(b"cd")
    assert read.read(4) == b"cdef"
    assert read.read() == b"never"


def test_a_length_reader_goes_on_where_its_length_says() -> None:
    reader = body.LengthReader(unreader(b"abcdef"), 4)
    reader.unreader.take_buffered()
    reader.length -= 2
    assert reader.read(10) == b"ab"
    assert reader.length == 0
    assert reader.read(10) == b""


def test_a_whole_head_is_parsed_without_reading_more() -> None:
    """The worker gathers heads and gives them back to the parser, which must not touch the socket then."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(0)
        parser = get_parser(Config(), theirs, ("127.0.0.1", 1))
        assert isinstance(parser.unreader, SocketUnreader)
        parser.unreader.unread(HEAD + b"Content-Length: 5\r\n\r\nhe")
        request = next(parser)
        assert (request.method, request.uri) == ("PUT", "/a")
        assert request.body.reader.length == 5
        assert request.body.reader.unreader.take_buffered() == b"he"


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\nHost: x\n\n", b"GET / HTTP/1.1\r\nHost: x\n\r\n", b"GET /\n", b"\n", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n"])
def test_a_bare_lf_is_refused_without_reading_more(head: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(0)
        parser = get_parser(Config(), theirs, ("127.0.0.1", 1))
        parser.unreader.unread(head)
        with pytest.raises(errors.ParseException):
            next(parser)


@pytest.mark.parametrize(("read", "failed", "reusable"), [(5, False, True), (2, False, True), (0, False, True), (5, True, False)])
def test_a_connection_is_reused_after_its_body_unless_that_failed(read: int, failed: bool, reusable: bool) -> None:
    """Carboy reads past gunicorn's readers, keeps their length right, and sets ``failed`` where a chunked body was cut."""
    parser = get_parser(Config(), [HEAD + b"Content-Length: 5\r\n\r\n", b"helloGET /next HTTP/1.1\r\nHost: x\r\n\r\n"], ("127.0.0.1", 1))
    request = next(parser)
    assert request.body.reader.read(read) == b"hello"[:read]
    request.body.failed = failed
    assert bool(parser.finish_body(deadline=time.monotonic() + 10)) is reusable
    if reusable:
        assert next(parser).uri == "/next"


# --- Expect: 100-continue ------------------------------------------------------------------------------------------


def test_100_continue_is_sent_where_the_application_is_called_unless_held() -> None:
    assert message.Message._expected_100_continue is False
    assert "if req._expected_100_continue:" in code(wsgi.create)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for held in (False, True):
            request = parsed(HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            assert request._expected_100_continue is True
            request._expected_100_continue = not held
            wsgi.create(request, theirs, ("127.0.0.1", 1), ("127.0.0.1", 2), Config())
        assert ours.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_pre_request_runs_before_that() -> None:
    handling = code(ThreadWorker.handle_request)
    assert handling.index("pre_request") < handling.index("wsgi.create")


def test_the_environ_has_the_socket_and_the_body() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        request = parsed(HEAD + b"Content-Length: 5\r\n\r\n")
        response, environ = wsgi.create(request, theirs, ("127.0.0.1", 1), ("127.0.0.1", 2), Config())
        assert environ["gunicorn.socket"] is theirs
        assert environ["wsgi.input"] is request.body
        assert response.start_response.__self__ is response
        assert not response.must_close
        response.force_close()
        assert response.should_close()


# --- the worker ----------------------------------------------------------------------------------------------------


def test_a_connection_is_what_the_worker_takes_it_for() -> None:
    assert list(inspect.signature(TConn.__init__).parameters) == ["self", "cfg", "sock", "client", "server"]
    ours, theirs = socket.socketpair()
    with ours:
        conn = TConn(Config(), theirs, ("127.0.0.1", 1), ("127.0.0.1", 2))
        assert conn.parser is None
        conn.init()
        assert conn.initialized
        assert not conn.is_http2
        assert isinstance(conn.parser.unreader, SocketUnreader)
        conn.set_timeout()
        assert conn.timeout > 0
        conn.close()
        assert theirs.fileno() == -1


@pytest.mark.parametrize(("name", "parameters"), [
    ("accept", ["self", "listener"]), ("enqueue_req", ["self", "conn"]), ("finish_request", ["self", "conn", "fs"]),
    ("on_client_socket_readable", ["self", "conn", "client"]), ("murder_pending", ["self"]), ("murder_keepalived", ["self", "force"]),
    ("handle_request", ["self", "req", "conn"]), ("handle_exit", ["self", "sig", "frame"]), ("handle_quit", ["self", "sig", "frame"]), ("init_signals", ["self"]),
    ("init_process", ["self"]), ("load_wsgi", ["self"]),
    ("handle_error", ["self", "req", "client", "addr", "exc"]),
])
def test_methods_that_are_overridden_or_called_have_the_same_parameters(name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(ThreadWorker, name)).parameters) == parameters
    assert list(inspect.signature(getattr(CarboyWorker, name)).parameters) == parameters


def test_the_main_loop_calls_what_carboy_hooks() -> None:
    loop = code(ThreadWorker.run)
    assert loop.count("self.murder_pending()") == 2  # while it serves, and while it stops
    assert "while self.nr_conns > 0:" in loop
    assert "self.accept)" in code(ThreadWorker.set_accept_enabled)
    assert "callback(key.fileobj)" in code(ThreadWorker.wait_for_and_dispatch_events)
    assert "self.method_queue.defer(self.finish_request, conn, fut)" in code(ThreadWorker.enqueue_req)
    assert "self.wsgi(environ, resp.start_response)" in code(ThreadWorker.handle_request)


def test_a_worker_ends_by_leaving_the_arbiters_fork() -> None:
    """Carboy's arbiter holds signals back around it, until the worker has its handlers, and ends the process where it is left."""
    assert "os.fork()" in code(Arbiter.spawn_worker) and "worker.init_process()\n            sys.exit(0)" in code(Arbiter.spawn_worker)
    born = code(gthread.base.Worker.init_process)
    assert born.index("self.init_signals()") < born.index("self.run()")
    assert "sys.exit(0)" in code(gthread.base.Worker.handle_quit)


def test_a_worker_has_the_fields_that_carboy_keeps_up_to_date() -> None:
    made = code(ThreadWorker.__init__) + code(ThreadWorker.init_process) + code(gthread.base.Worker.__init__)
    for field in ("keepalived_conns", "nr_conns", "poller", "tpool", "method_queue", "cfg", "log", "alive", "app"):
        assert f"self.{field} = " in made, field
    assert 0 < STOP_KEEPALIVE_LINGER < 10


def test_a_connection_that_waits_is_closed_by_its_time() -> None:
    """Carboy appends kept-alive connections in the order of their timeouts, as this expects."""
    murder = code(ThreadWorker.murder_keepalived)
    assert "self.keepalived_conns[0]" in murder
    assert "conn.timeout - now" in murder


def test_connections_are_initialised_once() -> None:
    """Carboy's worker initialises a connection when it comes; handle() must then read no head of its own."""
    handle = code(ThreadWorker.handle)
    assert "if not conn.initialized and not conn.data_ready:" in handle
    assert "conn.sock.setblocking(True)" in handle
    assert "if self.initialized:\n            return" in code(TConn.init)


def test_errors_of_the_parser_are_handed_to_handle_error() -> None:
    assert "self.handle_error(req, conn.sock, conn.client, e)" in code(ThreadWorker.handle)
    for name in ("InvalidRequestLine", "InvalidRequestMethod", "InvalidHTTPVersion", "LimitRequestLine", "LimitRequestHeaders", "InvalidHeader"):
        assert issubclass(getattr(errors, name), errors.ParseException)


def test_an_answer_is_written_without_waiting_for_the_client() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        util.write_nonblock(theirs, b"answer")
        assert ours.recv(100) == b"answer"


def test_every_setting_is_one_that_gunicorn_has() -> None:
    from carboy.config import Settings

    config = Config()
    for name, value in gunicorn_settings(Settings(admin_token="t" * 32)).items():
        config.set(name, value)
    for hook in ("when_ready", "pre_request", "post_worker_init"):
        assert hook in config.settings


# --- TLS, Host and the access log ----------------------------------------------------------------------------------


def test_a_certificate_makes_requests_https() -> None:
    """Carboy wraps the sockets itself; gunicorn only has to know, for the scheme, and to send nothing by sendfile."""
    config = Config()
    assert not config.is_ssl
    config.set("certfile", "cert.pem")
    config.set("keyfile", "key.pem")
    assert config.is_ssl
    request = next(get_parser(config, [HEAD + b"Content-Length: 0\r\n\r\n"], ("127.0.0.1", 1)))
    assert request.scheme == "https"
    assert "if self.cfg.is_ssl or not self.can_sendfile():" in code(wsgi.Response.sendfile)
    assert "self.app.reload()" in code(Arbiter.reload)


def test_a_request_shows_its_version_and_the_names_of_its_fields_in_capitals() -> None:
    request = parsed(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert request.version == (1, 1)
    assert request.headers == [("HOST", "x")]
    with pytest.raises(errors.ParseException):
        parsed(b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n")


def test_a_hook_is_told_what_was_answered() -> None:
    config = Config()
    config.set("post_request", access.log_request)
    assert "self.cfg.post_request(self, req, environ, resp)" in code(ThreadWorker.handle_request)
    made = code(wsgi.Response.__init__) + code(wsgi.Response.start_response)
    for field in ("sent", "response_length", "status_code", "req"):
        assert f"self.{field} = " in made, field
