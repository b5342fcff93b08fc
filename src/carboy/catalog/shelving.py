"""Files that are not at their path: in the trash, or staged. They keep their id, versions, tags and links, and nobody finds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, delete, insert, literal, select, update

from carboy.catalog import auditing, paths, reservations, rows
from carboy.catalog.base import Move
from carboy.catalog.contents import adopt, drop_blobs, older_of
from carboy.catalog.files import BY_ID_LOCKED, by_id
from carboy.catalog.moving import IN_FOLDER, all_unread, clear, locked, plan_there, relocate, remove, shares, span_of
from carboy.catalog.ordering import plan_jobs
from carboy.catalog.placing import add_file, current, make_way, mark_unread, replace_content, set_tags
from carboy.catalog.sessions import Row, Session
from carboy.catalog.tables import blobs, files, folders, shelf
from carboy.catalog.tallying import Tally, folders_of, total_of
from carboy.errors import NotFound
from carboy.jobs import Plan
from carboy.model import STAGED, TRASH, Act, Condition, File, Placed, Placement, Publication, Shelved, new_id

_ADD = insert(shelf)
_DROP = delete(shelf).where(shelf.c.file_id == bindparam("file"))
_DROP_FILE = delete(files).where(files.c.id == bindparam("file"))
_SHELVED = (select(shelf.c.kind, shelf.c.space, shelf.c.path, shelf.c.since, shelf.c.by, shelf.c.expires_at, *rows.FILE)
            .join_from(shelf, files, files.c.id == shelf.c.file_id).join(blobs, blobs.c.id == files.c.blob_id))
_ONE = _SHELVED.where(shelf.c.file_id == bindparam("file"))
_EXPIRED = _SHELVED.where(shelf.c.expires_at <= bindparam("now")).order_by(shelf.c.expires_at, shelf.c.file_id).limit(bindparam("count"))
_ALL_SHELVED = insert(shelf).from_select(
    [column.name for column in shelf.c],
    select(files.c.id, literal("trash"), files.c.space, files.c.path, bindparam("now", type_=shelf.c.since.type),
           bindparam("who", type_=shelf.c.by.type), bindparam("until", type_=shelf.c.expires_at.type)).where(*IN_FOLDER))
_ALL_TRASHED = update(files).where(*IN_FOLDER).values(space=TRASH, path=files.c.id)
_DROP_SUMS = delete(folders).where(folders.c.space == bindparam("from_space"), folders.c.path >= bindparam("low"),
                                   folders.c.path < bindparam("high"))
_PUBLISH = update(files).where(files.c.id == bindparam("file")).values(
    {name: bindparam(name) for name in ("space", "path", "owner", "metadata", "tags", "created_at", "modified_at")})


@cache
def _trashed(bounded: bool, following: bool) -> Select[Any]:
    """The trash of a space, last deleted first; ``bounded`` by a range of paths."""
    found = _SHELVED.where(shelf.c.kind == "trash", shelf.c.space == bindparam("of"))
    if bounded:
        found = found.where(shelf.c.path >= bindparam("low"), shelf.c.path < bindparam("high"))
    if following:
        at, id = bindparam("at", type_=shelf.c.since.type), bindparam("after", type_=shelf.c.file_id.type)
        found = found.where((shelf.c.since < at) | ((shelf.c.since == at) & (shelf.c.file_id < id)))
    return found.order_by(shelf.c.since.desc(), shelf.c.file_id.desc()).limit(bindparam("count"))


def _shelved(row: Row) -> Shelved:
    kind, space, path, since, by, expires_at = row[:6]
    return Shelved(replace(rows.file_of(row[6:]), space=space, path=path), kind, since, by, expires_at)


# --- away ---


def delete_file(session: Session, id: str, now: float, etags: tuple[str, ...] | None, by: Act | None) -> File | None:
    seen = by_id(session, id)
    if seen and seen.space.startswith("."):
        return _purge(session, id, now, by)
    try:
        file = locked(session, id)
    except NotFound:
        return None
    Condition(etags=etags).check(file)
    tally = Tally()
    remove(session, file, now, tally)
    tally.settle(session)
    auditing.enter(session, by, "file.delete", at=now, space=file.space, path=file.path, file_id=id, owner=file.owner)
    return file


def _purge(session: Session, id: str, now: float, by: Act | None) -> File | None:
    row = session.one(BY_ID_LOCKED, id=id)
    lying = shelved(session, id)
    if row is None or lying is None:
        return None
    file, older = lying.file, older_of(session, id)
    session.run(_DROP_FILE, file=id)
    drop_blobs(session, [file.blob.id, *[one.blob_id for one in older]], now)
    if lying.kind == "trash":
        tally = Tally()
        tally.kept(file.space, file.owner, trash=-total_of(file, [one.size for one in older]))
        tally.settle(session)
        auditing.enter(session, by, "file.purge", at=now, space=file.space, path=file.path, file_id=id, owner=file.owner)
    return file


def trash_file(session: Session, id: str, now: float, expires_at: float, etags: tuple[str, ...] | None, by: Act | None) -> File | None:
    try:
        file = locked(session, id)
    except NotFound:
        return None
    Condition(etags=etags).check(file)
    session.run(_ADD, file_id=id, kind="trash", space=file.space, path=file.path, since=now, by=by.principal if by else None,
                expires_at=expires_at)
    relocate(session, file, TRASH, id)
    older = sum(one.size for one in older_of(session, id))
    tally = Tally()
    tally.live(file.space, file.path, file.owner, -1, -file.size)
    tally.kept(file.space, file.owner, older=-older, trash=file.size + older)
    tally.settle(session)
    auditing.enter(session, by, "file.trash", at=now, space=file.space, path=file.path, file_id=id, owner=file.owner)
    return file


def trash_folder(session: Session, space: str, folder: str, now: float, expires_at: float, by: Act | None) -> int:
    session.lock_paths([(space, folder[:-1])])
    mine = shares(session, space, folder)
    low, high = span_of(folder)
    where = {"from_space": space, "low": low, "high": high}
    session.run(_ALL_SHELVED, **where, now=now, who=by.principal if by else None, until=expires_at)
    all_unread(session, where)
    session.run(_DROP_SUMS, **where)
    session.run(_ALL_TRASHED, **where)
    tally = Tally()
    count = sum(share.files for share in mine)
    tally.within(space, folders_of(folder)[:-1], -count, -sum(share.bytes for share in mine))
    for share in mine:
        tally.kept(space, share.owner, files=-share.files, size=-share.bytes, older=-share.older, trash=share.bytes + share.older)
    tally.settle(session)
    auditing.enter(session, by, "folder.trash", at=now, space=space, path=folder, facts={"files": count})
    return count


# --- back ---


def restore(session: Session, id: str, to: Move, now: float, by: Act | None, plan: Plan | None = None) -> File:
    session.lock_paths([(to.space, to.to)])
    row = session.one(BY_ID_LOCKED, id=id)
    lying = shelved(session, id)
    if row is None or lying is None or lying.kind != "trash":
        raise NotFound("there is no such file in the trash", id=id)
    was, older = lying.file, sum(one.size for one in older_of(session, id))
    tally = Tally()
    path = clear(session, to, now, tally, id)
    session.run(_DROP, file=id)
    file = relocate(session, rows.file_of(row), to.space, path)
    tally.kept(was.space, was.owner, trash=-(was.size + older))
    tally.live(file.space, file.path, file.owner, 1, file.size)
    tally.kept(file.space, file.owner, older=older)
    tally.limit(file.space, file.owner, to.limits)
    tally.settle(session)
    if file.space != was.space:
        file, = plan_there(session, plan, [file], now, by)
    auditing.enter(session, by, "file.restore", at=now, space=file.space, path=file.path, file_id=id, owner=file.owner)
    return file


def shelved(session: Session, id: str) -> Shelved | None:
    row = session.one(_ONE, file=id)
    return _shelved(row) if row else None


def trashed(session: Session, space: str, prefix: str, cursor: str | None, limit: int) -> tuple[list[Shelved], str | None]:
    asked: dict[str, Any] = {"of": space, "count": limit + 1}
    high = paths.successor(prefix)
    bounded = bool(prefix) and high is not None
    if bounded:
        asked |= {"low": prefix, "high": high}
    if cursor is not None:
        asked |= dict(zip(("at", "after"), paths.from_moment(cursor), strict=True))
    found = [_shelved(row) for row in session.rows(_trashed(bounded, cursor is not None), **asked)]
    shown = found[:limit]
    following = paths.to_moment(shown[-1].since, shown[-1].file.id) if len(found) > limit else None
    return shown, following


def expired(session: Session, now: float, limit: int) -> list[Shelved]:
    return [_shelved(row) for row in session.rows(_EXPIRED, now=now, count=limit)]


# --- staged ---


def stage(session: Session, placements: Sequence[Placement], now: float, expires_at: float, release: str | None) -> list[Shelved]:
    staged = [_stage(session, placement, now, expires_at) for placement in placements]
    if release is not None:
        reservations.release(session, release)
    return staged


def _stage(session: Session, placement: Placement, now: float, expires_at: float) -> Shelved:
    id, blob = new_id(), adopt(session, placement.blob)
    file = File(id, STAGED, id, placement.owner, placement.media_type, placement.metadata, blob, 1, now, now, placement.tags)
    add_file(session, file)
    session.run(_ADD, file_id=id, kind="staged", space=placement.space, path=placement.path, since=now, by=placement.owner,
                expires_at=expires_at)
    return Shelved(replace(file, space=placement.space, path=placement.path), "staged", now, placement.owner, expires_at)


def publish(session: Session, publications: Sequence[Publication], now: float, by: Act | None, plan: Plan | None = None) -> list[Placed]:
    session.lock_paths([(one.space, one.path) for one in publications])
    tally = Tally()
    placed = [_publish(session, one, now, tally, by, plan) for one in publications]
    tally.settle(session)
    return placed


def _publish(session: Session, wanted: Publication, now: float, tally: Tally, by: Act | None, plan: Plan | None) -> Placed:
    row = session.one(BY_ID_LOCKED, id=wanted.staged_id)
    lying = shelved(session, wanted.staged_id)
    if row is None or lying is None or lying.kind != "staged":
        raise NotFound("there is no such staged file (any more)", id=wanted.staged_id)
    path, found = make_way(session, wanted.space, wanted.path, current(session, wanted.space, wanted.path), wanted.on_conflict)
    staged = rows.file_of(row)
    file = _take_over(session, found, staged, wanted, now, tally) if found else _appear(session, staged, wanted, path, now, tally)
    file, planned = plan_jobs(session, plan, file, now, by)
    auditing.enter(session, by, "file.replace" if found else "file.create", at=now, space=file.space, path=file.path, file_id=file.id,
                   owner=file.owner, facts={"size": file.size, "version": file.version})
    return Placed(file, found is None, planned)


def _take_over(session: Session, found: File, staged: File, wanted: Publication, now: float, tally: Tally) -> File:
    """The file at the path gets the staged one's content."""
    placement = Placement(wanted.space, wanted.path, wanted.owner, staged.media_type, wanted.metadata, staged.blob,
                          keep_versions=wanted.keep_versions, tags=wanted.tags, limits=wanted.limits)
    file = replace_content(session, found, placement, staged.blob, now, tally)
    session.run(_DROP_FILE, file=staged.id)
    return file


def _appear(session: Session, staged: File, wanted: Publication, path: str, now: float, tally: Tally) -> File:
    file = replace(staged, space=wanted.space, path=path, owner=wanted.owner, metadata=wanted.metadata, tags=wanted.tags or staged.tags,
                   created_at=now, modified_at=now)
    session.run(_PUBLISH, file=file.id, space=file.space, path=file.path, owner=file.owner, metadata=rows.dump(file.metadata),
                tags=rows.dump_tags(file.tags), created_at=now, modified_at=now)
    if file.tags != staged.tags:
        set_tags(session, file)
    session.run(_DROP, file=file.id)
    mark_unread(session, file.id)
    tally.live(file.space, file.path, file.owner, 1, file.size)
    tally.limit(file.space, file.owner, wanted.limits)
    return file


