"""Engines with several storages: the data folder, and two buckets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine.conftest import Engine
from fixtures_s3 import S3Server

from carboy.bootstrap import close
from carboy.model import Key

STORES = ("local", "one", "two")
EngineOver = Callable[..., "Stores"]


class Stores(Engine):
    """The spaces ``local``, ``one`` and ``two`` are on the storages of these names, the latter two on buckets of their own."""

    def __init__(self, folder: Path, s3: S3Server, buckets: dict[str, str], **options: Any) -> None:
        self.s3, self.buckets = s3, buckets
        storages = {name: {"bucket": bucket, "endpoint": s3.endpoint, "region": s3.region, "style": "path", "prefix": f"{name}/",
                           **options.pop("storage", {})} for name, bucket in buckets.items()}
        spaces = {name: {"storage": name, "versions": 5} for name in STORES}
        super().__init__(folder, **{"durability": "relaxed", "storages": storages, "spaces": spaces, **options})

    def close(self) -> None:
        close(self.services)

    def add(self, path: str, data: bytes, space: str) -> None:
        self.put(path, data, space=space)

    def read(self, path: str, space: str = "main") -> bytes:
        file = self.file(path, space)
        assert file, f"there is no {path}"
        return self.bytes(file.blob.storage, file.blob.key)

    def bytes(self, storage: str, key: Key) -> bytes:
        return b"".join(self.services.storages[storage].read(key))

    def keys(self, storage: str) -> set[Key]:
        """Of all that is kept there."""
        return set(self.services.storages[storage].keys())

    def swept(self) -> None:
        """Nothing is kept any more that nobody needs."""
        self.services.sweeper.run(grace=0)

    def config(self) -> str:
        """The same settings as lines of carboy.toml."""
        lines = [f'data = "{self.settings.data}"', 'durability = "relaxed"']
        for name, storage in self.settings.storages.items():
            lines += [f"[storages.{name}]", *(f'{key} = "{getattr(storage, key)}"' for key in ("bucket", "prefix", "endpoint", "region", "style"))]
        for name in STORES:
            lines += [f"[spaces.{name}]", f'storage = "{name}"', "versions = 5"]
        return "\n".join(lines) + "\n"


@pytest.fixture
def stores(tmp_path: Path, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineOver]:
    """``stores(setting=…)``: an engine with three storages; the second one on the same data is another process."""
    made: list[Stores] = []
    buckets = {name: moto_server.new_bucket() for name in STORES[1:]}
    for name, value in moto_server.env.items():
        monkeypatch.setenv(name, value)

    def make(**options: Any) -> Stores:
        made.append(Stores(tmp_path, moto_server, buckets, **options))
        return made[-1]

    yield make
    for engine in made:
        engine.close()
