"""A covered upload becomes a file, once."""

from __future__ import annotations

from carboy.catalog import files, uploads
from carboy.catalog.contents import condemn
from carboy.catalog.placing import place
from carboy.catalog.sessions import Session
from carboy.errors import MissingBytes, NotFound
from carboy.jobs import Plan
from carboy.model import Act, Placed, Placement, Progress, Upload


def complete(session: Session, upload_id: str, placement: Placement, *, now: float, expires_at: float,
             by: Act | None = None, plan: Plan | None = None) -> Placed:
    upload = uploads.lock(session, upload_id)
    if upload.state == "complete":
        return _again(session, upload)
    uploads.require_receiving(upload)
    progress = Progress(upload, uploads.recorded(session, upload_id))
    joined = (placement.blob.storage, placement.blob.key) != (upload.storage, upload.key)
    if not joined and not progress.covered:
        raise MissingBytes("parts of the upload are missing", missing=progress.missing, size=upload.size)
    placed, = place(session, [placement], now, None, by, plan, upload_id)
    uploads.close(session, upload, "complete", now=now, expires_at=expires_at, file_id=placed.file.id, kept=placement.blob.key)
    if joined:
        condemn(session, upload.storage, upload.key, now)
    return placed


def _again(session: Session, upload: Upload) -> Placed:
    """What completing it gave, as the file is now. Raises NotFound if it was deleted since."""
    file = files.at_its_path(session, upload.file_id) if upload.file_id else None
    if file is None:
        raise NotFound("the uploaded file was deleted", upload=upload.id)
    return Placed(file, file.version == 1)
