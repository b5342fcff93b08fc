"""What a query sees of a database, and how statements become the driver's SQL.

Statements are SQLAlchemy Core, made once at import and compiled once per database. They run on the driver's own
connection: SQLAlchemy's execution costs 14 µs a statement, the driver's 1 µs, and the receive path runs several per file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from sqlalchemy import ColumnElement, Dialect, SelectBase, UpdateBase, bindparam

from carboy.catalog.schema import Schema

T = TypeVar("T")
Row = tuple[Any, ...]
Statement = SelectBase | UpdateBase


class Session(Protocol):
    """One open transaction, or one read."""

    dialect: ClassVar[Literal["sqlite", "postgresql"]]
    """What the few statements that each database says in its own way go by."""

    def rows(self, statement: Statement, /, **values: Any) -> list[Row]:
        """Every row of a query."""

    def one(self, statement: Statement, /, **values: Any) -> Row | None:
        """The first row of a query."""

    def run(self, statement: Statement, /, **values: Any) -> int:
        """Make a change; how many rows it met."""

    def serialise(self, name: str) -> None:
        """Until this transaction ends, no other passes here with the same name."""

    def lock_paths(self, paths: Sequence[tuple[str, str]]) -> None:
        """Until this transaction ends, no other makes a file at, above or below these ``(space, path)``."""


class Database(Protocol):
    """A database that runs work in transactions. ``work`` may run more than once; only its last run counts."""

    def read(self, work: Callable[[Session], T]) -> T:
        """Run a single query. Raises CatalogUnavailable."""

    def view(self, work: Callable[[Session], T]) -> T:
        """Run several queries that see the same moment."""

    def write(self, work: Callable[[Session], T]) -> T:
        """Run ``work`` and commit; what it raises rolls back. Raises CatalogUnavailable, CommitUnknown, StorageFull."""

    def schema(self) -> Schema:
        """What the database's schema is."""

    def migrate(self) -> None:
        """Bring the schema to the newest revision."""

    def snapshot(self, path: str) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Compiled:
    """A statement in the driver's SQL, the names of its parameters in order, and the values that never change."""

    sql: str
    names: tuple[str, ...]
    fixed: Mapping[str, Any]


class Compiler:
    """Compiles each statement once. Statements are kept for ever: they must be made once too."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._done: dict[Statement, Compiled] = {}

    def __call__(self, statement: Statement) -> Compiled:
        compiled = self._done.get(statement)
        return compiled or self._compile(statement)

    def _compile(self, statement: Statement) -> Compiled:
        compiled: Any = statement.compile(dialect=self._dialect)
        fixed = {name: value for name, value in compiled.params.items() if value is not None}
        names = tuple(compiled.positiontup or ())
        return self._done.setdefault(statement, Compiled(str(compiled), names, fixed))


def padded(values: Sequence[T]) -> list[T]:
    """``values``, the last repeated until their number is a power of two: so few statements serve all lengths."""
    wanted = 1 << (len(values) - 1).bit_length()
    return [*values, *[values[-1]] * (wanted - len(values))]


def among(column: ColumnElement[Any], count: int) -> ColumnElement[bool]:
    """``column IN (:in0, :in1, …)``; :func:`among_values` gives the values."""
    return column.in_([bindparam(f"in{number}", type_=column.type) for number in range(count)])


def among_values(values: Sequence[Any]) -> dict[str, Any]:
    return {f"in{number}": value for number, value in enumerate(values)}
