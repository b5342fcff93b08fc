"""Who is given a content: one function, asked wherever bytes go out."""

from __future__ import annotations

from typing import Literal, Protocol

from carboy.config import SpaceSettings
from carboy.engine.access import actions
from carboy.errors import Pending, Quarantined
from carboy.jobs import Job
from carboy.model import Blob, File, Principal

Status = Literal["ready", "pending", "quarantined"]


class KnowsJobs(Protocol):
    """The part of the catalog that tells what a content still has to go through."""

    def jobs_of(self, blob_id: str) -> list[Job]: ...


def status_of(blob: Blob) -> Status:
    """How it stands with the content, whoever asks."""
    if blob.quarantine is not None:
        return "quarantined"
    return "pending" if blob.held > 0 else "ready"


def check_available(principal: Principal, file: File, rules: SpaceSettings | None, catalog: KnowsJobs, *, blob: Blob | None = None,
                    pending: bool = False) -> None:
    """Return if the principal, who may read the file, is given its content, or another ``blob`` of its (an older one), else raise.

    Quarantined for everybody, with the ``reason``. Pending while it is held back, for all but the file's owner, administrators of the
    space and trusted calls, or whoever it is to be given to all the same (``pending``); ``steps`` names those that it waits for.
    """
    blob = blob or file.blob
    if blob.quarantine is not None:
        raise Quarantined(f"a scan found something in it: {blob.quarantine}", reason=blob.quarantine)
    if pending or is_available(principal, file, rules, blob):
        return
    raise Pending("the file is held back until it is checked; try again later", steps=_open_steps(catalog, blob))


def is_available(principal: Principal, file: File, rules: SpaceSettings | None, blob: Blob | None = None) -> bool:
    """Whether it would return."""
    status = status_of(blob or file.blob)
    if status != "pending":
        return status == "ready"
    own = principal.id is not None and principal.id == file.owner
    return own or principal.kind == "trusted" or "admin" in actions(principal, file.space, rules, file=file)


def is_told(principal: Principal, owner: str | None, space: str, rules: SpaceSettings | None, blob: Blob | None) -> bool:
    """Whether the principal, who may know of a job, is told what it found out about the content: as it is given the content, but what is
    in quarantine may be known. None is a content that is gone."""
    if blob is not None and status_of(blob) != "pending":
        return True
    own = principal.id is not None and principal.id == owner
    return own or principal.kind == "trusted" or "admin" in actions(principal, space, rules)


def _open_steps(catalog: KnowsJobs, blob: Blob) -> list[str]:
    """The steps that hold it back: not through with it, or through and not content with it."""
    return list(dict.fromkeys(job.step for job in catalog.jobs_of(blob.id) if job.is_holding))
