"""The description of the routes is true: schemathesis asks the real server whatever the document allows, and forbids, and compares.

``SCHEMATHESIS_EXAMPLES=500 pytest tests/protocols/test_openapi.py -s`` for a longer run, with another seed each time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import wire
from fixtures_server import Server, ServerFactory

from carboy.web import answers, app, openapi

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "0"))
"""Of each operation; without it few, and always the same."""
FOLDER = Path(__file__).parent
EXCLUDED = "positive_data_acceptance"
"""Ours (openapi_hooks.py) takes its place."""
OTHERS = "^/(tus|uploads|widgets|direct)/|^/upload-s3$|^/api/v1/events$"
"""Protocols with conditions of their own, which no schema knows; they have clients and transcripts of their own. What needs S3, and what never ends."""


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("openapi")
    (folder / "carboy.toml").write_text('durability = "relaxed"\n[spaces.main]\nversions = 2\n')
    server = Server(folder / "data", args=["--config", str(folder / "carboy.toml")])
    yield server.start()
    if server.running:
        server.stop()
    server.must_be_sound()


@pytest.fixture(scope="module")
def document(described: Server) -> dict[str, Any]:
    found: dict[str, Any] = described.request("GET", "/openapi.json").json()
    return found


def schemathesis(described: Server, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run it with the first token. Its report says what failed, with a request to repeat it by."""
    shutil.copy(FOLDER / "schemathesis.toml", folder)
    program = Path(sys.executable).with_name("schemathesis")
    sized = ["--max-examples", str(EXAMPLES)] if EXAMPLES else ["--max-examples", "2", "--seed", "1"]
    env = {**os.environ, "SCHEMATHESIS_HOOKS": "openapi_hooks", "PYTHONPATH": str(FOLDER)}
    command = [str(program), "run", f"{described.url}/openapi.json", "-H", f"Authorization: Bearer {described.token}",
               "--exclude-checks", EXCLUDED, "--continue-on-failure", "--warnings", "off", "--exclude-path-regex", OTHERS, *sized, *args]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def requests_made(report: str) -> int:
    match = re.search(r"([\d,]+) generated", report)
    return int(match[1].replace(",", "")) if match else 0


def test_the_server_does_what_the_document_says(described: Server, tmp_path: Path) -> None:
    """All but revoking tokens, which would end the run's own."""
    for number in range(3):
        described.request("PUT", f"/files/main/trip/{number}.txt", body=b"hello")
    done = schemathesis(described, tmp_path, "--exclude-operation-id", "delete_api_tokens_id")
    assert done.returncode == 0, done.stdout[-20_000:]
    assert requests_made(done.stdout) > 500
    print(f"{requests_made(done.stdout)} requests, 0 failures")


def test_tokens_are_revoked_as_the_document_says(described: Server, tmp_path: Path) -> None:
    done = schemathesis(described, tmp_path, "--include-operation-id", "delete_api_tokens_id", "--phases", "examples,coverage,fuzzing")
    assert done.returncode == 0, done.stdout[-20_000:]


# --- the document --------------------------------------------------------------------------------------------------


def test_every_route_of_files_api_classic_and_operations_is_described(document: dict[str, Any]) -> None:
    routes = [*openapi_routes(), *app.located.ROUTES]
    wanted = {(method.lower(), openapi.path_of(route.rule)) for route in routes for method in route.methods}
    told = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert wanted <= told
    assert [route.rule for route in routes if route.doc is None] == []


def openapi_routes() -> list[Any]:
    return [route for group in ("api", "classic", "ops", "docs") for route in app.GROUPS[group]]


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    ids = Counter(operation["operationId"] for methods in document["paths"].values() for operation in methods.values())
    assert [id for id, count in ids.items() if count > 1] == []


def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    named = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert named == set(document["components"]["schemas"]) & named
    assert named


def test_what_takes_no_token_says_so(document: dict[str, Any]) -> None:
    opened = {path for path, methods in document["paths"].items() for method, operation in methods.items()
              if operation.get("security") == [] and method != "options"}
    assert {"/healthz", "/readyz", "/openapi.json", "/docs"} <= opened
    assert not any(path.startswith(("/api/", "/files/", "/upload")) for path in opened)


def test_what_the_api_shows_is_what_its_models_say(described: Server) -> None:
    """Exactly: no member is missing, none is there that isn't told."""
    made = described.request("PUT", "/files/main/shape.txt", body=b"x").json()
    assert set(made) == set(answers.File.model_fields)
    space = described.request("GET", "/api/v1/spaces/main").json()
    assert set(space) == set(answers.Space.model_fields) and set(space["usage"]) == set(answers.Usage.model_fields)
    entry = described.request("GET", "/api/v1/audit?limit=1").json()["entries"][0]
    assert set(entry) == set(answers.Entry.model_fields)
    link = described.request("POST", "/api/v1/links", body=json.dumps({"kind": "file", "file_id": made["id"]}).encode()).json()
    assert set(link) == set(answers.Link.model_fields)
    zip = described.request("POST", "/api/v1/zip", {"Accept": "application/json"}, json.dumps({"ids": [made["id"]]}).encode()).json()
    assert set(zip) == set(answers.Zip.model_fields)


def test_addresses_carry_where_it_is_mounted() -> None:
    reference = app.Reference([*app.located.ROUTES])
    assert reference.document("/app/files")["servers"] == [{"url": "/app/files"}]
    assert reference.document("")["servers"] == [{"url": "/"}]


# --- the reader ----------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page names, and what it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, name: str) -> set[str]:
        return {value for _, attributes in self.tags for key, value in attributes.items() if key == name and value}


def test_the_reader_loads_nothing_and_runs_nothing(described: Server) -> None:
    answer = described.request("GET", "/docs")
    page = Page(answer.text)
    assert answer.header("Content-Type") == "text/html; charset=utf-8"
    assert {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object", "form"} == set()
    assert page.all("src") == set() and all(target.startswith(("#", "/openapi.json")) for target in page.all("href"))
    policy = answer.header("Content-Security-Policy") or ""
    assert policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy


def test_the_readers_style_is_the_one_its_policy_allows(described: Server) -> None:
    answer = described.request("GET", "/docs")
    style = re.search(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in (answer.header("Content-Security-Policy") or "")


def test_the_reader_shows_every_operation_and_its_links_lead_somewhere(described: Server, document: dict[str, Any]) -> None:
    page = Page(described.request("GET", "/docs").text)
    ids = page.all("id")
    shown = {operation["operationId"] for methods in document["paths"].values() for method, operation in methods.items() if method != "head"}
    assert shown <= ids
    assert {target[1:] for target in page.all("href") if target.startswith("#")} <= ids


def test_it_can_be_switched_off(server: ServerFactory) -> None:
    one = server(env={"CARBOY_DOCS": "false"})
    assert [wire.request(one.url, "GET", target).status for target in ("/docs", "/openapi.json")] == [404, 404]
