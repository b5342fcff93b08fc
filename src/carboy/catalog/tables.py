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
    and_,
    func,
    literal_column,
)
from sqlalchemy.types import TypeEngine

SCHEMA = "0005"
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
    Column("damaged_at", Double),
    Column("held", Integer, nullable=False, server_default="0"),
    Column("quarantine", TEXT),
    Index("blobs_by_key", "storage", "key", unique=True),
    sqlite_with_rowid=False,
)
Index("blobs_by_sha256", blobs.c.sha256, blobs.c.size, sqlite_where=blobs.c.sha256.is_not(None),
      postgresql_where=blobs.c.sha256.is_not(None))

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
    Column("size", BigInteger, nullable=False, server_default="0"),
    Column("tags", TEXT, nullable=False, server_default="[]"),
    Index("files_by_path", "space", "path", unique=True),
    Index("files_by_blob", "blob_id"),
    Index("files_by_modified", "space", "modified_at", "id"),
    Index("files_by_size", "space", "size", "id"),
    sqlite_with_rowid=False,
)
"""``size`` repeats the blob's, so that a list can be sorted by it; ``tags`` repeats the rows of the table ``tags``. A file in the
trash, or staged, is in a space of that name, and its path there is its id: see ``shelf``."""

tags = Table(
    "tags", metadata,
    Column("file_id", TEXT, ForeignKey("files.id", ondelete="CASCADE"), primary_key=True),
    Column("tag", TEXT, primary_key=True),
    Index("tags_by_tag", "tag", "file_id"),
    sqlite_with_rowid=False,
)

