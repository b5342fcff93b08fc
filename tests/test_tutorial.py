"""docs/tutorial.md is typed as it says: its files are written, its commands run, its servers started, and what it shows must come."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

import pytest
from fixtures_flask import PNG
from fixtures_server import eventually

PAGE = Path(__file__).parent.parent / "docs/tutorial.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"(?:#|\{#) ([\w./-]+\.\w+)(?:, (below|in place of: (.*?)))?(?: #\})?\n")
SERVERS = re.compile(r"^(flask run --debug|flask carboy worker|gunicorn .*|carboy serve .*)$", re.MULTILINE)
LISTENS = re.compile(r"(?:Running on|Listening at:|Carboy is ready at) (http://[\d.:]+)|Carboy's worker is ready")
ADDRESSES = {"flask": "http://127.0.0.1:5000", "gunicorn": "http://127.0.0.1:8000", "carboy": "http://127.0.0.1:8080"}


@dataclass
class Reader:
    """Somebody who types what stands in the page, in a folder of their own."""

    folder: Path
    servers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    printed: str = ""
    env: dict[str, str] = field(default_factory=dict)
    changed: bool = False
    """Whether the development server has files to take up."""

    def file(self, block: str) -> None:
        """A file, more of one, or a line of one in place of another."""
        head = FILE.match(block)
        assert head, f"no file's name stands at the top of:\n{block}"
        path, rest = self.folder / head[1], block[head.end():]
        path.parent.mkdir(exist_ok=True)
        if head[3]:
            old = path.read_text()
            assert old.count(f"\n{head[3]}\n") == 1, f"{head[3]!r} must stand once in {path.name}"
            rest = old.replace(f"\n{head[3]}\n", f"\n{rest}")
        elif head[2]:
            rest = f"{path.read_text()}\n\n{rest}"
        path.write_text(rest)
        self.changed = True

    def shell(self, block: str) -> None:
        """Commands; what they printed is kept. A server stays."""
        if server := SERVERS.search(block):
            self.remember(block[:server.start()])
            self.start(server[1])
            return
        if self.changed and "flask" in self.servers:
            self.end("flask")
            self.start("flask run")
        self.printed = self.run(block)

    def remember(self, exports: str) -> None:
        """What a shell would know from now on."""
        shown = self.run(f"{exports}\nenv") if exports.strip() else ""
        self.env.update(line.split("=", 1) for line in shown.splitlines() if line.startswith("FLASK_"))

    def run(self, script: str) -> str:
        script = self.placed(script)
        for name, url in self.urls.items():
            script = script.replace(ADDRESSES[name], url)
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=self.folder, env=self.environment, capture_output=True,
                              text=True, check=False, timeout=120)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}\n{self.log()}"
        return done.stdout

    def placed(self, script: str) -> str:
        """Places of a real machine become ones in the folder."""
        places = {"/srv/papers": self.folder / "srv", "/backup/papers": self.folder / "backup", "../carboy/": f"{PAGE.parents[1]}/",
                  "/etc/nginx/conf.d/papers.conf": self.folder / "papers.conf"}
        return reduce(lambda text, place: text.replace(place, str(places[place])), places, script)

    def start(self, command: str) -> None:
        """A server on a free port, from when it says where it listens."""
        name = "worker" if command.endswith(" worker") else command.split()[0]
        self.changed = self.changed and name == "worker"
        free = re.sub(r"(--bind 127\.0\.0\.1:|--port )\d+", r"\g<1>0", self.placed(command).removesuffix(" --debug"))
        free += " --port 0" if name == "flask" else ""
        log = self.folder / f"{name}.log"
        log.write_bytes(b"")
        with log.open("wb") as output:
            self.servers[name] = subprocess.Popen(["bash", "-c", f"exec {free}"], cwd=self.folder, env=self.environment,
                                                  stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        process = self.servers[name]
        eventually(lambda: LISTENS.search(log.read_text()) or process.poll() is not None)
        told = LISTENS.search(log.read_text())
        assert told, self.log()
        if told[1]:
            self.urls[name] = told[1]

    @property
    def environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("CARBOY_", "FLASK_"))}
        return {**own, "PATH": f"{Path(sys.executable).parent}:{own['PATH']}", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1",
                **self.env}

    def end(self, name: str) -> None:
        process = self.servers.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def log(self) -> str:
        return "\n".join(f"--- {log.name}\n{log.read_text()}" for log in self.folder.glob("*.log"))


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    one = Reader(tmp_path / "papers")
    one.folder.mkdir()
    (one.folder / "srv").mkdir()
    yield one
    for name in list(one.servers):
        one.end(name)
    assert "Traceback" not in one.log(), one.log()


def is_shown(shown: str, printed: str) -> bool:
    """Whether this came, however it is spaced, where ``…`` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in "".join(shown.split()).split("…"))
    return re.fullmatch(pattern, "".join(printed.split()), re.DOTALL) is not None


@pytest.mark.skipif(not all(map(shutil.which, ("bash", "curl"))), reason="needs bash and curl")
def test_what_the_tutorial_says_is_so(reader: Reader) -> None:
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    install, *rest = blocks
    assert install[0] == "sh" and "pip install" in install[1]
    for language, block in rest:
        if language in ("python", "html", "toml"):
            reader.file(block)
        elif language in ("text", "json"):
            assert is_shown(block, reader.printed), f"the page shows\n{block}\nand this came:\n{reader.printed}"
        else:
            reader.shell(block.replace("nginx -t && nginx -s reload\n", ""))
    assert set(reader.servers) == {"flask", "worker", "gunicorn", "carboy"}
    assert (reader.folder / "backup/catalog.sqlite3").is_file()
    site = (reader.folder / "papers.conf").read_text()
    assert ("server 127.0.0.1:8000;" in site, "server_name papers.example.org;" in site) == (True, True)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_the_application_of_the_readme_runs_as_it_is_pasted(reader: Reader) -> None:
    application, *_ = [block for language, block in BLOCK.findall((PAGE.parents[1] / "README.md").read_text(encoding="utf-8")) if language == "python"]
    (reader.folder / "app.py").write_text(application)
    (reader.folder / "me.png").write_bytes(PNG)
    reader.start("flask run --debug")
    told = json.loads(reader.run("curl -sS -F photo=@me.png http://127.0.0.1:5000/avatar"))
    assert told["type"] == "image/png"
    for address in (f"/avatar/{told['id']}", told["url"]):
        reader.run(f"curl -sSf -o back.png http://127.0.0.1:5000{address} && cmp me.png back.png")
    assert json.loads(reader.run("echo no picture > me.png && curl -sS -F photo=@me.png http://127.0.0.1:5000/avatar"))["status"] == 415


@pytest.mark.parametrize(("shown", "printed"), [("a …\nb", "a 1\nc"), ("…\n2", "1\n3"), ('{"a": "…"}', '{"b": "x"}')])
def test_what_did_not_come_is_told(shown: str, printed: str) -> None:
    assert not is_shown(shown, printed)
    assert is_shown(shown, shown.replace("…", "anything"))
