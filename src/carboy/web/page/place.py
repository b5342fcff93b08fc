"""What can be done with a whole folder: share it, ask others for files, move it, delete it; and with several things that were ticked."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from werkzeug import Response

from carboy.engine.access import actions, authorise
from carboy.engine.names import clean_folder, folder_of
from carboy.errors import CarboyError, InvalidRequest, NotFound
from carboy.web import http
from carboy.web.call import Call
from carboy.web.page import file as file_page
from carboy.web.page import notes, shown
from carboy.web.page.notes import Note
from carboy.web.page.view import folder_address, redirect


def get(call: Call, space: str) -> Response:
    return show(call, space, clean_folder(call.query.get("folder", "")))


def show(call: Call, space: str, folder: str, *, error: CarboyError | None = None, form: str = "") -> Response:
    """The folder's page of things to do. ``form`` names the one that ``error`` came of."""
    rules = call.services.settings.spaces.get(space)
    authorise(call.principal, "read", space, rules)
    sums = call.services.finder.sums(call.principal, space, [folder])[0]
    return call.web.pages.html(call, "place.html", http.STATUS[error.code] if error else 200, space=space, rules=rules, folder=folder,
                               sums=sums, may=actions(call.principal, space, rules), error=error, form=form)


def address(space: str, folder: str) -> str:
    """Where :func:`get` answers."""
    return f"/page/folders/{space}?{urlencode({'folder': folder})}"


def move(call: Call, space: str) -> Response:
    """All that is in it goes to another path."""
    folder = clean_folder(call.fields.get("folder", ""))
    try:
        to, there = clean_folder(call.fields.get("to", "").strip().strip("/")), call.fields.get("space", space)
        call.services.changes.move_folder(call.principal, space, folder, to, to_space=there)
    except CarboyError as error:
        return show(call, space, folder, error=error, form="move")
    return notes.leave(call, redirect(call, folder_address(there, to)), Note(f"The folder is “{shown.plain(to)}” now."))


def delete(call: Call, space: str) -> Response:
    """To the trash, where the space keeps one."""
    folder = clean_folder(call.fields.get("folder", ""))
    gone = call.services.changes.delete_folder(call.principal, space, folder)
    return _told(call, space, folder_of(folder.removesuffix("/")), gone)


def ticked(call: Call, space: str) -> Response:
    """One row's own button (``delete``); or all that is ticked (``file``, ``folder``), as a zip or to the trash, as ``do`` says."""
    if one := call.fields.get("delete"):
        return file_page.delete(call, one)
    ids, folders = call.fields.getlist("file"), call.fields.getlist("folder")
    if not ids and not folders:
        raise InvalidRequest("tick something first")
    if call.fields.get("do") == "zip":
        return _zip(call, space, ids, folders)
    if call.fields.get("do") != "delete":
        raise InvalidRequest("do is zip or delete", field="do")
    return _told(call, space, clean_folder(call.fields.get("in", "")), _deleted(call, space, ids, folders))


def _zip(call: Call, space: str, ids: Sequence[str], folders: Sequence[str]) -> Response:
    """On to the zip, which the browser saves; one stays on the page."""
    one = folders[0].removesuffix("/").rpartition("/")[2] if folders and len(folders) + len(ids) == 1 else ""
    made = call.services.zips.create(call.principal, space, paths=folders, ids=ids, name=f"{one or space}.zip")
    return redirect(call, f"/api/v1/zip/{made.id}")


def _deleted(call: Call, space: str, ids: Sequence[str], folders: Sequence[str]) -> int:
    gone = sum(call.services.changes.delete_folder(call.principal, space, folder) for folder in folders)
    for id in ids:
        try:
            call.services.changes.delete(call.principal, call.services.files.get(call.principal, id, "delete"))
            gone += 1
        except NotFound:  # somebody else was quicker
            continue
    return gone


def _told(call: Call, space: str, folder: str, gone: int) -> Response:
    kept = call.services.settings.spaces[space].trash > 0
    note = Note(f"{shown.count(gone, 'file')} {'is' if gone == 1 else 'are'} {'in the trash' if kept else 'deleted'}.",
                see=f"/page/trash/{space}" if kept else "")
    return notes.leave(call, redirect(call, folder_address(space, folder)), note)
