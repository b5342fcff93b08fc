"""The storages by name."""

from __future__ import annotations

from carboy.errors import StorageUnavailable
from carboy.storage.base import Storage


class Storages(dict[str, Storage]):
    """Those that the settings name; bytes of another raise StorageUnavailable and not KeyError."""

    def __missing__(self, name: str) -> Storage:
        raise StorageUnavailable(f"bytes are kept in the storage {name!r}, which the settings don't name: set up storages.{name} again",
                                 reason="settings")
