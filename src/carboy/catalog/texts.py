"""What a search looks in: of each file one text of its path, the values of its metadata, and its tags, without case.

Changes note a file as unread; the texts are read in batches, before the next search at the latest.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Any

from sqlalchemy import Delete, Select, bindparam, delete, insert, literal_column, select

from carboy.catalog import rows
from carboy.catalog.sessions import Row, Session, among, among_values, padded
from carboy.catalog.tables import files, texts, unread
from carboy.model import STAGED, TRASH

READING = "texts"
"""What those go by who may not meet: see ``Session.serialise``."""
_MANY = 256
_BETWEEN = "\uffff"
_UNFIT = re.compile("[\0\ud800-\udfff\uffff]")
_UNREAD = select(unread.c.file_id).order_by(unread.c.file_id).limit(bindparam("count"))
_ANY: Select[Any] = select(literal_column("1")).select_from(unread).limit(literal_column("1"))
_ADD = insert(texts).values({name: bindparam(name, type_=texts.c[name].type) for name in ("file_id", "space", "text")}).inline()


def fold(text: str) -> str:
    """Text and words alike: NFC, without case, and with U+FFFD for what no database holds, or divides the parts of a text."""
    composed = unicodedata.normalize("NFC", _UNFIT.sub("\ufffd", text))
    return composed.lower() if composed.isascii() else unicodedata.normalize("NFC", composed.casefold())


def text_of(path: str, metadata: Any, tags: Any) -> str:
    return _BETWEEN.join(map(fold, [path, *_values(metadata), *_values(tags)]))


def _values(value: Any) -> Iterator[str]:
    """The texts and numbers in a JSON value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield json.dumps(value)
    elif isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _values(inner)


def are_behind(session: Session) -> bool:
    """Whether there is anything unread."""
    return session.one(_ANY) is not None


@cache
def _changed(count: int) -> Select[Any]:
    """Locked, so that who is changing a file has changed it before it is read, or notes it again after."""
    return (select(files.c.id, files.c.space, files.c.path, files.c.metadata, files.c.tags).where(among(files.c.id, count))
            .order_by(files.c.modified_at, files.c.id).with_for_update(read=True, of=files))


@cache
def _known(count: int) -> Select[Any]:
    return select(texts.c.file_id, texts.c.space, texts.c.text).where(among(texts.c.file_id, count))


@cache
def _drop(count: int) -> Delete:
    return delete(texts).where(among(texts.c.file_id, count))


@cache
def _done(count: int) -> Delete:
    return delete(unread).where(among(unread.c.file_id, count))


def read(session: Session, limit: int) -> int:
    """Read the texts of up to ``limit`` files; how many. One transaction at a time does it, and the next waits for it: what was unread
    when one asked is read when this returns."""
    session.serialise(READING)
    ids = [id for id, in session.rows(_UNREAD, count=limit)]
    for start in range(0, len(ids), _MANY):
        _read(session, padded(ids[start:start + _MANY]))
    return len(ids)


def _read(session: Session, ids: list[str]) -> None:
    wanted = among_values(ids)
    now = {row[0]: (row[1], _text(row)) for row in session.rows(_changed(len(ids)), **wanted) if row[1] not in (TRASH, STAGED)}
    known = {id: (space, text) for id, space, text in session.rows(_known(len(ids)), **wanted)}
    old = [id for id in known if now.get(id) != known[id]]
    if old:
        old = padded(old)
        session.run(_drop(len(old)), **among_values(old))
    for id, (space, text) in now.items():
        if known.get(id) != (space, text):
            session.run(_ADD, file_id=id, space=space, text=text)
    session.run(_done(len(ids)), **wanted)


def _text(row: Row) -> str:
    _, _, path, metadata, tags = row
    return text_of(path, rows.load(metadata), json.loads(tags))
