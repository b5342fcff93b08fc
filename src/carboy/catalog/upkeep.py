"""Questions of the sweeper, fsck and the operator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import islice

from sqlalchemy import BindParameter, ColumnElement, SelectBase, bindparam, delete, exists, func, literal_column, select, union, update
from sqlalchemy.sql.dml import Delete

from carboy.catalog import answers, auditing, hooks, links, rows, zips
from carboy.catalog.contents import drop_derived
from carboy.catalog.reservations import lapse
from carboy.catalog.sessions import Session, among, among_values, padded
from carboy.catalog.tables import RECEIVING, blobs, chunks, condemned, derived, files, fragments, uploads
from carboy.model import TRANSITIONS, Blob, Key

_MANY = 256
_FINAL: list[ColumnElement[str]] = [literal_column(f"'{state}'") for state, following in TRANSITIONS.items() if not following]

_CONDEMNED = (select(condemned.c.key).where(condemned.c.storage == bindparam("storage"), condemned.c.since <= bindparam("before"))
              .order_by(condemned.c.since, condemned.c.key).limit(bindparam("count")))
_BLOBS = (select(*rows.BLOB).where(blobs.c.storage == bindparam("storage"), blobs.c.key > bindparam("low"))
          .order_by(blobs.c.key).limit(bindparam("count")))
_SET_SHA256 = update(blobs).where(blobs.c.id == bindparam("blob")).values(sha256=bindparam("sha256"))
_ENDED = delete(uploads).where(uploads.c.state.in_(_FINAL), uploads.c.expires_at <= bindparam("now"))
_LEFT = select(derived.c.of).where(~exists(select(blobs.c.id).where(blobs.c.id == derived.c.of))).distinct().limit(1000)
_ALL = func.count(literal_column("*"))
_COUNTS: Mapping[str, SelectBase] = {
    "files": select(_ALL).select_from(files), "blobs": select(_ALL).select_from(blobs),
    "uploads": select(_ALL).where(uploads.c.state == RECEIVING), "condemned": select(_ALL).select_from(condemned)}


@cache
def _forget(count: int) -> Delete:
    return delete(condemned).where(condemned.c.storage == bindparam("storage"), among(condemned.c.key, count))


@cache
def _known(count: int) -> SelectBase:
    storage: BindParameter[str] = bindparam("storage")
    return union(
        select(blobs.c.key).where(blobs.c.storage == storage, among(blobs.c.key, count)),
        select(condemned.c.key).where(condemned.c.storage == storage, among(condemned.c.key, count)),
        select(uploads.c.key).where(uploads.c.state == RECEIVING, uploads.c.storage == storage, among(uploads.c.key, count)),
        *[select(pieces.c.key).join_from(pieces, uploads, pieces.c.upload_id == uploads.c.id)
          .where(uploads.c.storage == storage, among(pieces.c.key, count)) for pieces in (chunks, fragments)])


def condemned_keys(session: Session, storage: str, before: float, limit: int) -> list[Key]:
    return [Key(key) for key, in session.rows(_CONDEMNED, storage=storage, before=before, count=limit)]


def forget(session: Session, storage: str, keys: Iterable[Key]) -> None:
    for some in _batches(keys):
        session.run(_forget(len(some)), storage=storage, **among_values(some))


def known(session: Session, storage: str, keys: Sequence[Key]) -> set[Key]:
    return {Key(key) for some in _batches(keys)
            for key, in session.rows(_known(len(some)), storage=storage, **among_values(some))}


def _batches(keys: Iterable[Key]) -> Iterable[list[Key]]:
    left = iter(keys)
    while some := list(islice(left, _MANY)):
        yield padded(some)


def blobs_by_key(session: Session, storage: str, after: Key | None, limit: int) -> list[Blob]:
    return [rows.blob_of(row) for row in session.rows(_BLOBS, storage=storage, low=after or "", count=limit)]


def set_sha256(session: Session, blob_id: str, sha256: bytes) -> None:
    session.run(_SET_SHA256, blob=blob_id, sha256=sha256)


def purge(session: Session, now: float, audit_before: float, passing_before: float) -> int:
    return (lapse(session, now) + session.run(_ENDED, now=now) + zips.forget(session, now) + links.forget(session, now)
            + answers.forget(session, now) + auditing.forget(session, audit_before, passing_before)
            + hooks.forget(session, passing_before, min(audit_before, passing_before)) + _drop_left(session, now))


def _drop_left(session: Session, now: float) -> int:
    """What was derived of contents that an older node dropped."""
    found = [of for of, in session.rows(_LEFT)]
    for of in found:
        drop_derived(session, of, now)
    return len(found)


def counts(session: Session) -> dict[str, int]:
    return {name: (session.one(statement) or (0,))[0] for name, statement in _COUNTS.items()}
