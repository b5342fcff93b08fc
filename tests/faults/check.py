"""After the fault: is everything there that clients were told is there, and nothing half?"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

from faults.journal import Change, Chunked, Content, Journal, Told
from faults.runner import Answer, Client, Server
from faults.sequential import Sequential

LOST = "lost"


class Check:
    """Compares a restarted server with the journal. ``problems`` says in words what is wrong; ``counts`` what was looked at."""

    def __init__(self, server: Server, journal: Journal) -> None:
        self._server, self._journal = server, journal
        self._client: Client = server.client()
        self._names: dict[str, Content | None] = {}
        self.problems: list[str] = []
        self.counts: Counter[str] = Counter()

    def run(self) -> Check:
        """Everything, then pin what was seen as the truth of the next round."""
        for path, allowed in self._journal.allowed().items():
            self._check_path(path, allowed)
        for paths, changes in self._journal.groups().items():
            self._check_group(paths, changes)
        for upload in filter(lambda upload: upload.told, self._journal.chunked):
            self._check_chunked(upload)
        for sequential in filter(lambda upload: upload.told, self._journal.sequential):
            self._check_sequential(sequential)
        self._check_fsck()
        self._client.close()
        self._count_acknowledged(self._journal.changes)
        self._journal.pin(self._names)
        return self

    def _problem(self, kind: str, text: str) -> None:
        self.counts[kind] += 1
        self.problems.append(f"{kind}: {text}")

    def _check_path(self, path: str, allowed: set[Content | None]) -> None:
        answer = self._client.get(path)
        seen = next((content for content in allowed if _is(answer, content)), None)
        self._names[path] = seen
        self.counts["paths"] += 1
        if None not in allowed:
            self.counts["files_that_must_be_there"] += 1
            self.counts["bytes_read_back"] += len(answer.body)
        if answer.status == 404 and None not in allowed:
            self._problem(LOST, f"{path} is not there; it was acknowledged")
        elif not any(_is(answer, content) for content in allowed):
            self._problem(LOST if None not in allowed else "wrong",
                          f"{path}: {answer.status} with {len(answer.body)} bytes, none of the {len(allowed)} contents it may have")

    def _check_group(self, paths: tuple[str, ...], changes: Iterable[Change]) -> None:
        seen = {path: self._names[path] for path in paths}
        self.counts["forms"] += 1
        possible = [dict(change.paths) for change in changes] + [dict.fromkeys(paths)]
        if seen not in possible:
            self._problem("half a form", f"{', '.join(paths)} are not of one form: {seen}")

    def _check_chunked(self, upload: Chunked) -> None:
        """Acknowledged chunks are recorded; sending just the others completes the upload to the right content."""
        self.counts["chunks_acknowledged"] += len(upload.acknowledged)
        self.counts["bytes_in_chunks"] += sum(end - start for start, end in map(upload.span, upload.acknowledged))
        answer, under_way = self._state(upload)
        if answer.status == 404 and upload.completed != "yes":
            if upload.acknowledged and not under_way:
                self._problem(LOST, f"{upload.file_id}: {len(upload.acknowledged)} chunks acknowledged and no upload is under way")
            self._check_missing(upload, under_way)
            self._resume(upload)
            answer = self._client.get(upload.file_id)
        elif under_way:
            self._problem("both", f"{upload.file_id} is a file and an upload under way")
        self.counts["uploads_completed" if upload.completed == "yes" else "uploads_resumed"] += 1
        if _is(answer, upload.content):
            self._names[upload.file_id] = upload.content
        else:
            self._problem(LOST, f"{upload.file_id} ({upload.how}, completed: {upload.completed}): {answer.status} "
                                f"{len(answer.body)} of {upload.content.size} bytes, not its content")

    def _state(self, upload: Chunked) -> tuple[Answer, dict[str, Any] | None]:
        """Its file and its upload at one moment: the sweeper may be completing what the fault left covered."""
        answer = self._client.get(upload.file_id)
        while True:
            under_way = next((one for one in self._client.uploads() if one["path"] == upload.file_id), None)
            before, answer = answer, self._client.get(upload.file_id)
            if before.status == answer.status:
                return answer, under_way

    def _check_sequential(self, upload: Sequential) -> None:
        """It stands at or after what its client was told, and goes on from there to its content."""
        self.counts["offsets_told"] += 1
        self.counts["bytes_in_offsets"] += upload.offset
        told = upload.offset
        answer = upload.stand(self._client)
        if not answer.ok:
            self._problem(LOST, f"{upload.location}: {answer.status}; it stood at {told} of {upload.content.size}")
            return
        stands = int(answer.headers["Upload-Offset"])
        if stands < told:
            self._problem(LOST, f"{upload.location} stands at {stands}; its client was told {told}")
        upload.offset = stands
        while upload.offset < upload.content.size:
            answer = upload.append(self._client, upload.content.size)
            self._expect(answer, f"{upload.location}: going on from {upload.offset}")
            if not answer.ok:
                return
            upload.note(answer)
        if not _is(self._client.get(upload.path), upload.content):
            self._problem(LOST, f"{upload.path} ({upload.protocol}) is not its content")
        self._names[upload.path] = upload.content

    def _check_missing(self, upload: Chunked, under_way: dict[str, Any] | None) -> None:
        """No range that the server calls missing touches an acknowledged chunk whose place was told."""
        if not under_way or upload.how == "bare":
            return
        for index in upload.acknowledged:
            start, end = upload.span(index)
            if any(gap[0] < end and start < gap[1] for gap in under_way["missing"]):
                self._problem(LOST, f"{upload.file_id}: chunk {index} was acknowledged and is missing")

    def _resume(self, upload: Chunked) -> None:
        """Send what was not acknowledged, then complete. An upload that the fault left covered may complete by itself
        meanwhile; then a chunk is told so (410)."""
        for index in range(upload.count):
            if upload.told.get(index) != "yes":
                answer = self._client.chunk(upload.file_id, index, upload.chunk(index), **upload.fields(index))
                if answer.status != 410:
                    self._expect(answer, f"{upload.file_id}: sending chunk {index} again")
        self._expect(self._client.complete(upload.file_id, upload.count), f"{upload.file_id}: completing it")

    def _expect(self, answer: Answer, what: str) -> None:
        if not answer.ok:
            self._problem("cannot resume", f"{what} gave {answer.status} {answer.body[:300]!r}")

    def _check_fsck(self) -> None:
        """Bytes of requests that were cut off are orphans until the sweeper comes by: it comes first."""
        for command in (["sweep"], ["fsck", "--deep"]):
            done = self._server.run(*command)
            if done.returncode:
                self._problem("fsck", f"{command[0]}: exit status {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")

    def _count_acknowledged(self, changes: Iterable[Change]) -> None:
        names: dict[Told, str] = {"yes": "acknowledged", "no": "refused", "nothing": "in_flight"}
        for change in changes:
            for content in () if change.earlier else change.paths.values():
                self.counts[f"{'files' if content else 'deletes'}_{names[change.told]}"] += 1
                if content and change.told == "yes":
                    self.counts["bytes_acknowledged"] += content.size


def _is(answer: Answer, content: Content | None) -> bool:
    if content is None:
        return answer.status == 404
    return answer.status == 200 and len(answer.body) == content.size and hashlib.sha256(answer.body).hexdigest() == content.sha256()
