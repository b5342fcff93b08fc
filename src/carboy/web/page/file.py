"""A file's own page: what is known of it, its versions, and the forms that rename, share and delete it."""

from __future__ import annotations

from collections.abc import Sequence

from werkzeug import Response

from carboy.engine.access import actions
from carboy.engine.availability import is_available
from carboy.engine.names import folder_of
from carboy.errors import CarboyError, InvalidRequest
from carboy.jobs import Derived
from carboy.mediatypes import is_active
from carboy.model import File
from carboy.web import http
from carboy.web.api.shapes import derived_address
from carboy.web.call import Call
from carboy.web.page import notes, shown
from carboy.web.page.notes import Note
from carboy.web.page.view import folder_address, redirect

_PREVIEW = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp"})
_PREVIEWED = 20 * 10**6
"""Bytes up to which an image is shown."""
_SHOWN = 1280
"""Pixels of the longest side up to which a thumbnail is shown."""
_JOBS = 30
"""The most jobs that are shown, the newest."""


def get(call: Call, id: str) -> Response:
    return show(call, call.services.files.get(call.principal, id))


def show(call: Call, file: File, *, error: CarboyError | None = None, form: str = "") -> Response:
    """The page. ``form`` names the one that ``error`` came of; what was filled in stays."""
    files = call.services.files
    may = actions(call.principal, file.space, files.rules(file.space), file=file)
    links = call.services.links.list(call.principal, space=file.space, file_id=file.id, limit=50)[0] if "read" in may else []
    path, rules = files.shown_path(file), files.rules(file.space)
    available = is_available(call.principal, file, rules)
    derived = call.services.catalog.derived(file.blob.id) if available else []
    preview = available and file.media_type in _PREVIEW and file.size <= _PREVIEWED and file.blob.damaged_at is None
    return call.web.pages.html(call, "file.html", http.STATUS[error.code] if error else 200, file=file, path=path, may=may,
                               folder=folder_of(path), space=file.space, rules=rules, available=available,
                               versions=files.versions(file), links=links, error=error, form=form, active=is_active(file.media_type),
                               thumbnail=_thumbnail(file, derived), preview=preview,
                               jobs=call.services.work.of_file(call.principal, file.id)[-_JOBS:],
                               made=[(one, derived_address(file.id, one)) for one in derived])


def _thumbnail(file: File, derived: Sequence[Derived]) -> str | None:
    """The address of the largest picture that was made of it and isn't too large to be shown; None where there is none."""
    found = [(side, one) for one in derived
             if one.media_type in _PREVIEW and 0 < (side := _longest_side(one)) <= _SHOWN]
    return derived_address(file.id, max(found, key=lambda pair: pair[0])[1]) if found else None


def _longest_side(derived: Derived) -> int:
    """In pixels; 0 where the step didn't tell."""
    width, height = derived.facts.get("width"), derived.facts.get("height")
    return max(width, height) if isinstance(width, int) and isinstance(height, int) else 0


def rename(call: Call, id: str) -> Response:
    """To another name, folder or space."""
    file = call.services.files.get(call.principal, id, "delete")
    path, space = call.fields.get("path", "").strip().removeprefix("/"), call.fields.get("space", file.space)
    try:
        if not path:
            raise InvalidRequest("a file needs a name", field="path")
        moved = call.services.changes.move(call.principal, file, path + file.name if path.endswith("/") else path, space=space)
    except CarboyError as error:
        return show(call, file, error=error, form="rename")
    return _back(call, id, f"It is “{shown.plain(call.services.files.shown_path(moved))}” now.")


def delete(call: Call, id: str) -> Response:
    """To the trash, where the space keeps one."""
    file = call.services.files.get(call.principal, id, "delete")
    call.services.changes.delete(call.principal, file)
    return deleted(call, file)


def deleted(call: Call, file: File) -> Response:
    """Back to the folder, which offers to undo it."""
    files = call.services.files
    rules = files.rules(file.space)
    kept = rules is not None and rules.trash > 0
    note = Note(f"“{shown.plain(file.name)}” is {'in the trash' if kept else 'deleted'}.", undo=file.id if kept else "")
    return notes.leave(call, redirect(call, folder_address(file.space, folder_of(files.shown_path(file)))), note)


def restore(call: Call, id: str, number: int) -> Response:
    """An older content becomes the current one."""
    file = call.services.changes.restore_version(call.principal, call.services.files.get(call.principal, id, "write"), number)
    return _back(call, id, f"Version {number} is the current one again, as version {file.version}.")


def _back(call: Call, id: str, told: str) -> Response:
    return notes.leave(call, redirect(call, f"/page/files/{id}"), Note(told))
