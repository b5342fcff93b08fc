"""A folder as a page: what is in it, and the forms that put something there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

from werkzeug import Response

from carboy.engine.access import actions, authorise
from carboy.engine.files import Files
from carboy.engine.names import clean_folder
from carboy.errors import CarboyError, InvalidRequest
from carboy.model import File, Folder, Placed, SortKey
from carboy.web import browse, http
from carboy.web.call import Call
from carboy.web.page import notes, shown
from carboy.web.page.view import folder_address, redirect
from carboy.web.protocols import form

ROWS = 100
"""Rows of a page."""
SORTED = 1000
"""Up to so many things in a folder are sorted by anything; beyond, by what the catalog has an index for."""

Order = Literal["name", "size", "date"]
_KEYS: Mapping[Order, SortKey] = {"name": "path", "size": "size", "date": "modified"}
_FOLDER_KEYS: Mapping[Order, Callable[[Folder], Any]] = {
    "name": lambda one: (one.path.casefold(), one.path), "size": lambda one: one.bytes, "date": lambda one: one.path}
_FILE_KEYS: Mapping[Order, Callable[[File], Any]] = {
    "name": lambda one: (one.name.casefold(), one.name), "size": lambda one: one.size, "date": lambda one: one.modified_at}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address asks to see of the folder."""

    order: Order
    descending: bool
    words: str
    page: int
    cursor: str | None

    def query(self, **other: Any) -> str:
        """The query of a page that differs in this."""
        values = {"q": self.words, "sort": self.order, "desc": int(self.descending), **other}
        plain = {"sort": "name", "desc": 0, "q": "", "page": 1, "cursor": None}
        return "?" + urlencode({name: value for name, value in values.items() if value != plain.get(name)})


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of rows. ``deep``: files from folders below are among them, so they are shown with their paths from here."""

    folders: Sequence[Folder]
    files: Sequence[File]
    deep: bool = False
    page: int = 1
    pages: int = 1
    total: int | None = None
    following: str | None = None


def get(call: Call, space: str, path: str) -> Response:
    """``GET /files/{space}/{path}``: JSON, or a folder's page for browsers."""
    if call.wants_page and (not path or path.endswith("/")):
        return show(call, space, clean_folder(path))
    response = browse.get(call, space, path)
    if not path or path.endswith("/"):
        response.headers["Vary"] = "Accept, Cookie, Authorization"
    return response


def post(call: Call, space: str, path: str) -> Response:
    """``POST /files/{space}/{folder}/``: a browser's form is answered by the folder's page."""
    if not call.wants_page or (path and not path.endswith("/")):
        return form.post(call, space, path)
    try:
        return form.post(call, space, path, answer=lambda placed: _stored(call, space, clean_folder(path), placed))
    except CarboyError as error:
        return again(call, space, path, error)


def again(call: Call, space: str, path: str, error: CarboyError) -> Response:
    """The folder's page once more, saying what was wrong. Raises the error where it can't be shown there."""
    status = http.STATUS[error.code]
    if status in (401, 404) or (status >= 500 and status != 507):
        raise error
    try:
        return show(call, space, clean_folder(path), error=error, status=status)
    except CarboyError:
        raise error from None


def show(call: Call, space: str, folder: str, *, error: CarboyError | None = None, status: int = 200) -> Response:
    """The page. Who may only write sees the form alone."""
    rules = call.services.settings.spaces.get(space)
    may = actions(call.principal, space, rules)
    if "read" not in may and "write" not in may:
        authorise(call.principal, "read", space, rules)
    asked = _asked(call)
    listing = _listing(call, space, folder, asked) if "read" in may else None
    whole, own = call.services.finder.accounts(call.principal, space)
    return call.web.pages.html(call, "folder.html", status, space=space, rules=rules, folder=folder, may=may, asked=asked, listing=listing,
                               sums=call.services.finder.sums(call.principal, space, [folder])[0] if listing else None,
                               whole=whole, own=own, error=error, shown_path=call.services.files.shown_path)


