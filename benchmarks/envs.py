"""Environments of the peers, each its own, under benchmarks/.envs; installed from their registries by name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent / ".envs"


class Unavailable(Exception):
    """A peer that can't be measured here, and why. It is reported in its place, never left out."""


def python_env(name: str, *packages: str) -> Path:
    """The bin folder of a virtual environment that has ``packages``. Raises Unavailable."""
    folder = ROOT / name
    if not _installed(folder, packages):
        shutil.rmtree(folder, ignore_errors=True)
        # Without pip of its own: ours installs into it, so that a Python that lacks ensurepip serves too.
        _run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
        _run([sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "-q", *packages])
        _remember(folder, packages)
    return folder / "bin"


def node_env(name: str, *packages: str) -> Path:
    """A folder whose node_modules has ``packages``. Raises Unavailable."""
    folder = ROOT / name
    for tool in ("node", "npm"):
        if not shutil.which(tool):
            raise Unavailable(f"{tool} is not installed")
    if not _installed(folder, packages):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _run(["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--loglevel=error", *packages])
        _remember(folder, packages)
    return folder


def debian_program(name: str) -> str:
    """The path of a program from the Debian package of the same name; installed if we are root. Raises Unavailable."""
    if not (found := _which(name)) and os.geteuid() == 0 and shutil.which("apt-get"):
        _run(["apt-get", "install", "-y", "--no-install-recommends", name])
        found = _which(name)
    if not found:
        raise Unavailable(f"{name} is not installed; apt-get install {name}")
    return found


def _which(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def python_versions(env: Path, *names: str) -> str:
    """``name version`` of packages in the environment whose bin folder this is."""
    code = "import sys, importlib.metadata as m; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    return subprocess.run([env / "python", "-c", code, *names], check=True, capture_output=True, text=True).stdout.strip()


def _installed(folder: Path, packages: Sequence[str]) -> bool:
    marker = folder / "installed.txt"
    return marker.is_file() and marker.read_text().split() == list(packages)


def _remember(folder: Path, packages: Sequence[str]) -> None:
    (folder / "installed.txt").write_text("\n".join(packages) + "\n")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
        raise Unavailable(f"{Path(command[0]).name} failed: {words[-1]}")
