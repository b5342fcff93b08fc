"""Finding files by words anywhere in their texts.

SQLite keeps an index of trigrams (FTS5): it gives the texts that hold all trigrams of the words, newest first, and each is then looked
at. PostgreSQL looks at the newest texts first, because of a common word enough are there, and else asks its index (pg_trgm).
Where there are few files to find among, and where words are too short for trigrams, texts are just looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, Subquery, bindparam, column, func, literal_column, select, table, true

from carboy.catalog import filters, paths, rows
from carboy.catalog.filters import Asked, Names, Start
from carboy.catalog.sessions import Row, Session
from carboy.catalog.tables import blobs, files, texts
from carboy.catalog.texts import fold
from carboy.errors import InvalidRequest
from carboy.model import MAX_SIZE, Filter, Page

FEW = 5000
"""Up to so many files are looked at one by one."""
NEWEST = 1000
"""So many texts are looked at before PostgreSQL's index is asked."""
_MOST_GRAMS = 24
_NONE: ColumnElement[int] = literal_column("0")
_FOUND = table("texts_found", column("rowid"), column("texts_found"))


def search(session: Session, space: str, words: Sequence[str], prefix: str, filter: Filter, cursor: str | None, limit: int) -> Page:
    asked = filters.asked(space, prefix, filter)
    wanted = sorted({fold(word) for word in words} - {""}, key=lambda word: (-len(word), word))
    before = MAX_SIZE if cursor is None else _number(cursor)
    found = _find(session, asked, wanted, before, limit + 1)
    following = paths.to_cursor(str(found[limit - 1][0])) if len(found) > limit else None
    return Page([rows.file_of(row[1:]) for row in found[:limit]], cursor=following)


def _number(cursor: str) -> int:
    """Raises InvalidRequest."""
    text = paths.from_cursor(cursor)
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidRequest("the cursor is none that was given out by a search", cursor=cursor)
    return int(text)


def _find(session: Session, asked: Asked, words: Sequence[str], before: int, count: int) -> list[Row]:
    values = {**asked.values, "before": before, "count": count}
    start = filters.narrow(session, asked, FEW)
    if start:
        return session.rows(_among_few(len(words), asked.names, start, session.dialect), **values, **_wanted(words, session.dialect))
    if session.dialect == "sqlite":
        query = _trigrams(words)
        statement = _sqlite(len(words), asked.names, bool(query))
        return session.rows(statement, query=query, **values, **_wanted(words, "sqlite"))
    return _in_postgres(session, asked, words, before, count)


# --- what both say -------------------------------------------------------------------------------------------------


def _wanted(words: Iterable[str], dialect: str) -> dict[str, str]:
    return {f"word{number}": word if dialect == "sqlite" else f"%{_escaped(word)}%" for number, word in enumerate(words)}


def _escaped(word: str) -> str:
    """As LIKE takes it, each character for itself."""
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _holds(text: ColumnElement[str], words: int, dialect: str) -> list[ColumnElement[bool]]:
    parameters = [bindparam(f"word{number}", type_=texts.c.text.type) for number in range(words)]
    return [func.instr(text, word) > 0 if dialect == "sqlite" else text.like(word, escape="\\") for word in parameters]


def _files(n: ColumnElement[int], found: FromClause, names: Names, start: Start | None = None) -> Select[Any]:
    """The files of these texts, the newest text first."""
    return (select(n, *rows.FILE).select_from(found).join(blobs, files.c.blob_id == blobs.c.id)
            .where(*filters.conditions(names, start)).order_by(n.desc()).limit(bindparam("count")))


@cache
def _among_few(words: int, names: Names, start: Start, dialect: str) -> Select[Any]:
    n = filters.unindexed(texts.c.n)
    return (_files(n, files.join(texts, texts.c.file_id == files.c.id), names, start)
            .where(*_holds(texts.c.text, words, dialect), n < bindparam("before")))


# --- SQLite --------------------------------------------------------------------------------------------------------


def _trigrams(words: Iterable[str]) -> str:
    """All that an index of trigrams can be asked about the words; some do, where there are many."""
    found = dict.fromkeys(word[at:at + 3] for word in words for at in range(len(word) - 2))
    return " ".join('"' + gram.replace('"', '""') + '"' for gram in list(found)[:_MOST_GRAMS])


@cache
def _sqlite(words: int, names: Names, indexed: bool) -> Select[Any]:
    held = [texts.c.space == bindparam("space"), *_holds(texts.c.text, words, "sqlite")]
    if not indexed:
        return _files(texts.c.n, texts.join(files, files.c.id == texts.c.file_id), names).where(*held, texts.c.n < bindparam("before"))
    n: ColumnElement[int] = _FOUND.c.rowid
    found = _FOUND.join(texts, texts.c.n == n).join(files, files.c.id == texts.c.file_id)
    return _files(n, found, names).where(_FOUND.c.texts_found.op("MATCH")(bindparam("query")), n < bindparam("before"), *held)


# --- PostgreSQL ----------------------------------------------------------------------------------------------------


def _in_postgres(session: Session, asked: Asked, words: Sequence[str], before: int, count: int) -> list[Row]:
    """First among the newest texts, and further while that promises enough; then by the index."""
    values = {**asked.values, **_wanted(words, "postgresql"), "before": before, "count": count}
    for newest in (NEWEST, 10 * NEWEST, 100 * NEWEST):
        found = session.rows(_postgres(len(words), asked.names, True), newest=newest, **values)
        if len(found) == count:
            return found
        if 10 * len(found) < count:
            break
    return session.rows(_postgres(len(words), asked.names, False), **values)


@cache
def _postgres(words: int, names: Names, newest: bool) -> Select[Any]:
    """``OFFSET 0`` has files looked up text by text, in their order, until there are enough: else all of them would be hashed for a join,
    which is right only where hardly any passes."""
    found = _newest(words) if newest else _indexed(words)
    look = (select(*rows.FILE).join_from(files, blobs, files.c.blob_id == blobs.c.id)
            .where(files.c.id == found.c.file_id, *filters.conditions(names, None)))
    in_order = newest or names <= {"path_from", "path_to"}
    each = (look.offset(_NONE) if in_order else look).lateral("each")
    return (select(found.c.n, *each.c).select_from(found.join(each, true())).order_by(found.c.n.desc()).limit(bindparam("count")))


def _newest(words: int) -> Subquery:
    walked = (select(texts.c.n, texts.c.file_id, texts.c.space, texts.c.text).where(texts.c.n < bindparam("before"))
              .order_by(texts.c.n.desc()).limit(bindparam("newest")).subquery("walked"))
    held = [walked.c.space == bindparam("space"), *_holds(walked.c.text, words, "postgresql")]
    return select(walked.c.n, walked.c.file_id).where(*held).order_by(walked.c.n.desc()).offset(_NONE).subquery("found")


def _indexed(words: int) -> Subquery:
    n = filters.unindexed(texts.c.n)
    held = [texts.c.space == bindparam("space"), *_holds(texts.c.text, words, "postgresql"), n < bindparam("before")]
    return select(n.label("n"), texts.c.file_id).where(*held).order_by(n.desc()).offset(_NONE).subquery("found")
