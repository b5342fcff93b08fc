"""What an S3 server, or the network before it, does to a request on a bad day: faults for :class:`faults.proxy.Proxy`."""

from __future__ import annotations

import threading
from collections.abc import Callable

from faults.messages import replaced
from faults.proxy import LIMIT, Exchange, Fault

# --- the server says no ---


def internal_error(exchange: Exchange) -> None:
    """500, and nothing was done."""
    exchange.refuse(500, "InternalError")


def slow_down(exchange: Exchange) -> None:
    """503 SlowDown, as S3 says to those who ask too much."""
    exchange.refuse(503, "SlowDown")


def early_refusal(exchange: Exchange) -> None:
    """503 before the body was read, and the connection closes."""
    exchange.refuse(503, "ServiceUnavailable", early=True)


def done_but_500(exchange: Exchange) -> None:
    """The server does it, and a gateway before it answers 500."""
    exchange.forward()
    exchange.answer()
    exchange.refuse(500, "InternalError")


def error_in_200(exchange: Exchange) -> None:
    """200 whose document is an error, as S3 may answer copies and completions that take long; nothing was done."""
    exchange.refuse(200, "InternalError")


# --- the connection is cut ---


def reset_before(exchange: Exchange) -> None:
    """RST once the head is there; the server knows nothing."""
    exchange.reset()


def reset_in_body(exchange: Exchange) -> None:
    """RST after half of the request's body, to both sides."""
    exchange.forward(part=0.5)
    exchange.reset()


def lose_answer(exchange: Exchange) -> None:
    """The server does it; the client gets a RST in place of the answer."""
    exchange.forward()
    exchange.answer()
    exchange.reset()


def cut_answer(exchange: Exchange) -> None:
    """RST after half of the answer's body; of one without a body, after its head."""
    exchange.forward()
    exchange.give(exchange.answer(), part=0.5)
    exchange.reset()


# --- nobody says anything ---


def silence(exchange: Exchange) -> None:
    """The request is taken and nothing is done or answered."""
    exchange.silence()


def done_in_silence(exchange: Exchange) -> None:
    """The server does it; no answer ever comes."""
    exchange.forward()
    exchange.answer()
    exchange.silence()


# --- what comes is wrong ---


def wrong_request(exchange: Exchange) -> None:
    """One byte of the request's body arrives as another."""
    exchange.forward(change=_flip)
    exchange.give(exchange.answer())


def wrong_answer(exchange: Exchange) -> None:
    """One byte of the answer's body arrives as another."""
    exchange.forward()
    exchange.give(exchange.answer(), change=_flip)


def wrong_etag(exchange: Exchange) -> None:
    """The answer's ETag is of other bytes."""
    exchange.forward()
    exchange.give(replaced(exchange.answer(), "etag", lambda etag: '"' + "0" * 32 + etag[33:] if etag.startswith('"') else "0" * 32))


def wrong_checksum(exchange: Exchange) -> None:
    """The answer's CRC-64/NVME is of other bytes."""
    exchange.forward()
    exchange.give(replaced(exchange.answer(), "x-amz-checksum-crc64nvme", lambda _: "AAAAAAAAAAA="))


def _flip(data: bytearray) -> None:
    if data:
        data[len(data) // 2] ^= 0x10


# --- those that a test steers ---


def held(gate: threading.Event) -> Fault:
    """Passes on once the gate is open."""
    def held(exchange: Exchange) -> None:
        assert gate.wait(LIMIT), "nobody opened the gate"
        exchange.forward()
        exchange.give(exchange.answer())
    return held


def answer_held(gate: threading.Event) -> Fault:
    """Is done at once, and answered once the gate is open."""
    def answer_held(exchange: Exchange) -> None:
        exchange.forward()
        head = exchange.answer()
        assert gate.wait(LIMIT), "nobody opened the gate"
        exchange.give(head)
    return answer_held


def answered(status: int, code: str) -> Fault:
    """This answer of S3's, and nothing done."""
    def answered(exchange: Exchange) -> None:
        exchange.refuse(status, code)
    return answered


def seen(look: Callable[[Exchange], None]) -> Fault:
    """Passes, and somebody looks on before."""
    def seen(exchange: Exchange) -> None:
        look(exchange)
        exchange.forward()
        exchange.give(exchange.answer())
    return seen


REFUSALS: tuple[Fault, ...] = (internal_error, slow_down, early_refusal, done_but_500)
CUTS: tuple[Fault, ...] = (reset_before, reset_in_body, lose_answer, cut_answer)
SILENCES: tuple[Fault, ...] = (silence, done_in_silence)
WRONG: tuple[Fault, ...] = (wrong_request, wrong_answer, wrong_etag, wrong_checksum)
