"""What a file goes through in the background: tried again and cancelled from the file's page."""

from __future__ import annotations

from collections.abc import Callable

from werkzeug import Response

from carboy.errors import CarboyError
from carboy.jobs import Job
from carboy.model import Principal
from carboy.web.call import Call
from carboy.web.page import file, notes
from carboy.web.page.notes import Note
from carboy.web.page.shown import plain
from carboy.web.page.view import redirect


def retry(call: Call, id: str, job: str) -> Response:
    return _changed(call, id, job, call.services.work.retry, "is tried again")


def cancel(call: Call, id: str, job: str) -> Response:
    return _changed(call, id, job, call.services.work.cancel, "is cancelled")


def _changed(call: Call, id: str, job: str, change: Callable[[Principal, str], Job], what: str) -> Response:
    try:
        changed = change(call.principal, job)
    except CarboyError as error:
        return file.show(call, call.services.files.get(call.principal, id), error=error, form="jobs")
    return notes.leave(call, redirect(call, f"/page/files/{id}"), Note(f"“{plain(changed.step)}” {what}."))
