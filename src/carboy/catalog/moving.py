"""Files and folders at other paths. Paths are locked before rows, as everywhere, so that no two wait for each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, bindparam, delete, exists, func, insert, literal_column, select, update

from carboy.catalog import auditing, rows
from carboy.catalog.base import Move
from carboy.catalog.contents import drop_blobs, lock_blob, older_of
from carboy.catalog.files import BY_ID_LOCKED, by_id, versions_of
from carboy.catalog.ordering import enter_orders, of_blob, plan_jobs
from carboy.catalog.paths import after, inside
from carboy.catalog.placing import current, make_way, mark_unread
from carboy.catalog.sessions import Session
from carboy.catalog.tables import blobs, files, folders, jobs, links, unread, versions
from carboy.catalog.tallying import Tally, folders_of
from carboy.catalog.texts import READING
from carboy.errors import Conflict, InvalidName, InvalidRequest, NotFound, Pending
from carboy.jobs import Plan
from carboy.model import Act, Condition, File

MAX_PATH = 4096
_ONE: ColumnElement[int] = literal_column("1")
_RELOCATE = update(files).where(files.c.id == bindparam("file")).values(space=bindparam("to_space"), path=bindparam("to_path"))
_DROP_FILE = delete(files).where(files.c.id == bindparam("file"))
IN_FOLDER = (files.c.space == bindparam("from_space"), files.c.path >= bindparam("low"), files.c.path < bindparam("high"))
"""The files in the folder ``[low, high)``."""
_HELD = (*IN_FOLDER, blobs.c.held > 0, blobs.c.quarantine.is_(None))
_PENDING = (select(*rows.FILE).join_from(files, blobs, files.c.blob_id == blobs.c.id).where(*_HELD)
            .union_all(select(*rows.FILE).join_from(files, versions, versions.c.file_id == files.c.id)
                       .join(blobs, versions.c.blob_id == blobs.c.id).where(*_HELD)))
_MOVED = select(*rows.FILE).join_from(files, blobs, files.c.blob_id == blobs.c.id).where(*IN_FOLDER).order_by(blobs.c.id)
_BY_OWNER = (select(files.c.owner, func.count(), func.sum(files.c.size), func.max(func.length(files.c.path)))
             .where(*IN_FOLDER).group_by(files.c.owner).order_by(files.c.owner))
_OLDER_BY_OWNER = (select(files.c.owner, func.sum(blobs.c.size))
                   .join_from(files, versions, versions.c.file_id == files.c.id).join(blobs, blobs.c.id == versions.c.blob_id)
                   .where(*IN_FOLDER).group_by(files.c.owner))


def _rebased(path: ColumnElement[str]) -> ColumnElement[str]:
    return bindparam("to", type_=files.c.path.type) + func.substr(path, bindparam("after"))


_MOVE_FILES = update(files).where(*IN_FOLDER).values(space=bindparam("to_space"), path=_rebased(files.c.path))
_MOVE_SUMS = update(folders).where(folders.c.space == bindparam("from_space"), folders.c.path >= bindparam("low"),
                                   folders.c.path < bindparam("high")).values(space=bindparam("to_space"), path=_rebased(folders.c.path))
_MOVE_LINKS = update(links).where(links.c.space == bindparam("from_space"), links.c.file_id.is_(None), links.c.path >= bindparam("low"),
                                  links.c.path < bindparam("high")).values(space=bindparam("to_space"), path=_rebased(links.c.path))
_MOVE_FILE_LINKS = update(links).where(links.c.file_id == bindparam("file")).values(space=bindparam("to_space"))
_MOVE_FILE_JOBS = update(jobs).where(jobs.c.file_id == bindparam("file"), jobs.c.space != bindparam("to_space")).values(
    space=bindparam("to_space"))
_MOVE_JOBS = update(jobs).where(jobs.c.file_id.in_(select(files.c.id).where(*IN_FOLDER)), jobs.c.space != bindparam("from_space")).values(
    space=bindparam("from_space"))
"""The jobs of what lies in the folder are of its space."""
_ALL_UNREAD = insert(unread).from_select(["file_id"], select(files.c.id).where(
    *IN_FOLDER, ~exists(select(_ONE).where(unread.c.file_id == files.c.id))))


@dataclass(frozen=True, slots=True)
class Share:
    """What of a folder is one owner's."""

    owner: str | None
    files: int
    bytes: int
    older: int


