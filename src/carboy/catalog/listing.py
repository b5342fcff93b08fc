"""Lists of files in several orders, and what folders and spaces hold together."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, Tuple, bindparam, select, tuple_

from carboy.catalog import filters, paths, rows
from carboy.catalog.filters import Start
from carboy.catalog.sessions import Row, Session, among, among_values, padded
from carboy.catalog.tables import blobs, files, folders, usage
from carboy.errors import InvalidRequest
from carboy.model import MAX_SIZE, File, Filter, Folder, Page, SortKey, Usage
from carboy.nesting import parse_json

FEW = 10_000
"""Up to so many files are sorted on the spot; the list of more is walked in its order."""
NEXT = 20_000
"""So far it is walked; where enough pass a filter they are found there."""
_MANY = 256
_ORDERS: dict[SortKey, tuple[Column[Any], ...]] = {
    "path": (files.c.path,), "modified": (files.c.modified_at, files.c.id), "size": (files.c.size, files.c.id)}
_SUMS = (usage.c.files, usage.c.bytes, usage.c.older, usage.c.trash)
_USAGE = select(*_SUMS).where(usage.c.space == bindparam("space"), usage.c.who == bindparam("who"))


def listed(session: Session, space: str, prefix: str, sort: SortKey, descending: bool, filter: Filter, cursor: str | None,
           limit: int) -> Page:
    asked = filters.asked(space, prefix, filter)
    last = {} if cursor is None else _last(cursor, sort, descending)
    values = {**asked.values, **last, **_tightened(asked, sort, descending, last)}
    page = [rows.file_of(row) for row in _find(session, asked, sort, descending, values, limit + 1)]
    return Page(page[:limit], cursor=_cursor(page[limit - 1], sort, descending) if len(page) > limit else None)


def _find(session: Session, asked: filters.Asked, sort: SortKey, descending: bool, values: Mapping[str, Any], count: int) -> list[Row]:
    """The files that come next: few are sorted; of many the next in the order are looked at, and if too few of these pass, all are."""
    own = asked.names & {f"{sort}_from", f"{sort}_to"}
    after = "last0" in values
    start = None if own == asked.names else filters.narrow(session, asked, FEW)
    if start:
        return session.rows(_statement(sort, descending, after, False, asked.names, start), count=count, **values)
    ranged = {name: values[name] for name in values if name in own or name == "space" or name.startswith("last")}
    end = None if own == asked.names else session.one(_end(sort, descending, after, own), count=1, skip=NEXT, **ranged)
    bounds = {f"end{number}": value for number, value in enumerate(end or ())}
    found = session.rows(_statement(sort, descending, after, bool(end), asked.names, sort), count=count, **values, **bounds)
    if len(found) == count or not end:
        return found
    return session.rows(_statement(sort, descending, after, False, asked.names, None), count=count, **values)


@cache
def _statement(sort: SortKey, descending: bool, after: bool, bounded: bool, names: filters.Names, start: Start | None) -> Select[Any]:
    columns = _ORDERS[sort]
    keys: list[ColumnElement[Any]] = [column if start == sort else filters.unindexed(column) for column in columns]
    statement = (select(*rows.FILE).join_from(files, blobs, files.c.blob_id == blobs.c.id)
                 .where(*filters.conditions(names, start), *_page(sort, keys, descending, after, bounded)))
    return statement.order_by(*[key.desc() if descending else key for key in keys]).limit(bindparam("count"))


@cache
def _end(sort: SortKey, descending: bool, after: bool, names: filters.Names) -> Select[Any]:
    """Where those that are looked at first end."""
    keys = list(_ORDERS[sort])
    return (select(*keys).where(*filters.conditions(names, sort), *_page(sort, keys, descending, after, False))
            .order_by(*[key.desc() if descending else key for key in keys]).limit(bindparam("count")).offset(bindparam("skip")))


def _page(sort: SortKey, keys: Sequence[ColumnElement[Any]], descending: bool, after: bool, bounded: bool) -> list[ColumnElement[bool]]:
    """After the last file that was shown, and up to the end of those that are looked at."""
    def place(name: str) -> Tuple:
        return tuple_(*[bindparam(f"{name}{number}", type_=column.type) for number, column in enumerate(_ORDERS[sort])])

    here = tuple_(*keys)
    return ([here < place("last") if descending else here > place("last")] if after else []) + (
        [here >= place("end") if descending else here <= place("end")] if bounded else [])


def _tightened(asked: filters.Asked, sort: SortKey, descending: bool, last: Mapping[str, Any]) -> dict[str, Any]:
    """A range of the order's own column begins where the page does: of two bounds a database may begin at the wrong one."""
    name = f"{sort}_{'to' if descending else 'from'}"
    if not last or name not in asked.names:
        return {}
    if not descending:
        return {name: max(asked.values[name], last["last0"])}
    return {name: min(asked.values[name], math.nextafter(last["last0"], math.inf) if sort == "modified" else last["last0"])}


def _cursor(file: File, sort: SortKey, descending: bool) -> str:
    key: list[Any] = [file.path] if sort == "path" else [file.modified_at if sort == "modified" else file.size, file.id]
    return paths.to_cursor(json.dumps([sort, int(descending), *key], separators=(",", ":")))


def _last(cursor: str, sort: SortKey, descending: bool) -> dict[str, Any]:
    """The keys of the last file that was shown. Raises InvalidRequest for a cursor that isn't one, or of another order."""
    kinds: dict[SortKey, tuple[type, ...]] = {"path": (str,), "modified": (float, str), "size": (int, str)}
    try:
        match parse_json(paths.from_cursor(cursor).encode()):
            case [str(order), int(down), *key] if order == sort and down == int(descending) and _fits(key, kinds[sort]):
                return {f"last{number}": value for number, value in enumerate(key)}
    except ValueError:
        pass
    raise InvalidRequest("the cursor is none that was given out for this order", cursor=cursor, sort=sort, descending=descending)


def _fits(key: Sequence[Any], kinds: tuple[type, ...]) -> bool:
    if tuple(map(type, key)) != kinds:
        return False
    return all(math.isfinite(value) if isinstance(value, float) else abs(value) <= MAX_SIZE if isinstance(value, int)
               else _is_text(value) for value in key)


def _is_text(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)


# --- sums ----------------------------------------------------------------------------------------------------------


@cache
def _folders(count: int) -> Select[Any]:
    return (select(folders.c.path, folders.c.files, folders.c.bytes)
            .where(folders.c.space == bindparam("space"), among(folders.c.path, count)))


def folder_sums(session: Session, space: str, wanted: Sequence[str]) -> dict[str, Folder]:
    sums = {path: Folder(path) for path in wanted}
    named = [path for path in sums if path]
    for start in range(0, len(named), _MANY):
        some = padded(named[start:start + _MANY])
        sums.update({row[0]: Folder(*row) for row in session.rows(_folders(len(some)), space=space, **among_values(some))})
    if "" in sums:
        whole = usage_of(session, space, None)
        sums[""] = Folder("", whole.files, whole.bytes)
    return sums


def usage_of(session: Session, space: str, owner: str | None) -> Usage:
    row = session.one(_USAGE, space=space, who="" if owner is None else f"={owner}")
    return Usage(*row) if row else Usage()
