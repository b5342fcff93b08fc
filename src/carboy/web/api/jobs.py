"""``/api/v1/jobs``: what contents go through in the background, looked at, ordered, retried and cancelled."""

from __future__ import annotations

from typing import Any

from werkzeug import Response

from carboy.jobs import Job
from carboy.web import answers, schemas
from carboy.web.asking import body, query
from carboy.web.call import Call, Doc, Route
from carboy.web.prefer import brief
from carboy.web.render import address, instant, json_response


def job_json(job: Job) -> dict[str, Any]:
    """A job as everybody sees it who may see it."""
    return {**brief(job), "progress": job.progress, "phrase": job.phrase, "attempts": job.attempts, "args": dict(job.args),
            "result": None if job.result is None else dict(job.result), "failure": job.failure, "file_id": job.file_id, "space": job.space,
            "created_at": instant(job.created_at), "changed_at": instant(job.changed_at), "due_at": instant(job.due_at),
            "started_at": instant(job.started_at), "waits_for": list(job.after) if job.state == "waiting" else []}


def list_jobs(call: Call) -> Response:
    """Jobs that were ordered for the files of a space, or for one file, its older contents too: the newest first. Of a private space
    one's own, with ``admin`` all."""
    asked = query(call, schemas.JobsQuery)
    found, following = call.services.work.page(call.principal, asked.space, file_id=asked.file, step=asked.step, states=asked.state,
                                               cursor=asked.cursor, limit=asked.limit)
    return json_response({"jobs": [job_json(job) for job in found], "next": following})


def get_job(call: Call, id: str) -> Response:
    """How far it is, and what came of it. It is there as long as its content is."""
    return json_response(job_json(call.services.work.get(call.principal, id)))


def retry_job(call: Call, id: str) -> Response:
    """A dead or cancelled job is queued again, as if it had never been tried. 409 in another state."""
    body(call, schemas.Nothing)
    return json_response(job_json(call.services.work.retry(call.principal, id)))


def cancel_job(call: Call, id: str) -> Response:
    """Nothing comes of the job any more. What it held back stays held back. 409 for one that is done."""
    body(call, schemas.Nothing)
    return json_response(job_json(call.services.work.cancel(call.principal, id)))


def jobs_of_file(call: Call, id: str) -> Response:
    """Those of the file's current content, in the order in which they were ordered."""
    return json_response({"jobs": [job_json(job) for job in call.services.work.of_file(call.principal, id)]})


def order_job(call: Call, id: str) -> Response:
    """Have the file's content go through a step: 202 with the job. A content goes through a step once with the same arguments, so what
    was ordered before is the same job, and 200 where that one is over."""
    asked = body(call, schemas.JobNew)
    job = call.services.work.order(call.principal, id, asked.step, asked.args)
    return json_response(job_json(job), 200 if job.is_over else 202, {"Location": address(f"/api/v1/jobs/{job.id}")})


_TAG = "Jobs"
_ONE = "/api/v1/jobs/<id>"
_OF_FILE = "/api/v1/files/<id>/jobs"
ROUTES = (
    Route("/api/v1/jobs", ("GET",), list_jobs, Doc("Jobs of a space, or of a file", _TAG, query=schemas.JobsQuery,
                                                   answers={200: answers.JobPage})),
    Route(_ONE, ("GET",), get_job, Doc("One job", _TAG, answers={200: answers.Job})),
    Route(f"{_ONE}/retry", ("POST",), retry_job,
          Doc("Try a job again", _TAG, body=schemas.Nothing, answers={200: answers.Job}, errors=("conflict",))),
    Route(f"{_ONE}/cancel", ("POST",), cancel_job,
          Doc("Cancel a job", _TAG, body=schemas.Nothing, answers={200: answers.Job}, errors=("conflict",))),
    Route(_OF_FILE, ("GET",), jobs_of_file, Doc("The jobs of a file's content", _TAG, answers={200: answers.Jobs})),
    Route(_OF_FILE, ("POST",), order_job,
          Doc("Order a step", _TAG, body=schemas.JobNew, answers={200: answers.Job, 202: answers.Job}, errors=("conflict",))),
)
