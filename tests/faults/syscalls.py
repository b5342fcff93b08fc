"""Reads the server's own system calls and checks their order.

A power cut can't show every missing sync (a journal often carries more than was asked for), so the order itself is checked:

- a blob's file is created -> the file and its folder are synced -> the catalog's commit that names it;
- bytes are written to a blob -> that file is synced -> the catalog's commit;
- the catalog's log is written -> synced -> the answer;
- at the start, every folder and file made is followed by a sync of the folder it is in, before the server is ready;
- nothing of a blob is unlinked before the commit that forgets it.

Order is the order of strace's lines: a call lies between its first line and its last.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from faults.runner import CARBOY, Answer, Client, Server

TRACED = ("openat,mkdir,mkdirat,pwrite64,pwritev,write,writev,ftruncate,fallocate,copy_file_range,fsync,fdatasync,"
          "sendto,sendmsg,unlink,unlinkat,rename,renameat,renameat2,linkat")
STRACE = ("strace", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "4200", "-e", f"trace={TRACED}", "-e", "signal=none", "-o")
"""Followed by the log's path and the server's command line. 4,200 bytes show a whole page of SQLite's log."""

PASSING = ("/metrics", "/wakes", "/turns")
"""Folders that a server can do without: they are made again."""
STEPS = str(Path(__file__).with_name("steps"))
SETTINGS = {"CARBOY_SWEEP_INTERVAL": 3600, "CARBOY_ADMIN_TOKEN": "", "CARBOY_STEP_MODULES": '["attaching"]',
            "CARBOY_SPACES": '{"derived": {}}'}
_LINE = re.compile(r"(\d+) +(.*)\n?")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?)(?:<(.*?)>)?.*", re.DOTALL)
_FD = re.compile(r"(?:AT_FDCWD|-?\d+)<([^>]*)>")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_WRITES = frozenset({"pwrite64", "pwritev", "write", "writev", "ftruncate", "fallocate", "copy_file_range"})
_SYNCS = frozenset({"fsync", "fdatasync"})


@dataclass(frozen=True, slots=True)
class Call:
    """One successful system call: the file it is about, what it carried, and the lines of its beginning and end."""

    name: str
    path: str
    text: str
    began: int
    ended: int
    target: str = ""

    @property
    def creates(self) -> bool:
        return self.name == "openat" and "O_CREAT" in self.text

    @property
    def writes(self) -> bool:
        return self.name in _WRITES

    @property
    def syncs(self) -> bool:
        return self.name in _SYNCS

    @property
    def renames(self) -> bool:
        """Gives the file at ``path`` the name ``target``."""
        return self.name.startswith("rename")

    @property
    def answers(self) -> bool:
        """Tells a client what came of its request."""
        return self.name in ("sendto", "sendmsg") and re.search(r'"HTTP/1\.1 [2-5]', self.text) is not None

    def before(self, other: Call) -> bool:
        """It had returned when the other was entered."""
        return self.ended < other.began


def parse(lines: Iterable[str]) -> list[Call]:
    """The successful calls in the order of their beginnings. Lines of threads that interleave are merged."""
    open_calls: dict[str, tuple[str, int]] = {}
    calls = []
    for number, line in enumerate(lines):
        match = _LINE.fullmatch(line)
        if not match:
            continue
        thread, text = match.groups()
        began = number
        if resumed := _RESUMED.fullmatch(text):
            start, began = open_calls.pop(thread, ("", number))
            text = start + resumed[2]
        if text.endswith(" <unfinished ...>"):
            open_calls[thread] = (text.removesuffix(" <unfinished ...>"), number)
        elif call := _call(text, began, number):
            calls.append(call)
    return sorted(calls, key=lambda call: call.began)


