"""The tables of the catalog. What the migrations build, in one place for the statements.

CRCs are 8 bytes, big endian, because SQLite's integers are signed. All text collates by code point, so that a prefix is
a range. Sizes are bytes, times are seconds since 1970 UTC. Metadata, scopes and driver state are JSON texts.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    func,
    literal_column,
)
from sqlalchemy.types import TypeEngine

SCHEMA = "0001"
"""The revision these tables are of. Revisions are numbers with leading zeros, so an older one sorts before."""

metadata = MetaData()

TEXT: TypeEngine[str] = Text(collation="BINARY").with_variant(Text(collation="C"), "postgresql")
RECEIVING: ColumnElement[str] = literal_column("'receiving'")
"""As text in the statement, because a partial index serves no parameter."""


def _blob(nullable: bool = False) -> Column[str]:
    return Column("blob_id", TEXT, ForeignKey("blobs.id", ondelete="RESTRICT"), nullable=nullable)


blobs = Table(
    "blobs", metadata,
    Column("id", TEXT, primary_key=True),
    Column("storage", TEXT, nullable=False),
    Column("key", TEXT, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("crc64nvme", LargeBinary, CheckConstraint("length(crc64nvme) = 8"), nullable=False),
    Column("sha256", LargeBinary),
    Column("created_at", Double, nullable=False),
    Index("blobs_by_key", "storage", "key", unique=True),
    sqlite_with_rowid=False,
)

files = Table(
    "files", metadata,
    Column("id", TEXT, primary_key=True),
    Column("space", TEXT, nullable=False),
    Column("path", TEXT, nullable=False),
    Column("owner", TEXT),
    Column("media_type", TEXT, nullable=False),
    Column("metadata", TEXT, nullable=False),
    _blob(),
    Column("version", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("modified_at", Double, nullable=False),
    Index("files_by_path", "space", "path", unique=True),
    Index("files_by_blob", "blob_id"),
    sqlite_with_rowid=False,
)

versions = Table(
    "versions", metadata,
    Column("file_id", TEXT, ForeignKey("files.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    _blob(),
    Column("media_type", TEXT, nullable=False),
    Column("created_at", Double, nullable=False),
    Index("versions_by_blob", "blob_id"),
    sqlite_with_rowid=False,
)

jobs = Table(
    "jobs", metadata,
    Column("id", TEXT, primary_key=True),
    _blob(),
    Column("file_id", TEXT, nullable=False),
    Column("step", TEXT, nullable=False),
    Column("state", TEXT, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("lease_until", Double),
    Column("created_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("result", TEXT),
    Column("failure", TEXT),
    Index("jobs_by_state", "state", "created_at"),
    Index("jobs_by_blob", "blob_id"),
    sqlite_with_rowid=False,
)

condemned = Table(
    "condemned", metadata,
    Column("storage", TEXT, primary_key=True),
    Column("key", TEXT, primary_key=True),
    Column("since", Double, nullable=False),
    Index("condemned_by_time", "storage", "since", "key"),
    sqlite_with_rowid=False,
)

uploads = Table(
    "uploads", metadata,
    Column("id", TEXT, primary_key=True),
    Column("space", TEXT, nullable=False),
    Column("path", TEXT, nullable=False),
    Column("owner", TEXT),
    Column("protocol", TEXT, nullable=False),
    Column("storage", TEXT, nullable=False),
    Column("key", TEXT, nullable=False),
    Column("state", TEXT, nullable=False),
    Column("name", TEXT),
    Column("size", BigInteger),
    Column("chunk_size", BigInteger),
    Column("media_type", TEXT),
    Column("metadata", TEXT, nullable=False),
    Column("driver_state", TEXT, nullable=False),
    Column("if_match", TEXT),
    Column("created_at", Double, nullable=False),
    Column("touched_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("file_id", TEXT),
    Column("failure", TEXT),
    sqlite_with_rowid=False,
)
Index("uploads_by_expiry", uploads.c.state, uploads.c.expires_at)
Index("uploads_by_name", uploads.c.space, uploads.c.name)
Index("uploads_receiving_names", uploads.c.space, func.coalesce(uploads.c.owner, literal_column("''")), uploads.c.name, unique=True,
      sqlite_where=uploads.c.state == RECEIVING, postgresql_where=uploads.c.state == RECEIVING)
Index("uploads_receiving_keys", uploads.c.storage, uploads.c.key,
      sqlite_where=uploads.c.state == RECEIVING, postgresql_where=uploads.c.state == RECEIVING)

spans = Table(
    "spans", metadata,
    Column("upload_id", TEXT, ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
    Column("start", BigInteger, primary_key=True),
    Column("end", BigInteger, nullable=False),
    Column("crc", LargeBinary, CheckConstraint("length(crc) = 8"), nullable=False),
    sqlite_with_rowid=False,
)

chunks = Table(
    "chunks", metadata,
    Column("upload_id", TEXT, ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
    Column("index", BigInteger, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("crc", LargeBinary, CheckConstraint("length(crc) = 8"), nullable=False),
    Column("start", BigInteger),
    Column("key", TEXT),
    sqlite_with_rowid=False,
)
Index("chunks_by_key", chunks.c.key, sqlite_where=chunks.c.key.is_not(None), postgresql_where=chunks.c.key.is_not(None))
reservations = Table(
    "reservations", metadata,
    Column("id", TEXT, primary_key=True),
    Column("storage", TEXT, nullable=False),
    Column("principal", TEXT, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("expires_at", Double, nullable=False),
    Index("reservations_by_storage", "storage", "expires_at"),
    sqlite_with_rowid=False,
)

tokens = Table(
    "tokens", metadata,
    Column("id", TEXT, primary_key=True),
    Column("name", TEXT, nullable=False),
    Column("secret_sha256", LargeBinary, nullable=False, unique=True),
    Column("scopes", TEXT, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    sqlite_with_rowid=False,
)

links = Table(
    "links", metadata,
    Column("id", TEXT, primary_key=True),
    Column("file_id", TEXT, ForeignKey("files.id", ondelete="CASCADE"), nullable=False),
    Column("created_by", TEXT),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Index("links_by_file", "file_id"),
    sqlite_with_rowid=False,
)

instances = Table(
    "instances", metadata,
    Column("id", TEXT, primary_key=True),
    Column("host", TEXT, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    sqlite_with_rowid=False,
)
