"""A small process beside a worker, from which the processes of single jobs are forked: it has no threads, and has loaded what takes long.

``python -m carboy.processing.isolating.nursery N PATH`` is how workers start it; ``N`` is the file descriptor of a socket over which they
ask, ``PATH`` the PYTHONPATH of those who are forked. With each request come two more: a channel, for the child, and the child's *life*.
Over that the nursery tells the child's id and how it ended; when the worker closes it, or is gone, the child is killed, with all that it
has started.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from carboy.processing.isolating import child
from carboy.processing.isolating.channel import receive_files
from carboy.processing.isolating.confining import adopt_orphans, control, leave_with

_LOOK = 5.0
_IDLE = 300.0
"""After so many seconds without a job it ends, and is started again when there is one."""
_LONGEST = 10.0


class Nursery:
    """See the module. Runs in the main thread of a process that has no other."""

    def __init__(self, asked: socket.socket) -> None:
        self._asked = asked
        self._parent = os.getppid()
        self._prctl = control()
        self._children: dict[int, socket.socket] = {}
        self._loaded: set[str] = set()
        self._poll = select.poll()
        self._woken, self._wakes = os.pipe()
        self._used = time.monotonic()

    def run(self) -> None:
        """Until the worker is gone, or wants nothing for long."""
        adopt_orphans(self._prctl)
        self._hear_of_ends()
        self._poll.register(self._asked, select.POLLIN)
        try:
            while self._look() and os.getppid() == self._parent and (self._children or time.monotonic() - self._used < _IDLE):
                pass
        finally:
            self._end_all()

    # --- inside ---

    def _hear_of_ends(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.set_blocking(self._wakes, False)
        signal.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._poll.register(self._woken, select.POLLIN)

    def _look(self) -> bool:
        """Whether there is a worker still."""
        found = {file for file, _ in self._poll.poll(_LOOK * 1000)}
        for file in found - {self._asked.fileno(), self._woken}:  # first, as the others may close it and use its number again
            self._kill_whose_life_is(file)
        if self._woken in found:
            os.read(self._woken, 4096)
            self._reap()
        return self._asked.fileno() not in found or self._answer()

    def _answer(self) -> bool:
        try:
            told, files = receive_files(self._asked, 2**16, 2)
        except ConnectionError:
            return False
        if not told:
            return False
        channel, life = (socket.socket(fileno=file) for file in files)
        with channel:
            self._load(json.loads(told))
            self._bear(channel, life)
        self._used = time.monotonic()
        return True

    def _load(self, what: dict[str, Any]) -> None:
        """What fails here fails again in the child, which can say so. A module may have more that is to be loaded once for all children."""
        if what["module"] not in self._loaded:
            self._loaded.add(what["module"])
            with suppress(BaseException):
                module = child.load(what["module"], what["source"])
                getattr(module, "__carboy_preload__", lambda: None)()
            gc.collect()
            gc.freeze()

    def _bear(self, channel: socket.socket, life: socket.socket) -> None:
        own = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            _tell(life, failed=str(error))
            life.close()
            return
        if pid == 0:
            self._be_child(channel, life, own)
        self._children[pid] = life
        self._poll.register(life, select.POLLRDHUP)
        _tell(life, pid=pid)

    def _be_child(self, channel: socket.socket, life: socket.socket, nursery: int) -> None:
        """Never returns."""
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            leave_with(nursery, self._prctl)
            for one in (self._asked, life, *self._children.values()):
                one.close()
            os.close(self._woken)
            os.close(self._wakes)
            child.work(channel, self._prctl)
        finally:
            os._exit(0)

    def _kill_whose_life_is(self, file: int) -> None:
        self._poll.unregister(file)
        for pid, life in self._children.items():
            if life.fileno() == file:
                _kill(pid)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if ended.si_pid in self._children:
                    _kill(ended.si_pid)
                _, status, usage = os.wait4(ended.si_pid, 0)
                self._kill_strays()
                self._say_farewell(ended.si_pid, status, usage.ru_utime + usage.ru_stime)

    def _say_farewell(self, pid: int, status: int, cpu: float) -> None:
        life = self._children.pop(pid, None)
        if life:
            with suppress(KeyError):
                self._poll.unregister(life)
            _tell(life, status=status, cpu=cpu)
            life.close()

    def _kill_strays(self) -> None:
        """What left the session of a job's process, and lost its parent, has become a child of this one."""
        for pid in _children_of_this():
            with suppress(OSError):
                if pid not in self._children and os.getsid(pid) not in self._children:
                    os.kill(pid, signal.SIGKILL)

    def _end_all(self) -> None:
        until = time.monotonic() + _LONGEST
        for pid in self._children:
            _kill(pid)
        with suppress(ChildProcessError):
            while time.monotonic() < until:
                pid, _, _ = os.wait4(-1, os.WNOHANG)
                if pid:
                    self._children.pop(pid, None)
                else:
                    self._kill_strays()
                    self._poll.poll(10)


def _kill(pid: int) -> None:
    """With all of its session; also before it has one. It isn't waited for yet, so the id is its own."""
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def _children_of_this() -> list[int]:
    with suppress(OSError):
        return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    return []


def _tell(life: socket.socket, **facts: Any) -> None:
    with suppress(OSError):
        life.send(json.dumps(facts).encode(), socket.MSG_DONTWAIT)


def main() -> None:
    if sys.argv[2]:
        os.environ["PYTHONPATH"] = sys.argv[2]
    else:
        os.environ.pop("PYTHONPATH", None)
    Nursery(socket.socket(fileno=int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
