"""What is said of a file, and going back to an older content of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import bindparam, select, update

from carboy.catalog import auditing, rows
from carboy.catalog.contents import Older, drop_older, lock_blob
from carboy.catalog.files import BY_ID_LOCKED
from carboy.catalog.ordering import plan_jobs
from carboy.catalog.placing import mark_unread, replace_content, set_tags
from carboy.catalog.sessions import Session
from carboy.catalog.tables import blobs, files, versions
from carboy.catalog.tallying import Tally
from carboy.errors import NotFound
from carboy.jobs import Plan
from carboy.model import Act, Condition, File, Placement

_DESCRIBE = update(files).where(files.c.id == bindparam("file")).values(metadata=bindparam("metadata"), tags=bindparam("tags"))
_VERSION = (select(versions.c.media_type, *rows.BLOB).join_from(versions, blobs, blobs.c.id == versions.c.blob_id)
            .where(versions.c.file_id == bindparam("file"), versions.c.number == bindparam("number")))
_SET_DAMAGED = update(blobs).where(blobs.c.id == bindparam("blob")).values(damaged_at=bindparam("damaged_at"))


def update_file(session: Session, id: str, metadata: Mapping[str, Any] | None, tags: Sequence[str] | None, now: float,
                etags: tuple[str, ...] | None, by: Act | None) -> File:
    old = _locked(session, id, etags)
    file = replace(old, metadata=old.metadata if metadata is None else merged(old.metadata, metadata),
                   tags=old.tags if tags is None else tuple(sorted(set(tags))))
    if file == old:
        return old
    session.run(_DESCRIBE, file=id, metadata=rows.dump(file.metadata), tags=rows.dump_tags(file.tags))
    if file.tags != old.tags:
        set_tags(session, file)
    mark_unread(session, id)
    auditing.enter(session, by, "file.update", at=now, space=file.space, path=file.path, file_id=id, owner=file.owner,
                   facts={"changed": [*_changed(old, file)]})
    return file


def merged(old: Any, patch: Any) -> Any:
    """RFC 7396: members of the patch replace, objects merge, null removes."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(old) if isinstance(old, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def _changed(old: File, new: File) -> Iterator[str]:
    if old.metadata != new.metadata:
        yield "metadata"
    if old.tags != new.tags:
        yield "tags"


def restore_version(session: Session, id: str, number: int, keep: int, now: float, etags: tuple[str, ...] | None,
                    by: Act | None, plan: Plan | None = None) -> File:
    old = _locked(session, id, etags)
    row = session.one(_VERSION, file=id, number=number)
    if row is None:
        raise NotFound(f"the file has no older version {number}", id=id, version=number)
    media_type, blob = row[0], rows.blob_of(row[1:])
    tally = Tally()
    placement = Placement(old.space, old.path, old.owner, media_type, old.metadata, blob, keep_versions=keep)
    drop_older(session, old, Older(number, blob.id, blob.size), tally)
    file = replace_content(session, old, placement, blob, now, tally)
    tally.settle(session)
    auditing.enter(session, by, "file.restore_version", at=now, space=file.space, path=file.path, file_id=id, owner=file.owner,
                   facts={"restored": number})
    if plan and lock_blob(session, blob.id):
        file, _ = plan_jobs(session, plan, file, now, by)
    return file


def set_damaged(session: Session, blob_id: str, at: float | None) -> bool:
    return session.run(_SET_DAMAGED, blob=blob_id, damaged_at=at) == 1


def _locked(session: Session, id: str, etags: tuple[str, ...] | None) -> File:
    row = session.one(BY_ID_LOCKED, id=id)
    file = rows.file_of(row) if row else None
    if file is None or file.space.startswith("."):
        raise NotFound("there is no such file", id=id)
    Condition(etags=etags).check(file)
    return file
