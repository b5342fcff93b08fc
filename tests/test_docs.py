"""The documentation tells the truth: it is compared with the code, and the README's commands are run."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from fixtures_server import Server, ServerFactory
from pydantic import BaseModel, ValidationError

import carboy
from carboy import errors, signals
from carboy.cli.main import main
from carboy.config import Settings
from carboy.web import app, calls, extension, forms, http

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
ROUTE_PAGES = ("docs/http.md", "docs/api.md", "docs/classic.md", "docs/resumable.md", "docs/widgets.md")
ROUTE_TABLES = ("docs/page.md", "docs/tus.md", "docs/direct.md")


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The page's code in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text(page), re.MULTILINE | re.DOTALL)


# --- the code's own lists ------------------------------------------------------------------------------------------


def test_the_settings_page_is_what_the_settings_say() -> None:
    tool = runpy.run_path(str(ROOT / "tools/settings_page.py"))
    assert text("docs/settings.md") == tool["page"](), "run: python tools/settings_page.py"


def routes() -> set[tuple[str, str]]:
    """Every method and address that the application answers, as the documentation writes them."""
    gathered = {(method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route.rule))
                for routes in app._GATHERED for route in routes for method in route.methods if method != "HEAD"}
    files = {(method, "/files/{space}/{path}") for method in app._FILES if method not in ("HEAD", "POST")}
    return gathered | files | {("POST", "/files/{space}/{folder}/"), ("GET", "/files/{space}/{folder}/")}


def test_every_route_has_a_section_and_every_section_a_route() -> None:
    sections = {(method, path) for page in ROUTE_PAGES for method, path in re.findall(r"^### `([A-Z]+) (\S+)`$", text(page), re.MULTILINE)}
    lines = {(method, path) for page in ROUTE_TABLES for method, path in re.findall(r"^\| `([A-Z]+) (\S+)` \|", text(page), re.MULTILINE)}
    assert sections | lines == routes()


def examples() -> Iterator[tuple[str, str, list[type[BaseModel]]]]:
    """The JSON of each route's section, whole ones only, with the models of what the route takes and answers."""
    known = {(method, re.sub(r"<(?:[\w()=]+:)?(\w+)>", r"{\1}", route.rule)): route.doc
             for group in app._GATHERED for route in group for method in route.methods}
    for page in ("docs/http.md", "docs/api.md"):
        for method, path, section in re.findall(r"^### `([A-Z]+) (\S+)`$(.*?)(?=^##+ `|\Z)", text(page), re.MULTILINE | re.DOTALL):
            doc = known.get((method, path))
            given = [doc.body, *doc.answers.values()] if doc else []
            kinds = [kind for one in given for kind in (one.values() if isinstance(one, dict) else [one]) if isinstance(kind, type)]
            for block in re.findall(r"^```json\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
                if kinds and not re.search(r"…\s*[}\]]|{…", block):
                    yield f"{method} {path}", block, kinds


def test_examples_are_what_routes_take_and_answer() -> None:
    shown = list(examples())
    assert len(shown) > 12
    for route, block, kinds in shown:
        assert any(is_one(kind, block) for kind in kinds), f"{route}:\n{block}"
    assert not any(is_one(kind, '{"files": 1, "byte": 2}') for _, _, kinds in shown for kind in kinds)


def is_one(kind: type[BaseModel], block: str) -> bool:
    """Whether this is such a document, without a member that such ones haven't."""
    try:
        kind.model_validate_json(block)
    except ValidationError:
        return False
    return set(json.loads(block)) <= {field.alias or name for name, field in kind.model_fields.items()}


NAMED = {"Carboy": (extension.Carboy, calls.Calls), "Space": (extension.Space,), "Received": (forms.Received,), "carboy.signals": (signals,)}
WITHIN = {"embedded", "wish", "content_length"}
"""What is public for Carboy's own modules, or because Werkzeug's class has it."""


@pytest.mark.parametrize("kind", NAMED)
def test_every_public_name_of_the_extension_is_told(kind: str) -> None:
    names = {name for one in NAMED[kind] for name in vars(one) if name[0] not in "_ABCDEFGHIJKLMNOPQRSTUVWXYZ"} - WITHIN - {"annotations"}
    assert len(names) > 1
    assert {name for name in names if not re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`|\.{name}\b", text("docs/flask.md"))} == set()


def test_every_public_name_of_the_package_is_told() -> None:
    assert {name for name in carboy.__all__ if not re.search(rf"\b{name}\b", text("docs/flask.md"))} == set()


def test_every_method_of_files_is_told() -> None:
    """The two that the sections leave to others."""
    assert {"PUT", "POST", "GET", "HEAD", "DELETE", "OPTIONS"} == set(app._FILES)
    assert "HEAD works wherever GET does" in text("docs/http.md")


def test_every_problem_is_in_the_table_with_its_status() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", text("docs/http.md"), re.MULTILINE))
    assert {code: int(status) for code, status in table.items()} == dict(http.STATUS)


def test_every_error_has_a_status() -> None:
    def kinds(kind: type[errors.CarboyError]) -> Iterator[type[errors.CarboyError]]:
        yield kind
        for below in kind.__subclasses__():
            yield from kinds(below)

    assert {kind.code for kind in kinds(errors.CarboyError) if kind.__module__ == errors.__name__} == set(http.STATUS)


def commands(command: click.Command = main, name: str = "carboy") -> Iterator[tuple[str, click.Command]]:
    """The program's commands by their whole names."""
    if isinstance(command, click.Group):
        for below, one in command.commands.items():
            yield from commands(one, f"{name} {below}")
    else:
        yield name, command


def test_every_command_is_in_the_table_with_its_options() -> None:
    table = dict(re.findall(r"^\| `(carboy [a-z ]+)` \| (.*) \|$", text("docs/operations.md"), re.MULTILINE))
    assert set(table) == {name for name, _ in commands()}
    common = {"--config", "--data"}
    within = {"--space", "--owner", "--json"}  # all three are taken by commands for files, which the page says once
    missing = {f"{name} {option}" for name, command in commands() for option in options(command)
               if option not in common | (within if within <= options(command) else set()) and f"`{option}`" not in table[name]}
    assert missing == set()
    assert all(option in text("docs/operations.md") for option in common | within)


def options(command: click.Command) -> set[str]:
    return {option for param in command.params for option in param.opts if option.startswith("--")}


def invocations(page: Path) -> Iterator[str]:
    """What follows the program's name, in code within text and in blocks for a shell."""
    shown = page.read_text(encoding="utf-8")
    for code in [*re.findall(r"`([^`\n]+)`", shown), *"".join(re.findall(r"^```sh\n(.*?)^```$", shown, re.MULTILINE | re.DOTALL)).splitlines()]:
        for match in re.finditer(r"(?:^|&& |\$\()(?:flask |(?:\S*/)?)carboy +([a-z-][^|)]*)", code.partition(" #")[0]):
            yield match[1].strip()


DATABASE = ("upgrade",)
"""What `carboy db` has is a command of its own in `flask carboy`."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_that_is_named_exists(page: Path) -> None:
    for invocation in invocations(page):
        command: click.Command = main
        if invocation.split()[0] in DATABASE:
            continue
        for word in invocation.split():
            if word.startswith("--"):
                known = {option for param in [*main.params, *command.params] for option in param.opts}
                assert word.partition("=")[0] in known, invocation
            elif isinstance(command, click.Group):
                assert word in command.commands or "|" in word, invocation
                command = command.commands.get(word, command)


def test_commands_are_found_in_the_pages() -> None:
    """The test before this one would pass where it found none."""
    found = {" ".join(invocation.split()[:2]) for page in PAGES for invocation in invocations(page)}
    assert {"serve", "token create", "token list", "token revoke", "db upgrade", "sweep", "fsck --deep"} <= found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_variable_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"\bCARBOY_[A-Z_]+\b", page.read_text(encoding="utf-8")))
    known = {f"CARBOY_{name.upper()}" for name in Settings.model_fields}
    known |= {str(param.envvar) for _, command in commands() for param in command.params if param.envvar}
    assert {name for name in named if name.partition("__")[0] not in known} == set()


# --- the pages themselves ------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.is_relative_to(ROOT) and target.exists(), link
        assert not anchor or anchor in anchors(target), link


OURS = ("/srv", "/backup/carboy", "/etc/", "/dev/", "/proc/", "/_carboy/", "/files/", "/files", "/tus/", "/widgets/", "/direct/", "/api/", "/uploads/", "/upload",
        "/stream-upload", "/chunk-upload", "/async-upload", "/tasks/", "/healthz", "/readyz", "/upload-s3", "/s/", "/page/", "/login", "/logout", "/static/",
        "/var/lib/carboy", "/mnt/", "/carboy", "/avatar", "/papers", "/sign-in", "/undo", "/profile", "/photo", "/archive", "/srv/papers", "/backup/papers",
        "/docs", "/openapi.json", "/metrics")
"""What an absolute path in the documentation may begin with: the server's addresses, those of applications that are shown, and places that any machine may have."""


ABSOLUTE = re.compile(r"(?<![\w.:/<>}~)*'…-])/[a-z_][\w./-]+")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_is_said_of_the_machine_it_was_written_on(page: Path) -> None:
    shown = page.read_text(encoding="utf-8")
    assert {path for path in ABSOLUTE.findall(shown) if not path.startswith(OURS)} == set()
    assert [path for path in (str(ROOT), sys.prefix) if path in shown] == []


@pytest.mark.parametrize("line", ["cd /home/me/carboy", "in `/opt/carboy`:", "(/tmp/x)", 'data = "/root/data"', "[page](/var/www/page)"])
def test_a_path_of_some_machine_is_found(line: str) -> None:
    assert [path for path in ABSOLUTE.findall(line) if not path.startswith(OURS)]


# --- what is said of running it ------------------------------------------------------------------------------------


@pytest.fixture
def home(server: ServerFactory, tmp_path: Path) -> tuple[Server, Path]:
    """A folder as the README leaves it after `make run`, with the files it sends."""
    one = server(env={"CARBOY_ADMIN_TOKEN": ""})
    (tmp_path / ".venv").symlink_to(sys.prefix)
    film = bytes.fromhex("1a45dfa3a34286810142f7810142f2810442f381084282886d6174726f736b61") + os.urandom(3_000_001)
    for name, data in {"film.mkv": film, "letter.txt": b"Dear Ann", "scan.pdf": b"%PDF-1.4\n"}.items():
        (tmp_path / name).write_bytes(data)
    return one, tmp_path


def run(script: str, one: Server, folder: Path) -> str:
    """Run a block of the README in a shell, and what it printed. Fails the test where it fails."""
    script = script.replace("http://127.0.0.1:8080", one.url)
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.skipif(not all(map(shutil.which, ("bash", "curl", "openssl", "split"))), reason="needs bash, curl, openssl and split")
def test_the_commands_of_the_readme_do_what_it_says(home: tuple[Server, Path]) -> None:
    one, folder = home
    start, put, get, *more = blocks("README.md", "sh")
    token, _ = put.split("\n", 1)
    assert start == "make run\n"
    assert json.loads(run(put, one, folder))["media_type"] == "video/x-matroska"

    (folder / "copy").mkdir()
    film = (folder / "film.mkv").read_bytes()
    (folder / "copy/film.mkv").write_bytes(film[:1_000_000])
    assert get.startswith("mkdir copy && cd copy\n")
    run(f"{token}\n{get.replace('mkdir copy && ', '')}", one, folder)
    assert (folder / "copy/film.mkv").read_bytes() == film

    form, tour, links, archive, resumable, chunks, guarded, program = (run(f"PATH=.venv/bin:$PATH\n{token}\n{placed(block, folder)}", one, folder) for block in more)
    stored, found = (json.loads(answer) for answer in form.replace("}{", "}\n{").splitlines() if answer)
    assert [file["metadata"] for file in stored["files"]] == [{"title": "Trip"}] * 2
    assert sorted(file["path"] for file in found["files"]) == ["trip/letter.txt", "trip/scan.pdf"]
    assert tour.splitlines()[-1].endswith("  trip/letter.txt")
    assert one.request("GET", "/files/main/letters/scan.pdf", bearer(folder)).body == b"%PDF-1.4\n"
    shared, inbox = (line for line in links.splitlines() if line.startswith("/s/"))
    assert one.request("GET", shared, {"Authorization": ""}).status == 403, "it has a password"
    assert one.request("PUT", f"{inbox}/paper.txt", {"Authorization": ""}, b"for you").status == 201
    assert archive == ""
    with zipfile.ZipFile(folder / "all.zip") as zipped:
        assert sorted(zipped.namelist()) == ["letters/scan.pdf", "trip/letter.txt"]
    assert f"Upload-Offset: {len((folder / 'letter.txt').read_bytes())}" in resumable.replace("\r", "").splitlines()
    assert sorted(chunks.splitlines()) == [json.dumps({"message": f"Chunk {index} received"}) for index in range(4)]
    assert len(json.loads(guarded)["sha256"]) == 64
    assert re.match(r"carboy_\S{43}\n", program)
    assert (folder / "backup/catalog.sqlite3").is_file()
    assert one.request("GET", "/files/main/long.mkv", bearer(folder)).body == film


def placed(block: str, folder: Path) -> str:
    return block.replace("/backup/carboy", str(folder / "backup"))


def bearer(folder: Path) -> dict[str, str]:
    return {"Authorization": f"Bearer {(folder / 'data/first-token').read_text().strip()}"}


def test_the_spaces_of_the_readme_are_settings(server: ServerFactory, tmp_path: Path) -> None:
    (tmp_path / "carboy.toml").write_text(blocks("README.md", "toml")[0])
    one = server(args=["--config", str(tmp_path / "carboy.toml")])
    spaces = {space["name"]: space for space in one.request("GET", "/api/v1/spaces").json()["spaces"]}
    assert (spaces["main"]["versions"], spaces["avatars"]["max_size"], spaces["home"]["private"]) == (5, 5_000_000, True)


def test_nginx_is_told_to_hand_on_every_header_of_a_download(server: ServerFactory) -> None:
    """All but those that nginx keeps or makes itself."""
    one = server(env={"CARBOY_ACCEL": "x-accel-redirect"})
    digest = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:"
    assert one.request("PUT", "/files/main/a.txt", {"Repr-Digest": digest}, b"hello").status == 201
    answer = one.request("GET", "/files/main/a.txt", {"Want-Repr-Digest": "sha-256=1"})
    own = {"server", "date", "connection", "content-type", "content-disposition", "content-length", "cache-control", "x-accel-redirect"}
    given = {name.lower() for name, _ in answer.headers} - own
    block = "".join(blocks("docs/operations.md", "nginx"))
    handed = {name.lower(): variable for name, variable in re.findall(r"add_header (\S+) (\S+);", block)}
    assert handed == {name: f"$upstream_http_{name.replace('-', '_')}" for name in given}


def test_json_examples_are_json() -> None:
    """Those without an ellipsis."""
    shown: list[Any] = [block for page in PAGES for block in blocks(str(page.relative_to(ROOT)), "json") if "…" not in block]
    assert shown
    for block in shown:
        for value in [block] if block.count("\n{") == 0 else block.splitlines():
            json.loads(value)
