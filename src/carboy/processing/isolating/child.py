"""The process of one job: runs the step's function on what the worker gives, and tells it what came of it."""

from __future__ import annotations

import errno
import io
import logging
import os
import pickle
import select
import signal
import socket
import stat
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module, util
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from carboy import errors
from carboy.engine.opening import Content, ContentSource
from carboy.errors import BytesMissing, CarboyError, StepFailed
from carboy.jobs import Claim, Outcome
from carboy.processing.context import OfClaim
from carboy.processing.isolating.channel import Channel, Message
from carboy.processing.isolating.confining import Confines, Control, confine, forget_secrets, have_room_to_tell
from carboy.processing.step import Step
from carboy.processing.values import as_json, outcome_as_json

_PIECE = 2**20
_LONGEST = 4000
"""Characters of a message, and of a traceback, that are told."""


def work(end: socket.socket, prctl: Control) -> None:
    """Run the one job that is asked for over this socket."""
    channel = Channel(end, _waiting(end), most=2**31)
    order = channel.receive()
    if order is None:
        return
    with suppress(OSError):  # nobody listens any more
        try:
            outcome = _outcome(order, channel, prctl)
            _flush()
            channel.send("done", outcome=outcome)
        except BaseException as error:
            have_room_to_tell()
            _flush()
            channel.send("failed", **_failure(error))


def load(module: str, file: str | None) -> ModuleType:
    """The module of this name, from its file where it isn't found by it: the program's main module, for one."""
    known = sys.modules.get(_name_of(module))
    if known:
        return known
    try:
        if module != "__main__":
            return import_module(module)
    except ModuleNotFoundError as error:
        if file is None or error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
    return _from_file(module, file)


def _from_file(module: str, file: str | None) -> ModuleType:
    name = _name_of(module)
    spec = util.spec_from_file_location(name, file) if file else None
    if spec is None or spec.loader is None:
        raise StepFailed(f"the step's module {module!r} can't be loaded in a process of its own")
    made = sys.modules[name] = util.module_from_spec(spec)
    try:
        spec.loader.exec_module(made)
    except BaseException:
        del sys.modules[name]
        raise
    sys.modules[module] = made
    return made


def _name_of(module: str) -> str:
    """Under which it is kept here: whatever is to happen in the main module alone doesn't."""
    return "__carboy_main__" if module == "__main__" else module


class Context(OfClaim):
    """See :class:`carboy.processing.step.Context`. Thread-safe."""

    cancelled = False
    """Who is cancelled in a process of its own has no time to ask."""

    def __init__(self, claim: Claim, channel: Channel) -> None:
        super().__init__(claim)
        self._channel = channel
        self._lock = threading.Lock()
        self._told = (-1.0, "")

    def stream(self) -> BinaryIO:
        file = self._ask("open").file
        if file is not None:
            return open(file, "rb", buffering=_PIECE)
        return io.BufferedReader(_Elsewhere(self.blob.size, self._read), _PIECE)

    @contextmanager
    def path(self) -> Iterator[Path]:
        path = Path(self._ask("path").facts["path"])
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def progress(self, share: float, phrase: str = "") -> None:
        share = min(1.0, max(0.0, float(share)))
        with self._lock:
            if phrase != self._told[1] or abs(share - self._told[0]) >= 0.001:
                self._channel.send("progress", share=share, phrase=str(phrase)[:200])
                self._told = (share, phrase)

    def attach(self, name: str, content: Content, media_type: str, **facts: Any) -> None:
        with _as_file(content) as (file, at):
            self._ask("attach", file=file, name=name, at=at, media_type=media_type, facts=as_json(facts))

    def log(self, record: logging.LogRecord, line: str) -> None:
        """Have the worker log it, unless this thread is in the midst of asking it for something."""
        if self._lock.acquire(timeout=1.0):
            try:
                self._channel.send("log", level=record.levelno, logger=record.name, line=line[:_LONGEST])
            finally:
                self._lock.release()

    def _read(self, at: int, size: int) -> bytes:
        return self._ask("read", at=at, size=min(size, _PIECE)).data

    def _ask(self, kind: str, file: int | None = None, **facts: Any) -> Message:
        with self._lock:
            self._channel.send(kind, file=file, **facts)
            answer = self._channel.receive()
        if answer is None:
            raise BrokenPipeError("the worker is gone")
        if answer.kind == "error":
            raise getattr(errors, answer.facts["error"], CarboyError)(answer.facts["detail"])
        return answer


class _Lines(logging.Handler):
    """What the step logs goes where the worker's lines go."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):
            self._context.log(record, self.format(record))


class _Elsewhere(io.RawIOBase):
    """A content that the worker reads."""

    def __init__(self, size: int, read: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._size = size
        self._read = read
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        at = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence] + offset
        if at < 0:
            raise ValueError(f"negative seek position {at}")
        self._at = at
        return at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        size = max(0, min(len(view), self._size - self._at))
        data = self._read(self._at, size) if size else b""
        if size and not data:
            raise BytesMissing("the stored bytes are missing")
        view[:len(data)] = data
        self._at += len(data)
        return len(data)


def _waiting(end: socket.socket) -> Callable[[int], bool]:
    def wait(events: int) -> bool:
        poll = select.poll()
        poll.register(end, events)
        poll.poll()
        return True

    return wait


@contextmanager
def _as_file(content: Content) -> Iterator[tuple[int, int]]:
    """An open file that has the content, and where it begins there."""
    if isinstance(content, (io.BufferedReader, io.BufferedRandom, io.FileIO)) and stat.S_ISREG(os.fstat(content.fileno()).st_mode):
        content.flush()
        yield content.fileno(), content.tell()
        return
    with tempfile.TemporaryFile() as file:
        for piece in ContentSource(content).lend():
            file.write(piece)
        file.flush()
        yield file.fileno(), 0


def _outcome(order: Message, channel: Channel, prctl: Control) -> dict[str, Any]:
    facts = order.facts
    signal.signal(signal.SIGTERM, lambda *_: None)  # who is told to stop is the worker, and it decides what becomes of this
    os.chdir(facts["folder"])
    if facts["module"].startswith("carboy."):
        forget_secrets()
    os.environ["TMPDIR"] = tempfile.tempdir = facts["folder"]
    confine(facts["step"], Confines(**facts["confines"]), prctl)
    function = _function(load(facts["module"], facts["source"]), facts["name"])
    claim, args = pickle.loads(order.data)  # noqa: S301  from the worker
    context = Context(claim, channel)
    logging.getLogger().handlers[:] = [_Lines(context)]
    logging.getLogger("carboy").setLevel(logging.INFO)
    value = function(context, **args)
    return outcome_as_json(value if isinstance(value, Outcome) else Outcome(as_json(value)))


def _function(module: ModuleType, name: str) -> Callable[..., Any]:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part)
    made = getattr(found, "__carboy_step__", None)
    function: Callable[..., Any] = made.run if isinstance(made, Step) else found
    return function


def _failure(error: BaseException) -> dict[str, Any]:
    number = error.errno if isinstance(error, OSError) else 0
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        return {"limit": "memory"}
    if number == errno.EFBIG:
        return {"limit": "output"}
    if isinstance(error, CarboyError):
        return {"detail": error.detail[:_LONGEST], "retry": error.retry if isinstance(error, StepFailed) else True}
    with suppress(Exception):
        return {"detail": f"{type(error).__name__}: {error}"[:_LONGEST], "retry": True,
                "trace": "".join(traceback.format_exception(error))[-_LONGEST:]}
    return {"detail": type(error).__name__, "retry": True}


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
