"""A blob becomes a file's content, and what nothing refers to any more is condemned.

Blobs' rows are locked before anyone looks at what refers to them, so that nobody can adopt a blob that is going.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from sqlalchemy import ColumnElement, LargeBinary, SelectBase, bindparam, cast, delete, exists, insert, literal_column, select, update

from carboy.catalog import paths, reservations, rows
from carboy.catalog.files import BY_ID_LOCKED, BY_PATH_LOCKED
from carboy.catalog.sessions import Session, among, among_values, padded
from carboy.catalog.tables import blobs, condemned, files, jobs, versions
from carboy.errors import Conflict, NotFound, PathConflict
from carboy.model import Blob, Condition, File, Placed, Placement, new_id

_ONE: ColumnElement[int] = literal_column("1")
_CONDEMNED = select(_ONE).where(condemned.c.storage == bindparam("storage"), condemned.c.key == bindparam("key"))
_LOCK_BLOB = select(*rows.BLOB).where(blobs.c.id == bindparam("id")).with_for_update()
_ADD_BLOB = insert(blobs).from_select(
    list(blobs.c),
    select(*[cast(bindparam(c.name), c.type) if isinstance(c.type, LargeBinary) else bindparam(c.name, type_=c.type)
             for c in blobs.c]).where(~exists(_CONDEMNED)))
_ADD_FILE = insert(files)
_REPLACE_FILE = update(files).where(files.c.id == bindparam("file")).values(
    {name: bindparam(name) for name in ("media_type", "metadata", "blob_id", "version", "modified_at")})
_ADD_VERSION = insert(versions)
_OLD_VERSIONS = (select(versions.c.number, versions.c.blob_id).where(versions.c.file_id == bindparam("file_id"))
                 .order_by(versions.c.number.desc()))
_DROP_VERSION = delete(versions).where(versions.c.file_id == bindparam("file_id"), versions.c.number == bindparam("number"))
_ADD_JOB = insert(jobs)
_DROP_FILE = delete(files).where(files.c.id == bindparam("id"))
_DROP_JOBS = delete(jobs).where(jobs.c.blob_id == bindparam("id"))
_DROP_BLOB = delete(blobs).where(blobs.c.id == bindparam("id"))
_USES = (select(_ONE).where(files.c.blob_id == bindparam("id"))
         .union_all(select(_ONE).where(versions.c.blob_id == bindparam("id"))))
_CONDEMN = insert(condemned)
_IN_FOLDER = (files.c.path >= bindparam("low"), files.c.path < bindparam("high"))
_TAKEN = (select(_ONE).where(files.c.space == bindparam("space"), files.c.path == bindparam("path"))
          .union_all(select(_ONE).where(files.c.space == bindparam("space"), *_IN_FOLDER)))


@cache
def _in_the_way(count: int) -> SelectBase:
    """The files among ``count`` paths, and one file in the folder ``[low, high)`` if there is any."""
    space = files.c.space == bindparam("space")
    within = select(files.c.path).where(space, *_IN_FOLDER).limit(1).subquery()
    return select(files.c.path).where(space, among(files.c.path, count)).union_all(select(within.c.path))


def place(session: Session, placements: Sequence[Placement], now: float, release: str | None) -> list[Placed]:
    session.lock_paths([(placement.space, placement.path) for placement in placements])
    placed = [_place(session, placement, now) for placement in placements]
    if release is not None:
        reservations.release(session, release)
    return placed


def _place(session: Session, placement: Placement, now: float) -> Placed:
    current = _current(session, placement.space, placement.path)
    placement.condition.check(current)
    if current and placement.on_conflict == "refuse":
        raise Conflict("there is a file already", space=placement.space, path=placement.path)
    if current and placement.on_conflict == "rename":
        placement, current = replace(placement, path=_free_path(session, placement.space, placement.path)), None
    blob = _adopt(session, placement.blob)
    file = _replace(session, current, placement, blob, now) if current else _add(session, placement, blob, now)
    for step in placement.steps:
        session.run(_ADD_JOB, id=new_id(), blob_id=blob.id, file_id=file.id, step=step, state="queued", attempts=0, fence=0,
                    lease_until=None, created_at=now, changed_at=now, result=None, failure=None)
    return Placed(file, current is None)


def _current(session: Session, space: str, path: str) -> File | None:
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


def _adopt(session: Session, blob: Blob) -> Blob:
    """The blob as kept, locked; new ones are added. Raises NotFound if its bytes are condemned."""
    row = session.one(_LOCK_BLOB, id=blob.id)
    if row:
        return rows.blob_of(row)
    if session.run(_ADD_BLOB, **rows.blob_values(blob)) != 1:
        raise NotFound("the stored bytes are being removed", blob=blob.id)
    return blob


def _add(session: Session, placement: Placement, blob: Blob, now: float) -> File:
    file = File(new_id(), placement.space, placement.path, placement.owner, placement.media_type, placement.metadata, blob,
                version=1, created_at=now, modified_at=now)
    session.run(_ADD_FILE, **rows.file_values(file))
    return file


def _replace(session: Session, old: File, placement: Placement, blob: Blob, now: float) -> File:
    """The file keeps its identity, owner and birth."""
    fresh = blob.id != old.blob.id
    file = replace(old, media_type=placement.media_type, metadata=placement.metadata, blob=blob, modified_at=now,
                   version=old.version + fresh)
    session.run(_REPLACE_FILE, file=file.id, media_type=file.media_type, metadata=rows.dump(file.metadata), blob_id=blob.id,
                version=file.version, modified_at=now)
    if fresh and placement.keep_versions > 0:
        _keep_version(session, old, placement.keep_versions, now)
    elif fresh:
        drop_blobs(session, [old.blob.id], now)
    return file


def _keep_version(session: Session, old: File, keep: int, now: float) -> None:
    session.run(_ADD_VERSION, file_id=old.id, number=old.version, blob_id=old.blob.id, media_type=old.media_type,
                created_at=old.modified_at)
    beyond = session.rows(_OLD_VERSIONS, file_id=old.id)[keep:]
    for number, _ in beyond:
        session.run(_DROP_VERSION, file_id=old.id, number=number)
    drop_blobs(session, [blob_id for _, blob_id in beyond], now)


def delete_file(session: Session, id: str, now: float, etags: tuple[str, ...] | None) -> File | None:
    row = session.one(BY_ID_LOCKED, id=id)
    if row is None:
        return None
    file = rows.file_of(row)
    if etags is not None:
        Condition(etags=etags).check(file)
    older = session.rows(_OLD_VERSIONS, file_id=id)
    session.run(_DROP_FILE, id=id)
    drop_blobs(session, [file.blob.id, *[blob_id for _, blob_id in older]], now)
    return file


def drop_blobs(session: Session, blob_ids: Sequence[str], now: float) -> None:
    """Forget those that nothing refers to, and condemn their bytes. In one order, so that no two wait for each other."""
    for blob_id in sorted(set(blob_ids)):
        row = session.one(_LOCK_BLOB, id=blob_id)
        if row and not session.one(_USES, id=blob_id):
            blob = rows.blob_of(row)
            session.run(_DROP_JOBS, id=blob_id)
            session.run(_DROP_BLOB, id=blob_id)
            condemn(session, blob.storage, blob.key, now)


def condemn(session: Session, storage: str, key: str, now: float) -> None:
    """From now on the sweeper may remove these bytes."""
    if not session.one(_CONDEMNED, storage=storage, key=key):
        session.run(_CONDEMN, storage=storage, key=key, since=now)