def new(call: Call, space: str) -> Response:
    """``GET /page/folders/{space}/new``: on to a folder's page. A folder is there once a file is in it, so nothing is made."""
    inside = clean_folder(call.query.get("in", ""))
    name = call.query.get("name", "").strip().strip("/")
    if not name:
        raise InvalidRequest("give the new folder a name", field="name")
    return redirect(call, folder_address(space, clean_folder(inside + name)))


# --- what is in it -------------------------------------------------------------------------------------------------


def _asked(call: Call) -> Asked:
    order, page = next((order for order in _KEYS if order == call.query.get("sort", "name")), None), call.query.get("page", "1")
    if order is None:
        raise InvalidRequest("sort is name, size or date", field="sort")
    if not (page.isascii() and page.isdigit() and len(page) <= 6 and int(page) > 0):
        raise InvalidRequest("page is a number from 1", field="page")
    return Asked(order, call.query.get("desc", "0") == "1", call.query.get("q", "").strip()[:200], int(page), call.query.get("cursor"))


def _listing(call: Call, space: str, folder: str, asked: Asked) -> Listing:
    finder = call.services.finder
    if asked.words:
        found = finder.search(call.principal, space, asked.words.split(), prefix=folder, cursor=asked.cursor, limit=ROWS)
        return Listing((), found.files, deep=True, following=found.cursor)
    if asked.cursor is None:
        all_of_it = call.services.files.page(call.principal, space, prefix=folder, limit=SORTED, folders=True)
        if all_of_it.cursor is None:
            return _sorted(finder.sums(call.principal, space, all_of_it.folders), all_of_it.files, asked)
    return _large(call, space, folder, asked)


def _sorted(folders: Sequence[Folder], files: Sequence[File], asked: Asked) -> Listing:
    """All of it is at hand: folders first, then files, in the order that is asked for."""
    turned = asked.descending and asked.order != "date"
    rows: list[Folder | File] = [*sorted(folders, key=_FOLDER_KEYS[asked.order], reverse=turned),
                                 *sorted(files, key=_FILE_KEYS[asked.order], reverse=asked.descending)]
    pages = max(1, -(-len(rows) // ROWS))
    page = min(asked.page, pages)
    part = rows[(page - 1) * ROWS:page * ROWS]
    return Listing([row for row in part if isinstance(row, Folder)], [row for row in part if isinstance(row, File)], page=page, pages=pages,
                   total=len(rows))


def _large(call: Call, space: str, folder: str, asked: Asked) -> Listing:
    """Too much to sort here. By name it is a walk through the folder; by size or date a list of all files at any depth, which the
    catalog has in that order."""
    finder = call.services.finder
    if asked.order == "name" and not asked.descending:
        found = call.services.files.page(call.principal, space, prefix=folder, cursor=asked.cursor, limit=ROWS, folders=True)
        return Listing(finder.sums(call.principal, space, found.folders), found.files, following=found.cursor)
    found = finder.listed(call.principal, space, prefix=folder, sort=_KEYS[asked.order], descending=asked.descending, cursor=asked.cursor,
                          limit=ROWS)
    return Listing((), found.files, deep=True, following=found.cursor)


# --- what came -----------------------------------------------------------------------------------------------------


def _stored(call: Call, space: str, folder: str, placed: Sequence[Placed]) -> Response:
    return notes.leave(call, redirect(call, folder_address(space, folder)), notes.Note(_told(call.services.files, placed)))


def _told(files: Files, placed: Sequence[Placed]) -> str:
    if len(placed) > 1:
        return f"{shown.count(len(placed), 'file')} stored."
    one = placed[0]
    return f"“{shown.plain(one.file.name)}” is stored." if one.created else f"“{shown.plain(one.file.name)}” is replaced."


