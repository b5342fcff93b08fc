"""Copies of the catalog in ``data/snapshots``, made from time to time by the process that sweeps."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from carboy.catalog.base import Catalog
from carboy.config import Settings
from carboy.engine.manifest import take_name
from carboy.errors import ConfigError, StorageFull

_NAME = re.compile(r"catalog-\d{8}T\d{6}Z\.sqlite3")
_SPARE = 64 * 2**20
_FORMAT = "catalog-%Y%m%dT%H%M%SZ.sqlite3"


class Snapshots:
    """Of catalogs in SQLite; PostgreSQL has pg_dump."""

    def __init__(self, settings: Settings, catalog: Catalog, catalog_file: Path | None, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._catalog = catalog
        self._catalog_file = catalog_file
        self._clock = clock
        self.folder = settings.data / "snapshots"

    def all(self) -> list[Path]:
        """The oldest first."""
        return sorted(path for path in self.folder.glob("catalog-*.sqlite3") if _NAME.fullmatch(path.name))

    def due(self) -> bool:
        """Whether ``snapshot_interval`` has gone by since the newest. One from the future (a
        clock set back) is no reason to wait."""
        interval = self._settings.snapshot_interval
        if not interval or self._catalog_file is None:
            return False
        made = self.all()
        return not made or abs(self._clock() - _time(made[-1])) >= interval

    def take(self) -> Path:
        """A consistent copy, on stable storage; the oldest beyond ``snapshots_kept`` go. Raises StorageFull where it would leave too little
        room for the catalog itself, CatalogUnavailable."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._check_room()
        path = self.folder / datetime.fromtimestamp(self._clock(), UTC).strftime(_FORMAT)
        new = path.with_name("catalog.new")
        new.unlink(missing_ok=True)
        try:
            self._catalog.snapshot(str(new))
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        new.chmod(0o600)
        take_name(new, path)
        for old in self._beyond(path):
            old.unlink()
        return path

    def _check_room(self) -> None:
        if self._catalog_file is None:
            raise ConfigError("a catalog in PostgreSQL is copied by pg_dump", setting="database")
        disk = os.statvfs(self.folder)
        if disk.f_bavail * disk.f_frsize < 2 * self._catalog_file.stat().st_size + _SPARE:
            raise StorageFull("there is no room for a copy of the catalog")

    def _beyond(self, fresh: Path) -> list[Path]:
        others = [path for path in self.all() if path != fresh]
        return others[:max(0, len(others) + 1 - self._settings.snapshots_kept)]


def _time(path: Path) -> float:
    return datetime.strptime(path.name, _FORMAT).replace(tzinfo=UTC).timestamp()
