"""Write requirements.lock: the versions that `make` installs, as pip's constraints, without addresses.

Takes the newest versions that pyproject.toml allows, all groups and extras together, in a fresh environment. Run it with
the oldest Python that Carboy supports, so that every pin runs on the newer ones too.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HEADER = """\
# The versions that make installs (pip's constraints). Written by `make lock`; installing carboy itself doesn't read it.
"""


def resolve(folder: Path) -> list[str]:
    """Names and versions of everything that pyproject.toml asks for, and of pip."""
    subprocess.run([sys.executable, "tools/make_venv.py", folder], check=True)
    pip = [folder / "bin/python", "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-qq", "--upgrade", "pip"], check=True)
    groups = [part for group in ("check", "test") for part in ("--group", group)]
    subprocess.run([*pip, "install", "-qq", ".[celery,images,metrics,postgresql,redis,s3]", *groups], check=True)
    list_all = [*pip, "list", "--format=freeze", "--exclude", "carboy", "--exclude", "setuptools"]
    frozen = subprocess.run(list_all, check=True, capture_output=True, text=True)
    return sorted(frozen.stdout.lower().split())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        pins = resolve(Path(folder))
    Path("requirements.lock").write_text(HEADER + "".join(f"{pin}\n" for pin in pins))


if __name__ == "__main__":
    main()
