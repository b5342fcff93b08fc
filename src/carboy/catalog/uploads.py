"""Uploads under way: their spans, chunks and end. Every change locks the upload's row first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, SelectBase, and_, bindparam, delete, func, insert, literal_column, or_, select, update

from carboy.catalog import auditing, fragments, leasing, rows
from carboy.catalog.base import ChunkTotals, Reservation
from carboy.catalog.contents import condemn
from carboy.catalog.reservations import release, renew, shrink
from carboy.catalog.sessions import Row, Session, among, among_values, padded
from carboy.catalog.spans import Combine, merged
from carboy.catalog.tables import OF_PARTS, RECEIVING, chunks, spans, uploads
from carboy.errors import Conflict, NotFound, TooLarge, UploadGone
from carboy.model import Chunk, Fragment, Key, Progress, Span, Upload, UploadState

_ID = uploads.c.id == bindparam("id")
_OF = spans.c.upload_id == bindparam("upload_id")
_BY_ID = select(*rows.UPLOAD).where(_ID)
_LOCK = _BY_ID.with_for_update()
_NAMED = (uploads.c.space == bindparam("space"), uploads.c.name == bindparam("name"),
          func.coalesce(uploads.c.owner, literal_column("''")) == func.coalesce(bindparam("owner", type_=uploads.c.owner.type),
                                                                              literal_column("''")))
_RECEIVING_NAMED = select(*rows.UPLOAD).where(uploads.c.state == RECEIVING, *_NAMED)
_COMPLETE_NAMED = (select(*rows.UPLOAD).where(uploads.c.state == literal_column("'complete'"), *_NAMED)
                   .order_by(uploads.c.touched_at.desc(), uploads.c.id).limit(1))
_ADD = insert(uploads)
_TOUCH = update(uploads).where(_ID).values(
    {name: bindparam(name) for name in ("size", "touched_at", "expires_at")})
_END = update(uploads).where(_ID).values(
    {name: bindparam(name) for name in ("state", "file_id", "failure", "touched_at", "expires_at")})
_RENAME = update(uploads).where(_ID, uploads.c.state == RECEIVING).values(path=bindparam("path"))
_SPANS = select(spans.c.start, spans.c.end, spans.c.crc).where(_OF).order_by(spans.c.start)
_ADD_SPAN = insert(spans)
_GROW_SPAN = update(spans).where(_OF, spans.c.start == bindparam("at")).values(end=bindparam("end"), crc=bindparam("crc"))
_DROP_SPAN = delete(spans).where(_OF, spans.c.start == bindparam("at"))
_DROP_SPANS = delete(spans).where(_OF)
_CHUNK = (chunks.c.index, chunks.c.size, chunks.c.crc, chunks.c.start, chunks.c.key)
_CHUNKS = select(*_CHUNK).where(chunks.c.upload_id == bindparam("upload_id")).order_by(chunks.c.index)
_ONE_CHUNK = select(*_CHUNK).where(chunks.c.upload_id == bindparam("upload_id"), chunks.c.index == bindparam("number"))
_ADD_CHUNK = insert(chunks)
_DROP_CHUNK = delete(chunks).where(chunks.c.upload_id == bindparam("upload_id"), chunks.c.index == bindparam("number"))
_PIECES = select(chunks.c.key).where(chunks.c.upload_id == bindparam("upload_id"), chunks.c.key.is_not(None))
_DROP_PIECES = delete(chunks).where(chunks.c.upload_id == bindparam("upload_id"), chunks.c.key.is_not(None))
_TOTALS = (select(func.count(), func.max(chunks.c.index), func.max(chunks.c.start + chunks.c.size), func.count(chunks.c.key))
           .where(chunks.c.upload_id == bindparam("upload_id")))
_EXPIRED = (select(*rows.UPLOAD).where(uploads.c.state == RECEIVING, uploads.c.expires_at <= bindparam("now"))
            .order_by(uploads.c.expires_at, uploads.c.id).limit(bindparam("count")))
_WHOLE: Select[Any] = select(literal_column("1")).where(
    spans.c.upload_id == uploads.c.id, spans.c.start == 0, spans.c.end == uploads.c.size)
_COVERED = (select(*rows.UPLOAD).where(uploads.c.state == RECEIVING, uploads.c.partial == 0, uploads.c.parts == literal_column("'[]'"),
                                       or_(uploads.c.size == 0, _WHOLE.exists()), uploads.c.id > bindparam("low"))
            .order_by(uploads.c.id).limit(bindparam("count")))
_OF_PARTS = (select(*rows.UPLOAD).where(OF_PARTS, uploads.c.id > bindparam("low"), uploads.c.parts.like(bindparam("naming")))
             .order_by(uploads.c.id).limit(bindparam("count")))


@cache
def _page(filters: tuple[str, ...]) -> SelectBase:
    wanted: list[ColumnElement[bool]] = [uploads.c[name] == bindparam(name) for name in filters]
    return (select(*rows.UPLOAD).where(uploads.c.state == RECEIVING, uploads.c.id > bindparam("low"), and_(True, *wanted))
            .order_by(uploads.c.id).limit(bindparam("count")))


@cache
def _spans_of(count: int) -> SelectBase:
    return (select(spans.c.upload_id, spans.c.start, spans.c.end, spans.c.crc).where(among(spans.c.upload_id, count))
            .order_by(spans.c.start))


def progress(session: Session, id: str) -> Progress | None:
    return _progress(session, session.one(_BY_ID, id=id))


def named(session: Session, space: str, owner: str | None, name: str) -> Progress | None:
    which = {"space": space, "owner": owner, "name": name}
    return _progress(session, session.one(_RECEIVING_NAMED, **which) or session.one(_COMPLETE_NAMED, **which))


def _progress(session: Session, row: Row | None) -> Progress | None:
    return Progress(rows.upload_of(row), recorded(session, row[0])) if row else None


def recorded(session: Session, upload_id: str) -> list[Span]:
    return rows.spans_of(session.rows(_SPANS, upload_id=upload_id))


def receiving(session: Session, filters: Mapping[str, str], after: str, limit: int) -> tuple[list[Progress], str | None]:
    """Receiving uploads that match the filters (``space``, ``owner``), by id."""
    found = [rows.upload_of(row) for row in session.rows(_page(tuple(sorted(filters))), low=after, count=limit + 1, **filters)]
    shown = found[:limit]
    of: dict[str, list[Span]] = {upload.id: [] for upload in shown}
    if shown:
        asked = padded(list(of))
        for id, start, end, crc in session.rows(_spans_of(len(asked)), **among_values(asked)):
            of[id].append(Span(start, end, rows.unpack_crc(crc)))
    return [Progress(upload, of[upload.id]) for upload in shown], shown[-1].id if len(found) > limit else None


def create(session: Session, upload: Upload, reserve: Reservation | None) -> Upload:
    if upload.name is not None:
        row = session.one(_RECEIVING_NAMED, space=upload.space, owner=upload.owner, name=upload.name)
        if row:
            return rows.upload_of(row)
    session.run(_ADD, **rows.upload_values(upload))
    if reserve:
        renew(session, reserve)
    return upload


def lock(session: Session, id: str) -> Upload:
    """The upload, its row locked. Raises NotFound."""
    row = session.one(_LOCK, id=id)
    if row is None:
        raise NotFound("there is no such upload", upload=id)
    return rows.upload_of(row)


def rename(session: Session, id: str, path: str) -> bool:
    return session.run(_RENAME, id=id, path=path) == 1


def require_receiving(upload: Upload) -> None:
    """Raises UploadGone."""
    if upload.state != "receiving":
        raise UploadGone(f"the upload is {upload.state}", upload=upload.id, state=upload.state)


def record(session: Session, id: str, new: Sequence[Span], combine: Combine, *, now: float, expires_at: float,
           size: int | None, chunk: Chunk | None, reserve_until: float | None, kept: Sequence[Fragment],
           lease: str | None) -> Progress:
    upload = lock(session, id)
    require_receiving(upload)
    if lease:
        leasing.require_held(session, lease)
    upload = replace(upload, size=_size(upload.size, size), touched_at=now, expires_at=expires_at)
    old = recorded(session, id)
    all_spans = merged([*old, *new], combine)
    if upload.size is not None and all_spans and all_spans[-1].end > upload.size:
        raise TooLarge("there are bytes past the declared size", limit=upload.size, end=all_spans[-1].end)
    _keep_spans(session, id, old, all_spans)
    if chunk:
        _keep_chunk(session, upload, chunk, now)
    fragments.keep(session, upload, kept, now)
    if reserve_until is not None and upload.size is not None:
        shrink(session, id, upload.size - sum(span.length for span in all_spans), reserve_until)
    session.run(_TOUCH, id=id, size=upload.size, touched_at=now, expires_at=expires_at)
    return Progress(upload, all_spans)


def _size(declared: int | None, size: int | None) -> int | None:
    """The size from now on. Raises Conflict for another than the declared one."""
    if size is not None and declared is not None and size != declared:
        raise Conflict("the upload was declared with another size", declared=declared, size=size)
    return declared if size is None else size


def _keep_spans(session: Session, upload_id: str, old: Sequence[Span], new: Sequence[Span]) -> None:
    before, now = {span.start: span for span in old}, {span.start: span for span in new}
    for at in before.keys() - now.keys():
        session.run(_DROP_SPAN, upload_id=upload_id, at=at)
    for at, span in now.items():
        if at not in before:
            session.run(_ADD_SPAN, upload_id=upload_id, start=at, end=span.end, crc=rows.pack_crc(span.crc))
        elif before[at] != span:
            session.run(_GROW_SPAN, upload_id=upload_id, at=at, end=span.end, crc=rows.pack_crc(span.crc))


def _keep_chunk(session: Session, upload: Upload, chunk: Chunk, now: float) -> None:
    row = session.one(_ONE_CHUNK, upload_id=upload.id, number=chunk.index)
    if row:
        session.run(_DROP_CHUNK, upload_id=upload.id, number=chunk.index)
        old = rows.chunk_of(row).key
        if old not in (None, chunk.key):
            condemn(session, upload.storage, old, now)
    session.run(_ADD_CHUNK, upload_id=upload.id, index=chunk.index, size=chunk.size, crc=rows.pack_crc(chunk.crc),
                start=chunk.start, key=chunk.key)


def chunks_of(session: Session, upload_id: str) -> list[Chunk]:
    """By index."""
    return [rows.chunk_of(row) for row in session.rows(_CHUNKS, upload_id=upload_id)]


def chunk_totals(session: Session, upload_id: str) -> ChunkTotals:
    count, highest, end, pieces = session.rows(_TOTALS, upload_id=upload_id)[0]
    return ChunkTotals(count, -1 if highest is None else highest, end or 0, pieces)


def close(session: Session, upload: Upload, state: UploadState, *, now: float, expires_at: float, file_id: str | None = None,
          failure: str | None = None, kept: Key | None = None) -> None:
    """Give a locked upload its final state: its pieces but ``kept`` are condemned, its fragments and its reservation go. What else is
    known of its chunks goes with its row, later: how many there were must not make completing it slower."""
    pieces = [key for key, in session.rows(_PIECES, upload_id=upload.id)]
    for key in pieces:
        if key != kept:
            condemn(session, upload.storage, key, now)
    if pieces:
        session.run(_DROP_PIECES, upload_id=upload.id)
    if upload.driver_state:
        fragments.drop(session, upload, now, kept)
    release(session, upload.id)
    session.run(_END, id=upload.id, state=state, file_id=file_id, failure=failure, touched_at=now, expires_at=expires_at)


def end(session: Session, id: str, state: UploadState, *, now: float, failure: str | None, expires_at: float) -> bool:
    row = session.one(_LOCK, id=id)
    upload = rows.upload_of(row) if row else None
    if upload is None or upload.state != "receiving" or (state == "expired" and upload.expires_at > now):
        return False
    close(session, upload, state, now=now, expires_at=expires_at, failure=failure)
    session.run(_DROP_SPANS, upload_id=id)
    condemn(session, upload.storage, upload.key, now)
    auditing.enter(session, None, f"upload.{state}", at=now, space=upload.space, path=upload.path, owner=upload.owner, upload_id=id,
                   facts={"failure": failure} if failure else None)
    return True


def expired(session: Session, now: float, limit: int) -> list[Upload]:
    return [rows.upload_of(row) for row in session.rows(_EXPIRED, now=now, count=limit)]


def covered(session: Session, after: str, limit: int) -> list[Upload]:
    """By id. Neighbours merge, so what covers the size is one span."""
    return [rows.upload_of(row) for row in session.rows(_COVERED, low=after, count=limit)]


def of_parts(session: Session, after: str, limit: int, part: str) -> list[Upload]:
    """By id. A part's id is of letters and digits."""
    return [rows.upload_of(row) for row in session.rows(_OF_PARTS, low=after, naming=f"%{part}%", count=limit)]


def add_complete(session: Session, upload: Upload) -> None:
    """An upload that came whole, so that it is told of as others are."""
    session.run(_ADD, **rows.upload_values(upload))
