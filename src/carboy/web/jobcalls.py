"""What an application calls about the background: jobs ordered and seen, and what came of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, BinaryIO

from flask import request
from werkzeug import Response

from carboy.engine.opening import open_blob
from carboy.errors import NotFound
from carboy.jobs import Derived, Job, JobFilter, JobState
from carboy.model import NOBODY, TRUSTED, File
from carboy.processing.at_once import run_at_once
from carboy.web import download
from carboy.web.calls import Calls, Named, Place, name_of

_PAGE = 1000


class JobCalls(Calls):
    """The part of :class:`carboy.Carboy` that is about jobs. They are trusted calls like all others."""

    def _now(self) -> float:
        """Seconds since 1970, by the application's clock."""
        raise NotImplementedError

    def run(self, file: Named, step: str, /, **args: Any) -> Job:
        """Have the file's content go through the step, in a worker; the job. One content has one job for each step, its version and these
        arguments: what was ordered before isn't run again. Raises NotFound, InvalidRequest for a step that isn't there or doesn't take the
        file, and for arguments that it doesn't take; Conflict where the content has too many jobs."""
        found = self.get(file)
        return self.services.work.order_for(self._acting(), found, step, args)

    def job(self, id: str) -> Job:
        """The job as it is now. Raises NotFound."""
        job = self.services.catalog.job(id)
        if job is None:
            raise NotFound("there is no such job", id=id)
        return job

    def jobs(self, file: Named | None = None, *, space: Place | None = None, step: str | None = None,
             state: JobState | None = None) -> Iterator[Job]:
        """All jobs, the newest first: those of one file's present content, of a space, of a step, in a state. Raises NotFound."""
        blob = self.get(file).blob.id if file is not None else None
        wanted = JobFilter(None if space is None else name_of(space), blob_id=blob, step=step, states=() if state is None else (state,))
        return self._all_jobs(wanted)

    def _all_jobs(self, wanted: JobFilter) -> Iterator[Job]:
        cursor: str | None = None
        while True:
            found, cursor = self.services.catalog.jobs(wanted, cursor=cursor, limit=_PAGE)
            yield from found
            if cursor is None:
                return

    def retry_job(self, job: Job | str) -> Job:
        """A dead or cancelled job is tried anew. Raises NotFound, Conflict for any other."""
        return self.services.work.retry(self._acting(), _id_of(job))

    def cancel_job(self, job: Job | str) -> Job:
        """Nothing comes of the job any more. Raises NotFound, Conflict for one that is done."""
        return self.services.work.cancel(self._acting(), _id_of(job))

    def run_jobs(self) -> list[Job]:
        """Run all jobs here and now, one after the other, and what follows from them; retries don't wait for their time. What became of
        them. For tests and scripts; elsewhere workers do it."""
        return run_at_once(self.services.catalog, self.services.leases, self.services.runner, self._now)

    # --- what came of them ---

    def results(self, file: Named) -> Mapping[str, Mapping[str, Any]]:
        """What steps have found out about the file's present content, by their names. Raises NotFound."""
        return {job.step: job.result or {} for job in self.services.catalog.jobs_of(self.get(file).blob.id) if job.state == "done"}

    def derived(self, file: Named) -> list[Derived]:
        """The files that steps made of the file's present content, by step and name. Raises NotFound."""
        return self.services.catalog.derived(self.get(file).blob.id)

    def open_derived(self, file: Named, step: str, name: str) -> BinaryIO:
        """One of them as a seekable file. Raises NotFound, Quarantined."""
        found = self.get(file)
        self.services.files.check(TRUSTED, found)
        blob = self._derived(found, step, name).blob
        return open_blob(blob, self.services.storages[blob.storage])

    def send_derived(self, file: Named, step: str, name: str, *, download: bool = False, pending: bool = False) -> Response:
        """The answer that gives one of them to whoever makes this request, as :meth:`send` gives the file, and to whom it does. Raises
        NotFound, and as :meth:`send`."""
        found = self.get(file)
        self.services.files.check(NOBODY, found, pending=pending)
        made = self._derived(found, step, name)
        shown = replace(found, path=made.name, media_type=made.media_type, blob=made.blob)
        response = _respond(shown, self.services.storages[made.blob.storage], settings=self.services.settings, attachment=download)
        if not self.services.files.is_public(found):
            response.vary.add("Cookie")
        return response

    def _derived(self, file: File, step: str, name: str) -> Derived:
        found = self.services.catalog.derived_named(file.blob.id, step, name)
        if found is None:
            raise NotFound(f"no {name!r} of the step {step!r} is there", step=step, name=name)
        return found


def _id_of(job: Job | str) -> str:
    return job if isinstance(job, str) else job.id


def _respond(*args: Any, **how: Any) -> Response:
    return download.respond(request, *args, **how)
