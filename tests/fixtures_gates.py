"""Servers whose steps wait at gates that tests open: ``gated`` is one that the tests of a module share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import wire
from fixtures_server import Server, eventually

CONFIG = """
step_modules = ["gated_steps"]
durability = "relaxed"
longest_wait = 60
job_workers = 32
graceful_timeout = 1

[spaces]
main = {}
gated = { steps = ["gate"] }
home = { private = true, steps = ["gate"] }
shop = { public = "read" }
held = { steps = ["digest", "gate"], hold = ["gate"] }
sums = { steps = ["digest"] }
other = {}
"""


class Gated(Server):
    """A server, its gates, and people with tokens."""

    def __init__(self, folder: Path, *, config: str = CONFIG, env: Mapping[str, str] | None = None, **options: Any) -> None:
        self.gates = folder / "gates"
        self.gates.mkdir()
        (folder / "carboy.toml").write_text(config)
        own = {"PYTHONPATH": str(Path(__file__).parent), "GATES": str(self.gates)}
        super().__init__(folder / "data", args=["--config", str(folder / "carboy.toml")], env={**own, **(env or {})}, **options)

    def open(self, name: str, said: str = "") -> None:
        """Let contents of files of this name through."""
        made = self.gates / f".{name}"
        made.write_text(said)
        made.rename(self.gates / name)

    def someone(self, scopes: Sequence[str], **more: Any) -> dict[str, str]:
        """The header that proves somebody new."""
        made = self.api("POST", "/api/v1/tokens", {"name": "someone", "scopes": list(scopes), **more})
        return {"Authorization": f"Bearer {made['secret']}", "X-Id": made["id"]}

    def api(self, method: str, target: str, body: Any = None, *, status: Sequence[int] = (200, 201, 202),
            who: Mapping[str, str] | None = None) -> Any:
        """The JSON that it answers with one of these."""
        answer = self.ask(method, target, who=who, body=None if body is None else json.dumps(body).encode())
        assert answer.status in status, answer
        return answer.json()

    def ask(self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = None, *,
            who: Mapping[str, str] | None = None) -> wire.Response:
        return wire.request(self.url, method, target, {**(self.auth if who is None else who), **(headers or {})}, body)

    def put(self, path: str, body: bytes = b"hello", headers: Mapping[str, str] | None = None, *, who: Mapping[str, str] | None = None) -> Any:
        """The file that ``PUT`` answers with."""
        answer = self.ask("PUT", f"/files/{path}", headers, body, who=who)
        assert answer.status in (200, 201, 202), answer
        return answer.json()

    def job(self, id: str, *states: str) -> Any:
        """The job, once it is in one of these states."""
        def now() -> Any:
            job = self.api("GET", f"/api/v1/jobs/{id}")
            return job if not states or job["state"] in states else None

        return eventually(now)


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gated]:
    server = Gated(tmp_path_factory.mktemp("gated"))
    server.start()
    yield server
    if server.running:
        server.stop()
    server.must_be_sound()
