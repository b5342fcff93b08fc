"""Processing: jobs as they are run, what they derive, contents that are held back, and the log in the order of commits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
works_with = "0003"

TEXT = sa.Text(collation="BINARY").with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    _blobs()
    op.drop_table("jobs")  # nothing was ever in it
    _jobs()
    _derived()
    _hooks()
    _log()


def _blobs() -> None:
    known = sa.text("sha256 IS NOT NULL")
    op.add_column("blobs", sa.Column("held", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("blobs", sa.Column("quarantine", TEXT))
    op.create_index("blobs_by_sha256", "blobs", ["sha256", "size"], sqlite_where=known, postgresql_where=known)


def _jobs() -> None:
    queued = sa.text("state = 'queued'")
    op.create_table(
        "jobs",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("blob_id", TEXT, nullable=False),
        sa.Column("file_id", TEXT, nullable=False),
        sa.Column("space", TEXT, nullable=False),
        sa.Column("owner", TEXT),
        sa.Column("step", TEXT, nullable=False),
        sa.Column("version", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("queue", TEXT, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("args", TEXT, nullable=False),
        sa.Column("after", TEXT, nullable=False),
        sa.Column("holds", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("instance", TEXT),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("phrase", TEXT, nullable=False),
        sa.Column("result", TEXT),
        sa.Column("failure", TEXT),
        sa.Column("request", TEXT, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double()),
        sa.Column("sent_at", sa.Double()),
        sa.ForeignKeyConstraint(["blob_id"], ["blobs.id"], ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("jobs_once", "jobs", ["blob_id", "step", "version"], unique=True)
    op.create_index("jobs_by_file", "jobs", ["file_id"])
    op.create_index("jobs_by_time", "jobs", ["created_at", "id"])
    op.create_index("jobs_by_state", "jobs", ["state", "step", "changed_at"])
    op.create_index("jobs_to_run", "jobs", [sa.text("priority DESC"), "due_at", "id"], sqlite_where=queued, postgresql_where=queued)


def _derived() -> None:
    op.create_table(
        "derived",
        sa.Column("of", TEXT, nullable=False),
        sa.Column("step", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("blob_id", TEXT, nullable=False),
        sa.Column("media_type", TEXT, nullable=False),
        sa.Column("facts", TEXT, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blobs.id"], ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("of", "step", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index("derived_by_blob", "derived", ["blob_id"])


def _hooks() -> None:
    to_send, still_open = sa.text("state = 'queued'"), sa.text("state IN ('waiting', 'queued', 'sending')")
    op.create_table("hooks", sa.Column("name", TEXT, nullable=False), sa.Column("cursor", TEXT, nullable=False),
                    sa.Column("seq", sa.BigInteger(), nullable=False), sa.PrimaryKeyConstraint("name"), sqlite_with_rowid=False)
    op.create_table(
        "deliveries",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("hook", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("body", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("instance", TEXT),
        sa.Column("answer", TEXT),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("deliveries_by_hook", "deliveries", ["hook", "seq"], unique=True)
    op.create_index("deliveries_open", "deliveries", ["hook", "subject", "seq"], sqlite_where=still_open, postgresql_where=still_open)
    op.create_index("deliveries_to_send", "deliveries", ["hook", "due_at", "seq"], sqlite_where=to_send, postgresql_where=to_send)
    op.create_index("deliveries_by_state", "deliveries", ["state", "changed_at"])


def _log() -> None:
    passing, numbered = sa.text("kind = ''"), sa.text("xact IS NOT NULL")
    for name, type_ in (("owner", TEXT), ("upload_id", TEXT), ("job_id", TEXT), ("xact", sa.BigInteger())):
        op.add_column("audit", sa.Column(name, type_))
    if op.get_bind().dialect.name == "postgresql":  # apart from the column, so that no row is written again
        op.execute("ALTER TABLE audit ALTER COLUMN xact SET DEFAULT (pg_current_xact_id()::text::bigint)")
    op.create_index("audit_passing", "audit", ["at"], sqlite_where=passing, postgresql_where=passing)
    op.create_index("audit_by_xact", "audit", ["xact", "id"], sqlite_where=numbered, postgresql_where=numbered)
