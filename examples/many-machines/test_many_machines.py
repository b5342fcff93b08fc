"""Started as a reader would, by its one command; then used through nginx while a node dies."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import wire
import yaml
from fixtures_server import eventually
from proxies import program
from swift_server import BIN

HERE = Path(__file__).parent
START = 300.0
CHUNK = 3_000_000


@dataclass
class Machines:
    """``examples/many-machines/run`` and what it prints."""

    data: Path
    printed: str = ""
    process: subprocess.Popen[str] | None = None
    reader: threading.Thread | None = field(default=None, repr=False)

    def start(self) -> Machines:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("CARBOY_", "AWS_"))}
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
        self.printed = ""
        self.process = subprocess.Popen([HERE / "run", "--data", self.data], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, env={**own, "PATH": path, "PYTHONUNBUFFERED": "1"}, cwd="/")
        self.reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self.reader.start()
        eventually(lambda: "export URL=" in self.printed or not self.running, START)
        assert self.running, self.printed
        return self

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        for line in process.stdout:
            self.printed += line

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def interrupt(self) -> int:
        """Ctrl-C."""
        assert self.process and self.process.stdout and self.reader
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(START)
        self.reader.join(60)
        self.process.stdout.close()
        return code

    def _told(self, pattern: str) -> list[str]:
        return re.findall(pattern, self.printed)

    @property
    def url(self) -> str:
        return self._told(r"URL=(\S+)")[-1]

    @property
    def auth(self) -> dict[str, str]:
        token = self._told(r"TOKEN=(\S+)")[-1]
        return {"Authorization": f"Bearer {token}"}

    def node(self, number: int) -> tuple[str, int]:
        """Where the node is now, and its process."""
        address, pid = self._told(rf"node{number}: (\S+) \(process (\d+)\)")[-1]
        return address, int(pid)

    def request(self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes | None = None,
                at: str = "") -> wire.Response:
        return wire.request(at or self.url, method, target, {**self.auth, **(headers or {})}, body)

    def curl(self, *arguments: str | Path) -> str:
        secret = [word for name, value in self.auth.items() for word in ("-H", f"{name}: {value}")]
        command = [program("curl"), "-sSf", "--noproxy", "*", *secret, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def kill(self, number: int) -> None:
        """kill -9 of all of a node's processes."""
        os.killpg(self.node(number)[1], signal.SIGKILL)

    def served(self) -> set[str]:
        """Which nodes nginx says it asked."""
        return set(re.findall(r" (127\.0\.0\.1:\d+) \S+$", (self.data / "access.log").read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    if not (BIN / "swift-proxy-server").exists():
        pytest.skip("NOT TESTED: the S3 server is not installed (make services)")
    for name in ("nginx", "redis-server", "setpriv"):
        program(name)
    with tempfile.TemporaryDirectory(prefix="carboy-test-machines-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # PostgreSQL's own user has to come through
        one = Machines(Path(folder) / "data")
        try:
            yield one.start()
        finally:
            if one.running:
                one.interrupt()


def test_what_comes_through_nginx_is_at_both_nodes(machines: Machines, tmp_path: Path) -> None:
    film = tmp_path / "film.mkv"
    film.write_bytes(os.urandom(20_000_000))
    for _ in range(2):
        told = json.loads(machines.curl("-T", film, f"{machines.url}/files/main/"))
    assert told["size"] == 20_000_000
    for number in (1, 2):
        assert machines.request("GET", "/files/main/film.mkv", at=machines.node(number)[0]).body == film.read_bytes()
    assert len(machines.served()) == 2


def offset(machines: Machines, at: str) -> int:
    return int(machines.request("HEAD", at, {"Tus-Resumable": "1.0.0"}).header("Upload-Offset") or -1)


def patch(machines: Machines, at: str, data: bytes) -> int:
    """A chunk, sent as a client sends it: what was not acknowledged is asked for, and sent again."""
    def attempt() -> int:
        with suppress(OSError):
            came = offset(machines, at)
            piece = data[came:came + CHUNK]
            head = {"Tus-Resumable": "1.0.0", "Upload-Offset": str(came), "Content-Type": "application/offset+octet-stream"}
            answer = machines.request("PATCH", at, head, piece)
            return answer.status if answer.status == 204 else 0
        return 0
    return eventually(attempt, 120)


def test_an_upload_goes_on_when_a_node_dies(machines: Machines) -> None:
    data = os.urandom(10 * CHUNK + 17)
    head = {"Tus-Resumable": "1.0.0", "Upload-Length": str(len(data)), "Upload-Metadata": "filename dHVz"}
    at = re.sub(r"^https?://[^/]+", "", machines.request("POST", "/tus/main/", head).header("Location") or "")
    for number in range(11):
        if number == 4:
            machines.kill(1)
        patch(machines, at, data)
    got = machines.request("GET", "/files/main/tus").body
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
    eventually(lambda: "node1 has ended; the other goes on" in machines.printed)
    eventually(lambda: machines.printed.count("node1: ") == 2, START)
    assert machines.request("GET", "/files/main/tus", at=machines.node(1)[0]).body == data


def test_after_ctrl_c_nothing_runs_and_with_its_folder_it_all_comes_back(machines: Machines) -> None:
    machines.request("PUT", "/files/main/kept", body=b"kept")
    assert machines.interrupt() == 0
    assert [pid for pid in os.listdir("/proc") if pid.isdigit() and str(machines.data) in commandline(pid)] == []
    machines.start()
    assert machines.request("GET", "/files/main/kept").body == b"kept"


def commandline(pid: str) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    return ""


# --- for containers ------------------------------------------------------------------------------------------------


def compose() -> dict[str, Any]:
    return yaml.safe_load((HERE / "compose.yaml").read_text())


def test_the_compose_file_has_what_the_other_files_name() -> None:
    """It is not run here: that takes a Docker daemon."""
    services = compose()["services"]
    nodes = {name for name in services if name.startswith("node")}
    assert set(re.findall(r"server (\w+):8080", (HERE / "nginx.conf").read_text())) == nodes
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        for mount in service.get("volumes", []):
            source, _, _ = mount.partition(":")
            assert (HERE / source).is_file() if source.startswith("./") else source in compose()["volumes"], mount
    assert (HERE / services["node1"]["build"]["context"] / services["node1"]["build"]["dockerfile"]).is_file()


def test_all_nodes_of_the_compose_file_are_the_same_but_for_their_data() -> None:
    services = compose()["services"]
    one, two = services["node1"], services["node2"]
    assert {key for key in one if one[key] != two[key]} == {"volumes", "networks"}
    assert services["nginx"]["networks"]["inside"]["ipv4_address"] in one["environment"]["CARBOY_TRUSTED_PROXIES"]
