"""What would still fit into a space's quotas, asked before bytes come. The exact answer is the catalog's, when a file takes its place."""

from __future__ import annotations

from dataclasses import dataclass, replace

from carboy.catalog.base import Catalog, Reservation
from carboy.config import SpaceSettings
from carboy.engine import limits
from carboy.errors import QuotaExceeded
from carboy.model import File, Limits


@dataclass(frozen=True, slots=True)
class Room:
    """What fits at one place, in bytes: ``freed`` is what a file there would give back. ``owner`` is whose the file will be."""

    limits: Limits
    owner: str | None
    freed: int
    space_used: int
    owner_used: int
    in_trash: int

    def adds(self, size: int) -> int:
        """What the space keeps more, if so many bytes take the place."""
        return max(0, size - self.freed)

    def check(self, size: int) -> None:
        """Raises QuotaExceeded."""
        for scope, limit, used in (("space", self.limits.space, self.space_used), ("owner", self.limits.owner, self.owner_used)):
            if limit is not None and used + self.adds(size) > limit and size:
                raise QuotaExceeded(f"the {scope} may keep {limit} bytes together; {max(0, limit - used + self.freed)} fit here",
                                    scope=scope, limit=limit, used=used, in_trash=self.in_trash, size=size)


def room_at(catalog: Catalog, space: str, path: str, owner: str | None, rules: SpaceSettings) -> Room | None:
    """What fits there now; None where the space has no quotas."""
    quotas = limits.quotas(rules)
    if quotas == Limits():
        return None
    there = catalog.file_at(space, path) if rules.on_conflict == "replace" and path and not path.endswith("/") else None
    owner = there.owner if there else owner
    whole = catalog.usage(space)
    own = catalog.usage(space, owner) if quotas.owner is not None and owner is not None else None
    return Room(quotas if own else Limits(quotas.space), owner, _freed(catalog, there, rules) if there else 0, whole.total,
                own.total if own else 0, (own or whole).trash)


def promised(reservation: Reservation, space: str, size: int, room: Room | None) -> Reservation:
    """The reservation, with what the whole of ``size`` bytes needs of the quotas."""
    if room is None:
        return reservation
    return replace(reservation, space=space, owner=room.owner, adds=room.adds(size), limits=room.limits)


def _freed(catalog: Catalog, there: File, rules: SpaceSettings) -> int:
    """A replaced content goes, or becomes a version in the place of the oldest."""
    if rules.versions == 0:
        return there.size
    older = catalog.versions(there.id)
    return sum(version.blob.size for version in older[rules.versions - 1:])
