"""What an upload that has become a file is answered: the file with its jobs, and by what the client prefers (RFC 7240).

``wait=10`` has the answer wait for the content's jobs; ``respond-async`` has it say 202 while some are not over; ``return=minimal``
leaves the file out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from werkzeug import Response

from carboy.errors import Busy, CarboyError
from carboy.jobs import Happening, Job
from carboy.model import Placed
from carboy.web.call import Call
from carboy.web.listening import has_left, place
from carboy.web.render import Finished, file_json, json_response, location

_PREFERENCE = re.compile(r"""\s*+([\w!#$%&'*+.^`|~-]++)"""
                         r"""\s*+(?:=\s*+(?:"((?:[^"\\]|\\.)*+)"|([^\s,;"]*+)))?+\s*+(?:;[^,]*+)?+(?:,|$)""", re.ASCII)
"""Possessive: what was read once isn't read again in another way, which of a thousand blanks would take seconds."""
_LONGEST = 1000
_ENDS = frozenset({"job.done", "job.dead", "job.cancel"})


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a client would like; None of it binds."""

    wait: int | None = None
    """Seconds."""
    respond_async: bool = False
    minimal: bool = False


def preferences(value: str | None) -> Preferences:
    """The field ``Prefer``. Of a preference that is named twice the first counts; what is not known, or makes no sense, is passed over
    (RFC 7240 section 2)."""
    named: dict[str, str] = {}
    for name, quoted, plain in _PREFERENCE.findall((value or "")[:_LONGEST]):
        named.setdefault(name.lower(), quoted or plain)
    wait = named.get("wait", "")
    return Preferences(int(wait) if re.fullmatch(r"[0-9]{1,9}", wait, re.ASCII) else None, named.get("respond-async") == "",
                       named.get("return", "").lower() == "minimal")


def stored_response(call: Call, placed: Placed) -> Response:
    """201 for a new path, 200 for a replaced content, with the file and its jobs; 202 where the client prefers not to wait for them."""
    told = _tell(call, [placed])
    file = told.placed[0].file
    headers = {"Location": location(call.services.files, file), "ETag": file.etag, **told.fields()}
    status = 202 if told.accepted else 201 if placed.created else 200
    if not told.wishes.minimal:
        return json_response(told.shown(call)[0], status, headers)
    empty = Finished([], 204 if status == 200 else status, {**headers, "Cache-Control": "no-store", "Carboy-File": file.id,
                                                           **({} if status == 200 else {"Content-Length": "0"})})
    del empty.headers["Content-Type"]
    return empty


def stored_files(call: Call, placed: Sequence[Placed]) -> Response:
    """The same for several: 201, or 202, with the list of files."""
    told = _tell(call, placed)
    told.wishes = replace(told.wishes, minimal=False)
    return json_response({"files": told.shown(call)}, 202 if told.accepted else 201, told.fields())


def stored_json(call: Call, placed: Placed) -> dict[str, Any]:
    """The file with its jobs, for an answer that has other members too."""
    return _tell(call, [placed]).shown(call)[0]


def brief(job: Job) -> dict[str, Any]:
    """A job as an upload's answer lists it."""
    return {"id": job.id, "step": job.step, "state": job.state}


@dataclass(slots=True)
class _Told:
    """What is answered."""

    placed: list[Placed]
    jobs: list[Sequence[Job]]
    wishes: Preferences = Preferences()
    waited: int | None = None
    accepted: bool = False
    """Whether some job isn't over, and the client prefers to be told so."""

    def shown(self, call: Call) -> list[dict[str, Any]]:
        files = call.services.files
        return [{**file_json(files, one.file), **({"jobs": [brief(job) for job in jobs]} if jobs else {})}
                for one, jobs in zip(self.placed, self.jobs, strict=True)]

    def fields(self) -> dict[str, str]:
        applied = [*(["respond-async"] if self.accepted else []), *([f"wait={self.waited}"] if self.waited is not None else []),
                   *(["return=minimal"] if self.wishes.minimal else [])]
        return {"Preference-Applied": ", ".join(applied)} if applied else {}


def _tell(call: Call, placed: Sequence[Placed]) -> _Told:
    catalog = call.services.catalog
    told = _Told(list(placed), [catalog.jobs_of(one.file.blob.id) if one.planned else () for one in placed])
    if "HTTP_PREFER" not in call.environ:
        return told
    told.wishes = preferences(call.header("Prefer"))
    if told.wishes.wait is None and not told.wishes.respond_async:
        return told
    awaited = _Awaited(call, {job.id for jobs in told.jobs for job in jobs if not job.is_over})
    if told.wishes.wait is not None and any(told.jobs):
        told.waited = awaited.wait(told.wishes.wait)  # they may be over already, and the file another than it was
        _look_again(call, told)
    told.accepted = told.wishes.respond_async and any(not job.is_over for jobs in told.jobs for job in jobs)
    return told


def _look_again(call: Call, told: _Told) -> None:
    """As the files are after their jobs: with another type, or another content that turned out to be the same."""
    catalog = call.services.catalog
    for number, one in enumerate(told.placed):
        if told.jobs[number]:
            file = catalog.file(one.file.id)
            told.placed[number] = replace(one, file=file) if file and file.version == one.file.version else one
            told.jobs[number] = catalog.jobs_of(told.placed[number].file.blob.id)


@dataclass(slots=True)
class _Awaited:
    """Jobs that an answer waits for. No lock and no connection is held meanwhile."""

    call: Call
    ids: set[str] = field(default_factory=set)

    def wait(self, seconds: int) -> int | None:
        """Until they are over, at most so many seconds; how long at most it was, None where too many wait already."""
        most = min(float(seconds), self.call.services.settings.longest_wait)
        try:
            with place(self.call):
                self.call.services.news.until(self.are_over, self.concerns, most, lambda: has_left(self.call.environ))
        except Busy:
            return None
        except CarboyError:  # the catalog is away: the file is stored all the same
            pass
        return int(most)

    def are_over(self) -> bool:
        catalog = self.call.services.catalog
        for id in list(self.ids):
            job = catalog.job(id)
            if job is not None and not job.is_over:
                return False
            self.ids.discard(id)
        return True

    def concerns(self, happening: Happening) -> bool:
        return happening.job_id in self.ids and happening.kind in _ENDS
