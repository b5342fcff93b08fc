"""nginx and Caddy in front of the server, run with the files that deploy/ ships; only addresses and folders are put in."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fixtures_server import Server, eventually

DEPLOY = Path(__file__).parent.parent / "deploy"
Change = Callable[[str], str]


def program(name: str) -> str:
    """Its path; skips the test where it isn't installed."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not found:
        pytest.skip(f"NOT TESTED: {name} is not installed")
    return found


@contextmanager
def nginx(one: Server, folder: Path, change: Change = str) -> Iterator[str]:
    """The address of nginx before this server, with deploy/nginx.conf; ``change`` makes mistakes in it."""
    port = free_port()
    site = replaced((DEPLOY / "nginx.conf").read_text(), {
        "127.0.0.1:8080": urlsplit(one.url).netloc, "listen 80;": f"listen 127.0.0.1:{port};", "/var/lib/carboy/blobs/": f"{one.data}/blobs/",
        "/var/log/nginx/carboy.log": f"{folder}/access.log"})
    folder.mkdir(exist_ok=True)
    (folder / "carboy.conf").write_text(change(site))
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(f"daemon off;\n{'user root;' if os.geteuid() == 0 else ''}\npid {folder}/pid;\nerror_log {folder}/error.log;\n"
                                       f"events {{}}\nhttp {{\n{temporary}include {folder}/carboy.conf;\n}}\n")
    with running([program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")], port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def caddy(one: Server, folder: Path) -> Iterator[str]:
    """The address of Caddy before this server, with deploy/Caddyfile."""
    port = free_port()
    site = replaced((DEPLOY / "Caddyfile").read_text(), {"127.0.0.1:8080": urlsplit(one.url).netloc, "files.example.org {": f"http://:{port} {{"})
    folder.mkdir(exist_ok=True)
    (folder / "Caddyfile").write_text("{\n\tadmin off\n\tdefault_bind 127.0.0.1\n\tauto_https off\n}\n" + site)
    env = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with running([program("caddy"), "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")], port, env):
        yield f"http://127.0.0.1:{port}"


def replaced(text: str, changes: dict[str, str]) -> str:
    """The text with each of these put in for what must be there exactly once."""
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running(command: list[str], port: int, env: dict[str, str] | None = None) -> Iterator[None]:
    """A program, from when it listens on ``port``; ended at the end."""
    process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        eventually(lambda: process.poll() is not None or listens(port))
        if process.poll() is not None:
            assert process.stderr
            pytest.fail(process.stderr.read().decode(errors="replace"))
        yield
    finally:
        process.terminate()
        process.communicate(timeout=30)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
