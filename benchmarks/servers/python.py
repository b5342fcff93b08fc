"""Python peers: the tutorial's Flask code, Starlette, copyparty."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.envs import python_env, python_versions
from benchmarks.servers.base import Server

_APPS = Path(__file__).resolve().parent.parent / "peers"


class Flask(Server):
    """The tutorial's Flask code under gunicorn's gthread worker."""

    name = "Flask"
    app = "flask_app"
    _packages: tuple[str, ...] = ("flask", "gunicorn")
    _name = "flask"

    def __init__(self, folder: Path, workers: int = 1) -> None:
        super().__init__(folder)
        self._workers = workers

    @property
    def version(self) -> str:
        return python_versions(python_env(self._name, *self._packages), "flask", "werkzeug", *self._packages[1:])

    def command(self) -> list[str]:
        env = python_env(self._name, *self._packages)
        return [str(env / "python"), "-m", "gunicorn", "--worker-class", "gthread", "--workers", str(self._workers), "--threads", "16",
                "--bind", f"{self.host}:{self.port}", "--no-control-socket", "--chdir", str(_APPS), f"{self.app}:app"]

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), "STORE": str(self.store)}


class Starlette(Server):
    """Starlette under uvicorn, with uvloop and httptools."""

    name = "Starlette"
    # python-multipart and our own multipart own the same module name: another reason for an environment each.
    _packages = ("starlette", "uvicorn", "uvloop", "httptools", "python-multipart")

    @property
    def version(self) -> str:
        return python_versions(python_env("starlette", *self._packages), "starlette", "uvicorn", "python-multipart")

    def command(self) -> list[str]:
        env = python_env("starlette", *self._packages)
        return [str(env / "python"), "-m", "uvicorn", "--host", self.host, "--port", str(self.port), "--log-level", "warning",
                "--no-access-log", "--app-dir", str(_APPS), "starlette_app:app"]

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), "STORE": str(self.store)}


class Copyparty(Server):
    """copyparty, PUT into a writable volume. It hashes what it receives (SHA-512)."""

    name = "copyparty"

    @property
    def version(self) -> str:
        return python_versions(python_env("copyparty", "copyparty"), "copyparty")

    def command(self) -> list[str]:
        env = python_env("copyparty", "copyparty")
        # --wram: it refuses to write to tmpfs otherwise.
        return [str(env / "python"), "-m", "copyparty", "-q", "--wram", "-i", self.host, "-p", str(self.port), "-v", f"{self.store}::rw"]

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), "HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}


def python_version() -> str:
    """Of the Python that runs us and the Python peers."""
    return ".".join(str(part) for part in sys.version_info[:3])
