"""A column type of SQLAlchemy that holds a file's id."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import String
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from carboy.model import File
from carboy.web.forms import Received

_ID = re.compile("[0-9a-f]{32}")


class FileId(TypeDecorator[str]):
    """Holds a file's id: takes a :class:`carboy.File`, a :class:`carboy.Received` that was kept, or an id, and gives the id.

    It is no foreign key: the file may be deleted, and ``carboy.get(id)`` then raises NotFound. Raises ValueError for what is no file, and
    for what was received and not kept, because that would be swept.
    """

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else id_of(value)

    @property
    def python_type(self) -> type[str]:
        return str


def id_of(value: File | Received | str) -> str:
    """The id of a file. Raises ValueError."""
    if isinstance(value, Received):
        if value.file is None:
            raise ValueError(f"{value.filename!r} was received and not kept; store what keep() gives")
        value = value.file
    id = value.id if isinstance(value, File) else value
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise ValueError(f"{id!r} is not the id of a file")
    return id
