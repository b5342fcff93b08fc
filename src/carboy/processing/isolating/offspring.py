"""The process of one job, as its worker sees it: it is given the content, asks for this and that, and ends somehow."""

from __future__ import annotations

import json
import logging
import math
import os
import select
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from typing import Any, BinaryIO

from carboy.errors import Cancelled, CarboyError, StepFailed
from carboy.jobs import Outcome
from carboy.processing.context import Attempt
from carboy.processing.isolating.channel import Channel, Message, send_files
from carboy.processing.isolating.confining import Confines, signal_name
from carboy.processing.values import outcome_of

log = logging.getLogger("carboy.jobs")

_LOOK = 0.1
"""Seconds until it is noticed that the job was cancelled."""
_PIECE = 2**20
_MOST_LINES, _LONGEST_LINE = 1000, 4000


class NeverBorn(Exception):
    """The process was never started."""


class Offspring:
    """A context manager, used by one thread."""

    def __init__(self, attempt: Attempt, confines: Confines) -> None:
        self._attempt = attempt
        self._confines = confines
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._life, self._their_life = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = Channel(ours, self._wait)
        self._open = ExitStack()
        self._source: BinaryIO | None = None
        self._pid: int | None = None
        self._status: int | None = None
        self._cpu = 0.0
        self._lines = 0
        self._over = False
        """Whether nothing more will be heard of its life."""

    def __enter__(self) -> Offspring:
        return self

    def __exit__(self, *ended: object) -> None:
        self._channel.close()
        for one in (self._theirs, self._life, self._their_life):
            one.close()
        self._open.close()

    def ask(self, nursery: socket.socket, what: Mapping[str, Any]) -> None:
        """Have a nursery start it. Raises OSError."""
        send_files(nursery, json.dumps(what).encode(), [self._theirs.fileno(), self._their_life.fileno()])
        self._theirs.close()
        self._their_life.close()

    def run(self, how: Mapping[str, Any], order: bytes) -> Outcome:
        """Give it its work, and whatever it asks for, until it is done. Raises NeverBorn, Cancelled, StepFailed, and what the storage
        raises."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._channel.send("work", order, **how)
        while message := self._channel.receive():
            if message.kind == "done":
                return outcome_of(message.facts.get("outcome"))
            if message.kind == "failed":
                raise self._failure(message.facts)
            with suppress(BrokenPipeError, ConnectionResetError):
                self._answer(message)
        raise self._ended()

    def end(self, patience: float) -> bool:
        """Kill it with all that it has started, if there is any of it still: False where that can't be seen within so many seconds."""
        with suppress(OSError):
            self._life.shutdown(socket.SHUT_WR)
        until = time.monotonic() + patience
        while not self._over and time.monotonic() < until:
            if select.select([self._life], [], [], until - time.monotonic())[0]:
                self._hear()
        if self._over and self._status is None and self._pid is not None:
            with suppress(OSError):  # the nursery is gone, and its children with it; but what they had started is not
                os.killpg(self._pid, signal.SIGKILL)
        return self._over

    # --- what it asks for ---

    def _answer(self, message: Message) -> None:
        answers: Mapping[str, Callable[[Message], None]] = {
            "progress": self._progress, "open": self._give, "read": self._read, "path": self._path, "attach": self._attach,
            "log": self._log}
        answer = answers.get(message.kind)
        if answer is None:
            raise StepFailed("the step's process asked for what there isn't", retry=True)
        try:
            answer(message)
        except Cancelled:
            raise
        except CarboyError as error:
            self._channel.send("error", error=type(error).__name__, detail=error.detail)
        finally:
            if message.file is not None:
                os.close(message.file)

    def _progress(self, message: Message) -> None:
        self._attempt.progress(float(message.facts["share"]), str(message.facts["phrase"]))

    def _log(self, message: Message) -> None:
        """What came to harm by what it reads says what it likes: it is one line, and there are not too many."""
        self._lines += 1
        if self._lines <= _MOST_LINES:
            level = min(logging.CRITICAL, max(logging.INFO, int(message.facts["level"])))
            said = f"{message.facts['logger']}: {message.facts['line']}"
            log.log(level, "%s", "".join(char if char.isprintable() else repr(char)[1:-1] for char in said[:_LONGEST_LINE]),
                    extra={"facts": {"job": self._attempt.job.id, "step": self._attempt.job.step}})

    def _give(self, message: Message) -> None:
        file = self._attempt.opened()
        if file is None:
            self._channel.send("content")
        else:
            with file:
                self._channel.send("content", file=file.fileno())

    def _read(self, message: Message) -> None:
        if self._source is None:
            self._source = self._open.enter_context(self._attempt.stream())
        self._source.seek(int(message.facts["at"]))
        self._channel.send("bytes", self._source.read(min(_PIECE, int(message.facts["size"]))))

    def _path(self, message: Message) -> None:
        self._channel.send("path", path=str(self._open.enter_context(self._attempt.path())))

    def _attach(self, message: Message) -> None:
        facts, file = message.facts, message.file
        if file is None:
            raise StepFailed("the step's process attached no file", retry=True)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise StepFailed("the step's process attached what is no file", retry=True)
        self._attempt.attach(str(facts["name"]), self._pieces(file, int(facts["at"])), str(facts["media_type"]), **facts["facts"])
        self._channel.send("attached")

    def _pieces(self, file: int, at: int) -> Iterator[bytes]:
        while piece := os.pread(file, _PIECE, at):
            self._check()
            yield piece
            at += len(piece)

    # --- how it is ---

    def _check(self) -> None:
        if time.monotonic() > self._attempt.deadline:
            self._attempt.cancel("it took longer than its timeout")
        self._attempt.check()

    def _wait(self, events: int) -> bool:
        """Until the channel is ready for that, or the process has ended. False if it had."""
        if self._over:
            return False
        poll = select.poll()
        poll.register(self._channel.fileno(), events)
        poll.register(self._life, select.POLLIN)
        while True:
            self._check()
            found = dict(poll.poll(_LOOK * 1000))
            if self._life.fileno() in found:
                self._hear()
            if found and (self._over or self._channel.fileno() in found):
                return True

    def _hear(self) -> None:
        told: Mapping[str, Any] = {}
        with suppress(ConnectionError):
            told = json.loads(self._life.recv(2**12) or b"{}")
        self._pid = told.get("pid", self._pid)
        self._status, self._cpu = told.get("status", self._status), told.get("cpu", self._cpu)
        self._over = "pid" not in told

    def _failure(self, facts: Mapping[str, Any]) -> StepFailed:
        if facts.get("trace"):
            log.warning("the step's process of job %s raised\n%s", self._attempt.job.id, facts["trace"])
        if facts.get("limit"):
            return self._over_limit(str(facts["limit"]))
        retry = facts.get("retry")
        if not isinstance(retry, (bool, int, float)) or not math.isfinite(retry) or retry < 0:
            retry = True
        return StepFailed(str(facts.get("detail")), retry=retry)

    def _over_limit(self, which: str) -> StepFailed:
        confines = self._confines
        return StepFailed({"memory": f"it took more than {confines.memory} bytes of memory",
                           "cpu": f"it took more than {confines.cpu:g} s of processor time"}.get(
            which, f"it wrote a file larger than {confines.output} bytes"), limit=which)

    def _ended(self) -> Exception:
        """What is to be said of one that said nothing itself."""
        self.end(_PIECE)
        if self._status is None:
            if self._pid is None:
                return NeverBorn("the nursery is gone")
            return StepFailed("the process that starts those of steps has ended", retry=True)
        number = os.waitstatus_to_exitcode(self._status)
        if number >= 0:
            return StepFailed(f"its process ended with status {number}, and gave nothing", retry=True)
        if -number == signal.SIGXCPU or (-number == signal.SIGKILL and self._cpu >= self._confines.cpu):
            return self._over_limit("cpu")
        if -number == signal.SIGXFSZ:
            return self._over_limit("output")
        hint = ", perhaps because the machine has no memory left" if -number == signal.SIGKILL else ""
        return StepFailed(f"its process ended with signal {signal_name(-number)}{hint}", retry=True)
