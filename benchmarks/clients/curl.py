"""curl, the same for all servers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path


class TransferFailed(Exception):
    """The server did not answer 2xx; says what it did."""


def put(url: str, file: Path, headers: Iterable[str] = ()) -> None:
    """``curl -T``: the file is the body of a PUT."""
    _curl("-T", str(file), *_headers(headers), url)


def patch(url: str, file: Path, headers: Iterable[str]) -> None:
    """``curl -T`` with another method."""
    _curl("-X", "PATCH", "-T", str(file), *_headers(headers), url)


def form(url: str, file: Path, headers: Iterable[str] = ()) -> None:
    """``curl -F file=@…``: the file is the only part of a form."""
    _curl("-F", f"file=@{file}", *_headers(headers), url)


def post(url: str) -> None:
    """An empty POST."""
    _curl("-X", "POST", url)


def get(url: str, size: int, headers: Iterable[str] = (), *, follow: bool = False) -> None:
    """Download, drop the bytes, and check that all ``size`` came. ``follow``: also from where it redirects to."""
    received = _curl(*(["-L"] if follow else []), "-o", "/dev/null", "-w", "\n%{size_download}\n%{http_code}", *_headers(headers),
                     url).splitlines()[-1]
    if int(received) != size:
        raise TransferFailed(f"{url}: {received} bytes of {size}")


def _headers(headers: Iterable[str]) -> list[str]:
    return [word for header in headers for word in ("-H", header)]


def _curl(*arguments: str) -> str:
    # No Expect: a server that doesn't answer it would be charged curl's second of waiting.
    command = ["curl", "-sS", "--noproxy", "*", "-H", "Expect:", "-w", "\n%{http_code}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    body, _, status = done.stdout.rpartition("\n")
    if done.returncode or not status.startswith("2"):
        raise TransferFailed(f"{arguments[-1]}: {status} {body.strip()[:300]} {done.stderr.strip()[:300]}")
    return body
