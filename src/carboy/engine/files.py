"""The life of a file once it is there: found, listed, deleted. Every call is authorised here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from carboy.catalog.base import Catalog
from carboy.config import Settings, SpaceSettings
from carboy.engine.access import actions, authorise
from carboy.engine.availability import check_available
from carboy.engine.names import clean_prefix, home_of
from carboy.engine.receive import Target
from carboy.errors import NotFound
from carboy.model import NOBODY, Act, Action, Blob, Condition, File, Page, Principal, Version
from carboy.storage.base import Storage


class Files:
    """Files of all spaces, as one principal or another may see them.

    In a private space each owner has a tree of its own: its paths begin with the owner's id in the catalog, which nobody
    but an administrator sees.
    """

    def __init__(self, settings: Settings, catalog: Catalog, storages: Mapping[str, Storage],
                 clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._catalog = catalog
        self._storages = storages
        self._clock = clock

    def rules(self, space: str) -> SpaceSettings | None:
        return self._settings.spaces.get(space)

    def target(self, principal: Principal, space: str, path: str, *, metadata: Mapping[str, str] | None = None,
               condition: Condition = Condition()) -> Target:
        """Where the principal's new file goes. Raises what ``authorise`` raises for writing."""
        rules = self._authorised(principal, "write", space)
        return Target(space, self._home(principal, space, rules) + path, principal.id, rules, metadata or {}, condition,
                      self.act(principal))

    def inside(self, principal: Principal, action: Action, space: str) -> tuple[SpaceSettings, str]:
        """The space's rules, and what the principal's paths begin with in the catalog. Raises what ``authorise`` raises."""
        rules = self._authorised(principal, action, space)
        return rules, self._home(principal, space, rules)

    def act(self, principal: Principal) -> Act | None:
        """What the audit log is told of who asks; None where none is kept."""
        return principal.act if self._settings.audit_expiry else None

    def at(self, principal: Principal, space: str, path: str, action: Action = "read") -> File:
        """The file at a path. Raises NotFound, and what ``authorise`` raises."""
        rules = self.rules(space) if principal.judge else self._authorised(principal, action, space)
        file = self._catalog.file_at(space, self._home(principal, space, rules) + path) if rules else None
        if principal.judge:
            authorise(principal, action, space, rules, file=file)
        if file is None:
            raise NotFound(f"there is no file {path!r} in the space {space!r}", space=space, path=path)
        return file

    def get(self, principal: Principal, id: str, action: Action = "read") -> File:
        """The file with this id, wherever it is. What the principal may not see is NotFound, as what isn't there."""
        file = self._catalog.file(id)
        if file is None:
            if principal.kind == "nobody":
                authorise(principal, action, "", None)
            raise NotFound("there is no such file", id=id)
        rules = self.rules(file.space)
        try:
            authorise(principal, action, file.space, rules, owner=file.owner, owned=rules is not None and rules.private, file=file)
        except NotFound:
            raise NotFound("there is no such file", id=id) from None
        return file

    def page(self, principal: Principal, space: str, *, prefix: str = "", cursor: str | None = None, limit: int = 100,
             folders: bool = False) -> Page:
        """A page of the files the principal may see in a space, by path. Raises InvalidName for a prefix that begins none."""
        rules = self._authorised(principal, "read", space)
        home = self._home(principal, space, rules)
        page = self._catalog.files(space, prefix=home + clean_prefix(prefix), cursor=cursor, limit=limit, folders=folders)
        return replace(page, folders=[folder.removeprefix(home) for folder in page.folders])

    def home(self, principal: Principal, action: Action, space: str) -> str:
        """What the paths that the principal may ask for begin with in the catalog; ``""`` where that is all of the space. Raises what
        ``authorise`` raises."""
        return self._home(principal, space, self._authorised(principal, action, space))

    def versions(self, file: File) -> list[Version]:
        return self._catalog.versions(file.id)

    def version(self, file: File, number: int) -> Version | None:
        """An older content; None for the current one. Raises NotFound."""
        if number == file.version:
            return None
        for version in self.versions(file):
            if version.number == number:
                return version
        raise NotFound(f"{file.name!r} has no version {number}", version=number)

    def check(self, principal: Principal, file: File, *, blob: Blob | None = None, pending: bool = False) -> None:
        """See :func:`carboy.engine.availability.check_available`, which this asks."""
        check_available(principal, file, self.rules(file.space), self._catalog, blob=blob, pending=pending)

    def storage(self, principal: Principal, file: File, version: Version | None = None, *, pending: bool = False) -> Storage:
        """Where the file's content is, or that of an older version, for a principal who may read the file and is given it. Raises
        Quarantined, Pending."""
        blob = version.blob if version else file.blob
        self.check(principal, file, blob=blob, pending=pending)
        return self._storages[blob.storage]

    def shown_path(self, file: File) -> str:
        """The path as its owner writes it."""
        return self.shown(file.space, file.path)

    def shown(self, space: str, path: str) -> str:
        """A path of the catalog as its owner writes it."""
        rules = self.rules(space)
        return path.partition("/")[2] if rules and rules.private else path

    def is_public(self, file: File) -> bool:
        """Whether anybody may read it."""
        return "read" in actions(NOBODY, file.space, self.rules(file.space))

    def _authorised(self, principal: Principal, action: Action, space: str) -> SpaceSettings:
        rules = self.rules(space)
        authorise(principal, action, space, rules)
        if rules is None:
            raise NotFound(f"there is no space {space!r}", space=space)
        return rules

    def _home(self, principal: Principal, space: str, rules: SpaceSettings) -> str:
        everywhere = principal.kind == "trusted" and principal.id is None
        return home_of(principal.id) if rules.private and not everywhere else ""
