"""The schema's revision, and Alembic run without an alembic.ini."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection

from carboy.catalog.sessions import Row
from carboy.catalog.tables import SCHEMA
from carboy.errors import SchemaMismatch

Say = Callable[[str], Row | None]


def read_version(say: Say, has_table: str = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'") -> str | None:
    """The revision of the catalog, None where there is none yet."""
    if not say(has_table):
        return None
    row = say("SELECT version_num FROM alembic_version")
    return str(row[0]) if row else None


def require_current(version: str | None) -> None:
    """Raises SchemaMismatch, saying what to do."""
    if version == SCHEMA:
        return
    require_not_newer(version)
    raise SchemaMismatch("the catalog's schema is older; run `carboy db upgrade`", found=version, wanted=SCHEMA)


def require_not_newer(version: str | None) -> None:
    """Raises SchemaMismatch."""
    if version is not None and version > SCHEMA:
        raise SchemaMismatch("the catalog was made by a newer Carboy", found=version, wanted=SCHEMA)


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing, in the transaction that ``connection`` is in."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


