"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TEXT = sa.Text(collation="BINARY").with_variant(sa.Text(collation="C"), "postgresql")
RECEIVING = sa.text("state = 'receiving'")


def upgrade() -> None:
    _blobs()
    _files()
    _versions()
    _jobs()
    _condemned()
    _uploads()
    _spans()
    _chunks()
    _reservations()
    _tokens()
    _links()
    _instances()


def _blobs() -> None:
    op.create_table(
        "blobs",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("storage", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("crc64nvme", sa.LargeBinary(), sa.CheckConstraint("length(crc64nvme) = 8"), nullable=False),
        sa.Column("sha256", sa.LargeBinary()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("blobs_by_key", "blobs", ["storage", "key"], unique=True)


def _files() -> None:
    op.create_table(
        "files",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("space", TEXT, nullable=False),
        sa.Column("path", TEXT, nullable=False),
        sa.Column("owner", TEXT),
        sa.Column("media_type", TEXT, nullable=False),
        sa.Column("metadata", TEXT, nullable=False),
        sa.Column("blob_id", TEXT, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("modified_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blobs.id"], ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("files_by_blob", "files", ["blob_id"])
    op.create_index("files_by_path", "files", ["space", "path"], unique=True)


def _versions() -> None:
    op.create_table(
        "versions",
        sa.Column("file_id", TEXT, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("blob_id", TEXT, nullable=False),
        sa.Column("media_type", TEXT, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blobs.id"], ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["file_id"], ["files.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("file_id", "number"),
        sqlite_with_rowid=False,
    )
    op.create_index("versions_by_blob", "versions", ["blob_id"])


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("blob_id", TEXT, nullable=False),
        sa.Column("file_id", TEXT, nullable=False),
        sa.Column("step", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.Double()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.Column("result", TEXT),
        sa.Column("failure", TEXT),
        sa.ForeignKeyConstraint(["blob_id"], ["blobs.id"], ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("jobs_by_blob", "jobs", ["blob_id"])
    op.create_index("jobs_by_state", "jobs", ["state", "created_at"])


def _condemned() -> None:
    op.create_table(
        "condemned",
        sa.Column("storage", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("storage", "key"),
        sqlite_with_rowid=False,
    )
    op.create_index("condemned_by_time", "condemned", ["storage", "since", "key"])


def _uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("space", TEXT, nullable=False),
        sa.Column("path", TEXT, nullable=False),
        sa.Column("owner", TEXT),
        sa.Column("protocol", TEXT, nullable=False),
        sa.Column("storage", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("name", TEXT),
        sa.Column("size", sa.BigInteger()),
        sa.Column("chunk_size", sa.BigInteger()),
        sa.Column("media_type", TEXT),
        sa.Column("metadata", TEXT, nullable=False),
        sa.Column("driver_state", TEXT, nullable=False),
        sa.Column("if_match", TEXT),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("touched_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("file_id", TEXT),
        sa.Column("failure", TEXT),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("uploads_by_expiry", "uploads", ["state", "expires_at"])
    op.create_index("uploads_by_name", "uploads", ["space", "name"])
    op.create_index("uploads_receiving_keys", "uploads", ["storage", "key"],
                    sqlite_where=RECEIVING, postgresql_where=RECEIVING)
    op.create_index("uploads_receiving_names", "uploads", ["space", sa.text("coalesce(owner, '')"), "name"], unique=True,
                    sqlite_where=RECEIVING, postgresql_where=RECEIVING)


def _spans() -> None:
    op.create_table(
        "spans",
        sa.Column("upload_id", TEXT, nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("crc", sa.LargeBinary(), sa.CheckConstraint("length(crc) = 8"), nullable=False),
        sa.ForeignKeyConstraint(["upload_id"], ["uploads.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("upload_id", "start"),
        sqlite_with_rowid=False,
    )


def _chunks() -> None:
    op.create_table(
        "chunks",
        sa.Column("upload_id", TEXT, nullable=False),
        sa.Column("index", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("crc", sa.LargeBinary(), sa.CheckConstraint("length(crc) = 8"), nullable=False),
        sa.Column("start", sa.BigInteger()),
        sa.Column("key", TEXT),
        sa.ForeignKeyConstraint(["upload_id"], ["uploads.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("upload_id", "index"),
        sqlite_with_rowid=False,
    )
    op.create_index("chunks_by_key", "chunks", ["key"],
                    sqlite_where=sa.text("key IS NOT NULL"), postgresql_where=sa.text("key IS NOT NULL"))


def _reservations() -> None:
    op.create_table(
        "reservations",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("storage", TEXT, nullable=False),
        sa.Column("principal", TEXT, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("reservations_by_storage", "reservations", ["storage", "expires_at"])


def _tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", TEXT, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double()),
        sa.Column("revoked_at", sa.Double()),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("secret_sha256"),
        sqlite_with_rowid=False,
    )


def _links() -> None:
    op.create_table(
        "links",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("file_id", TEXT, nullable=False),
        sa.Column("created_by", TEXT),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double()),
        sa.Column("revoked_at", sa.Double()),
        sa.ForeignKeyConstraint(["file_id"], ["files.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("links_by_file", "links", ["file_id"])


def _instances() -> None:
    op.create_table(
        "instances",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("host", TEXT, nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