def move(session: Session, id: str, to: Move, now: float, etags: tuple[str, ...] | None, by: Act | None, plan: Plan | None = None) -> File:
    old = locked(session, id, (to.space, to.to))
    Condition(etags=etags).check(old)
    if (old.space, old.path) == (to.space, to.to):
        return old
    tally = Tally()
    path = clear(session, to, now, tally, old.id)
    file = relocate(session, old, to.space, path)
    older = sum(one.size for one in older_of(session, id))
    tally.live(old.space, old.path, old.owner, -1, -old.size)
    tally.kept(old.space, old.owner, older=-older)
    tally.live(file.space, file.path, file.owner, 1, file.size)
    tally.kept(file.space, file.owner, older=older)
    tally.limit(file.space, file.owner, to.limits)
    tally.settle(session)
    if file.space != old.space:
        _let_along(session, to, file.path)
        file, = plan_there(session, plan, [file], now, by)
    auditing.enter(session, by, "file.move", at=now, space=file.space, path=file.path, file_id=file.id, owner=file.owner,
                   facts={"from_space": old.space, "from": old.path})
    return file


def pending(session: Session, space: str, path: str) -> list[File]:
    """See :meth:`carboy.catalog.base.Catalog.pending`."""
    low, high = span_of(path) if path.endswith("/") else (path, after(path))
    return [rows.file_of(row) for row in session.rows(_PENDING, from_space=space, low=low, high=high)]


def _let_along(session: Session, to: Move, path: str) -> None:
    """Raises Pending where something of what has come to ``path`` is held back, and isn't to go along."""
    for file in pending(session, to.space, path) if to.pending is not None else ():
        if file.blob.id not in (to.pending or ()):
            steps = [job.step for job in of_blob(session, file.blob.id) if job.is_holding]
            raise Pending("the file is held back until it is checked; try again later", steps=steps)


def plan_there(session: Session, plan: Plan | None, came: Iterable[File], now: float, by: Act | None) -> list[File]:
    """Files that came from another space go through the steps of this one, their older contents through those that hold. As they are held
    back now."""
    if plan is None:
        return list(came)
    contents = [(file, True) for file in came]
    contents += [(replace(file, blob=older.blob, media_type=older.media_type), False) for file, _ in contents if plan.holds(file.space)
                 for older in versions_of(session, file.id)]
    there = []
    for file, is_current in sorted(contents, key=lambda content: content[0].blob.id):  # in one order, so that no two wait for each other
        blob = lock_blob(session, file.blob.id)
        if is_current:
            there.append(plan_jobs(session, plan, file, now, by)[0] if blob else file)
        elif blob and (orders := [one for one in plan.orders(file) if one.holds]):
            enter_orders(session, file, orders, now, by.request if by else "")
    return there


def all_unread(session: Session, where: Mapping[str, str]) -> None:
    """A search reads the files of the folder again. Their rows are not locked yet, so whoever reads texts is kept out meanwhile: it
    could read a file as it was, and take it off the list."""
    session.serialise(READING)
    session.run(_ALL_UNREAD, **where)


def locked(session: Session, id: str, *more: tuple[str, str]) -> File:
    """The file at its path, that path locked, and ``more`` too. Raises NotFound."""
    while True:
        seen = by_id(session, id)
        if seen is None or seen.space.startswith("."):
            raise NotFound("there is no such file", id=id)
        session.lock_paths([(seen.space, seen.path), *more])
        row = session.one(BY_ID_LOCKED, id=id)
        file = rows.file_of(row) if row else None
        if file is None or (file.space, file.path) == (seen.space, seen.path):
            break
    if file is None:
        raise NotFound("there is no such file any more", id=id)
    return file


def clear(session: Session, to: Move, now: float, tally: Tally, id: str) -> str:
    """Where a file that comes to ``to`` will be; what is in its way goes, is evaded or, as Conflict, stops it."""
    found = current(session, to.space, to.to)
    if found and found.id == id:
        return to.to
    path, found = make_way(session, to.space, to.to, found, to.on_conflict)
    if found:
        remove(session, found, now, tally)
    return path


