"""Many machines: who writes to a shared storage and where, what it keeps of uploads until they are whole, and which Carboys can work with
the catalog."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
works_with = "0003"

TEXT = sa.Text(collation="BINARY").with_variant(sa.Text(collation="C"), "postgresql")
WITH_KEY = sa.text("key IS NOT NULL")


def upgrade() -> None:
    op.add_column("uploads", sa.Column("parts_given", TEXT))
    _fragments()
    _writers()
    _leases()
    op.create_table("compatibility", sa.Column("oldest", TEXT, nullable=False), sa.PrimaryKeyConstraint("oldest"), sqlite_with_rowid=False)


def _fragments() -> None:
    op.create_table(
        "fragments",
        sa.Column("upload_id", TEXT, nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("crc", sa.LargeBinary(), sa.CheckConstraint("length(crc) = 8")),
        sa.Column("ref", TEXT, nullable=False),
        sa.Column("key", TEXT),
        sa.ForeignKeyConstraint(["upload_id"], ["uploads.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("upload_id", "start"),
        sqlite_with_rowid=False,
    )
    op.create_index("fragments_by_key", "fragments", ["key"], sqlite_where=WITH_KEY, postgresql_where=WITH_KEY)


def _writers() -> None:
    op.create_table(
        "writers",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("host", TEXT, nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("beats", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("storage", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger()),
        sa.Column("instance", TEXT, nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False, server_default="0"),
        sa.ForeignKeyConstraint(["instance"], ["writers.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("leases_by_key", "leases", ["storage", "key"])
    op.create_index("leases_by_instance", "leases", ["instance"])
