"""Steps in processes of their own: one for each job, with limits, killed with all that it has started when it is over.

They are forked by a *nursery* (:mod:`carboy.processing.isolating.nursery`), which each process that runs jobs starts when it first needs
it.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from carboy.catalog.processes import PerProcess
from carboy.config import Settings
from carboy.errors import ConfigError, StepFailed
from carboy.jobs import Outcome
from carboy.processing.context import Attempt
from carboy.processing.isolating.confining import Confines
from carboy.processing.isolating.offspring import NeverBorn, Offspring
from carboy.processing.isolating.spool import own_folder
from carboy.processing.step import Step, place_of

log = logging.getLogger("carboy.jobs")

_TRIES = 3
_PATIENCE = 15.0
_SECRET = ("CARBOY_", "AWS_", "PG")


class Isolation:
    """See :class:`carboy.processing.running.Isolated`. Thread-safe; opens nothing until it is called, and in each process for itself."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._nurseries = PerProcess(_Place)

    def __call__(self, step: Step, attempt: Attempt, args: Mapping[str, Any]) -> Outcome:
        """Raises Cancelled, and StepFailed for what the step raised, for a limit that it met, and for a process that ended without a
        word."""
        confines = self._confines(step)
        try:
            module, name = place_of(step)
            order = pickle.dumps((attempt.claim, dict(args)))
        except (ConfigError, pickle.PicklingError, TypeError, AttributeError) as error:
            raise StepFailed(f"it can't run in a process of its own: {error}") from error
        with own_folder(attempt.spool) as folder:
            how = {"step": step.name, "module": module, "source": _file_of(module), "name": name, "folder": str(folder),
                   "confines": asdict(confines)}
            return self._run(attempt, confines, how, order)

    def close(self) -> None:
        """End what was started. Repeatable."""
        place = self._nurseries.made()
        if place:
            place.close()

    # --- inside ---

    def _confines(self, step: Step) -> Confines:
        limits, settings = step.limits, self._settings
        return Confines(limits.memory or settings.step_memory, limits.cpu or settings.step_cpu, limits.output or settings.step_output)

    def _run(self, attempt: Attempt, confines: Confines, how: Mapping[str, Any], order: bytes) -> Outcome:
        for _ in range(_TRIES):
            nursery = self._nurseries.get().nursery()
            with suppress(NeverBorn), Offspring(attempt, confines) as child:
                nursery.bear(child, {"module": how["module"], "source": how["source"]})
                try:
                    return child.run(how, order)
                finally:
                    if not child.end(_PATIENCE):
                        nursery.kill()
        raise StepFailed("no process could be started for it", retry=True)


class _Place:
    """Where one process has its nursery."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.kept: _Nursery | None = None

    def nursery(self) -> _Nursery:
        """One that lives, as far as can be seen."""
        with self._lock:
            if self.kept and not self.kept.lives():
                log.info("the process that starts those of steps has ended; another one is started")
                self.kept.kill()
                self.kept = None
            self.kept = self.kept or _Nursery()
            return self.kept

    def close(self) -> None:
        with self._lock:
            nursery, self.kept = self.kept, None
        if nursery:
            nursery.close()


class _Nursery:
    """The process that forks, as its worker sees it."""

    def __init__(self) -> None:
        self._asked, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  this very program
                [sys.executable, "-P", "-m", "carboy.processing.isolating.nursery", str(theirs.fileno()), os.environ.get("PYTHONPATH", "")],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=2, start_new_session=True, env=_environment())

    def lives(self) -> bool:
        return self._process.poll() is None

    def bear(self, child: Offspring, what: Mapping[str, Any]) -> None:
        """Ask for a child. Raises NeverBorn."""
        try:
            child.ask(self._asked, what)
        except OSError as error:
            self.kill()
            raise NeverBorn(str(error)) from error

    def close(self) -> None:
        """It ends with all its children."""
        self._asked.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """For one that hangs. Its children end with it. Repeatable."""
        self._asked.close()
        self._process.kill()
        self._process.wait()


def _environment() -> dict[str, str]:
    """Without what gives access to Carboy's own stores."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_SECRET)}
    return {**kept, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path), "MALLOC_ARENA_MAX": "2"}


def _file_of(module: str) -> str | None:
    file = getattr(sys.modules.get(module), "__file__", None)
    return str(Path(file).absolute()) if file else None
