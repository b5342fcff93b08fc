"""The server's own system calls are in the right order, and the checker notices each sync that is taken out."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faults import mutants, syscalls
from faults.journal import Content
from faults.mutants import Mutant
from faults.syscalls import Operation

SMALL, LARGE = Content(1, 5000), Content(2, 3 * 2**20)
STRIDE = 70_000
WRONG_MD5 = base64.b64encode(bytes(16)).decode()

OPERATIONS = (
    Operation("a PUT", lambda client: client.put("one", SMALL.read()), 1),
    Operation("a PUT of 3 MiB", lambda client: client.put("large", LARGE.read()), 1),
    Operation("an empty PUT", lambda client: client.put("empty", b""), 0),
    Operation("a PUT that replaces", lambda client: client.put("one", LARGE.read(0, 20_000)), 1),
    Operation("a form with two files", lambda client: client.form("f", [("a", SMALL.read()), ("b", LARGE.read())]), 2),
    Operation("a first chunk with its place",
              lambda client: client.chunk("c", 1, LARGE.read(STRIDE, 2 * STRIDE), offset=STRIDE, total=2 * STRIDE), 1, whole=False),
    Operation("the last chunk with its place",
              lambda client: client.chunk("c", 0, LARGE.read(0, STRIDE), offset=0, total=2 * STRIDE), 1, whole=False),
    Operation("a chunk of a stride", lambda client: client.chunk("s", 0, LARGE.read(0, STRIDE), chunk_size=STRIDE), 1, whole=False),
    Operation("a chunk that its digest refutes",
              lambda client: client.chunk("s", 1, LARGE.read(0, STRIDE), md5=WRONG_MD5, chunk_size=STRIDE), 1, refused=True),
    Operation("a short last chunk of a stride", lambda client: client.chunk("s", 1, SMALL.read(), chunk_size=STRIDE), 1, whole=False),
    Operation("completing it, which cuts what the digest refuted", lambda client: client.complete("s", 2), 1, whole=False),
    Operation("a chunk of no known place", lambda client: client.chunk("b", 1, SMALL.read()), 1),
    Operation("another", lambda client: client.chunk("b", 0, LARGE.read(0, STRIDE)), 1),
    Operation("joining them", lambda client: client.complete("b", 2), 1),
    Operation("a delete", lambda client: client.delete("large"), 0),
)

MUTANTS = (
    Mutant("storage/local_writer.py", "os.fdatasync(self._fd)"),
    Mutant("storage/local.py", "os.fsync(self._folder(key))"),
    Mutant("storage/local.py", 'self._sync_folder(Key(f"{shard}/"))'),
    Mutant("storage/local.py", "_sync_directory(directory)"),
    Mutant("storage/local.py", "os.fdatasync(fd)"),
    Mutant("storage/local.py", "os.fsync(fd)"),
    Mutant("engine/receive.py", "self._flushing = executor.submit(self._writer.flush)",
           "self._flushing = executor.submit(dict)"),
    Mutant("engine/receive.py", "self._writer.flush()"),
    Mutant("engine/uploads.py", "self._writer.flush()"),
    Mutant("engine/uploads.py", "self._writer.flush()", nth=1),
    Mutant("engine/uploads.py", "upload = self._new(target, key, dict(writer.flush()), protocol, name, size, chunk_size)",
           "upload = self._new(target, key, {}, protocol, name, size, chunk_size)"),
    Mutant("engine/uploads.py", "writer.flush()"),
    Mutant("engine/tokens.py", "os.fsync(file.fileno())"),
    Mutant("catalog/sqlite.py", "self._pragmas = (\"journal_mode = WAL\", f\"synchronous = {'FULL' if durable else 'NORMAL'}\", "
                                "\"wal_autocheckpoint = 0\",",
           'self._pragmas = ("journal_mode = WAL", "synchronous = OFF", "wal_autocheckpoint = 0",'),
)

NOT_NEEDED = {
    ("engine/receive.py", "checkpoints = Checkpoints(self._receiver.executor, lambda: writer.flush,"):
        "syncs a long body while it comes, so that less is left at the end; the end syncs all",
    ("engine/tokens.py", "file.flush()"): "not a sync: hands the text to the kernel, which the sync after it needs",
    ("catalog/sqlite.py", 'connection.exec_driver_sql("PRAGMA synchronous = FULL")'):
        "FULL is what SQLite does by itself; it is said for builds that chose otherwise",
    ("catalog/sqlite.py", "os.fsync(folder)"): "makes the copy of an older schema's catalog durable, not an upload",
}


@pytest.mark.usefixtures("faults")
def test_every_answer_follows_its_syncs(tmp_path: Path) -> None:
    assert {name: found for name, found in syscalls.trace(tmp_path, OPERATIONS).items() if found} == {}


def test_every_sync_of_the_source_is_in_the_table() -> None:
    tried = {(mutant.file, mutant.line, mutant.nth) for mutant in MUTANTS}
    unknown = {line for line in mutants.syncing_lines() if line not in tried and line[:2] not in NOT_NEEDED}
    assert unknown == set(), "add each to MUTANTS, or to NOT_NEEDED with the reason why no answer depends on it"


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> dict[Mutant, dict[str, list[str]]]:
    """What the checker says of each mutant. Two at a time: a traced server waits more than it works."""
    def run(mutant: Mutant) -> dict[str, list[str]]:
        folder = tmp_path_factory.mktemp("mutant")
        return syscalls.trace(folder, OPERATIONS, PYTHONPATH=mutant.write(folder / "src"))

    with ThreadPoolExecutor(3) as threads:
        return dict(zip(MUTANTS, threads.map(run, MUTANTS), strict=True))


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
@pytest.mark.usefixtures("faults")
def test_taking_out_any_one_sync_is_noticed(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    found = request.getfixturevalue("traced")[mutant]
    assert any(found.values()), "the checker has no complaint about a server without this sync"
