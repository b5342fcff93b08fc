"""A blob becomes a file's content: the one way there, whatever brought it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from sqlalchemy import ColumnElement, SelectBase, bindparam, delete, exists, insert, literal_column, select, update

from carboy.catalog import auditing, paths, reservations, rows
from carboy.catalog.contents import adopt, drop_blobs, keep_older
from carboy.catalog.files import BY_PATH_LOCKED
from carboy.catalog.ordering import plan_jobs
from carboy.catalog.sessions import Session, among, among_values, padded
from carboy.catalog.tables import files, tags, unread
from carboy.catalog.tallying import Tally
from carboy.errors import Conflict, PathConflict
from carboy.jobs import Plan
from carboy.model import Act, Blob, File, Placed, Placement, new_id

_ONE: ColumnElement[int] = literal_column("1")
_ADD_FILE = insert(files)
_REPLACE_FILE = update(files).where(files.c.id == bindparam("file")).values(
    {name: bindparam(name) for name in ("media_type", "metadata", "tags", "blob_id", "size", "version", "modified_at")})
_ADD_TAG = insert(tags)
_DROP_TAGS = delete(tags).where(tags.c.file_id == bindparam("file"))
_ADD_UNREAD = insert(unread)
_UNREAD = insert(unread).from_select(["file_id"], select(bindparam("file_id", type_=unread.c.file_id.type)).where(
    ~exists(select(_ONE).where(unread.c.file_id == bindparam("file_id", type_=unread.c.file_id.type)))))
_IN_FOLDER = (files.c.path >= bindparam("low"), files.c.path < bindparam("high"))
_TAKEN = (select(_ONE).where(files.c.space == bindparam("space"), files.c.path == bindparam("path"))
          .union_all(select(_ONE).where(files.c.space == bindparam("space"), *_IN_FOLDER)))


@cache
def _in_the_way(count: int) -> SelectBase:
    """The files among ``count`` paths, and one file in the folder ``[low, high)`` if there is any."""
    space = files.c.space == bindparam("space")
    within = select(files.c.path).where(space, *_IN_FOLDER).limit(1).subquery()
    return select(files.c.path).where(space, among(files.c.path, count)).union_all(select(within.c.path))


def place(session: Session, placements: Sequence[Placement], now: float, release: str | None, by: Act | None = None,
          plan: Plan | None = None, upload_id: str | None = None) -> list[Placed]:
    session.lock_paths([(placement.space, placement.path) for placement in placements])
    tally = Tally()
    placed = [_place(session, placement, now, tally, by, plan, upload_id) for placement in placements]
    if release is not None:
        reservations.release(session, release)
    tally.settle(session)
    return placed


def _place(session: Session, placement: Placement, now: float, tally: Tally, by: Act | None, plan: Plan | None,
           upload_id: str | None) -> Placed:
    found = current(session, placement.space, placement.path)
    placement.condition.check(found)
    path, found = make_way(session, placement.space, placement.path, found, placement.on_conflict)
    placement = placement if path == placement.path else replace(placement, path=path)
    blob = adopt(session, placement.blob)
    file = replace_content(session, found, placement, blob, now, tally) if found else _add(session, placement, blob, now, tally)
    file, planned = plan_jobs(session, plan, file, now, by)
    auditing.enter(session, by, "file.replace" if found else "file.create", at=now, space=file.space, path=file.path, file_id=file.id,
                   owner=file.owner, upload_id=upload_id, facts={"size": file.size, "version": file.version})
    return Placed(file, found is None, planned)


def make_way(session: Session, space: str, path: str, found: File | None, on_conflict: str) -> tuple[str, File | None]:
    """The path that a newcomer takes, and the file whose place it takes. Raises Conflict."""
    if found and on_conflict == "refuse":
        raise Conflict("there is a file already", space=space, path=path)
    if found and on_conflict == "rename":
        return _free_path(session, space, path), None
    return path, found


def current(session: Session, space: str, path: str) -> File | None:
    """The file at the path. Raises PathConflict if the path is a folder or goes through a file."""
    asked = padded([path, *paths.ancestors(path)])
    low, high = paths.inside(path)
    found = session.rows(_in_the_way(len(asked)), space=space, low=low, high=high, **among_values(asked))
    if not found:
        return None
    if (path,) in found:
        row = session.one(BY_PATH_LOCKED, space=space, path=path)
        return rows.file_of(row) if row else None
    other = found[0][0]
    kind = "a folder" if other.startswith(low) else "inside a file"
    raise PathConflict(f"the path is {kind}", space=space, path=path)


def _free_path(session: Session, space: str, path: str) -> str:
    def taken(number: int) -> bool:
        twin = paths.numbered(path, number)
        low, high = paths.inside(twin)
        return session.one(_TAKEN, space=space, path=twin, low=low, high=high) is not None

    while True:
        number = paths.first_free(taken)
        free = paths.numbered(path, number)
        session.lock_paths([(space, free)])
        if not taken(number):
            return free


def _add(session: Session, placement: Placement, blob: Blob, now: float, tally: Tally) -> File:
    file = File(new_id(), placement.space, placement.path, placement.owner, placement.media_type, placement.metadata, blob,
                version=1, created_at=now, modified_at=_made(placement, now), tags=placement.tags)
    add_file(session, file)
    session.run(_ADD_UNREAD, file_id=file.id)
    tally.live(file.space, file.path, file.owner, 1, file.size)
    tally.limit(file.space, file.owner, placement.limits)
    return file


def _made(placement: Placement, now: float) -> float:
    return now if placement.modified_at is None else placement.modified_at


def add_file(session: Session, file: File) -> None:
    """A new row of ``files`` and its tags."""
    session.run(_ADD_FILE, **rows.file_values(file))
    for tag in file.tags:
        session.run(_ADD_TAG, file_id=file.id, tag=tag)


def replace_content(session: Session, old: File, placement: Placement, blob: Blob, now: float, tally: Tally) -> File:
    """The file keeps its identity, owner and birth, and its tags where none are given."""
    fresh = blob.id != old.blob.id
    file = replace(old, media_type=placement.media_type, metadata=placement.metadata, tags=placement.tags or old.tags, blob=blob,
                   modified_at=_made(placement, now), version=old.version + fresh)
    session.run(_REPLACE_FILE, file=file.id, media_type=file.media_type, metadata=rows.dump(file.metadata),
                tags=rows.dump_tags(file.tags), blob_id=blob.id, size=blob.size, version=file.version,
                modified_at=file.modified_at)
    if file.tags != old.tags:
        set_tags(session, file)
    if file.tags != old.tags or file.metadata != old.metadata:
        mark_unread(session, file.id)
    tally.live(file.space, file.path, file.owner, 0, file.size - old.size)
    tally.limit(file.space, file.owner, placement.limits)
    if fresh and placement.keep_versions > 0:
        keep_older(session, old, placement.keep_versions, now, tally)
    elif fresh:
        drop_blobs(session, [old.blob.id], now)
    return file


def set_tags(session: Session, file: File) -> None:
    """The rows of ``tags`` are the file's tags again."""
    session.run(_DROP_TAGS, file=file.id)
    for tag in file.tags:
        session.run(_ADD_TAG, file_id=file.id, tag=tag)


def mark_unread(session: Session, file_id: str) -> None:
    """What a search looks in has changed."""
    session.run(_UNREAD, file_id=file_id)
