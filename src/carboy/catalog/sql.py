"""The catalog behind :class:`carboy.catalog.base.Catalog`, over SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from carboy.catalog import (
    completing,
    editing,
    files,
    fragments,
    moving,
    placing,
    recounting,
    reservations,
    shelving,
    subfolders,
    tokens,
    upkeep,
    uploads,
)
from carboy.catalog.base import Catalog, ChunkTotals, Move, Reservation
from carboy.catalog.schema import require_current
from carboy.catalog.sessions import Database, Session
from carboy.catalog.spans import Combine
from carboy.catalog.sql_finding import SqlFinding
from carboy.catalog.sql_hooks import SqlHooks
from carboy.catalog.sql_jobs import Wake
from carboy.catalog.sqlite import SqliteDatabase
from carboy.catalog.switching import SqlSwitching
from carboy.errors import ConfigError
from carboy.jobs import Plan
from carboy.measuring import NOTHING, Meter
from carboy.model import (
    Act,
    Blob,
    Chunk,
    File,
    Folder,
    Fragment,
    Key,
    Page,
    Placed,
    Placement,
    Progress,
    Publication,
    Shelved,
    Span,
    Token,
    Upload,
    UploadState,
    Version,
)


def open_catalog(url: str, *, durable: bool = True, combine: Combine | None = None, plan: Plan | None = None,
                 wake: Wake = lambda: None, meter: Meter = NOTHING) -> Catalog:
    """The catalog at ``sqlite:////absolute/path`` or ``postgresql+psycopg://…``; nothing is opened before its first use.

    ``durable=False`` lets a power cut take the last commits. ``combine`` joins CRCs (default: CRC-64/NVME's). By ``plan`` contents get
    their jobs; ``wake`` is called once any were committed that may be run. ``meter`` times commits.
    Raises ConfigError for another kind of URL.
    """
    return SqlCatalog(_database(url, durable, meter), combine or _crc64nvme_combine(), plan, wake)


def sqlite_file(url: str) -> Path | None:
    """The file of a catalog in SQLite, None for another database."""
    parsed = make_url(url)
    return Path(parsed.database or "").absolute() if parsed.get_backend_name() == "sqlite" else None


def _crc64nvme_combine() -> Combine:
    from carboy.checksums import combine

    return combine


def _database(url: str, durable: bool, meter: Meter) -> Database:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError("the catalog's URL is none; write sqlite:////path or postgresql+psycopg://…") from None
    if parsed.get_backend_name() == "sqlite" and parsed.database and parsed.database != ":memory:":
        return SqliteDatabase(Path(parsed.database).absolute(), durable, meter)
    if parsed.get_backend_name() == "postgresql":
        try:
            from carboy.catalog.postgres import PostgresDatabase
        except ImportError:
            raise ConfigError("PostgreSQL needs psycopg: pip install 'carboy[postgresql]'", setting="database") from None
        return PostgresDatabase(parsed, durable, meter)
    raise ConfigError("the catalog is SQLite in a file or PostgreSQL", backend=parsed.get_backend_name())


class SqlCatalog(SqlFinding, SqlSwitching, SqlHooks):
    """Each method is one transaction of the database; see the contract for what they guarantee."""

    def __init__(self, database: Database, combine: Combine, plan: Plan | None = None, wake: Wake = lambda: None) -> None:
        self._plan = plan
        self._wake = wake
        self._database = database
        self._combine = combine

    # --- life ---

    def migrate(self) -> None:
        self._database.migrate()

    def check(self) -> None:
        require_current(self._database.schema())

    def close(self) -> None:
        self._database.close()

    def snapshot(self, path: str) -> None:
        self._database.snapshot(path)

    # --- files ---

    def file(self, id: str) -> File | None:
        return self._database.read(lambda session: files.at_its_path(session, id))

    def file_at(self, space: str, path: str) -> File | None:
        return self._database.read(lambda session: files.by_path(session, space, path))

    def files(self, space: str, *, prefix: str = "", cursor: str | None = None, limit: int = 100,
              folders: bool = False) -> Page:
        return self._database.read(lambda session: files.page(session, space, prefix, cursor, limit, folders))

    def place(self, placements: Sequence[Placement], *, now: float, release: str | None = None, by: Act | None = None,
              upload: Upload | None = None, fence: Collection[str] = ()) -> list[Placed]:
        def work(session: Session) -> list[Placed]:
            placed = placing.place(session, placements, now, release, by, self._plan, upload.id if upload else None)
            if upload:
                uploads.add_complete(session, replace(upload, state="complete", file_id=placed[0].file.id))
            return placed
        return self._woken(self._write_fenced(fence, work))

    def delete_file(self, id: str, *, now: float, etags: tuple[str, ...] | None = None, by: Act | None = None) -> File | None:
        return self._database.write(lambda session: shelving.delete_file(session, id, now, etags, by))

    def update_file(self, id: str, *, metadata: Mapping[str, Any] | None = None, tags: Sequence[str] | None = None, now: float,
                    etags: tuple[str, ...] | None = None, by: Act | None = None) -> File:
        return self._database.write(lambda session: editing.update_file(session, id, metadata, tags, now, etags, by))

    def restore_version(self, id: str, number: int, *, keep: int, now: float, etags: tuple[str, ...] | None = None,
                        by: Act | None = None) -> File:
        return self._database.write(lambda session: editing.restore_version(session, id, number, keep, now, etags, by, self._plan))

    def move(self, id: str, move: Move, *, now: float, etags: tuple[str, ...] | None = None, by: Act | None = None) -> File:
        return self._database.write(lambda session: moving.move(session, id, move, now, etags, by, self._plan))

    def move_folder(self, space: str, folder: str, move: Move, *, now: float, by: Act | None = None) -> int:
        return self._database.write(lambda session: moving.move_folder(session, space, folder, move, now, by, self._plan))

    # --- the shelf ---

    def trash_file(self, id: str, *, now: float, expires_at: float, etags: tuple[str, ...] | None = None,
                   by: Act | None = None) -> File | None:
        return self._database.write(lambda session: shelving.trash_file(session, id, now, expires_at, etags, by))

    def trash_folder(self, space: str, folder: str, *, now: float, expires_at: float, by: Act | None = None) -> int:
        return self._database.write(lambda session: shelving.trash_folder(session, space, folder, now, expires_at, by))

    def restore(self, id: str, move: Move, *, now: float, by: Act | None = None) -> File:
        return self._database.write(lambda session: shelving.restore(session, id, move, now, by, self._plan))

    def shelved(self, id: str) -> Shelved | None:
        return self._database.read(lambda session: shelving.shelved(session, id))

    def trashed(self, space: str, *, prefix: str = "", cursor: str | None = None, limit: int = 100) -> tuple[list[Shelved], str | None]:
        return self._database.read(lambda session: shelving.trashed(session, space, prefix, cursor, limit))

    def stage(self, placements: Sequence[Placement], *, now: float, expires_at: float, release: str | None = None,
              fence: Collection[str] = ()) -> list[Shelved]:
        return self._write_fenced(fence, lambda session: shelving.stage(session, placements, now, expires_at, release))

    def publish(self, publications: Sequence[Publication], *, now: float, by: Act | None = None) -> list[Placed]:
        return self._woken(self._database.write(lambda session: shelving.publish(session, publications, now, by, self._plan)))

    def expired_shelf(self, *, now: float, limit: int = 1000) -> list[Shelved]:
        return self._database.read(lambda session: shelving.expired(session, now, limit))

    def folders(self, space: str, *, prefix: str = "", cursor: str | None = None, limit: int = 100) -> tuple[list[Folder], str | None]:
        return self._database.view(lambda session: subfolders.page(session, space, prefix, cursor, limit))

    def versions(self, file_id: str) -> list[Version]:
        return self._database.read(lambda session: files.versions_of(session, file_id))

    def pending(self, space: str, path: str) -> list[File]:
        return self._database.read(lambda session: moving.pending(session, space, path))

    # --- uploads ---

    def create_upload(self, upload: Upload, *, reserve: Reservation | None = None, fence: Collection[str] = ()) -> Upload:
        return self._write_fenced(fence, lambda session: uploads.create(session, upload, reserve))

    def upload(self, id: str) -> Progress | None:
        return self._database.view(lambda session: uploads.progress(session, id))

    def name_upload(self, id: str, path: str) -> bool:
        return self._database.write(lambda session: uploads.rename(session, id, path))

    def upload_named(self, space: str, owner: str | None, name: str) -> Progress | None:
        return self._database.view(lambda session: uploads.named(session, space, owner, name))

    def uploads(self, *, space: str | None = None, owner: str | None = None, cursor: str | None = None,
                limit: int = 100) -> tuple[list[Progress], str | None]:
        filters = {name: value for name, value in (("space", space), ("owner", owner)) if value is not None}
        return self._database.view(lambda session: uploads.receiving(session, filters, cursor or "", limit))

    def record(self, upload_id: str, spans: Sequence[Span], *, now: float, expires_at: float, size: int | None = None,
               chunk: Chunk | None = None, reserve_until: float | None = None, fragments: Sequence[Fragment] = (),
               lease: str | None = None, fence: Collection[str] = ()) -> Progress:
        return self._write_fenced(fence, lambda session: uploads.record(
            session, upload_id, spans, self._combine, now=now, expires_at=expires_at, size=size, chunk=chunk, reserve_until=reserve_until,
            kept=fragments, lease=lease))

    def fragments(self, upload_id: str) -> list[Fragment]:
        return self._database.read(lambda session: fragments.of(session, upload_id))

    def chunks(self, upload_id: str) -> list[Chunk]:
        return self._database.read(lambda session: uploads.chunks_of(session, upload_id))

    def chunk_totals(self, upload_id: str) -> ChunkTotals:
        return self._database.read(lambda session: uploads.chunk_totals(session, upload_id))

    def complete(self, upload_id: str, placement: Placement, *, now: float, expires_at: float, by: Act | None = None,
                 fence: Collection[str] = ()) -> Placed:
        return self._woken([self._write_fenced(fence, lambda session: completing.complete(
            session, upload_id, placement, now=now, expires_at=expires_at, by=by, plan=self._plan))])[0]

    def end_upload(self, upload_id: str, state: UploadState, *, now: float, failure: str | None = None,
                   expires_at: float) -> bool:
        return self._database.write(lambda session: uploads.end(
            session, upload_id, state, now=now, failure=failure, expires_at=expires_at))

    # --- room ---

    def reserve(self, reservation: Reservation, *, room: int, cap: int, now: float) -> None:
        self._database.write(lambda session: reservations.reserve(session, reservation, room, cap, now))

    def release(self, id: str) -> None:
        self._database.write(lambda session: reservations.release(session, id))

    def reserved(self, storage: str, *, now: float) -> int:
        return self._database.read(lambda session: reservations.total(session, storage, now))

    # --- upkeep ---

    def condemned(self, storage: str, *, before: float, limit: int = 1000) -> list[Key]:
        return self._database.read(lambda session: upkeep.condemned_keys(session, storage, before, limit))

    def forget(self, storage: str, keys: Iterable[Key]) -> None:
        gone = list(keys)
        self._database.write(lambda session: upkeep.forget(session, storage, gone))

    def known(self, storage: str, keys: Sequence[Key]) -> set[Key]:
        return self._database.read(lambda session: upkeep.known(session, storage, keys))

    def expired_uploads(self, *, now: float, limit: int = 1000) -> list[Upload]:
        return self._database.read(lambda session: uploads.expired(session, now, limit))

    def covered_uploads(self, after: str | None = None, limit: int = 1000) -> list[Upload]:
        return self._database.read(lambda session: uploads.covered(session, after or "", limit))

    def uploads_of_parts(self, after: str | None = None, limit: int = 1000, *, part: str = "") -> list[Upload]:
        return self._database.read(lambda session: uploads.of_parts(session, after or "", limit, part))

    def purge(self, *, now: float, audit_before: float = 0.0, log_before: float = 0.0) -> int:
        return self._database.write(lambda session: upkeep.purge(session, now, audit_before, log_before))

    def blobs(self, storage: str, *, after: Key | None = None, limit: int = 1000) -> list[Blob]:
        return self._database.read(lambda session: upkeep.blobs_by_key(session, storage, after, limit))

    def set_sha256(self, blob_id: str, sha256: bytes) -> None:
        self._database.write(lambda session: upkeep.set_sha256(session, blob_id, sha256))

    def set_damaged(self, blob_id: str, at: float | None) -> bool:
        return self._database.write(lambda session: editing.set_damaged(session, blob_id, at))

    def miscounted(self) -> list[str]:
        return self._database.view(recounting.miscounted)

    # --- tokens ---

    def token(self, secret_sha256: bytes) -> Token | None:
        return self._database.read(lambda session: tokens.by_secret(session, secret_sha256))

    def tokens(self) -> list[Token]:
        return self._database.read(tokens.every)

    def counts(self) -> Mapping[str, int]:
        return self._database.view(upkeep.counts)
