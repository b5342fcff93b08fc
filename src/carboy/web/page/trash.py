"""What was deleted and can still come back."""

from __future__ import annotations

from werkzeug import Response

from carboy.engine.access import actions
from carboy.engine.names import folder_of
from carboy.web.call import Call
from carboy.web.page import notes, shown
from carboy.web.page.notes import Note
from carboy.web.page.view import folder_address, redirect


def get(call: Call, space: str) -> Response:
    """A page of it, last deleted first."""
    lying, following = call.services.changes.trash(call.principal, space, cursor=call.query.get("cursor"))
    rules = call.services.settings.spaces[space]
    return call.web.pages.html(call, "trash.html", space=space, rules=rules, may=actions(call.principal, space, rules), lying=lying,
                               following=following, first="cursor" not in call.query, shown_path=call.services.files.shown_path)


def restore(call: Call, id: str) -> Response:
    """Back to where it was; beside what took its place meanwhile. Then one sees it there."""
    file = call.services.changes.restore(call.principal, id, on_conflict="rename")
    path = call.services.files.shown_path(file)
    return notes.leave(call, redirect(call, folder_address(file.space, folder_of(path))), Note(f"“{shown.plain(path)}” is back."))


def purge(call: Call, id: str) -> Response:
    """Gone for good."""
    lying = call.services.changes.trashed(call.principal, id, "delete")
    call.services.changes.purge(call.principal, id)
    return notes.leave(call, redirect(call, f"/page/trash/{lying.file.space}"), Note(f"“{shown.plain(lying.file.name)}” is gone for good."))


def empty(call: Call, space: str) -> Response:
    """All of it gone for good."""
    gone = call.services.changes.empty_trash(call.principal, space)
    return notes.leave(call, redirect(call, f"/page/trash/{space}"), Note(f"{shown.count(gone, 'file')} gone for good."))
