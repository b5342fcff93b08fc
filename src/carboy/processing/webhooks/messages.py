"""What receivers are told: entries of the log as messages of Standard Webhooks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from carboy.catalog.base import Catalog
from carboy.catalog.base_hooks import Message
from carboy.config import WebhookSettings
from carboy.jobs import Happening
from carboy.model import Blob, File, new_id

MAX_RESULT = 64 * 2**10
"""A job's result is left out where it would be longer as JSON: receivers limit what they take."""
_NAMED = ("size", "version", "step", "result", "failure", "attempts", "quarantine")


def is_wanted(hook: WebhookSettings, happening: Happening) -> bool:
    return ((not hook.spaces or happening.space in hook.spaces)
            and any(fnmatchcase(happening.kind, pattern) for pattern in hook.events))


def message(id: str, kind: str, at: float, data: Mapping[str, Any], subject: str = "") -> Message:
    when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = json.dumps({"type": kind, "timestamp": when, "data": data}, separators=(",", ":"))
    return Message(id, subject, kind, body)


class Messages:
    """Messages of entries of the log, with what the catalog knows of the files they are about at this moment."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def of(self, happenings: Sequence[Happening]) -> list[Message]:
        files = {id: self._file(id) for id in {one.file_id for one in happenings if one.file_id}}
        return [message(new_message_id(), one.kind, one.at, self._data(one, files.get(one.file_id or "")), _subject(one))
                for one in happenings]

    def _file(self, id: str) -> File | None:
        shelved = None if (file := self._catalog.file(id)) else self._catalog.shelved(id)
        return shelved.file if shelved else file

    def _data(self, happening: Happening, file: File | None) -> dict[str, Any]:
        facts = happening.facts
        media_type, blob, version = self._content(happening, file)
        return {
            "file_id": happening.file_id, "space": happening.space, "path": happening.path, "owner": happening.owner,
            "size": facts.get("size", blob.size if blob else None), "media_type": media_type, "etag": f'"{blob.id}"' if blob else None,
            "version": version, "sha256": blob.sha256.hex() if blob and blob.sha256 else None, "upload_id": happening.upload_id,
            "job": _job(happening), "request_id": happening.request or None,
            "facts": {name: value for name, value in facts.items() if name not in _NAMED},
        }

    def _content(self, happening: Happening, file: File | None) -> tuple[str | None, Blob | None, int | None]:
        """What the entry is about: type, content and number of the version; of a content that is gone what is still known."""
        number = happening.facts.get("version")
        job = self._catalog.job(happening.job_id) if happening.job_id else None
        if job and not (file and job.blob_id == file.blob.id):
            return None, self._catalog.blob(job.blob_id), None
        if file is None:
            return None, None, number
        if number is None or file.version == number:
            return file.media_type, file.blob, file.version
        older = next((one for one in self._catalog.versions(file.id) if one.number == number), None)
        return (older.media_type, older.blob, number) if older else (None, None, number)


def new_message_id() -> str:
    return f"msg_{new_id()}"


def _subject(happening: Happening) -> str:
    """What messages stay in order for: the file, else the upload; folders of a space go one after the other."""
    return happening.file_id or happening.upload_id or f"space {happening.space}"


def _job(happening: Happening) -> dict[str, Any] | None:
    if happening.job_id is None:
        return None
    facts = happening.facts
    result = facts.get("result")
    if len(json.dumps(result)) > MAX_RESULT:
        result = None
    return {"id": happening.job_id, "step": facts.get("step"), "result": result, "failure": facts.get("failure"),
            "attempts": facts.get("attempts"), "quarantine": facts.get("quarantine")}
