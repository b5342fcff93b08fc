"""What type checkers are told of the public names."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SAMPLE = Path(__file__).with_name("typed_application.py")


def checked(file: Path, cache: Path) -> str:
    """What mypy --strict says of a user's file."""
    if find_spec("mypy") is None:
        pytest.skip("mypy isn't installed")
    told = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir", str(cache), "--follow-imports", "silent",
                           str(file)], cwd=file.parent, capture_output=True, text=True, check=False)
    assert told.returncode in (0, 1), told.stdout + told.stderr
    return told.stdout


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def test_an_application_is_typed_through_and_through(cache: Path) -> None:
    assert checked(SAMPLE, cache).startswith("Success"), checked(SAMPLE, cache)


def test_mistakes_are_found(cache: Path, tmp_path: Path) -> None:
    wrong = {
        "carboy.received('photo').keep(ovner=1)": "ovner", "carboy.put('main', 'a', 'text')": "arg-type",
        "carboy.get(7)": "arg-type", "carboy.send(avatars)": "arg-type", "carboy.receives(7)": "arg-type", "carboy.url_for('x').foo": "attr-defined",
        "carboy.step('x', retires=1)": "retires", "carboy.jobs(state='ended')": "arg-type", "look(1)": "arg-type",
    }
    text = SAMPLE.read_text() + "\n" + "\n".join(wrong) + "\n"
    (tmp_path / "wrong.py").write_text(text)
    first = len(SAMPLE.read_text().splitlines()) + 2
    told = checked(tmp_path / "wrong.py", cache)
    for line, code in enumerate(wrong.values(), first):
        assert any(f"wrong.py:{line}: error" in each and code in each for each in told.splitlines()), (line, told)


def test_the_marker_is_there() -> None:
    assert (ROOT / "src/carboy/py.typed").is_file()
