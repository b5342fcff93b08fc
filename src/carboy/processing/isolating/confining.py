"""What a step's process is kept from. Linux does most of it; elsewhere the limits that there are hold."""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_DIE_WITH_PARENT, _NAME, _ADOPT_ORPHANS, _NO_NEW_PRIVILEGES = 1, 15, 36, 38  # linux/prctl.h
_FILES = 256
_NICE = 10
_TO_TELL = 64 * 2**20
"""What a process may take beyond its memory once it has run out of it, to say so."""
_HARMLESS = ("PATH", "LANG", "LANGUAGE", "TZ", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")

Control = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Confines:
    """The limits of one process: bytes of memory beyond what it begins with, seconds of processor time, bytes of one file."""

    memory: int
    cpu: float
    output: int


def control() -> Control:
    """prctl(2) with an option and one argument; what the system doesn't know is left out."""
    if sys.platform != "linux":
        return lambda *_: None
    library = ctypes.CDLL(None)

    def prctl(option: int, value: int | bytes) -> None:
        library.prctl(option, value if isinstance(value, bytes) else ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3)

    return prctl


def adopt_orphans(prctl: Control) -> None:
    """Processes whose parents have ended become children of this one, if they descend from it."""
    prctl(_ADOPT_ORPHANS, 1)


def leave_with(parent: int, prctl: Control) -> None:
    """This process, alone in a session of its own, gains no rights, and ends with its parent."""
    os.setsid()
    prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    prctl(_NO_NEW_PRIVILEGES, 1)
    if os.getppid() != parent:
        os._exit(1)


def end_with_parent() -> None:
    """This process is killed when its parent ends, and heeds nobody else who would have it stop: when a service is stopped, all of its
    processes are told so, and its worker decides what becomes of a job. For ``preexec_fn`` of programs that a step starts."""
    control()(_DIE_WITH_PARENT, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))


def signal_name(number: int) -> str:
    """``SIGSEGV``, say."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)


def confine(name: str, confines: Confines, prctl: Control) -> None:
    """From now on this process, and those that it starts, have no more than that."""
    prctl(_NAME, f"step {name}".encode()[:15])
    os.nice(_NICE)
    os.umask(0o077)
    most = _size() + confines.memory
    _limit(resource.RLIMIT_AS, most, most + _TO_TELL)
    _limit(resource.RLIMIT_CPU, math.ceil(confines.cpu), math.ceil(confines.cpu) + 5)
    _limit(resource.RLIMIT_FSIZE, confines.output, confines.output)
    _limit(resource.RLIMIT_NOFILE, _FILES, _FILES)
    _limit(resource.RLIMIT_CORE, 0, 0)


def have_room_to_tell() -> None:
    """A little more memory, for who has none left."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def forget_secrets() -> None:
    """Of the environment, only what tells nothing remains."""
    for name in [name for name in os.environ if name not in _HARMLESS and not name.startswith("LC_")]:
        del os.environ[name]


def _size() -> int:
    """Bytes of address space that this process has."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 2**29


def _limit(what: int, soft: int, hard: int) -> None:
    _, most = resource.getrlimit(what)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(what, (soft, hard))
