"""The project keeps what it says of itself."""

from __future__ import annotations

import configparser
import json
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import carboy
from carboy.config import S3StorageSettings, Settings, SpaceSettings, WebhookSettings

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def imported_roots(source: str) -> set[str]:
    """The first names of the absolute imports in a module's text, wherever they stand."""
    return {match[1] for match in re.finditer(r"^\s*(?:import|from) (\w+)", source, re.MULTILINE)}


def test_every_vendor_is_held_by_an_import_contract() -> None:
    """A new dependency can't slip into the wrong layer: some contract must say who may import it."""
    linter = configparser.ConfigParser()
    linter.read(ROOT / ".importlinter")
    held = {name for section in linter.values() for name in section.get("protected_modules", "").split()}
    vendors = {name for source in SOURCES for name in imported_roots(source.read_text())} - sys.stdlib_module_names - {"carboy"}
    assert vendors <= held


def test_what_a_dependency_is_imported_for_is_declared() -> None:
    """Each third-party module that Carboy imports comes with a distribution that pyproject.toml names."""
    from importlib.metadata import packages_distributions

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    declared = {normal(line) for line in wanted}
    by_module = packages_distributions()
    vendors = {name for source in SOURCES for name in imported_roots(source.read_text())} - sys.stdlib_module_names - {"carboy"}
    assert {name for name in vendors if not declared & {normal(each) for each in by_module.get(name, [])}} == set()


def test_the_lock_pins_every_dependency_and_holds_no_address() -> None:
    """`make` installs the same versions everywhere, from whatever index pip is set up with."""
    lock = (ROOT / "requirements.lock").read_text()
    pins = [line for line in lock.splitlines() if not line.startswith("#")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    wanted = [*project["project"]["dependencies"], *groups["check"], *groups["test"]]
    assert all(re.fullmatch(r"[a-z0-9._-]+==[a-z0-9.]+", pin) for pin in pins)
    assert {normal(line) for line in wanted} <= {normal(pin) for pin in pins}


def test_nothing_in_the_repository_names_a_package_index_but_the_public_one() -> None:
    """Where packages come from is the machine's affair."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    texts = {name: (ROOT / name).read_text(errors="replace") for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}
    named = {name: set(re.findall(r"https?://[^\s\"'`]*/simple\b", text)) for name, text in texts.items()}
    real = {name: {url for url in urls if ".test/" not in url} for name, urls in named.items()}
    assert {name: urls for name, urls in real.items() if urls - {"https://pypi.org/simple"}} == {}


def test_the_changelog_knows_this_version() -> None:
    version = carboy.__version__.partition(".dev")[0]
    assert re.search(rf"^## \[(Unreleased\] — )?{re.escape(version)}", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("model", [Settings, SpaceSettings, S3StorageSettings, WebhookSettings])
def test_every_setting_is_described(model: Any) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("target", re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
def test_every_make_target_parses_and_says_what_it_is_for(target: str) -> None:
    listed = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=True)
    assert re.search(rf"^ +make {target} +\S", listed, re.MULTILINE)


def test_the_program_says_nothing_of_the_server_until_it_is_needed() -> None:
    """`carboy --help` stays quick: it loads neither the settings' models nor the server nor the database."""
    code = "import sys, carboy.cli.main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "carboy.cli.serve" in loaded
    assert not {"pydantic", "sqlalchemy", "gunicorn", "werkzeug"} & set(loaded)


class TestMakeVenv:
    """tools/make_venv.py finds pip on an index by itself where the machine has none."""

    tool = runpy.run_path(str(ROOT / "tools/make_venv.py"))
    sha256 = "ab" * 32

    def test_it_reads_an_index_in_json(self) -> None:
        files = [
            {"filename": "pip-24.0-py3-none-any.whl", "url": "../../p/pip-24.0-py3-none-any.whl", "hashes": {"sha256": self.sha256},
             "requires-python": ">=3.7"},
            {"filename": "pip-99.0-py3-none-any.whl", "url": "x", "hashes": {}, "requires-python": ">=3.99"},
            {"filename": "pip-25.0-py3-none-any.whl", "url": "x", "hashes": {}, "yanked": "broken"},
            {"filename": "pip-25.1b1-py3-none-any.whl", "url": "x", "hashes": {}},
            {"filename": "pip-25.1.tar.gz", "url": "x", "hashes": {}},
        ]
        page = json.dumps({"files": files}).encode()
        wheels = self.tool["listed"](page, "application/vnd.pypi.simple.v1+json", "https://index.test/simple/pip/")
        best = max(filter(self.tool["runs_here"], wheels))
        assert best.url == "https://index.test/p/pip-24.0-py3-none-any.whl"
        assert best.sha256 == self.sha256

    def test_it_reads_an_index_in_html(self) -> None:
        page = f"""<!DOCTYPE html><a href="pip-9.0.1-py3-none-any.whl">old</a>
            <a href="/f/pip-24.0-py3-none-any.whl#sha256={self.sha256}" data-requires-python="&gt;=3.7">pip-24.0-py3-none-any.whl</a>
            <a href="/f/pip-25.0-py3-none-any.whl" data-yanked="">yanked</a>
            <a href="/f/pip-98.0-py3-none-any.whl" data-requires-python="&gt;=4.0">of tomorrow</a>"""
        wheels = self.tool["listed"](page.encode(), "text/html", "https://index.test/simple/pip/")
        best = max(filter(self.tool["runs_here"], wheels))
        assert best.url.partition("#")[0] == "https://index.test/f/pip-24.0-py3-none-any.whl"
        assert best.sha256 == self.sha256

    def test_it_asks_the_index_that_pip_would_ask(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        config = tmp_path / "pip.conf"
        config.write_text("[global]\nindex-url = https://conf.test/simple\n")
        monkeypatch.delenv("PIP_INDEX_URL", raising=False)
        monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
        assert self.tool["pip_option"]("index-url") == "https://conf.test/simple"
        monkeypatch.setenv("PIP_INDEX_URL", "https://env.test/simple")
        assert self.tool["pip_option"]("index-url") == "https://env.test/simple"


def normal(requirement: str) -> str:
    """A distribution's name in the form that compares (PEP 503)."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~ ;]", requirement)[0]).lower()
