"""Files that an application has received and not kept yet: durable, seen by nobody, swept when their time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from carboy.catalog.base import Catalog
from carboy.config import Settings
from carboy.engine import limits
from carboy.engine.changes import check_metadata, check_tags
from carboy.engine.files import Files
from carboy.engine.names import clean_path, home_of
from carboy.engine.receive import Delivery, Receiver, Target
from carboy.errors import CommitUnknown, NotFound
from carboy.model import TRUSTED, File, Principal, Publication, Shelved


@dataclass(frozen=True, slots=True)
class Wish:
    """Where a staged file is to go: to ``path``, as its owner writes it; without one to a folder named for its id, so that two
    people's files of one name never meet."""

    staged: Shelved
    path: str | None = None
    owner: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()


class Staging:
    """Receives files into spaces without showing them, and publishes them."""

    def __init__(self, settings: Settings, catalog: Catalog, receiver: Receiver, files: Files,
                 clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._catalog = catalog
        self._receiver = receiver
        self._files = files
        self._clock = clock

    def delivery(self, most: int | None = None) -> AbstractContextManager[Delivery]:
        """The files of one request, none of more than ``most`` bytes: keeps nothing unless :meth:`stage` is called in the block."""
        return self._receiver.delivery(None, most)

    def target(self, space: str, name: str) -> Target:
        """A file for this space. Raises NotFound where there is none."""
        rules = self._files.rules(space)
        if rules is None:
            raise NotFound(f"there is no space {space!r}", space=space)
        return Target(space, name, None, rules)

    def stage(self, delivery: Delivery) -> list[Shelved]:
        """What was delivered is on stable storage when this returns, and stays for ``staged_expiry`` seconds."""
        return delivery.stage(self._clock() + self._settings.staged_expiry)

    def get(self, id: str) -> Shelved:
        """The staged file with this id. Raises NotFound where there is none, or none any more."""
        staged = self._catalog.shelved(id)
        if staged is None or staged.kind != "staged":
            raise NotFound("there is no such staged file (any more)", id=id)
        return staged

    def keep(self, wishes: Sequence[Wish], principal: Principal = TRUSTED) -> list[File]:
        """All or none take their places, in one transaction; ``on_conflict`` of their spaces says what happens where there is a file.

        Raises NotFound for what is staged no more, Conflict, PathConflict, QuotaExceeded, InvalidName, InvalidRequest.
        """
        publications = [self._publication(wish) for wish in wishes]
        try:
            placed = self._catalog.publish(publications, now=self._clock(), by=self._files.act(principal))
        except CommitUnknown:
            return [self._read_again(wish, publication) for wish, publication in zip(wishes, publications, strict=True)]
        return [one.file for one in placed]

    def discard(self, id: str) -> None:
        """Forget it; its bytes go. What is staged no more is left alone."""
        staged = self._catalog.shelved(id)
        if staged is not None and staged.kind == "staged":
            self._catalog.delete_file(id, now=self._clock())

    def _publication(self, wish: Wish) -> Publication:
        check_metadata(wish.metadata)
        check_tags(wish.tags)
        file = wish.staged.file
        target = self.target(file.space, file.path)
        path = f"{file.id}/{file.path}" if wish.path is None else clean_path(wish.path)
        home = home_of(wish.owner) if target.rules.private else ""
        return Publication(file.id, file.space, home + path, wish.owner, wish.metadata, tuple(wish.tags), target.rules.on_conflict,
                           target.rules.versions, limits.quotas(target.rules))

    def _read_again(self, wish: Wish, publication: Publication) -> File:
        """Whether the commit came through: under the staged file's id, or as the content of the file that was there."""
        for file in (self._catalog.file(publication.staged_id), self._catalog.file_at(publication.space, publication.path)):
            if file is not None and file.blob.id == wish.staged.file.blob.id:
                return file
        raise CommitUnknown("it is unknown whether the file was kept; look for it, then keep it again", id=publication.staged_id)