def _call(text: str, began: int, ended: int) -> Call | None:
    match = _CALL.fullmatch(text)
    if not match or match[3] == "?" or int(match[3]) < 0:
        return None
    name, arguments, opened = match[1], match[2], match[4]
    return Call(name, _path(name, arguments, opened), arguments, began, ended, _target(name, arguments))


def _path(name: str, arguments: str, opened: str | None) -> str:
    """The file a call is about: the one opened, named, or behind the descriptor (the target's, of a copy)."""
    if name == "openat":
        return opened or ""
    described = _FD.findall(arguments)
    if name.startswith(("mkdir", "unlink", "rename")):
        strings = _STRING.findall(arguments)
        return os.path.join(described[0] if described else "/", strings[0]) if strings else ""
    return described[-1 if name == "copy_file_range" else 0] if described else ""


def _target(name: str, arguments: str) -> str:
    """The new name that a call gives."""
    strings, folders = _STRING.findall(arguments), _FD.findall(arguments)
    if not name.startswith(("rename", "link")) or len(strings) < 2:
        return ""
    return os.path.join(folders[-1] if folders else "/", strings[-1])


class Trace:
    """All calls of one server over ``data``, cut at the answers it gave."""

    def __init__(self, calls: Sequence[Call], data: Path) -> None:
        self._data = str(data)
        self._blobs = f"{data}/blobs/"
        self._calls = calls
        self._first = next((call for call in calls if '"Carboy is ready' in call.text), None)

    def answered(self) -> list[list[Call]]:
        """Per answer since the start, the calls made since the one before; the answer is the last."""
        groups: list[list[Call]] = [[]]
        for call in self._calls:
            if self._first and call.began <= self._first.began:
                continue
            groups[-1].append(call)
            if call.answers:
                groups.append([])
        return groups[:-1]

    def start_complaints(self) -> list[str]:
        """What is wrong with the calls made before the server said that it was ready."""
        if self._first is None:
            return ["the server never said that it is ready"]
        before = [call for call in self._calls if call.before(self._first)]
        made = [call for call in before if call.path.startswith(self._data) and self._makes(call)]
        complaints = [] if len(made) > 256 else [f"only {len(made)} folders and files were made in {self._data}"]
        complaints += [f"{call.path} was made, and its folder not synced after that"
                       for call in made if not _after(before, call, _syncing(os.path.dirname(call.path)))]
        return complaints + self._first_token(before)

    def _makes(self, call: Call) -> bool:
        kept = (".sqlite3", ".sqlite3-wal", "first-token")
        return (call.name.startswith("mkdir") and not call.path.endswith(PASSING)) or (call.creates and call.path.endswith(kept))

    def _first_token(self, calls: Sequence[Call]) -> list[str]:
        """Its hash must not be committed before the only copy of the token is on stable storage."""
        written = [call for call in calls if call.writes and call.path.endswith("/first-token")]
        synced = [call for call in calls if call.syncs and call.path.endswith("/first-token")]
        if written and synced and written[-1].before(synced[0]):
            return []
        return ["the first token was not synced after it was written"]

    def complaints(self, calls: Sequence[Call], *, blobs: int, whole: bool) -> list[str]:
        """What is wrong with the calls that led to one answer, which is the last of them.

        ``blobs`` is how many blobs the request must have written. ``whole``: the request brings whole files, so that the
        very first mention of a blob in the catalog must come after its sync.
        """
        answer = calls[-1]
        commits = [call for call in calls if call.writes and call.path.endswith(".sqlite3-wal")]
        written = {call.path for call in calls if call.writes and call.path.startswith(self._blobs)}
        found = [] if commits else ["nothing was committed before the answer"]
        if len(written) != blobs:
            found.append(f"{len(written)} blobs were written, not {blobs}")
        for commit in commits:
            if not any(commit.before(sync) and sync.before(answer) for sync in calls if _syncing(commit.path)(sync)):
                found.append("the catalog's log was written and not synced before the answer")
        found += self._creations(calls, commits)
        for path in sorted(written):
            found += self._bytes(path, calls, commits, whole)
        return list(dict.fromkeys([*found, *self._removals(calls, commits)]))

    def _creations(self, calls: Sequence[Call], commits: Sequence[Call]) -> Iterator[str]:
        for call in calls:
            if not (call.creates and call.path.startswith(self._blobs)):
                continue
            name = os.path.basename(call.path)
            naming = [commit for commit in commits if name in commit.text]
            if not naming:
                yield "a blob was created and the catalog doesn't name it"
            for what, path in (("it", call.path), ("its folder", os.path.dirname(call.path))):
                if naming and not any(call.before(sync) and sync.before(naming[0]) for sync in calls if _syncing(path)(sync)):
                    yield f"a blob was created and {what} not synced before the commit that names it"

    def _bytes(self, path: str, calls: Sequence[Call], commits: Sequence[Call], whole: bool) -> Iterator[str]:
        name = os.path.basename(path)
        for write in calls:
            if not (write.writes and write.path == path):
                continue
            synced = [sync for sync in calls if _syncing(path)(sync) and write.before(sync)]
            if not synced:
                yield f"{write.name} to a blob and no sync of it before the answer"
            elif whole and not all(synced[0].before(commit) for commit in commits if name in commit.text):
                yield f"the catalog named a blob before {write.name} to it was synced"
            elif not any(synced[0].before(commit) for commit in commits):
                yield f"{write.name} to a blob was synced, and nothing committed after that"

    def _removals(self, calls: Sequence[Call], commits: Sequence[Call]) -> Iterator[str]:
        for call in calls:
            unlinks = call.name.startswith("unlink") and call.path.startswith(self._blobs)
            if unlinks and not any(commit.before(call) for commit in commits):
                yield "a blob was unlinked before the commit that forgets it"


