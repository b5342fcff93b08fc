"""The notes with Carboy do what they did before, and what they did not."""

from __future__ import annotations

import difflib
import importlib.util
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from flask.testing import FlaskClient

from carboy.testing import temporary_carboy

HERE = Path(__file__).parent


def loaded(name: str, folder: Path) -> ModuleType:
    """The application, with an instance folder of its own."""
    spec = importlib.util.spec_from_file_location(f"notes_{name}", HERE / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Flask finds its templates beside it
    spec.loader.exec_module(module)
    module.app.instance_path = str(folder)
    module.app.testing = True
    return module


@pytest.fixture
def client(tmp_path: Path) -> Iterator[FlaskClient]:
    app = loaded("app", tmp_path).app
    with temporary_carboy(app):
        yield app.test_client()


def attachments(client: FlaskClient) -> list[str]:
    return re.findall(r'href="([^"]+)"', client.get("/").text)


def add(client: FlaskClient, text: str, data: bytes = b"", name: str = "") -> int:
    return client.post("/", data={"text": text, "attachment": (io.BytesIO(data), name)}).status_code


def test_a_note_may_have_an_attachment(client: FlaskClient) -> None:
    assert add(client, "with", b"hello", "letter.txt") == 302
    assert add(client, "without") == 302
    (address,) = attachments(client)
    answer = client.get(address, headers={"Range": "bytes=0-3"})
    assert (answer.status_code, answer.data) == (206, b"hell")
    assert 'filename="letter.txt"' in answer.headers["Content-Disposition"]


def test_two_of_one_name_are_two(client: FlaskClient) -> None:
    add(client, "one", b"first", "letter.txt")
    add(client, "two", b"second", "letter.txt")
    assert [client.get(address).data for address in attachments(client)] == [b"second", b"first"]


def test_before_they_were_one(tmp_path: Path) -> None:
    """Why it was changed; and the older file shows how little has to be."""
    client = loaded("before", tmp_path).app.test_client()
    add(client, "one", b"first", "letter.txt")
    add(client, "two", b"second", "letter.txt")
    assert {client.get(address, buffered=True).data for address in attachments(client)} == {b"second"}


def test_the_page_shows_the_difference() -> None:
    before, after = (HERE / "before.py").read_text(), (HERE / "app.py").read_text()
    told = "".join(difflib.unified_diff(before.splitlines(True), after.splitlines(True), "before.py", "app.py", n=0))
    assert told in (HERE / "README.md").read_text()
    new = [line for line in told.splitlines() if re.match(r"\+[^+]", line) and '"""' not in line and "import Flask" not in line]
    assert len(new) == 5, "three new lines and two changed ones"
