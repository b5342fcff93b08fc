"""Make a virtual environment with pip in it, with nothing but the Python that runs this.

    python3 tools/make_venv.py .venv

Debian's python3 comes without ensurepip (that is python3-venv's) and without pip. So the environment is made bare, and
pip comes from ensurepip, else by the machine's own pip, else as a wheel from the package index: the one that
PIP_INDEX_URL or a pip.conf names, checked by the index's SHA-256.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import venv
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

PUBLIC_INDEX = "https://pypi.org/simple"
TIMEOUT = 60.0
RELEASED_WHEEL = re.compile(r"pip-(\d+(?:\.\d+)*)-py3-none-any\.whl")


class Wheel(NamedTuple):
    """One wheel of pip as an index lists it."""

    version: tuple[int, ...]
    name: str
    url: str
    sha256: str
    requires: str


class Links(HTMLParser):
    """The links of an index's HTML page (PEP 503)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.append({name: value or "" for name, value in attrs})


def pip_option(name: str) -> str:
    """What pip itself would use for this option: its variable, else the last pip.conf that says."""
    if value := os.environ.get("PIP_" + name.upper().replace("-", "_")):
        return value
    config = configparser.RawConfigParser()
    home = Path.home()
    system = [Path(folder, "pip/pip.conf") for folder in os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")]
    user = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [*system, Path("/etc/pip.conf"), home / ".pip/pip.conf", user / "pip/pip.conf"]
    config.read([*files, os.environ.get("PIP_CONFIG_FILE", "")])
    return config.get("install", name, fallback=config.get("global", name, fallback=""))


def fetch(url: str) -> tuple[bytes, str, str]:
    """The body, its media type, and where it really came from."""
    parts = urllib.parse.urlsplit(url)
    credentials, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(
        urllib.parse.urlunsplit(parts._replace(netloc=host)),
        headers={"Accept": "application/vnd.pypi.simple.v1+json, text/html;q=0.5, */*;q=0.1"},
    )
    if credentials:
        plain = urllib.parse.unquote(credentials).encode()
        request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(plain).decode())
    context = ssl.create_default_context(cafile=pip_option("cert") or None)
    with urllib.request.urlopen(request, timeout=TIMEOUT, context=context) as answer:
        return answer.read(), answer.headers.get_content_type(), url if credentials else answer.url


def listed(page: bytes, media_type: str, base: str) -> list[Wheel]:
    """The released wheels of pip on an index's page, JSON (PEP 691) or HTML."""
    if media_type.endswith("json"):
        rows = [(file["filename"], file["url"], file["hashes"].get("sha256", ""), file.get("requires-python") or "", file.get("yanked"))
                for file in json.loads(page)["files"]]
    else:
        links = Links()
        links.feed(page.decode())
        rows = [(link_name(a), a["href"], link_sha256(a), a.get("data-requires-python", ""), "data-yanked" in a)
                for a in links.found if "href" in a]
    wheels = []
    for name, url, sha256, requires, yanked in rows:
        if (match := RELEASED_WHEEL.fullmatch(name)) and not yanked:
            version = tuple(int(part) for part in match[1].split("."))
            wheels.append(Wheel(version, name, urllib.parse.urljoin(base, url), sha256, requires))
    return wheels


def link_name(link: dict[str, str]) -> str:
    return urllib.parse.unquote(urllib.parse.urlsplit(link["href"]).path.rpartition("/")[2])


def link_sha256(link: dict[str, str]) -> str:
    kind, _, value = urllib.parse.urlsplit(link["href"]).fragment.partition("=")
    return value if kind == "sha256" else ""


def runs_here(wheel: Wheel) -> bool:
    """Whether the wheel's lowest Python is not above this one."""
    lowest = re.search(r">=\s*(\d+)\.(\d+)", wheel.requires)
    return lowest is None or (int(lowest[1]), int(lowest[2])) <= sys.version_info[:2]


def download_pip(folder: Path) -> Path:
    """The newest pip that runs here, from the index, checked."""
    page = (pip_option("index-url") or PUBLIC_INDEX).rstrip("/") + "/pip/"
    wheel = max(filter(runs_here, listed(*fetch(page))), default=None)
    if wheel is None:
        raise SystemExit("the package index lists no wheel of pip that this Python can run")
    content = fetch(wheel.url)[0]
    if wheel.sha256 and hashlib.sha256(content).hexdigest() != wheel.sha256:
        raise SystemExit(f"{wheel.name} is not what the package index says it is")
    target = folder / wheel.name
    target.write_bytes(content)
    return target


def install_pip(python: Path) -> None:
    """pip into a bare environment: the one that comes with Python, else the machine's own installs it, else the index's."""
    if works(python, "-m", "ensurepip") or works(sys.executable, "-m", "pip", "--python", python, "install", "-qq", "pip"):
        return
    with tempfile.TemporaryDirectory() as folder:
        wheel = download_pip(Path(folder))
        subprocess.run([python, wheel / "pip", "install", "-qq", "--no-index", wheel], check=True)


def works(*command: str | Path) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def main(target: Path) -> None:
    if sys.version_info < (3, 11):
        raise SystemExit(f"Carboy needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}. "
                         "Name another: make PYTHON=python3.13 …")
    try:
        venv.EnvBuilder(clear=True, symlinks=True).create(target)
        install_pip(target / "bin/python")
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(target, ignore_errors=True)
        raise SystemExit(f"could not put pip into {target}: {error}\n"
                         "On Debian, `apt-get install python3-venv` provides it.") from None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
