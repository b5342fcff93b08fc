"""Zips that may be asked for, single blobs, and the keys that all processes share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple
from functools import cache

from sqlalchemy import LargeBinary, SelectBase, bindparam, cast, delete, exists, insert, literal_column, select

from carboy.catalog import rows
from carboy.catalog.sessions import Session, among, among_values, padded
from carboy.catalog.tables import blobs, secrets, zips
from carboy.errors import Conflict
from carboy.model import Blob, Zip, ZipEntry

_MANY = 256
_ADD = insert(zips)
_BY_ID = select(*zips.c).where(zips.c.id == bindparam("id"))
_LAPSED = delete(zips).where(zips.c.expires_at <= bindparam("now"))
_BLOB = select(*rows.BLOB).where(blobs.c.id == bindparam("id"))
_SECRET = select(secrets.c.value).where(secrets.c.name == bindparam("name"))
_ADD_SECRET = insert(secrets).from_select(["name", "value"], select(
    bindparam("name", type_=secrets.c.name.type), cast(bindparam("value"), LargeBinary)).where(
        ~exists(select(literal_column("1")).where(secrets.c.name == bindparam("name", type_=secrets.c.name.type)))))


def add(session: Session, zip: Zip) -> None:
    session.run(_ADD, id=zip.id, principal=zip.principal, name=zip.name, entries=json.dumps([astuple(entry) for entry in zip.entries]),
                size=zip.size, created_at=zip.created_at, expires_at=zip.expires_at)


def by_id(session: Session, id: str) -> Zip | None:
    row = session.one(_BY_ID, id=id)
    if row is None:
        return None
    id, principal, name, entries, size, created_at, expires_at = row
    return Zip(id, principal, name, tuple(ZipEntry(*entry) for entry in json.loads(entries)), size, created_at, expires_at)


def forget(session: Session, now: float) -> int:
    """Drop those past their expiry; how many."""
    return session.run(_LAPSED, now=now)


def blob(session: Session, id: str) -> Blob | None:
    row = session.one(_BLOB, id=id)
    return rows.blob_of(row) if row else None


@cache
def _blobs(count: int) -> SelectBase:
    return select(*rows.BLOB).where(among(blobs.c.id, count))


def blobs_with_ids(session: Session, ids: Sequence[str]) -> dict[str, Blob]:
    found: dict[str, Blob] = {}
    for at in range(0, len(ids), _MANY):
        some = padded(ids[at:at + _MANY])
        found |= {one.id: one for one in map(rows.blob_of, session.rows(_blobs(len(some)), **among_values(some)))}
    return found


def known_secret(session: Session, name: str) -> bytes | None:
    row = session.one(_SECRET, name=name)
    return bytes(row[0]) if row else None


def secret(session: Session, name: str, fresh: bytes) -> bytes:
    """The key of this name; ``fresh`` becomes it where there is none yet. Two who come first at once end with the same one."""
    session.serialise(f"secret {name}")
    session.run(_ADD_SECRET, name=name, value=fresh)
    kept = known_secret(session, name)
    if kept is None:
        raise Conflict("the key was removed meanwhile", name=name)
    return kept
