"""Files put, moved, trashed, restored and staged in any order, against a model of paths: whatever happens, every sum is right."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catalogs import a_blob, at, every_path
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from carboy.catalog.base import Move
from carboy.catalog.sql import open_catalog
from carboy.errors import CarboyError, Conflict, InvalidRequest, NotFound, PathConflict
from carboy.model import File, Publication

PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join)
FOLDERS = PATHS.map(lambda path: path + "/")
SIZES = st.integers(0, 9)
OWNERS = st.sampled_from(["ann", "bob", None])
CONFLICTS = st.sampled_from(["refuse", "replace"])


@dataclass
class Kept:
    id: str
    owner: str | None
    size: int
    older: list[int] = field(default_factory=list)


class ManagingMachine(RuleBasedStateMachine):
    trashed = Bundle("trashed")
    staged = Bundle("staged")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.catalog = open_catalog(f"sqlite:///{self.folder}/catalog.sqlite3", durable=False)
        self.catalog.migrate()
        self.live: dict[str, Kept] = {}
        self.trash: dict[str, tuple[str, Kept]] = {}

    def teardown(self) -> None:
        self.catalog.close()
        shutil.rmtree(self.folder)

    # --- the model ---

    def conflict(self, path: str) -> bool:
        """Whether the path is a folder, or goes through a file."""
        return any(other.startswith(path + "/") or path.startswith(other + "/") for other in self.live)

    def takes(self, path: str, on_conflict: str, but: str | None = None) -> type[CarboyError] | None:
        if self.conflict(path):
            return PathConflict
        if path in self.live and path != but and on_conflict == "refuse":
            return Conflict
        return None

    def expect(self, error: type[CarboyError] | None, call: Any) -> Any:
        try:
            result = call()
        except CarboyError as raised:
            assert error is not None and isinstance(raised, error), raised
            return None
        assert error is None, f"{error} was due"
        return result

    # --- what happens ---

    @rule(path=PATHS, size=SIZES, owner=OWNERS, on_conflict=CONFLICTS, keep=st.integers(0, 2))
    def put(self, path: str, size: int, owner: str | None, on_conflict: str, keep: int) -> None:
        placement = at(path, blob=a_blob(size=size), owner=owner, on_conflict=on_conflict, keep_versions=keep)
        placed = self.expect(self.takes(path, on_conflict), lambda: self.catalog.place([placement], now=1.0))
        if placed:
            self.fill(path, placed[0].file, size, owner, keep)

    def fill(self, path: str, file: File, size: int, owner: str | None, keep: int) -> None:
        old = self.live.get(path)
        if old is None:
            self.live[path] = Kept(file.id, owner, size)
        else:
            older = [old.size, *old.older][:keep] if keep else old.older
            self.live[path] = Kept(old.id, old.owner, size, older)
        assert file.id == self.live[path].id

    @rule(source=PATHS, path=PATHS, on_conflict=CONFLICTS)
    def move(self, source: str, path: str, on_conflict: str) -> None:
        kept = self.live.get(source)
        if kept is None:
            return
        error = None if path == source else self.takes(path, on_conflict, but=source)
        if self.expect(error, lambda: self.catalog.move(kept.id, Move("main", path, on_conflict), now=1.0)):
            del self.live[source]
            self.live[path] = kept

    @rule(source=FOLDERS, there=FOLDERS)
    def move_folder(self, source: str, there: str) -> None:
        mine = [path for path in self.live if path.startswith(source)]
        if source != there and there.startswith(source):
            error: type[CarboyError] | None = InvalidRequest
        elif source != there and (there[:-1] in self.live or self.conflict(there[:-1])):
            error = CarboyError if not mine else Conflict
        else:
            error = None if mine else NotFound
        moved = self.expect(error, lambda: self.catalog.move_folder("main", source, Move("main", there), now=1.0))
        if moved is not None:
            assert moved == len(mine)
            self.live = {there + path[len(source):] if path in mine else path: kept for path, kept in self.live.items()}

    @rule(target=trashed, path=PATHS)
    def discard(self, path: str) -> Any:
        kept = self.live.pop(path, None)
        if kept is None:
            return ""
        assert self.catalog.trash_file(kept.id, now=1.0, expires_at=9.0)
        self.trash[kept.id] = (path, kept)
        return kept.id

    @rule(folder=FOLDERS)
    def discard_folder(self, folder: str) -> None:
        mine = [path for path in self.live if path.startswith(folder)]
        self.expect(None if mine else NotFound, lambda: self.catalog.trash_folder("main", folder, now=1.0, expires_at=9.0))
        for path in mine:
            self.trash[self.live[path].id] = (path, self.live[path])
            del self.live[path]

    @rule(id=trashed, path=st.none() | PATHS, on_conflict=CONFLICTS)
    def restore(self, id: str, path: str | None, on_conflict: str) -> None:
        if id not in self.trash:
            return
        was, kept = self.trash[id]
        path = path or was
        if self.expect(self.takes(path, on_conflict), lambda: self.catalog.restore(id, Move("main", path, on_conflict), now=1.0)):
            del self.trash[id]
            self.live[path] = kept

    @rule(id=consumes(trashed))
    def purge(self, id: str) -> None:
        if self.trash.pop(id, None):
            assert self.catalog.delete_file(id, now=1.0)

    @rule(target=staged, size=SIZES)
    def stage(self, size: int) -> Any:
        return self.catalog.stage([at("staged", blob=a_blob(size=size))], now=1.0, expires_at=9.0)[0].file

    @rule(file=consumes(staged), path=PATHS, owner=OWNERS, on_conflict=CONFLICTS, keep=st.integers(0, 2))
    def publish(self, file: File, path: str, owner: str | None, on_conflict: str, keep: int) -> None:
        wanted: Any = Publication(file.id, "main", path, owner, on_conflict=on_conflict, keep_versions=keep)
        placed = self.expect(self.takes(path, on_conflict), lambda: self.catalog.publish([wanted], now=1.0))
        if placed:
            self.fill(path, placed[0].file, file.size, owner, keep)

    @rule(path=PATHS)
    def delete(self, path: str) -> None:
        kept = self.live.pop(path, None)
        if kept:
            assert self.catalog.delete_file(kept.id, now=1.0)

    # --- what holds ---

    @invariant()
    def the_paths_are_right(self) -> None:
        assert every_path(self.catalog) == sorted(self.live)
        assert {one.file.id: one.file.path for one in self.catalog.trashed("main")[0]} == {id: path for id, (path, _) in self.trash.items()}

    @invariant()
    def every_sum_is_right(self) -> None:
        assert self.catalog.miscounted() == []
        usage = self.catalog.usage("main")
        assert usage.files == len(self.live)
        assert usage.bytes == sum(kept.size for kept in self.live.values())
        assert usage.older == sum(sum(kept.older) for kept in self.live.values())
        assert usage.trash == sum(kept.size + sum(kept.older) for _, kept in self.trash.values())


TestManaging = ManagingMachine.TestCase
TestManaging.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
