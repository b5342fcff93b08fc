"""The part of the catalog that knows who writes to storages shared by many: instances and leases."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

from carboy.catalog import leasing
from carboy.catalog.sessions import Database, Session
from carboy.model import Instance, Key, Lease

T = TypeVar("T")


class SqlLeasing:
    """Each method is one transaction of the database; see :class:`carboy.catalog.base.Catalog` for what they guarantee."""

    _database: Database

    def _write_fenced(self, fence: Collection[str], work: Callable[[Session], T]) -> T:
        """Run it while these instances can't be taken for dead. Raises StorageFailed if one was."""
        if not fence:
            return self._database.write(work)
        return self._database.write(lambda session: leasing.fenced(session, fence, work))

    # --- instances ---

    def appear(self, instance: Instance) -> None:
        self._database.write(lambda session: leasing.appear(session, instance))

    def beat(self, instance: str) -> list[Instance] | None:
        return self._database.write(lambda session: leasing.beat(session, instance))

    def instances(self) -> list[Instance]:
        return self._database.read(leasing.instances)

    def bury(self, instance: Instance) -> bool:
        return self._database.write(lambda session: leasing.bury(session, instance))

    # --- leases ---

    def lease(self, lease: Lease) -> list[Lease]:
        return self._database.write(lambda session: leasing.lease(session, lease))

    def extend_lease(self, id: str, end: int | None) -> list[Lease]:
        return self._database.write(lambda session: leasing.extend(session, id, end))

    def release_lease(self, id: str) -> None:
        self._database.write(lambda session: leasing.release(session, id))

    def wanted(self, instance: str) -> list[Lease]:
        return self._database.read(lambda session: leasing.wanted(session, instance))

    def leases(self, storage: str, key: Key) -> list[Lease]:
        return self._database.read(lambda session: leasing.on(session, storage, key))
