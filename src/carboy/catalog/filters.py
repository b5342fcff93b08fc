"""Which files a list or a search shows, as conditions of a statement, and which of them to look at.

A statement is compiled once for each shape of a question (which filters are given), so values are parameters. Databases guess badly
where a walk in order ends early, so the index they walk is chosen here: a column in ``coalesce`` is one that no index serves.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, bindparam, exists, func, literal_column, select

from carboy.catalog import paths
from carboy.catalog.sessions import Session
from carboy.catalog.tables import files, tags
from carboy.model import MAX_SIZE, Filter

_ALL: ColumnElement[int] = literal_column("*")
_ONE: ColumnElement[int] = literal_column("1")
_SPACE: ColumnElement[bool] = files.c.space == bindparam("space")
_CONDITIONS: Mapping[str, tuple[Column[Any], Callable[[Any, Any], Any]]] = {
    "path_from": (files.c.path, operator.ge),
    "path_to": (files.c.path, operator.lt),
    "media_type": (files.c.media_type, operator.eq),
    "media_from": (files.c.media_type, operator.ge),
    "media_to": (files.c.media_type, operator.lt),
    "owner": (files.c.owner, operator.eq),
    "size_from": (files.c.size, operator.ge),
    "size_to": (files.c.size, operator.le),
    "modified_from": (files.c.modified_at, operator.ge),
    "modified_to": (files.c.modified_at, operator.lt),
}
_RANGES: Mapping[str, frozenset[str]] = {
    kind: frozenset({f"{kind}_from", f"{kind}_to"}) for kind in ("path", "size", "modified")}

Names = frozenset[str]
Start = str
"""What a statement walks: all of a space in the order of ``path``, ``size`` or ``modified``, from the first to the last that may pass; or
the files with a tag, by the name of its parameter."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of files in a space: the names of the conditions, and their values."""

    names: Names
    values: Mapping[str, Any]


def asked(space: str, prefix: str, filter: Filter) -> Asked:
    given = {"path_from": prefix or None, "path_to": paths.successor(prefix), **_media(filter.media_type), "owner": filter.owner,
             "size_from": filter.min_size, "size_to": filter.max_size, "modified_from": filter.modified_from,
             "modified_to": filter.modified_to, **{f"tag{number}": tag for number, tag in enumerate(sorted(set(filter.tags)))}}
    values = {name: min(value, MAX_SIZE) if isinstance(value, int) else value for name, value in given.items() if value is not None}
    return Asked(frozenset(values), {"space": space, **values})


def _media(wanted: str | None) -> dict[str, str | None]:
    wanted = wanted.lower() if wanted and wanted != "*/*" else None
    if wanted is None or not wanted.endswith("/*"):
        return {"media_type": wanted}
    return {"media_from": wanted[:-1], "media_to": paths.successor(wanted[:-1])}


def conditions(names: Names, start: Start | None) -> list[ColumnElement[bool]]:
    """What holds for the files, said so that the database begins at ``start``; None begins elsewhere than with files."""
    rest = [_condition(name, start) for name in sorted(names - {start})]
    if start in _RANGES:
        return [_SPACE, *rest]
    here = unindexed(files.c.space) == bindparam("space", type_=files.c.space.type)
    if start is None:
        return [here, *rest]
    return [files.c.id.in_(select(tags.c.file_id).where(tags.c.tag == bindparam(start))), here, *rest]


def _condition(name: str, start: Start | None) -> ColumnElement[bool]:
    if name.startswith("tag"):
        return exists(select(_ONE).where(tags.c.file_id == files.c.id, tags.c.tag == bindparam(name)))
    column, compare = _CONDITIONS[name]
    left = column if name in _RANGES.get(start or "", ()) else unindexed(column)
    met: ColumnElement[bool] = compare(left, bindparam(name, type_=column.type))
    return met


def unindexed(column: Column[Any]) -> ColumnElement[Any]:
    """The column, without its indexes."""
    return func.coalesce(column, column)


def narrow(session: Session, asked: Asked, few: int) -> Start | None:
    """A start that meets at most ``few`` files, if there is one."""
    for name in sorted(asked.names):
        if name.startswith("tag") and _is_few(session, _TAGGED, few, tag=asked.values[name]):
            return name
    for kind, range in _RANGES.items():
        names = range & asked.names
        if (names or kind == "path") and _is_few(session, _ranged(names, kind), few, space=asked.values["space"],
                                                  **{name: asked.values[name] for name in names}):
            return kind
    return None


_TAGGED = select(func.count(_ALL)).select_from(
    select(_ONE).where(tags.c.tag == bindparam("tag")).limit(bindparam("few")).subquery())


@cache
def _ranged(names: Names, kind: Start) -> Select[Any]:
    found = select(_ONE).select_from(files).where(*conditions(names, kind)).limit(bindparam("few")).subquery()
    return select(func.count(_ALL)).select_from(found)


def _is_few(session: Session, statement: Select[Any], few: int, **values: Any) -> bool:
    row = session.one(statement, few=few + 1, **values)
    return row is not None and row[0] <= few
