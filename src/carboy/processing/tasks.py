"""All that a file goes through as one task, with one id and one state, in the words that Celery has for states."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from carboy.catalog.base import Catalog
from carboy.jobs import Job, Order
from carboy.model import File
from carboy.processing.pipeline import Pipeline

TaskState = Literal["PENDING", "STARTED", "PROGRESS", "RETRY", "SUCCESS", "FAILURE", "REVOKED"]
LAST = "processed"


@dataclass(frozen=True, slots=True)
class Task:
    """A job together with those that it waits for. ``result`` is what it gave, or why it failed."""

    id: str
    state: TaskState
    progress: float
    phrase: str = ""
    result: Any = None

    @property
    def is_ready(self) -> bool:
        return self.state in ("SUCCESS", "FAILURE", "REVOKED")


class Tasks:
    """Tasks of files."""

    def __init__(self, catalog: Catalog, pipeline: Pipeline, clock: Callable[[], float] = time.time) -> None:
        self._catalog = catalog
        self._pipeline = pipeline
        self._clock = clock

    def begin(self, file: File, request: str = "") -> str:
        """The id of the task that ends once the file's content has gone through all that its space orders, and its SHA-256 is known.
        It is the id of a job that comes after all the others."""
        orders = self._orders(file)
        ordered = self._catalog.order(file.id, orders, now=self._clock(), request=request)
        return next(job.id for job in ordered if (job.step, job.version) == (LAST, orders[-1].version))

    def _orders(self, file: File) -> list[Order]:
        """The last one has a version of its own, so that it stays when two contents turn out to be the same."""
        digest, last = (self._pipeline.order(self._pipeline.named(name), file.space) for name in ("digest", LAST))
        before = ("digest", *(order.step for order in self._pipeline.orders(file)))
        return [digest, replace(last, version=f"{last.version}-{file.blob.id}", after=tuple(dict.fromkeys(before)))]


def task_of(job: Job, siblings: Sequence[Job]) -> Task:
    """The task that ends with this job, one of those of a content."""
    before = [one for one in siblings if one.step in job.after and one.id != job.id]
    every = [*before, job]
    running = next((one for one in every if one.state == "running"), None)
    share = sum(1.0 if one.state == "done" else one.progress for one in every) / len(every)
    state = _state(job, before)
    result: Any = None
    if state == "SUCCESS":
        share, result = 1.0, _result(job, siblings)
    elif state in ("FAILURE", "REVOKED"):
        result = next((f"{one.step}: {one.failure}" for one in every if one.state in ("dead", "cancelled") and one.failure), None)
    return Task(job.id, state, round(share, 4), running.phrase if running else "", result)


def _state(job: Job, before: Sequence[Job]) -> TaskState:
    if job.state == "done":
        return "SUCCESS"
    every = [*before, job]
    states = {one.state for one in every}
    if "dead" in states:
        return "FAILURE"
    if "cancelled" in states:
        return "REVOKED"
    if "running" in states:
        return "PROGRESS" if "done" in states or any(one.progress for one in every) else "STARTED"
    if any(one.state == "queued" and one.attempts for one in every):
        return "RETRY"
    return "PROGRESS" if "done" in states else "PENDING"


def _result(job: Job, siblings: Sequence[Job]) -> dict[str, Any]:
    result = dict(job.result or {})
    if job.step == LAST:
        result["steps"] = {one.step: one.result for one in siblings if one.state == "done" and one.step != LAST}
    return result
