"""The server's own system calls are in the right order, and the checker notices each sync that is taken out."""

from __future__ import annotations

import base64
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faults import mutants, syscalls
from faults.journal import Content
from faults.mutants import Mutant
from faults.runner import Answer, Client
from faults.syscalls import Operation

SMALL, LARGE = Content(1, 5000), Content(2, 3 * 2**20)
STRIDE = 70_000
WRONG_MD5 = base64.b64encode(bytes(16)).decode()


class Parts:
    """Two partial tus uploads, and the one that they make together; the server gives them their addresses."""

    def __init__(self) -> None:
        self._addresses: list[str] = []

    def send(self, client: Client, content: Content) -> Answer:
        answer = client.ask("POST", "/tus/main/", content.read(), Tus_Resumable="1.0.0", Upload_Length=str(content.size),
                            Upload_Concat="partial", Content_Type="application/offset+octet-stream")
        self._addresses = [*self._addresses[-1:], answer.headers["Location"]]
        return answer

    def join(self, client: Client) -> Answer:
        return client.ask("POST", "/tus/main/", b"", Tus_Resumable="1.0.0", Upload_Concat=f"final;{' '.join(self._addresses)}")


PARTS = threading.local()


def parts() -> Parts:
    """Of the server that this thread traces."""
    PARTS.kept = getattr(PARTS, "kept", None) or Parts()
    return PARTS.kept  # type: ignore[no-any-return]


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
    Operation("a part of an upload", lambda client: parts().send(client, SMALL), 1, whole=False),
    Operation("another part", lambda client: parts().send(client, LARGE), 1, whole=False),
    Operation("an upload of these parts", lambda client: parts().join(client), 1, whole=False),
    Operation("a delete", lambda client: client.delete("large"), 0),
    Operation("a PUT that waits for what is derived of it",
              lambda client: client.ask("PUT", "/files/derived/one", LARGE.read(), Prefer="wait=30"), 2),
)

NOT_NEEDED = {
    ("engine/tokens.py", "file.flush()"): "no sync: hands the text to the kernel, which the sync after it needs",
    ("catalog/sqlite.py", 'connection.exec_driver_sql("PRAGMA synchronous = FULL")'):
        "for the schema's own commit; the first commit after it syncs the same log, and before that there is no answer",
    ("catalog/sqlite.py", "os.fsync(folder)"): "makes the copy of an older schema's catalog durable; no answer follows from it",
}
"""Lines that look like syncs and that no answer depends on, with the reason."""

MUTANTS = [mutant for mutant in mutants.every_mutant() if (mutant.file, mutant.line) not in NOT_NEEDED]


@pytest.mark.usefixtures("faults")
def test_every_answer_follows_its_syncs(tmp_path: Path) -> None:
    assert {name: found for name, found in syscalls.trace(tmp_path, OPERATIONS).items() if found} == {}


@pytest.mark.usefixtures("faults")
def test_relaxed_durability_is_seen_as_what_it_is(tmp_path: Path) -> None:
    found = syscalls.trace(tmp_path, OPERATIONS, CARBOY_DURABILITY="relaxed")
    assert all(found[operation.name] for operation in OPERATIONS if not operation.refused)


def test_the_source_still_has_its_syncs() -> None:
    """The table of exceptions is about lines that are there, and the search finds those that matter most."""
    found = {(mutant.file, mutant.line) for mutant in mutants.every_mutant()}
    assert set(NOT_NEEDED) <= found
    syncing = " ".join(mutant.line for mutant in MUTANTS)
    assert all(part in syncing for part in ("os.fdatasync(", "os.fsync(", "synchronous ="))


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
