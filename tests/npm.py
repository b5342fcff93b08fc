"""Real clients from npm: a folder under tests/clients has their package.json and lock, ``npm ci`` fetches them into its node_modules."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

CLIENTS = Path(__file__).parent / "clients"


def installed(name: str) -> Path:
    """The client's folder, its packages as the lock says. Skips the test where there is no node or npm; where CI=true that is a failure."""
    if not (shutil.which("node") and shutil.which("npm")):
        why = f"NOT TESTED: the clients of {name} need node and npm (make services)"
        pytest.fail(why) if os.environ.get("CI") == "true" else pytest.skip(why)
    folder = CLIENTS / name
    lock, mark = folder / "package-lock.json", folder / "node_modules" / ".installed"
    with (Path(tempfile.gettempdir()) / f"carboy-npm-{name}.lock").open("w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if not mark.is_file() or mark.read_bytes() != lock.read_bytes():
            subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder, check=True, capture_output=True, timeout=300)
            mark.write_bytes(lock.read_bytes())
    return folder


def run(folder: Path, script: str, given: Any, limit: float = 120) -> Any:
    """What the script, given this as JSON, prints as JSON."""
    done = subprocess.run(["node", script, json.dumps(given)], cwd=folder, capture_output=True, text=True, timeout=limit, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])
