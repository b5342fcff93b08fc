"""Rows to nouns and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from carboy.catalog.sessions import Row
from carboy.catalog.tables import blobs, derived, files, jobs, tokens, uploads
from carboy.jobs import Derived, Job
from carboy.model import Blob, Chunk, File, Fragment, Instance, Key, Lease, Span, Token, Upload

BLOB = tuple(blobs.c)
FILE = (files.c.id, files.c.space, files.c.path, files.c.owner, files.c.media_type, files.c.metadata, files.c.version,
        files.c.created_at, files.c.modified_at, files.c.tags, *BLOB)
UPLOAD = tuple(uploads.c)
JOB = tuple(column for column in jobs.c if column.name != "sent_at")
DERIVED = (derived.c.of, derived.c.step, derived.c.name, derived.c.media_type, derived.c.facts, derived.c.created_at, *BLOB)
TOKEN = (tokens.c.id, tokens.c.name, tokens.c.scopes, tokens.c.created_at, tokens.c.expires_at, tokens.c.revoked_at)

_ENCODE = json.JSONEncoder(separators=(",", ":"), default=dict).encode


def dump(value: Mapping[str, Any]) -> str:
    return _ENCODE(value) if value else "{}"


def dump_tags(tags: Sequence[str]) -> str:
    return _ENCODE(tags) if tags else "[]"


def load(text: str) -> dict[str, Any]:
    loaded: dict[str, Any] = {} if text == "{}" else json.loads(text)
    return loaded


def pack_crc(crc: int) -> bytes:
    return crc.to_bytes(8, "big")


def unpack_crc(packed: bytes) -> int:
    return int.from_bytes(packed, "big")


def blob_of(row: Row) -> Blob:
    id, storage, key, size, crc, sha256, created_at, damaged_at, held, quarantine = row
    return Blob(id, storage, key, size, int.from_bytes(crc, "big"), sha256, created_at, damaged_at, held, quarantine)


def blob_values(blob: Blob) -> dict[str, Any]:
    return {"id": blob.id, "storage": blob.storage, "key": blob.key, "size": blob.size, "crc64nvme": pack_crc(blob.crc64nvme),
            "sha256": blob.sha256, "created_at": blob.created_at, "damaged_at": blob.damaged_at, "held": blob.held,
            "quarantine": blob.quarantine}


def file_of(row: Row) -> File:
    id, space, path, owner, media_type, metadata, version, created_at, modified_at, tags = row[:10]
    return File(id, space, path, owner, media_type, load(metadata), blob_of(row[10:]), version, created_at, modified_at,
                () if tags == "[]" else tuple(json.loads(tags)))


def file_values(file: File) -> dict[str, Any]:
    return {"id": file.id, "space": file.space, "path": file.path, "owner": file.owner, "media_type": file.media_type,
            "metadata": dump(file.metadata), "blob_id": file.blob.id, "version": file.version, "created_at": file.created_at,
            "modified_at": file.modified_at, "size": file.size, "tags": dump_tags(file.tags)}


def upload_of(row: Row) -> Upload:
    values = dict(zip(uploads.c.keys(), row, strict=True))
    return Upload(**{**values, "metadata": load(values["metadata"]), "driver_state": load(values["driver_state"]),
                     "partial": bool(values["partial"]), "parts": () if values["parts"] == "[]" else tuple(json.loads(values["parts"])),
                     "digests": load(values["digests"])})


def upload_values(upload: Upload) -> dict[str, Any]:
    values = {name: getattr(upload, name) for name in uploads.c.keys()}  # noqa: SIM118 - columns, not a dict
    return {**values, "metadata": dump(upload.metadata), "driver_state": dump(upload.driver_state), "partial": int(upload.partial),
            "parts": dump_tags(upload.parts), "digests": dump(upload.digests)}


def spans_of(rows: Iterable[Row]) -> list[Span]:
    return [Span(start, end, unpack_crc(crc)) for start, end, crc in rows]


def chunk_of(row: Row) -> Chunk:
    index, size, crc, start, key = row
    return Chunk(index, size, unpack_crc(crc), start, None if key is None else Key(key))


def fragment_of(row: Row) -> Fragment:
    start, end, crc, ref, key = row
    return Fragment(start, end, None if crc is None else unpack_crc(crc), load(ref), None if key is None else Key(key))


def lease_of(row: Row) -> Lease:
    id, storage, key, start, end, instance = row
    return Lease(id, storage, Key(key), start, end, instance)


def instance_of(row: Row) -> Instance:
    return Instance(*row)


def job_of(row: Row) -> Job:
    values = dict(zip((column.name for column in JOB), row, strict=True))
    return Job(**{**values, "args": load(values["args"]), "after": tuple(json.loads(values["after"])), "holds": bool(values["holds"]),
                  "result": None if values["result"] is None else load(values["result"])})


def job_values(job: Job) -> dict[str, Any]:
    values = {column.name: getattr(job, column.name) for column in JOB}
    return {**values, "args": dump(job.args), "after": dump_tags(job.after), "holds": int(job.holds),
            "result": None if job.result is None else dump(job.result), "sent_at": None}


def derived_of(row: Row) -> Derived:
    of, step, name, media_type, facts, created_at = row[:6]
    return Derived(of, step, name, blob_of(row[6:]), media_type, load(facts), created_at)


def token_of(row: Row) -> Token:
    id, name, scopes, created_at, expires_at, revoked_at = row
    return Token(id, name, {space: frozenset(actions) for space, actions in json.loads(scopes).items()},
                 created_at, expires_at, revoked_at)


def token_values(token: Token) -> dict[str, Any]:
    scopes = json.dumps({space: sorted(actions) for space, actions in token.scopes.items()})
    return {"id": token.id, "name": token.name, "scopes": scopes, "created_at": token.created_at,
            "expires_at": token.expires_at, "revoked_at": token.revoked_at}
