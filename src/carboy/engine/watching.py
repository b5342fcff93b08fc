"""Who is told of what: which of all that happens one principal asked for, and may know of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from carboy.catalog.base import Catalog
from carboy.config import Settings, SpaceSettings
from carboy.engine.access import actions, authorise
from carboy.engine.availability import is_told
from carboy.engine.files import Files
from carboy.engine.names import home_of
from carboy.errors import CarboyError, NotFound, Unauthenticated
from carboy.jobs import Happening, Job
from carboy.model import NOBODY, Action, File, Principal

PROGRESS = "job.progress"


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to hear of: all that is given must fit. ``kinds`` are such as ``file.create`` or ``job.*``; none are all.
    Of an upload its file and that one's jobs are part."""

    space: str | None = None
    file_id: str | None = None
    upload_id: str | None = None
    job_id: str | None = None
    kinds: tuple[str, ...] = ()

    def takes(self, kind: str) -> bool:
        return not self.kinds or any(kind == one or (one.endswith(".*") and kind.startswith(one[:-1])) for one in self.kinds)


@dataclass(slots=True)
class Watch:
    """One principal's view of what happens. For one thread."""

    principal: Principal
    wish: Wish
    settings: Settings
    files: Files
    catalog: Catalog
    _became: set[str] = field(default_factory=set)
    """The files that the upload became."""

    def begin(self) -> None:
        """Raises what ``authorise`` raises where nothing of it may be known, NotFound for what isn't there."""
        wish = self.wish
        if wish.space is not None:
            authorise(self.principal, "read", wish.space, self.files.rules(wish.space))
        elif self.principal.kind == "nobody" and not any("read" in actions(NOBODY, name, rules)
                                                         for name, rules in self.settings.spaces.items()):
            raise Unauthenticated("send a token as 'Authorization: Bearer …'")
        if wish.file_id is not None:
            self.files.get(self.principal, wish.file_id)
        if wish.upload_id is not None:
            self._begin_upload(wish.upload_id)

    def shows(self, happening: Happening) -> bool:
        """Whether it is to be told."""
        return self._is_wanted(happening) and self.may(happening)

    def may(self, happening: Happening) -> bool:
        """Whether the principal may know of it."""
        rules = self.files.rules(happening.space) if happening.space else None
        if happening.space is None or rules is None:
            return False
        if happening.kind.startswith("upload."):
            return self._may("write", happening.space, rules, happening.owner, True)
        if rules.private and happening.kind.startswith("folder.") and not self._is_at_home(happening.path or "", happening.space, rules):
            return False
        owned = rules.private and not happening.kind.startswith("folder.")
        file = None
        if self.principal.judge and happening.file_id:
            file = self._file(happening.file_id)
            if file is None and not self._was_theirs(happening, happening.space, rules):
                return False
        mine = self.principal.id is not None and happening.owner == self.principal.id and happening.kind.startswith("job.")
        return (self._may("read", happening.space, rules, happening.owner, owned, file)
                or (mine and self._may("write", happening.space, rules, happening.owner, owned, file)))

    def told(self, happening: Happening) -> dict[str, Any]:
        """What is told of it, with paths as its owner writes them."""
        space, path = happening.space, happening.path
        facts = self._facts(happening.facts)
        if facts.get("result") and not self._is_told(happening):
            facts["result"] = None
        return {"kind": happening.kind, "at": happening.at, "space": space,
                "path": self.files.shown(space, path) if space is not None and path is not None else None,
                "file_id": happening.file_id, "upload_id": happening.upload_id, "job_id": happening.job_id,
                "facts": facts}

    # --- inside ---

    def _begin_upload(self, id: str) -> None:
        """Uploads are private to their creator."""
        progress = self.catalog.upload(id)
        missing = NotFound("there is no such upload", upload=id)
        if progress is None:
            raise missing
        upload = progress.upload
        try:
            authorise(self.principal, "write", upload.space, self.files.rules(upload.space), owner=upload.owner, owned=True)
        except NotFound:
            raise missing from None
        if upload.file_id:
            self._became.add(upload.file_id)

    def _is_wanted(self, happening: Happening) -> bool:
        wish = self.wish
        if wish.upload_id is not None:
            if happening.upload_id == wish.upload_id and happening.file_id:
                self._became.add(happening.file_id)
            if happening.upload_id != wish.upload_id and happening.file_id not in self._became:
                return False
        return ((wish.space is None or happening.space == wish.space) and (wish.file_id is None or happening.file_id == wish.file_id)
                and (wish.job_id is None or happening.job_id == wish.job_id) and wish.takes(happening.kind))

    def _may(self, action: Action, space: str, rules: SpaceSettings, owner: str | None, owned: bool, file: File | None = None) -> bool:
        try:
            authorise(self.principal, action, space, rules, owner=owner, owned=owned, file=file)
        except CarboyError:
            return False
        return True

    def _file(self, id: str) -> File | None:
        """Wherever it is, with the place that it has or had."""
        shelved = None if (file := self.catalog.file(id)) else self.catalog.shelved(id)
        return shelved.file if shelved else file

    def _was_theirs(self, happening: Happening, space: str, rules: SpaceSettings) -> bool:
        """Whether a file that is gone, of which an application's judge can't be asked, was the principal's, or it sees all by the rules."""
        own = self.principal.id is not None and happening.owner == self.principal.id
        return own or "admin" in actions(replace(self.principal, judge=None), space, rules)

    def _is_told(self, happening: Happening) -> bool:
        """Whether what a job found out may be known: while the content it is about is held back it is not, to others than its owner."""
        if happening.space is None or not any(rules.hold for rules in self.settings.spaces.values()):
            return True
        job = self.catalog.job(happening.job_id or "")
        blob = self.catalog.blob(job.blob_id) if job else None
        return is_told(self.principal, happening.owner, happening.space, self.files.rules(happening.space), blob)

    def _is_at_home(self, path: str, space: str, rules: SpaceSettings) -> bool:
        """Whether the path lies in the principal's own tree of a private space, or it sees all of them."""
        return "admin" in actions(self.principal, space, rules) or path.startswith(home_of(self.principal.id))

    def _facts(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Where something came from is told to those alone who see that place."""
        if "from" not in facts:
            return dict(facts)
        space, path = str(facts.get("from_space")), str(facts["from"])
        rules = self.files.rules(space)
        seen = rules is not None and "read" in actions(self.principal, space, rules)
        if rules is None or not seen or (rules.private and not self._is_at_home(path, space, rules)):
            return {name: value for name, value in facts.items() if name not in ("from", "from_space")}
        return {**facts, "from": self.files.shown(space, path)}


def of_job(job: Job) -> Happening:
    """How far a running job is, as something that happens; it has no place in the log."""
    return Happening("", job.changed_at, PROGRESS, job.space, None, job.file_id, job.owner, None, job.id,
                     {"step": job.step, "state": job.state, "progress": job.progress, "phrase": job.phrase})
