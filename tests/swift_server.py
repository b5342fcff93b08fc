"""A real S3 server of the tests' own: OpenStack Swift with s3api, one replica, four processes on loopback, nothing shared and no root needed.

``make services`` installs it into an environment of its own, because it brings its own versions of much.
"""

from __future__ import annotations

import configparser
import getpass
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

BIN = Path(__file__).parent.parent / ".services" / "swift" / "bin"
ACCOUNT, USER, PASSWORD, REGION = "test", "tester", "testing", "us-east-1"
BACKENDS = ("account", "container", "object")
SERVICES = (*BACKENDS, "proxy")
START_LIMIT = 60.0
PATIENCE = "60"
"""Seconds that the processes wait for one another: this machine may be busy."""

Section = Mapping[str, object]


class Swift:
    """Its data and logs are in ``folder``. It may be killed and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports: dict[str, int] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._ports['proxy']}"

    def init(self) -> None:
        """Write settings and rings; the ports are free ones. What an earlier server has stored in the folder is there again."""
        for name in ("devices/disk", "cache"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        self._ports = dict(zip(SERVICES, _free_ports(len(SERVICES)), strict=True))
        self._write("swift.conf", {"swift-hash": {"swift_hash_path_prefix": "p", "swift_hash_path_suffix": "s"},
                                   "storage-policy:0": {"name": "only", "default": "yes"}})
        for service in BACKENDS:
            self._write(f"{service}.conf", self._backend(service))
        self._write("proxy.conf", self._proxy())
        subprocess.run([BIN / "python", Path(__file__).with_name("swift_rings.py"), self._folder,
                        *(f"{service}={self._ports[service]}" for service in BACKENDS)], check=True, capture_output=True, timeout=START_LIMIT)

    def start(self) -> None:
        """Returns when all of them accept connections. They die with the tests, however they end. Raises RuntimeError with a log."""
        for service in SERVICES:
            with self._log(service).open("ab") as log:
                self._processes[service] = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", BIN / f"swift-{service}-server", self._folder / f"{service}.conf"],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder, env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"})
        deadline = time.monotonic() + START_LIMIT
        for service, process in self._processes.items():
            while not _listens(self._ports[service]):
                try:
                    process.wait(0.02)
                except subprocess.TimeoutExpired:
                    if time.monotonic() < deadline:
                        continue
                raise RuntimeError(f"Swift's {service} server did not start:\n{self.log_end(service)}")

    def stop(self, signal_: signal.Signals = signal.SIGKILL) -> None:
        """At once, as in a crash. Repeatable."""
        for process in self._processes.values():
            process.send_signal(signal_)
        for process in self._processes.values():
            process.wait(60)
        self._processes.clear()

    def log_end(self, service: str) -> str:
        return self._log(service).read_text(errors="replace")[-3000:]

    def _log(self, service: str) -> Path:
        return self._folder / f"{service}.log"

    def _write(self, name: str, sections: Mapping[str, Section]) -> None:
        config = configparser.RawConfigParser()
        config.read_dict(sections)
        with (self._folder / name).open("w") as file:
            config.write(file)

    def _common(self, service: str) -> Section:
        return {"bind_ip": "127.0.0.1", "bind_port": self._ports[service], "workers": 0, "swift_dir": self._folder, "user": getpass.getuser(),
                "log_level": "WARNING", "client_timeout": PATIENCE}

    def _backend(self, service: str) -> dict[str, Section]:
        where = {"devices": self._folder / "devices", "mount_check": "false", "disable_fallocate": "true", "fallocate_reserve": 0,
                 "recon_cache_path": self._folder / "cache", "node_timeout": PATIENCE, "conn_timeout": PATIENCE}
        return {"DEFAULT": {**self._common(service), **where}, "pipeline:main": {"pipeline": f"{service}-server"},
                f"app:{service}-server": {"use": f"egg:swift#{service}"}}

    def _proxy(self) -> dict[str, Section]:
        own: dict[str, Section] = {
            "memcache": {"memcache_servers": "127.0.0.1:1"},
            "s3api": {"s3_acl": "false", "check_bucket_owner": "false", "location": REGION, "max_upload_part_num": 10_000},
            "tempauth": {f"user_{ACCOUNT}_{USER}": f"{PASSWORD} .admin"},
            "slo": {"max_manifest_segments": 10_000, "rate_limit_segments_per_sec": 10_000},
            "versioned_writes": {"allow_versioned_writes": "true"},
        }
        filters = ("catch_errors", "gatekeeper", "memcache", "listing_formats", "s3api", "tempauth", "copy", "slo", "dlo", "versioned_writes",
                   "symlink")
        server = {"use": "egg:swift#proxy", "account_autocreate": "true", "node_timeout": PATIENCE, "conn_timeout": PATIENCE,
                  "error_suppression_limit": 1_000_000}
        return {"DEFAULT": self._common("proxy"), "pipeline:main": {"pipeline": " ".join([*filters, "proxy-server"])}, "app:proxy-server": server,
                **{f"filter:{name}": {"use": f"egg:swift#{name}", **own.get(name, {})} for name in filters}}


def _free_ports(count: int) -> list[int]:
    """Different ones that were free a moment ago."""
    with ExitStack() as stack:
        return [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
