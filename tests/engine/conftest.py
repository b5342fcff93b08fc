"""An engine of one's own: real catalog, real storage, a clock that stands still until told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from carboy.bootstrap import Services, close, open_carboy, prepare
from carboy.config import Settings, SpaceSettings
from carboy.engine.receive import Target
from carboy.model import Condition, File, Key, Placed
from carboy.streams import BytesSource


class Engine:
    """Services on a folder, with what tests do all the time."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.now = 1_000_000.0
        self.settings = Settings(**{"data": folder / "data", "admin_token": "t" * 32, "checkpoint_seconds": 1e9, **options})
        self.services: Services = open_carboy(self.settings, clock=lambda: self.now)
        prepare(self.services)

    def close(self) -> None:
        close(self.services)

    def target(self, path: str, space: str = "main", *, owner: str | None = "me", condition: Condition = Condition()) -> Target:
        return Target(space, path, owner, self.settings.spaces.get(space, SpaceSettings()), condition=condition)

    def put(self, path: str, data: bytes, **options: Any) -> Placed:
        return self.services.receiver.receive(self.target(path, **options), BytesSource(data))

    def file(self, path: str, space: str = "main") -> File | None:
        return self.services.catalog.file_at(space, path)

    def read(self, path: str, space: str = "main") -> bytes:
        file = self.file(path, space)
        assert file, f"there is no {path}"
        return b"".join(self.services.storages["local"].read(file.blob.key))

    def stored(self) -> set[Key]:
        """The keys of all bytes on the disk."""
        return set(self.services.storages["local"].keys())

    def blob(self, key: Key) -> Path:
        """Where a blob's bytes are, to be damaged."""
        return self.folder / "data" / "blobs" / key

    def plant(self, key: Key, data: bytes = b"orphan") -> None:
        self.blob(key).write_bytes(data)

    def findings(self, *, deep: bool = True) -> list[tuple[str, str]]:
        return sorted((finding.kind, finding.key) for finding in self.services.fsck.run(deep=deep))


EngineFactory = Callable[..., Engine]


@pytest.fixture
def make_engine(tmp_path: Path) -> Iterator[EngineFactory]:
    """``make_engine(setting=…)``; the second one on the same folder is another process, as far as the catalog can tell."""
    made: list[Engine] = []

    def make(**options: Any) -> Engine:
        made.append(Engine(tmp_path, **options))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def engine(make_engine: EngineFactory) -> Engine:
    return make_engine()
