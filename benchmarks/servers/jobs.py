"""Carboy with what runs its jobs: the process beside the web, or Celery's worker and a Redis."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from benchmarks.envs import Unavailable
from benchmarks.servers.base import Server
from benchmarks.servers.carboy import Carboy
from benchmarks.servers.tested import load

_ROOT = Path(__file__).resolve().parents[2]
STEPS = "benchmarks.noop_steps"
VARIABLES = {"CARBOY_STEP_MODULES": json.dumps([STEPS]), "PYTHONPATH": str(_ROOT)}


class Redis:
    """As the tests start it: Debian's, which keeps nothing on disk. It may be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self._server: Any = None

    def __enter__(self) -> Self:
        try:
            self._server = self._stack.enter_context(load("fixtures_redis").running_redis())
        except RuntimeError as error:
            raise Unavailable(str(error)) from error
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        return str(self._server.url)

    @property
    def version(self) -> str:
        said = self._server.say("INFO", "server")
        return f"Redis {said['redis_version']}" if isinstance(said, dict) else "Redis"

    def stop(self) -> None:
        self._server.kill()

    def start(self) -> None:
        self._server.start()


class CarboyJobs(Carboy):
    """``carboy serve`` whose space has each file go through the step that does nothing."""

    def __init__(self, folder: Path, redis: Redis | None = None) -> None:
        broker = {"CARBOY_BROKER": redis.url} if redis else {}
        self.settings = {**VARIABLES, **broker, "CARBOY_SPACES": json.dumps({"main": {"steps": ["noop"]}})}
        super().__init__(folder, 1, variables=self.settings)


class CeleryWorker(Server):
    """``carboy worker`` beside it, with a process for each processor."""

    name = "carboy worker"

    def __init__(self, folder: Path, carboy: CarboyJobs) -> None:
        super().__init__(folder)
        self._carboy = carboy

    def command(self) -> list[str]:
        return [str(Path(sys.executable).with_name("carboy")), "worker", "--data", str(self._carboy.data)]

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), "PYTHONUNBUFFERED": "1", **self._carboy.settings}

    def ready(self) -> bool:
        return b"worker is ready" in self.log.read_bytes()