def remove(session: Session, file: File, now: float, tally: Tally) -> None:
    """A locked file at its path is gone, with its versions."""
    older = older_of(session, file.id)
    session.run(_DROP_FILE, file=file.id)
    drop_blobs(session, [file.blob.id, *[one.blob_id for one in older]], now)
    tally.live(file.space, file.path, file.owner, -1, -file.size)
    tally.kept(file.space, file.owner, older=-sum(one.size for one in older))


def relocate(session: Session, file: File, space: str, path: str) -> File:
    """The row, with its links and jobs, alone: the file is at a path that is free. On the shelf jobs keep the space where it was."""
    session.run(_RELOCATE, file=file.id, to_space=space, to_path=path)
    if space != file.space and not space.startswith("."):
        session.run(_MOVE_FILE_LINKS, file=file.id, to_space=space)
        session.run(_MOVE_FILE_JOBS, file=file.id, to_space=space)
    mark_unread(session, file.id)
    return replace(file, space=space, path=path)


# --- folders ---


def move_folder(session: Session, space: str, folder: str, to: Move, now: float, by: Act | None, plan: Plan | None = None) -> int:
    if (space, folder) == (to.space, to.to):
        return sum(share.files for share in shares(session, space, folder))
    if space == to.space and to.to.startswith(folder):
        raise InvalidRequest("a folder can't go into itself", folder=folder, to=to.to)
    session.lock_paths([(space, folder[:-1]), (to.space, to.to[:-1])])
    if current(session, to.space, to.to[:-1]):
        raise Conflict("there is a file with the folder's new name", space=to.space, path=to.to[:-1])
    mine = shares(session, space, folder)
    _check_length(session, space, folder, to.to)
    low, high = span_of(folder)
    where = {"from_space": space, "low": low, "high": high}
    there = {"to_space": to.space, "to": to.to, "after": len(folder) + 1}
    all_unread(session, where)
    for statement in (_MOVE_FILES, _MOVE_SUMS, _MOVE_LINKS):
        session.run(statement, **where, **there)
    _settle_folder(session, (space, folder), to, mine)
    if to.space != space:
        _let_along(session, to, to.to)
        low, high = span_of(to.to)
        now_in = {"from_space": to.space, "low": low, "high": high}
        session.run(_MOVE_JOBS, **now_in)
        if plan and plan.concerns(to.space):
            plan_there(session, plan, map(rows.file_of, session.rows(_MOVED, **now_in)), now, by)
    count = sum(share.files for share in mine)
    auditing.enter(session, by, "folder.move", at=now, space=to.space, path=to.to,
                   facts={"from_space": space, "from": folder, "files": count})
    return count


def span_of(folder: str) -> tuple[str, str]:
    """The range of everything in a folder, its slash included."""
    return inside(folder[:-1])


def shares(session: Session, space: str, folder: str) -> list[Share]:
    """Whose files lie in the folder. Raises NotFound where there is none."""
    low, high = span_of(folder)
    where = {"from_space": space, "low": low, "high": high}
    older = {owner: int(size) for owner, size in session.rows(_OLDER_BY_OWNER, **where)}
    found = [Share(owner, count, int(size), older.get(owner, 0)) for owner, count, size, _ in session.rows(_BY_OWNER, **where)]
    if not found:
        raise NotFound("there is no such folder", space=space, folder=folder)
    return found


def _check_length(session: Session, space: str, folder: str, to: str) -> None:
    low, high = span_of(folder)
    longest = max(length for *_, length in session.rows(_BY_OWNER, from_space=space, low=low, high=high))
    if longest - len(folder) + len(to) > MAX_PATH:
        raise InvalidName(f"a path in the folder would have more than {MAX_PATH} characters", rule="path_too_long", limit=MAX_PATH)


def _settle_folder(session: Session, old: tuple[str, str], to: Move, mine: Sequence[Share]) -> None:
    """The sums within have moved along; those above it, and usage, follow."""
    space, folder = old
    count, size = sum(share.files for share in mine), sum(share.bytes for share in mine)
    tally = Tally()
    tally.within(space, folders_of(folder)[:-1], -count, -size)
    tally.within(to.space, folders_of(to.to)[:-1], count, size)
    for share in mine if space != to.space else ():
        tally.kept(space, share.owner, files=-share.files, size=-share.bytes, older=-share.older)
        tally.kept(to.space, share.owner, files=share.files, size=share.bytes, older=share.older)
        tally.limit(to.space, share.owner, to.limits)
    tally.settle(session)
