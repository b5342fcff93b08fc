"""The part of the catalog that finds, shares and remembers: lists, searches, links, the audit log, zips, secrets."""

from __future__ import annotations

from collections.abc import Sequence

from carboy.catalog import answers, auditing, figures, links, listing, searching, texts, tokens, zips
from carboy.catalog.base_figures import Standing
from carboy.catalog.sessions import Database
from carboy.model import Act, AuditEntry, Blob, Filter, Folder, Link, Page, SortKey, Token, Usage, Zip

_READ_AT_ONCE = 1000


class SqlFinding:
    """Each method is one transaction of the database; see :class:`carboy.catalog.base.Catalog` for what they guarantee."""

    _database: Database

    # --- lists ---

    def listed(self, space: str, *, prefix: str = "", sort: SortKey = "path", descending: bool = False, filter: Filter = Filter(),
               cursor: str | None = None, limit: int = 100) -> Page:
        return self._database.view(lambda session: listing.listed(session, space, prefix, sort, descending, filter, cursor, limit))

    def folder_sums(self, space: str, folders: Sequence[str]) -> dict[str, Folder]:
        return self._database.view(lambda session: listing.folder_sums(session, space, folders))

    def standing(self, *, now: float) -> Standing:
        return self._database.view(lambda session: figures.standing(session, now))

    def usage(self, space: str, owner: str | None = None) -> Usage:
        return self._database.read(lambda session: listing.usage_of(session, space, owner))

    def search(self, space: str, words: Sequence[str], *, prefix: str = "", filter: Filter = Filter(), cursor: str | None = None,
               limit: int = 100) -> Page:
        while self.read_texts() == _READ_AT_ONCE:
            pass
        return self._database.view(lambda session: searching.search(session, space, words, prefix, filter, cursor, limit))

    def read_texts(self, limit: int = _READ_AT_ONCE) -> int:
        return self._database.write(lambda session: texts.read(session, limit)) if self._database.read(texts.are_behind) else 0

    # --- links ---

    def add_link(self, link: Link, *, by: Act | None = None) -> None:
        self._database.write(lambda session: links.add(session, link, by))

    def link(self, id: str) -> Link | None:
        return self._database.read(lambda session: links.by_id(session, id))

    def links(self, space: str | None = None, *, created_by: str | None = None, file_id: str | None = None, cursor: str | None = None,
              limit: int = 100) -> tuple[list[Link], str | None]:
        return self._database.read(lambda session: links.listed(
            session, cursor, limit, space=space, created_by=created_by, file_id=file_id))

    def use_link(self, id: str, *, now: float, uses: int = 1, received: int = 0) -> Link:
        return self._database.write(lambda session: links.use(session, id, now, uses, received))

    def revoke_link(self, id: str, *, now: float, by: Act | None = None) -> bool:
        return self._database.write(lambda session: links.revoke(session, id, now, by))

    # --- answers ---

    def claim_answer(self, principal: str, key: str, fingerprint: bytes, *, now: float,
                     expires_at: float) -> tuple[bytes, str | None] | None:
        return self._database.write(lambda session: answers.claim(session, principal, key, fingerprint, now, expires_at))

    def keep_answer(self, principal: str, key: str, answer: str | None, *, expires_at: float) -> None:
        self._database.write(lambda session: answers.keep(session, principal, key, answer, expires_at))

    def drop_answer(self, principal: str, key: str) -> None:
        self._database.write(lambda session: answers.drop(session, principal, key))

    # --- audit, zips, secrets ---

    def note(self, entry: AuditEntry) -> None:
        self._database.write(lambda session: auditing.note(session, entry))

    def audit(self, *, space: str | None = None, principal: str | None = None, action: str | None = None, file_id: str | None = None,
              since: float | None = None, until: float | None = None, before: int | None = None,
              limit: int = 100) -> list[AuditEntry]:
        return self._database.read(lambda session: auditing.entries(
            session, limit, space=space, principal=principal, action=action, file_id=file_id, since=since, until=until, before=before))

    def add_zip(self, zip: Zip) -> None:
        self._database.write(lambda session: zips.add(session, zip))

    def zip(self, id: str) -> Zip | None:
        return self._database.read(lambda session: zips.by_id(session, id))

    def blob(self, id: str) -> Blob | None:
        return self._database.read(lambda session: zips.blob(session, id))

    def blobs_with_ids(self, ids: Sequence[str]) -> dict[str, Blob]:
        return self._database.view(lambda session: zips.blobs_with_ids(session, ids))

    def secret(self, name: str, fresh: bytes) -> bytes:
        known = self._database.read(lambda session: zips.known_secret(session, name))
        return known or self._database.write(lambda session: zips.secret(session, name, fresh))

    # --- tokens ---

    def add_token(self, token: Token, secret_sha256: bytes, *, by: Act | None = None) -> None:
        self._database.write(lambda session: tokens.add(session, token, secret_sha256, by))

    def token_with_id(self, id: str) -> Token | None:
        return self._database.read(lambda session: tokens.by_id(session, id))

    def revoke_token(self, id: str, *, now: float, by: Act | None = None) -> bool:
        return self._database.write(lambda session: tokens.revoke(session, id, now, by))
