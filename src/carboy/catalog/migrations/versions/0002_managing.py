"""Managing what is stored: trash and staging, tags, folder sizes and usage, search, links, the audit log, zips.

Sums are taken from what is there, so that quotas are right from the first request on.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

TEXT = sa.Text(collation="BINARY").with_variant(sa.Text(collation="C"), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_FTS = (
    """CREATE VIRTUAL TABLE texts_found USING fts5(text, content='texts', content_rowid='n', columnsize=0,
       tokenize='trigram case_sensitive 1', detail='none')""",
    "CREATE TRIGGER texts_added AFTER INSERT ON texts BEGIN INSERT INTO texts_found(rowid, text) VALUES (new.n, new.text); END",
    """CREATE TRIGGER texts_dropped AFTER DELETE ON texts BEGIN
       INSERT INTO texts_found(texts_found, rowid, text) VALUES ('delete', old.n, old.text); END""",
    """CREATE TRIGGER texts_changed AFTER UPDATE ON texts BEGIN
       INSERT INTO texts_found(texts_found, rowid, text) VALUES ('delete', old.n, old.text);
       INSERT INTO texts_found(rowid, text) VALUES (new.n, new.text); END""",
)

_TRGM = """DO $$ BEGIN
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
    CREATE INDEX texts_by_trigrams ON texts USING gin (text gin_trgm_ops);
EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_file OR undefined_object THEN
    RAISE NOTICE 'searches go without an index: pg_trgm is not available';
END $$"""
"""Where the extension is not to be had, searches read all texts."""

_USAGE = """INSERT INTO usage (space, who, files, bytes, older, trash)
    SELECT space, who, count(*), sum(size), 0, 0 FROM (
        SELECT space, '' AS who, size FROM files
        UNION ALL SELECT space, '=' || owner, size FROM files WHERE owner IS NOT NULL) AS kept GROUP BY space, who"""

_OLDER = """UPDATE usage SET older = (SELECT coalesce(sum(blobs.size), 0) FROM versions
    JOIN files ON files.id = versions.file_id JOIN blobs ON blobs.id = versions.blob_id
    WHERE files.space = usage.space AND (usage.who = '' OR usage.who = '=' || files.owner))"""


def upgrade() -> None:
    _columns()
    _tags()
    _shelf()
    _sums()
    _texts()
    _links()
    _audit()
    _zips()


def _columns() -> None:
    op.add_column("blobs", sa.Column("damaged_at", sa.Double()))
    op.add_column("reservations", sa.Column("space", TEXT, nullable=False, server_default=""))
    op.add_column("reservations", sa.Column("owner", TEXT))
    op.add_column("reservations", sa.Column("adds", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("files", sa.Column("size", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("files", sa.Column("tags", TEXT, nullable=False, server_default="[]"))
    op.execute("UPDATE files SET size = (SELECT size FROM blobs WHERE blobs.id = files.blob_id)")
    op.create_index("files_by_modified", "files", ["space", "modified_at", "id"])
    op.create_index("files_by_size", "files", ["space", "size", "id"])


def _tags() -> None:
    op.create_table(
        "tags",
        sa.Column("file_id", TEXT, nullable=False),
        sa.Column("tag", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["file_id"], ["files.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("file_id", "tag"),
        sqlite_with_rowid=False,
    )
    op.create_index("tags_by_tag", "tags", ["tag", "file_id"])


def _shelf() -> None:
    op.create_table(
        "shelf",
        sa.Column("file_id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("space", TEXT, nullable=False),
        sa.Column("path", TEXT, nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("by", TEXT),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["file_id"], ["files.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("file_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("shelf_by_age", "shelf", ["kind", "space", "since", "file_id"])
    op.create_index("shelf_by_expiry", "shelf", ["expires_at"])


def _sums() -> None:
    op.create_table(
        "folders",
        sa.Column("space", TEXT, nullable=False),
        sa.Column("path", TEXT, nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("space", "path"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage",
        sa.Column("space", TEXT, nullable=False),
        sa.Column("who", TEXT, nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("older", sa.BigInteger(), nullable=False),
        sa.Column("trash", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("space", "who"),
        sqlite_with_rowid=False,
    )
    op.execute(_USAGE)
    op.execute(_OLDER)
    _fill_folders()


def _fill_folders() -> None:
    """A page at a time, by path: of what is summed only the folders that are open are held."""
    connection = op.get_bind()
    folders = sa.table("folders", *map(sa.column, ("space", "path", "files", "bytes")))
    every = sa.text("SELECT space, path, size FROM files ORDER BY space, path").execution_options(yield_per=1000)
    files = connection.execute(every)
    open_: list[dict[str, Any]] = []
    for space, path, size in files:
        while open_ and not (open_[-1]["space"] == space and path.startswith(open_[-1]["path"])):
            connection.execute(folders.insert(), open_.pop())
        at = path.find("/", len(open_[-1]["path"]) if open_ else 0)
        while at >= 0:
            open_.append({"space": space, "path": path[:at + 1], "files": 0, "bytes": 0})
            at = path.find("/", at + 1)
        for folder in open_:
            folder["files"] += 1
            folder["bytes"] += size
    for folder in open_:
        connection.execute(folders.insert(), folder)


def _texts() -> None:
    op.create_table(
        "texts",
        sa.Column("n", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("file_id", TEXT, sa.ForeignKey("files.id", ondelete="CASCADE"), nullable=False, unique=True),
        sa.Column("space", TEXT, nullable=False),
        sa.Column("text", TEXT, nullable=False),
    )
    op.create_table("unread", sa.Column("file_id", TEXT, nullable=False), sa.PrimaryKeyConstraint("file_id"), sqlite_with_rowid=False)
    op.execute("INSERT INTO unread (file_id) SELECT id FROM files")
    if op.get_bind().dialect.name == "sqlite":
        for statement in _FTS:
            op.execute(statement)
    else:
        op.execute(_TRGM)


def _links() -> None:
    op.drop_table("links")
    op.create_table(
        "links",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("space", TEXT, nullable=False),
        sa.Column("file_id", TEXT),
        sa.Column("path", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("created_by", TEXT),
        sa.Column("creator_kind", TEXT, nullable=False),
        sa.Column("password", TEXT),
        sa.Column("max_uses", sa.BigInteger()),
        sa.Column("max_size", sa.BigInteger()),
        sa.Column("max_bytes", sa.BigInteger()),
        sa.Column("uses", sa.BigInteger(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double()),
        sa.Column("revoked_at", sa.Double()),
        sa.ForeignKeyConstraint(["file_id"], ["files.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("links_by_file", "links", ["file_id"])
    op.create_index("links_by_space", "links", ["space", "id"])


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("principal", TEXT),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("request", TEXT, nullable=False),
        sa.Column("address", TEXT, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("space", TEXT),
        sa.Column("path", TEXT),
        sa.Column("file_id", TEXT),
        sa.Column("facts", TEXT, nullable=False),
    )
    op.create_index("audit_by_space", "audit", ["space", "id"])


def _zips() -> None:
    op.create_table(
        "zips",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("principal", TEXT),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("entries", TEXT, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("zips_by_expiry", "zips", ["expires_at"])
    op.create_table("secrets", sa.Column("name", TEXT, nullable=False), sa.Column("value", sa.LargeBinary(), nullable=False),
                    sa.PrimaryKeyConstraint("name"), sqlite_with_rowid=False)