shelf = Table(
    "shelf", metadata,
    Column("file_id", TEXT, ForeignKey("files.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", TEXT, nullable=False),
    Column("space", TEXT, nullable=False),
    Column("path", TEXT, nullable=False),
    Column("since", Double, nullable=False),
    Column("by", TEXT),
    Column("expires_at", Double, nullable=False),
    Index("shelf_by_age", "kind", "space", "since", "file_id"),
    Index("shelf_by_expiry", "expires_at"),
    sqlite_with_rowid=False,
)
"""Where the files in the trash were, and what the staged ones are called."""

folders = Table(
    "folders", metadata,
    Column("space", TEXT, primary_key=True),
    Column("path", TEXT, primary_key=True),
    Column("files", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""What lies in each folder at any depth; its path has the slash at the end. The space itself is no row here but in ``usage``."""

usage = Table(
    "usage", metadata,
    Column("space", TEXT, primary_key=True),
    Column("who", TEXT, primary_key=True),
    Column("files", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("older", BigInteger, nullable=False),
    Column("trash", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""``who`` is ``""`` for the whole space, and ``=`` and the owner for what one owner keeps in it."""

texts = Table(
    "texts", metadata,
    Column("n", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("file_id", TEXT, ForeignKey("files.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("space", TEXT, nullable=False),
    Column("text", TEXT, nullable=False),
)
"""What a search looks in: path, metadata and tags, case-folded. Kept up from ``unread``."""

unread = Table(
    "unread", metadata,
    Column("file_id", TEXT, primary_key=True),
    sqlite_with_rowid=False,
)
"""The files whose text has to be read again before the next search."""

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

QUEUED: ColumnElement[str] = literal_column("'queued'")
RUNNING: ColumnElement[str] = literal_column("'running'")
jobs = Table(
    "jobs", metadata,
    Column("id", TEXT, primary_key=True),
    _blob(),
    Column("file_id", TEXT, nullable=False),
    Column("space", TEXT, nullable=False),
    Column("owner", TEXT),
    Column("step", TEXT, nullable=False),
    Column("version", TEXT, nullable=False),
    Column("state", TEXT, nullable=False),
    Column("queue", TEXT, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("args", TEXT, nullable=False),
    Column("after", TEXT, nullable=False),
    Column("holds", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("instance", TEXT),
    Column("progress", Double, nullable=False),
    Column("phrase", TEXT, nullable=False),
    Column("result", TEXT),
    Column("failure", TEXT),
    Column("request", TEXT, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("started_at", Double),
    Column("sent_at", Double),
    Index("jobs_once", "blob_id", "step", "version", unique=True),
    Index("jobs_by_file", "file_id"),
    Index("jobs_by_time", "created_at", "id"),
    Index("jobs_by_state", "state", "step", "changed_at"),
    sqlite_with_rowid=False,
)
Index("jobs_to_run", jobs.c.priority.desc(), jobs.c.due_at, jobs.c.id, sqlite_where=jobs.c.state == QUEUED,
      postgresql_where=jobs.c.state == QUEUED)

derived = Table(
    "derived", metadata,
    Column("of", TEXT, primary_key=True),
    Column("step", TEXT, primary_key=True),
    Column("name", TEXT, primary_key=True),
    _blob(),
    Column("media_type", TEXT, nullable=False),
    Column("facts", TEXT, nullable=False),
    Column("created_at", Double, nullable=False),
    Index("derived_by_blob", "blob_id"),
    sqlite_with_rowid=False,
)
"""``of`` is the blob that they were made of. No foreign key: a node of schema 0004 that drops it knows nothing of this table; the sweeper
then sees to what is left."""

hooks = Table(
    "hooks", metadata,
    Column("name", TEXT, primary_key=True),
    Column("cursor", TEXT, nullable=False),
    Column("seq", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""How far in the log each webhook's deliveries have been made, and the number of the last one."""

OPEN: ColumnElement[bool] = literal_column("state IN ('waiting', 'queued', 'sending')")
deliveries = Table(
    "deliveries", metadata,
    Column("id", TEXT, primary_key=True),
    Column("hook", TEXT, nullable=False),
    Column("subject", TEXT, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", TEXT, nullable=False),
    Column("body", TEXT, nullable=False),
    Column("state", TEXT, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("instance", TEXT),
    Column("answer", TEXT),
    Column("created_at", Double, nullable=False),
    Column("since", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("due_at", Double, nullable=False),
    Index("deliveries_by_hook", "hook", "seq", unique=True),
    Index("deliveries_open", "hook", "subject", "seq", sqlite_where=OPEN, postgresql_where=OPEN),
    Index("deliveries_by_state", "state", "changed_at"),
    sqlite_with_rowid=False,
)
"""What webhooks are to be told. Those of one ``hook`` and ``subject`` (a file) go out by ``seq``, one after the other: of those that are
open the first is ``queued`` or ``sending``, the others are ``waiting``. Trying began at ``since``."""
Index("deliveries_to_send", deliveries.c.hook, deliveries.c.due_at, deliveries.c.seq, sqlite_where=deliveries.c.state == QUEUED,
      postgresql_where=deliveries.c.state == QUEUED)

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
    Column("partial", Integer, nullable=False, server_default="0"),
    Column("parts", TEXT, nullable=False, server_default="[]"),
    Column("digests", TEXT, nullable=False, server_default="{}"),
    Column("parts_given", TEXT),
    sqlite_with_rowid=False,
)
OF_PARTS: ColumnElement[bool] = and_(uploads.c.state == RECEIVING, uploads.c.parts != literal_column("'[]'"))
"""Uploads that wait for their parts."""
Index("uploads_of_parts", uploads.c.id, sqlite_where=OF_PARTS, postgresql_where=OF_PARTS)
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

fragments = Table(
    "fragments", metadata,
    Column("upload_id", TEXT, ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
    Column("start", BigInteger, primary_key=True),
    Column("end", BigInteger, nullable=False),
    Column("crc", LargeBinary, CheckConstraint("length(crc) = 8")),
    Column("ref", TEXT, nullable=False),
    Column("key", TEXT),
    sqlite_with_rowid=False,
)
"""They don't overlap. Only uploads with a driver state have any."""
Index("fragments_by_key", fragments.c.key, sqlite_where=fragments.c.key.is_not(None), postgresql_where=fragments.c.key.is_not(None))

reservations = Table(
    "reservations", metadata,
    Column("id", TEXT, primary_key=True),
    Column("storage", TEXT, nullable=False),
    Column("principal", TEXT, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("space", TEXT, nullable=False, server_default=""),
    Column("owner", TEXT),
    Column("adds", BigInteger, nullable=False, server_default="0"),
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
    Column("kind", TEXT, nullable=False),
    Column("space", TEXT, nullable=False),
    Column("file_id", TEXT, ForeignKey("files.id", ondelete="CASCADE")),
    Column("path", TEXT, nullable=False),
    Column("name", TEXT, nullable=False),
    Column("created_by", TEXT),
    Column("creator_kind", TEXT, nullable=False),
    Column("password", TEXT),
    Column("max_uses", BigInteger),
    Column("max_size", BigInteger),
    Column("max_bytes", BigInteger),
    Column("uses", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Index("links_by_file", "file_id"),
    Index("links_by_space", "space", "id"),
    sqlite_with_rowid=False,
)

audit = Table(
    "audit", metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("principal", TEXT),
    Column("kind", TEXT, nullable=False),
    Column("request", TEXT, nullable=False),
    Column("address", TEXT, nullable=False),
    Column("action", TEXT, nullable=False),
    Column("space", TEXT),
    Column("path", TEXT),
    Column("file_id", TEXT),
    Column("facts", TEXT, nullable=False),
    Column("owner", TEXT),
    Column("upload_id", TEXT),
    Column("job_id", TEXT),
    Column("xact", BigInteger),
    Index("audit_by_space", "space", "id"),
)
"""The log of all that happens. Entries without a ``kind`` are of nobody's doing, or nobody is to be kept: they are no part of the audit
log. ``xact`` is PostgreSQL's number of the transaction: ids are given before commits, so those alone don't tell the order."""
Index("audit_passing", audit.c.at, sqlite_where=audit.c.kind == literal_column("''"), postgresql_where=audit.c.kind == literal_column("''"))
Index("audit_by_xact", audit.c.xact, audit.c.id, sqlite_where=audit.c.xact.is_not(None), postgresql_where=audit.c.xact.is_not(None))

zips = Table(
    "zips", metadata,
    Column("id", TEXT, primary_key=True),
    Column("principal", TEXT),
    Column("name", TEXT, nullable=False),
    Column("entries", TEXT, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Index("zips_by_expiry", "expires_at"),
    sqlite_with_rowid=False,
)

secrets = Table(
    "secrets", metadata,
    Column("name", TEXT, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Keys that all processes and machines share, such as the one that signs links."""

writers = Table(
    "writers", metadata,
    Column("id", TEXT, primary_key=True),
    Column("host", TEXT, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("beats", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""The processes that write to a storage shared by many, while they live (:class:`carboy.model.Instance`)."""

leases = Table(
    "leases", metadata,
    Column("id", TEXT, primary_key=True),
    Column("storage", TEXT, nullable=False),
    Column("key", TEXT, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("end", BigInteger),
    Column("instance", TEXT, ForeignKey("writers.id", ondelete="CASCADE"), nullable=False),
    Column("wanted", Integer, nullable=False, server_default="0"),
    Index("leases_by_key", "storage", "key"),
    Index("leases_by_instance", "instance"),
    sqlite_with_rowid=False,
)
"""Which ranges of which keys they hold; gone with their holder. ``wanted``: somebody waits for it."""

instances = Table(
    "instances", metadata,
    Column("id", TEXT, primary_key=True),
    Column("host", TEXT, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    sqlite_with_rowid=False,
)
"""Written to by nodes of schema 0003 only, which may still run; to be dropped once they may not."""

compatibility = Table("compatibility", metadata, Column("oldest", TEXT, primary_key=True), sqlite_with_rowid=False)
"""One row: the oldest revision whose code works on the catalog as it is. See :mod:`carboy.catalog.schema`."""

answers = Table(
    "answers", metadata,
    Column("principal", TEXT, primary_key=True),
    Column("key", TEXT, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("answer", TEXT),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Index("answers_by_expiry", "expires_at"),
    sqlite_with_rowid=False,
)
"""What a request with an Idempotency-Key was answered; without an answer, it is under way."""
