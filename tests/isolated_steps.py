"""Steps for processes of their own, which find them by this module's name: most of them misbehave."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from carboy.errors import InvalidName, StepFailed
from carboy.jobs import Outcome
from carboy.processing.step import Context, Limits, step

SLEEPER = "import time; time.sleep(600)"


@step("noop", isolated=True, spaces=())
def noop(context: Context) -> None:
    """Nothing."""


@step("look", isolated=True, spaces=())
def look(context: Context, *, factor: int = 1) -> dict[str, Any]:
    """What it is given."""
    with context.stream() as source:
        data = source.read()
        source.seek(-2, os.SEEK_END)
        end = source.read()
    with context.path() as path:
        copied, suffix = path.read_bytes(), path.suffix
        path.write_bytes(b"mine to change")
    return {"name": context.name, "type": context.media_type, "size": context.blob.size * factor, "step": context.job.step,
            "before": {name: dict(result) for name, result in context.results.items()}, "file": context.file and context.file.path,
            "data": data.decode(), "end": end.decode(), "same": data == copied, "suffix": suffix, "gone": not path.exists()}


@step("where", isolated=True, spaces=())
def where(context: Context) -> dict[str, Any]:
    """What kind of process it is in."""
    limits = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0] for name in ("CPU", "FSIZE", "NOFILE", "CORE")}
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {"pid": os.getpid(), "session": os.getsid(0), "group": os.getpgid(0), "nice": os.nice(0), "limits": limits,
            "privileges": status["NoNewPrivs"].strip(), "threads": int(status["Threads"]), "folder": str(Path.cwd()),
            "temporary": tempfile.gettempdir(), "secrets": sorted(name for name in os.environ if name.startswith(("CARBOY_", "AWS_"))),
            "open": sorted(os.readlink(f"/proc/self/fd/{name}").partition(":")[0] for name in os.listdir("/proc/self/fd")
                           if int(name) > 2 and os.path.exists(f"/proc/self/fd/{name}"))}


@step("outcome", isolated=True, spaces=())
def outcome(context: Context) -> Outcome:
    """All that an outcome has."""
    return Outcome({"found": "it"}, sha256=bytes(range(32)), media_type="text/x-found", quarantine="it was bad", release=False)


@step("attach", isolated=True, spaces=())
def attach(context: Context) -> dict[str, Any]:
    """Bytes, files from where they stand, pieces; one name twice, and one that isn't one."""
    context.attach("bytes.txt", b"some bytes", "text/plain", number=1, nested={"a": [1, 2]})
    Path("made.bin").write_bytes(b"0123456789")
    with open("made.bin", "rb") as file:
        file.read(4)
        context.attach("file.bin", file, "application/octet-stream")
    with open("late.bin", "w+b") as late:
        late.write(b"not flushed yet")
        late.seek(0)
        context.attach("late.bin", late, "application/octet-stream")
    context.attach("pieces.bin", (bytes([number]) * 1000 for number in range(3)), "application/octet-stream")
    context.attach("memory.bin", io.BytesIO(b"in memory"), "application/octet-stream")
    context.attach("twice.txt", b"first", "text/plain")
    context.attach("twice.txt", b"second", "text/plain")
    try:
        context.attach("..", b"", "text/plain")
    except InvalidName as error:
        return {"refused": error.detail}
    return {}


@step("attach-then-fail", isolated=True, spaces=(), retries=0)
def attach_then_fail(context: Context) -> None:
    context.attach("a.txt", b"never seen", "text/plain")
    raise StepFailed("after all, no")


@step("speak", isolated=True, spaces=(), timeout=60)
def speak(context: Context) -> None:
    """Tells how far it is, and waits to be ended."""
    for number in range(10_000):
        context.progress(number / 20_000, "counting")
    context.progress(0.5, f"waiting as {os.getpid()}")
    time.sleep(600)


# --- those that fail ---


@step("raise", isolated=True, spaces=(), retries=0)
def raises(context: Context, *, how: str) -> Any:
    """In one way or another."""
    if how == "value":
        raise ValueError("no good: ü")
    if how == "final":
        raise StepFailed("it never will")
    if how == "later":
        raise StepFailed("not now", retry=77.0)
    if how == "exit":
        sys.exit(3)
    if how == "vanish":
        os._exit(4)
    if how == "odd":
        return {"a": object()}
    if how == "large":
        return {"a": "x" * 300_000}
    os.kill(os.getpid(), int(how) if how.isdigit() else getattr(signal, how))
    return None


@step("memory", isolated=True, spaces=(), limits=Limits(memory=64 * 2**20))
def memory(context: Context) -> int:
    """A bomb."""
    kept = []
    while True:
        kept.append(bytearray(2**20))


@step("memory-at-once", isolated=True, spaces=(), limits=Limits(memory=64 * 2**20))
def memory_at_once(context: Context) -> int:
    return len(bytes(2**40))


@step("cpu", isolated=True, spaces=(), limits=Limits(cpu=1.0))
def cpu(context: Context) -> None:
    while True:
        pass


@step("stubborn-cpu", isolated=True, spaces=(), limits=Limits(cpu=1.0))
def stubborn_cpu(context: Context) -> None:
    """Doesn't heed the first warning."""
    resource.setrlimit(resource.RLIMIT_CPU, (1, 2))
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    while True:
        pass


@step("output", isolated=True, spaces=(), limits=Limits(output=2**20))
def output(context: Context) -> None:
    with open("large", "wb") as file:
        while True:
            file.write(bytes(2**16))


@step("attach-large", isolated=True, spaces=(), limits=Limits(output=2**20))
def attach_large(context: Context) -> None:
    context.attach("large", (bytes(2**16) for _ in range(100)), "application/octet-stream")


@step("files", isolated=True, spaces=(), retries=0)
def files(context: Context) -> None:
    kept = []
    while True:
        kept.append(open("/dev/null"))  # noqa: SIM115


@step("hang", isolated=True, spaces=(), timeout=0.2, retries=0)
def hang(context: Context) -> None:
    """Longer than it may."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


@step("leave", isolated=True, spaces=())
def leave(context: Context, *, note: str) -> int:
    """Ends, and leaves children behind, one of which left the session, one of which lost its parent: they note who they are."""
    _begin_family(note)
    return 7


@step("multiply", isolated=True, spaces=(), timeout=600.0, retries=0)
def multiply(context: Context, *, note: str) -> None:
    """A bomb of processes, kept small: each begins others."""
    while len(_noted(note)) < 40:
        if os.fork() == 0:
            _note(note)
    if os.getpid() == os.getsid(0):
        context.progress(0.5, "ready")
    time.sleep(600)


@step("family", isolated=True, spaces=(), timeout=600.0)
def family(context: Context, *, note: str) -> None:
    """The same, for long, whatever it is told."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _note(note)
    _begin_family(note)
    context.progress(0.5, "ready")
    threading.Event().wait()


def _begin_family(note: str) -> None:
    subprocess.Popen([sys.executable, "-c", _noting(note)])
    subprocess.Popen([sys.executable, "-c", _noting(note)], start_new_session=True)
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            _note(note)
            time.sleep(600)
        os._exit(0)
    while len(_noted(note)) < 3:
        time.sleep(0.01)


def _noting(note: str) -> str:
    return f"import os, time; open({note!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(600)"


def _note(note: str) -> None:
    with open(note, "a") as file:
        file.write(f"{os.getpid()}\n")


def _noted(note: str) -> list[str]:
    return Path(note).read_text().split() if os.path.exists(note) else []
