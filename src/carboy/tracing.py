"""Which request this thread works for: its id is in the lines of the log, also in those of the jobs that it has ordered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_request: ContextVar[str] = ContextVar("carboy_request", default="")


def request_id() -> str:
    """The id of the request that this thread is about, or was about last; ``""`` for none."""
    return _request.get()


def begin(id: str) -> None:
    """From now on this thread works for the request."""
    _request.set(id)


@contextmanager
def working_for(id: str) -> Iterator[None]:
    """In the block this thread works for the request, and after it for the one before."""
    token = _request.set(id)
    try:
        yield
    finally:
        _request.reset(token)
