"""Jobs as one principal or another may see and change them. Every call is authorised here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from carboy.catalog.base import Catalog
from carboy.config import Settings
from carboy.engine.access import actions, authorise
from carboy.engine.availability import is_told
from carboy.engine.files import Files
from carboy.errors import Conflict, Forbidden, NotFound
from carboy.jobs import Job, JobFilter, JobState
from carboy.model import Action, File, Principal
from carboy.processing.pipeline import Pipeline

MOST_JOBS = 200
"""Of one content: each order with other arguments is a job of its own."""


class Work:
    """What may be done with a job is what may be done with the file that it was ordered for: who reads the file sees its jobs, and so does
    who brought it and may only write; who writes it orders, retries and cancels them. Once the file is gone, the space and owner that it
    had decide."""

    def __init__(self, settings: Settings, catalog: Catalog, files: Files, pipeline: Pipeline,
                 clock: Callable[[], float] = time.time) -> None:
        self._holds = any(rules.hold for rules in settings.spaces.values())
        self._catalog = catalog
        self._files = files
        self._pipeline = pipeline
        self._clock = clock

    # --- looking ---

    def get(self, principal: Principal, id: str, action: Action = "read") -> Job:
        """The job, with the place that its file has now. What the principal may not see is NotFound, as what isn't there."""
        job = self._catalog.job(id)
        if job is None:
            if principal.kind == "nobody":
                authorise(principal, action, "", None)
            raise NotFound("there is no such job", id=id)
        file = self._catalog.file(job.file_id)
        shown = replace(job, space=file.space, owner=file.owner) if file else job
        try:
            self._authorise(principal, action, shown, file)
        except NotFound:
            raise NotFound("there is no such job", id=id) from None
        return self._told(principal, shown)

    def _authorise(self, principal: Principal, action: Action, job: Job, file: File | None) -> None:
        rules = self._files.rules(job.space)
        owned = rules is not None and rules.private
        try:
            authorise(principal, action, job.space, rules, owner=job.owner, owned=owned, file=file)
        except Forbidden:
            if action != "read" or principal.id is None or principal.id != job.owner:
                raise
            authorise(principal, "write", job.space, rules, owner=job.owner, owned=owned, file=file)

    def page(self, principal: Principal, space: str, *, file_id: str | None = None, blob_id: str | None = None, step: str | None = None,
             states: Sequence[JobState] = (), cursor: str | None = None, limit: int = 100) -> tuple[list[Job], str | None]:
        """Jobs that were ordered for files of a space, or for one file wherever it is: the newest first, with the next cursor. Of a private
        space one's own, with ``admin`` all. Raises what ``authorise`` raises, and NotFound for the file."""
        asked = JobFilter(step=step, states=tuple(states), blob_id=blob_id)
        if file_id is not None:
            file = self._files.get(principal, file_id)
            found, following = self._catalog.jobs(replace(asked, file_id=file.id), cursor=cursor, limit=limit)
            return [self._told(principal, _of(job, file)) for job in found], following
        rules = self._files.inside(principal, "read", space)[0]
        everybody = not rules.private or "admin" in actions(principal, space, rules)
        asked = replace(asked, space=space, owner=None if everybody else principal.id or "")
        found, following = self._catalog.jobs(asked, cursor=cursor, limit=limit)
        return [self._told(principal, job) for job in found], following

    def of_file(self, principal: Principal, file_id: str) -> list[Job]:
        """Those of the file's content, in the order in which they were ordered, though it may have been for another file with the same
        content."""
        file = self._files.get(principal, file_id)
        return [self._told(principal, _of(job, file)) for job in self._catalog.jobs_of(file.blob.id)]

    def siblings(self, principal: Principal, job: Job) -> list[Job]:
        """All of the content of a job that the principal was given, itself among them, in the order in which they were ordered; told as
        that one is."""
        return [self._told(principal, replace(self._shown(one, job), file_id=job.file_id)) for one in self._catalog.jobs_of(job.blob_id)]

    # --- changing ---

    def order(self, principal: Principal, file_id: str, step: str, args: Mapping[str, Any]) -> Job:
        """The file's content is to go through the step: the job, or the one that there is already. Raises InvalidRequest for a step that
        isn't there, or not for such a file, and for arguments that it doesn't take; Conflict where the content has too many jobs."""
        return self.order_for(principal, self._files.get(principal, file_id, "write"), step, args)

    def order_for(self, principal: Principal, file: File, step: str, args: Mapping[str, Any]) -> Job:
        """The same for a file that the principal has been found to write."""
        order = self._pipeline.asked(step, file, args)
        known = self._catalog.jobs_of(file.blob.id)
        if len(known) >= MOST_JOBS and not any((job.step, job.version) == (order.step, order.version) for job in known):
            raise Conflict(f"this content has {len(known)} jobs; {MOST_JOBS} are the most", limit=MOST_JOBS)
        ordered = self._catalog.order(file.id, [order], now=self._clock(), request=principal.request)
        return self._told(principal, _of(ordered[0], file))

    def retry(self, principal: Principal, id: str) -> Job:
        """A dead or cancelled job is queued again. Raises Conflict in another state."""
        job = self.get(principal, id, "write")
        return self._told(principal, self._shown(self._catalog.retry_job(id, now=self._clock(), by=self._files.act(principal)), job))

    def cancel(self, principal: Principal, id: str) -> Job:
        """Nothing comes of the job. What it held back stays held back. Repeatable. Raises Conflict for one that is done."""
        job = self.get(principal, id, "write")
        return self._told(principal, self._shown(self._catalog.cancel_job(id, now=self._clock(), by=self._files.act(principal)), job))

    def _told(self, principal: Principal, job: Job) -> Job:
        """Without its result where the content is held back from the principal."""
        if not job.result or not self._holds:
            return job
        known = is_told(principal, job.owner, job.space, self._files.rules(job.space), self._catalog.blob(job.blob_id))
        return job if known else replace(job, result=None)

    def _shown(self, job: Job, known: Job) -> Job:
        return replace(job, space=known.space, owner=known.owner)


def _of(job: Job, file: File) -> Job:
    """As a job of this file: another one that has the same content may be nobody's business."""
    return replace(job, file_id=file.id, space=file.space, owner=file.owner)
