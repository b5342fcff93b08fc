"""Ourselves."""

from __future__ import annotations

import base64
import importlib.metadata
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.envs import Unavailable
from benchmarks.servers.base import Server

TOKEN = "benchmark-token-of-more-than-32-characters"
_READY = re.compile(rb"Carboy is ready at (\S+)")


class Carboy(Server):
    """``carboy serve``, with its defaults: durability full, CRC-64/NVME always."""

    name = "Carboy"

    def __init__(self, folder: Path, workers: int = 1, *options: str, variables: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        self._options = ["--workers", str(workers), *options]
        self._variables = variables or {}
        self.data = folder / "data"
        self.store = self.data / "blobs"

    @property
    def version(self) -> str:
        return f"carboy {importlib.metadata.version('carboy')}"

    @property
    def headers(self) -> tuple[str, ...]:
        """What each request must carry."""
        return (f"Authorization: Bearer {TOKEN}",)

    def command(self) -> list[str]:
        program = Path(sys.executable).with_name("carboy")
        if not program.exists():
            raise Unavailable("carboy is not installed beside this Python")
        return [str(program), "serve", "--port", "0", "--data", str(self.data), *self._options]

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), "CARBOY_ADMIN_TOKEN": TOKEN, "PYTHONUNBUFFERED": "1", **self._variables}

    def ready(self) -> bool:
        match = _READY.search(self.log.read_bytes())
        if match:
            self.port = urlsplit(match[1].decode()).port or self.port
        return bool(match)

    def file_url(self, path: str) -> str:
        return f"{self.url}/files/main/{path}"


def repr_digest(sha256: bytes) -> str:
    """The header that declares a SHA-256 (RFC 9530, 3)."""
    return f"Repr-Digest: sha-256=:{base64.b64encode(sha256).decode()}:"
