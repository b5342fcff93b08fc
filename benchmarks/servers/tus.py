"""Servers of the tus protocol: @tus/server (Node), and tusd (Go) where somebody has installed it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from benchmarks.envs import Unavailable, node_env
from benchmarks.servers.base import Server

_SCRIPT = Path(__file__).resolve().parent.parent / "peers" / "tus_server.mjs"
_PACKAGES = ("@tus/server", "@tus/file-store")


class TusServer(Server):
    """@tus/server with @tus/file-store."""

    name = "@tus/server"

    @property
    def version(self) -> str:
        package = node_env("tus", *_PACKAGES) / "node_modules" / "@tus" / "server" / "package.json"
        node = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout.strip()
        return f"@tus/server {json.loads(package.read_text())['version']}, Node {node}"

    def command(self) -> list[str]:
        env = node_env("tus", *_PACKAGES)
        script = shutil.copy(_SCRIPT, env / _SCRIPT.name)  # node looks for packages beside the script
        return ["node", str(script), self.host, str(self.port), str(self.store)]


class Tusd(Server):
    """tusd with its file store. No registry that we install from has it, so it must be in PATH."""

    name = "tusd"

    @property
    def version(self) -> str:
        words = subprocess.run(["tusd", "-version"], check=True, capture_output=True, text=True).stdout.split()
        return f"tusd {words[1]}"

    def command(self) -> list[str]:
        program = shutil.which("tusd")
        if not program:
            raise Unavailable("no package registry has it; put `tusd` in PATH to measure it")
        return [program, "-host", self.host, "-port", str(self.port), "-upload-dir", str(self.store), "-base-path", "/files/"]
