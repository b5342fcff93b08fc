"""The resumable protocols: uploads that are parts of others, and answers that are given again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

TEXT = sa.Text(collation="BINARY").with_variant(sa.Text(collation="C"), "postgresql")
OF_PARTS = sa.text("state = 'receiving' AND parts != '[]'")


def upgrade() -> None:
    op.add_column("uploads", sa.Column("partial", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("uploads", sa.Column("parts", TEXT, nullable=False, server_default="[]"))
    op.add_column("uploads", sa.Column("digests", TEXT, nullable=False, server_default="{}"))
    op.create_index("uploads_of_parts", "uploads", ["id"], sqlite_where=OF_PARTS, postgresql_where=OF_PARTS)
    op.create_table(
        "answers",
        sa.Column("principal", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("answer", TEXT),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("principal", "key"),
        sqlite_with_rowid=False,
    )
    op.create_index("answers_by_expiry", "answers", ["expires_at"])