def _syncing(path: str) -> Callable[[Call], bool]:
    return lambda call: call.syncs and call.path == path


def _after(calls: Sequence[Call], first: Call, wanted: Callable[[Call], bool]) -> bool:
    return any(first.before(call) for call in calls if wanted(call))


@dataclass(frozen=True, slots=True)
class Operation:
    """One request that a client makes of a traced server, and what it must come to; see :meth:`Trace.complaints`.

    One that is to be ``refused`` acknowledges nothing, so its calls are not judged.
    """

    name: str
    ask: Callable[[Client], Answer]
    blobs: int
    whole: bool = True
    refused: bool = False


def trace(folder: Path, operations: Sequence[Operation], *, command: Sequence[str] = CARBOY, **settings: object) -> dict[str, list[str]]:
    """Make the requests of a server under strace, over an empty data folder, and say what is wrong with each.

    The start is judged too, under the name ``the start``. Raises RuntimeError where a request ends otherwise than meant.
    """
    log, data = folder / "strace.log", folder / "data"
    server = Server(data, folder / "server.log", workers=1, prefix=[*STRACE, str(log)], command=command,
                    settings=SETTINGS | settings | {"PYTHONPATH": os.pathsep.join([*map(str, filter(None, [settings.get("PYTHONPATH")])), STEPS])})
    with server:
        client = server.client((data / "first-token").read_text().strip())
        for operation in operations:
            answer = operation.ask(client)
            if answer.ok == operation.refused:
                raise RuntimeError(f"{operation.name} gave {answer.status}: {answer.body[:500]!r}\n{server.said()[-3000:]}")
        client.ask("GET", "/healthz")  # so that strace has seen the last answer go out
    with log.open(errors="replace") as lines:
        calls = Trace(parse(lines), data)
    found = {"the start": calls.start_complaints()}
    # The first answer is the one that Server.start() waits for.
    for operation, group in zip(operations, calls.answered()[1:len(operations) + 1], strict=True):
        if not operation.refused:
            found[operation.name] = calls.complaints(group, blobs=operation.blobs, whole=operation.whole)
    return found
