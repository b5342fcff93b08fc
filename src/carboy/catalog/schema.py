"""The schema's revision, which code works with which, and Alembic run without an alembic.ini.

While a cluster is upgraded, older nodes run on a newer catalog. So each revision says (``works_with``) which is the oldest revision whose
code works on it: tables, indexes, and columns that are nullable or have a default harm no older code; what does, must name itself. The
catalog keeps it in the table ``compatibility``, as an older Carboy doesn't have the newer revisions to ask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert

from carboy.catalog.tables import SCHEMA, compatibility
from carboy.errors import SchemaMismatch

Say = Callable[[str], tuple[Any, ...] | None]


@dataclass(frozen=True, slots=True)
class Schema:
    """A catalog's ``revision``, None where there is none yet, and the ``oldest`` whose code works on it, where it says so."""

    revision: str | None
    oldest: str | None = None

    @property
    def outdated(self) -> bool:
        """Whether migrations are missing. Raises SchemaMismatch for a newer one that this code doesn't work with."""
        if self.revision is None or self.revision <= SCHEMA:
            return self.revision != SCHEMA
        if self.oldest is None or self.oldest > SCHEMA:
            raise SchemaMismatch("the catalog was made by a newer Carboy", found=self.revision, wanted=SCHEMA)
        return False


def read_schema(say: Say, has_table: str = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'") -> Schema:
    """What the catalog is of now."""
    row = say("SELECT version_num FROM alembic_version") if say(has_table) else None
    if row is None or row[0] <= SCHEMA:
        return Schema(row[0] if row else None)
    oldest = say("SELECT oldest FROM compatibility")  # every newer schema has it
    return Schema(row[0], oldest[0] if oldest else None)


def require_current(schema: Schema) -> None:
    """Raises SchemaMismatch, saying what to do."""
    if schema.outdated:
        raise SchemaMismatch("the catalog's schema is older; run `carboy db upgrade`", found=schema.revision, wanted=SCHEMA)


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing, in the transaction that ``connection`` is in."""
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.execute(delete(compatibility))
    connection.execute(insert(compatibility), {"oldest": ScriptDirectory.from_config(config).get_revision("head").module.works_with})
