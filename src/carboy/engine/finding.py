"""Files and folders found, sums and quotas told, the audit log read: as one principal or another may see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from carboy.catalog.base import Catalog
from carboy.config import Settings
from carboy.engine.access import actions, authorise, authorise_server
from carboy.engine.files import Files
from carboy.engine.names import clean_prefix
from carboy.errors import NotFound
from carboy.model import AuditEntry, Filter, Folder, Page, Principal, SortKey, Usage

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Account:
    """What is kept by a space, or by one owner in it, and the most that may be (None: no limit), in bytes."""

    usage: Usage
    quota: int | None

    @property
    def free(self) -> int | None:
        return None if self.quota is None else max(0, self.quota - self.usage.total)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which entries of the audit log: all that is given must hold. Times are seconds since 1970."""

    space: str | None = None
    principal: str | None = None
    action: str | None = None
    file_id: str | None = None
    since: float | None = None
    until: float | None = None


class Finder:
    """Every call is authorised here. In a private space the paths are those of the principal's own tree."""

    def __init__(self, settings: Settings, catalog: Catalog, files: Files) -> None:
        self._settings = settings
        self._catalog = catalog
        self._files = files

    def listed(self, principal: Principal, space: str, *, prefix: str = "", sort: SortKey = "path", descending: bool = False,
               filter: Filter = Filter(), cursor: str | None = None, limit: int = 100) -> Page:
        """Files that pass the filter, in this order. Raises InvalidName for a prefix that begins no path, InvalidRequest for a
        cursor that isn't one of this order."""
        home = self._files.inside(principal, "read", space)[1]
        return self._catalog.listed(space, prefix=home + clean_prefix(prefix), sort=sort, descending=descending, filter=filter,
                                    cursor=cursor, limit=limit)

    def search(self, principal: Principal, space: str, words: Sequence[str], *, prefix: str = "", filter: Filter = Filter(),
               cursor: str | None = None, limit: int = 100) -> Page:
        """Files with every word in their path, metadata or tags; see ``Catalog.search``."""
        home = self._files.inside(principal, "read", space)[1]
        return self._catalog.search(space, words, prefix=home + clean_prefix(prefix), filter=filter, cursor=cursor, limit=limit)

    def folders(self, principal: Principal, space: str, *, prefix: str = "", cursor: str | None = None,
                limit: int = 100) -> tuple[list[Folder], str | None]:
        """The folders that begin with the prefix, with what lies in them at any depth; with the next cursor."""
        home = self._files.inside(principal, "read", space)[1]
        found, following = self._catalog.folders(space, prefix=home + clean_prefix(prefix), cursor=cursor, limit=limit)
        return [replace(folder, path=folder.path.removeprefix(home)) for folder in found], following

    def sums(self, principal: Principal, space: str, folders: Sequence[str]) -> list[Folder]:
        """What lies in each of these folders (with their slashes; ``""`` is all), in their order."""
        home = self._files.inside(principal, "read", space)[1]
        found = self._catalog.folder_sums(space, [home + folder for folder in folders])
        return [replace(found[home + folder], path=folder) for folder in folders]

    # --- quotas ---

    def account(self, space: str, owner: str | None = None) -> Account:
        """What is kept in the space, or by one owner in it. Raises NotFound for a space that isn't there."""
        rules = self._settings.spaces.get(space)
        if rules is None:
            raise NotFound(f"there is no space {space!r}", space=space)
        return Account(self._catalog.usage(space, owner), rules.quota if owner is None else rules.owner_quota)

    def accounts(self, principal: Principal, space: str) -> tuple[Account | None, Account | None]:
        """The space's account and the principal's own, as far as it may see them: who may neither read nor administer
        a shared space, or not administer a private one, doesn't see the whole; nobody has none of its own."""
        rules = self._settings.spaces.get(space)
        allowed = actions(principal, space, rules)
        whole = "admin" in allowed or (rules is not None and not rules.private and "read" in allowed)
        return (self.account(space) if whole else None), (self.account(space, principal.id) if principal.id else None)

    # --- the audit log ---

    def audit(self, principal: Principal, asked: Asked, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """A page of the log, the newest first. Of a space its administrators may see it, of all spaces only those of all."""
        self._may_audit(principal, asked)
        return self._audit(asked, before, limit)

    def audit_all(self, principal: Principal, asked: Asked) -> Iterator[AuditEntry]:
        """All entries, a page in memory at a time. What it raises, it raises here and not when the first one is asked for."""
        self._may_audit(principal, asked)
        return self._every(asked)

    def _every(self, asked: Asked) -> Iterator[AuditEntry]:
        before: int | None = None
        while page := self._audit(asked, before, _PAGE):
            yield from page
            before = page[-1].id

    def _audit(self, asked: Asked, before: int | None, limit: int) -> list[AuditEntry]:
        return self._catalog.audit(space=asked.space, principal=asked.principal, action=asked.action, file_id=asked.file_id,
                                   since=asked.since, until=asked.until, before=before, limit=limit)

    def _may_audit(self, principal: Principal, asked: Asked) -> None:
        if asked.space is None:
            authorise_server(principal)
        else:
            authorise(principal, "admin", asked.space, self._settings.spaces.get(asked.space))
