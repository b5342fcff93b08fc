"""What the README and docs/flask.md say of applications is run."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import wire
from fixtures_flask import PNG
from fixtures_server import eventually
from fixtures_site import FORM, file, multipart

from carboy import Carboy, Received
from carboy.signals import __dict__ as SIGNALS

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/flask.md").read_text(encoding="utf-8")


def python_of(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_readmes_application_pasted_into_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(python_of((ROOT / "README.md").read_text(encoding="utf-8"))[0])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("CARBOY_", "FLASK_"))}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "flask", "run", "--port", str(port)], cwd=tmp_path, env=env, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            assert process.poll() is None, (tmp_path / "log").read_text()
            with suppress(OSError):
                return wire.request(url, "GET", "/").status == 404
            return False

        try:
            eventually(answers)
            sent = wire.request(url, "POST", "/avatar", {"Content-Type": FORM}, multipart(file("photo", "me.png", PNG)))
            assert (sent.status, sent.json()["type"]) == (200, "image/png"), (sent, (tmp_path / "log").read_text())
            assert wire.request(url, "GET", f"/avatar/{sent.json()['id']}").body == PNG
            assert wire.request(url, "GET", sent.json()["url"], {"Range": "bytes=1-3"}).body == b"PNG"
            refused = wire.request(url, "POST", "/avatar", {"Content-Type": FORM}, multipart(file("photo", "me.png", b"no picture")))
            assert (refused.status, refused.json()["code"]) == (415, "unsupported_type")
        finally:
            process.terminate()
            process.wait()


def test_the_code_of_the_page_runs_from_top_to_bottom(tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text("\n\n".join(python_of(PAGE)))
    spec = importlib.util.spec_from_file_location("carboy_flask_page", tmp_path / "page.py")
    assert spec and spec.loader
    page = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(page)
        assert (tmp_path / "instance/carboy/catalog.sqlite3").is_file()
        answer = page.app.test_client().get("/avatar/" + "0" * 32)
        assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    finally:
        for extension in page.app.extensions.values():
            if hasattr(extension, "is_open"):
                extension.close()


def public(kind: type) -> set[str]:
    return {name for each in kind.__mro__ if each.__module__.startswith("carboy") for name in vars(each) if not name.startswith("_")}


def test_every_call_is_told_and_every_call_that_is_told_exists() -> None:
    inside = {"init_app", "embedded", "expose", "name", "close", "blueprint", "default_app"}
    calls = public(Carboy) - inside
    assert {name for name in calls if not re.search(rf"\b{name}\(|`{name}`|\.{name}\b", PAGE)} == set()
    called = set(re.findall(r"\bcarboy\.(\w+)\(", PAGE))
    assert called <= public(Carboy), called - public(Carboy)


def test_everything_of_a_received_file_is_told() -> None:
    told = PAGE.partition("`Received` ones")[2].partition("Until it is kept")[0]
    own = public(Received) - {"close", "content_length", "wish"}
    assert {name for name in own if not re.search(rf"`{name}\b", told)} == set()


def test_every_signal_is_told() -> None:
    names = {name for name in SIGNALS if name.startswith(("file_", "folder_"))}
    assert len(names) == 7
    assert {name for name in names if f"`{name}`" not in PAGE} == set()


def test_every_group_that_can_be_exposed_is_told() -> None:
    from carboy.web.app import GROUPS

    told = PAGE.partition("`expose` names groups")[2].partition("\n\n")[0]
    assert {name for name in ("files", *GROUPS) if f"`{name}`" not in told} == set()
