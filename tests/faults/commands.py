"""Reads the system calls of commands that bring bytes from one place to another, and checks their order.

- what is written below the folder is synced before it takes its name, or the catalog names it;
- names of blobs are synced before the catalog takes its name, or names them;
- every name is synced before the command says that it is done.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from faults.runner import CARBOY, environment
from faults.syscalls import STRACE, Call, parse

_PASSING = ("-wal", "-shm", ".lock", "scrub.json.new", "scrub.json", ".sqlite3-journal", ".new-journal")
"""Files whose loss costs nothing, or which SQLite looks after."""


class Calls:
    """The calls of one command that writes below ``root``."""

    def __init__(self, calls: Sequence[Call], root: Path) -> None:
        self._root = f"{root}/"
        said = next((number for number, call in enumerate(calls) if call.name == "write" and "<pipe:" in call.text and " bytes" in call.text), None)
        self.complaints = ["the command said nothing"] if said is None else []
        self._calls = [*calls[:said]]
        self.complaints += sorted({*self._writes(), *self._renames(), *self._links(), *self._commits()})

    def _inside(self, call: Call) -> bool:
        return call.path.startswith(self._root) and not call.path.endswith(_PASSING)

    def _writes(self) -> Iterator[str]:
        for call in self._calls:
            if call.writes and self._inside(call) and not self._synced(call, call.path, self._naming(call)):
                yield f"{_kind(call.path)} was written and not synced before it was named"

    def _naming(self, write: Call) -> Call | None:
        """When it takes its name; the first commit after it where it has it already."""
        return next((call for call in self._calls if write.before(call) and (
            (call.renames and call.path == write.path) or (call.writes and call.path.endswith("catalog.sqlite3-wal")))), None)

    def _renames(self) -> Iterator[str]:
        for call in self._calls:
            if call.renames and call.target.startswith(self._root) and not call.target.endswith(_PASSING):
                until = self._catalog if "/blobs/" in call.target else None
                if not self._synced(call, os.path.dirname(call.target), until):
                    yield f"{_kind(call.target)} took its name, and the folder was not synced in time"

    def _links(self) -> Iterator[str]:
        for call in self._calls:
            links = call.name == "linkat" and call.target.startswith(f"{self._root}blobs/") and not call.target.endswith(".new")
            if links and not self._synced(call, os.path.dirname(call.target), self._first_commit(call)):
                yield "a linked blob's folder was not synced before the commit that names it"

    def _commits(self) -> Iterator[str]:
        for call in self._calls:
            if call.writes and call.path.endswith("catalog.sqlite3-wal") and not self._synced(call, call.path, None):
                yield "the catalog's log was written and not synced"

    @property
    def _catalog(self) -> Call | None:
        return next((call for call in self._calls if call.renames and call.target.endswith("/catalog.sqlite3")), None)

    def _first_commit(self, after: Call) -> Call | None:
        return next((call for call in self._calls if after.before(call) and call.writes and call.path.endswith("catalog.sqlite3-wal")), None)

    def _synced(self, after: Call, path: str, until: Call | None) -> bool:
        return any(call.syncs and call.path == path and after.before(call) and (until is None or call.before(until)) for call in self._calls)


def _kind(path: str) -> str:
    return "a blob" if "/blobs/" in path else f"the file {os.path.basename(path)}"


def traced(folder: Path, root: Path, *args: str | Path, **settings: object) -> list[str]:
    """Run the program under strace; what is wrong with its calls. Raises RuntimeError where it fails."""
    log = folder / f"{args[0]}.strace"
    done = subprocess.run([*STRACE, str(log), *CARBOY, *map(str, args)], capture_output=True, text=True, cwd=folder,
                          env=environment(**settings), stdin=subprocess.DEVNULL, timeout=300)
    if done.returncode:
        raise RuntimeError(f"{args}: exit status {done.returncode}: {(done.stdout + done.stderr)[-3000:]}")
    with log.open(errors="replace") as lines:
        return Calls(parse(lines), root).complaints


def every_command(folder: Path, **settings: object) -> dict[str, list[str]]:
    """Import, export, backup, restore and a repair, over a new data folder; the complaints about each."""
    data, tree = folder / "data", folder / "tree"
    for number in range(3):
        (tree / f"sub{number}").mkdir(parents=True)
        (tree / f"sub{number}/file").write_bytes(b"%d" % number * 5000)
    (tree / "top").write_bytes(b"in no folder")
    subprocess.run([*CARBOY, "db", "upgrade", "--data", str(data)], check=True, capture_output=True, cwd=folder, env=environment(**settings))
    found = {
        "import": traced(folder, data, "import", tree, "--data", data, **settings),
        "import --link": traced(folder, data, "import", tree, "--to", "linked/", "--link", "--data", data, **settings),
        "export": traced(folder, folder / "out", "export", folder / "out", "--versions", "--data", data, **settings),
        "export of one file": traced(folder, folder / "flat", "export", folder / "flat", "--space", "main", "--prefix", "top", "--data", data,
                                     **settings),
        "backup": traced(folder, folder / "backup", "backup", folder / "backup", "--copy", "--data", data, **settings),
        "restore": traced(folder, folder / "restored", "restore", folder / "backup", "--data", folder / "restored", **settings),
    }
    blob = next((data / "blobs").glob("*/*"))
    blob.unlink()
    found["scrub --repair"] = traced(folder, data, "scrub", "--repair", folder / "backup", "--data", data, **settings)
    return found
