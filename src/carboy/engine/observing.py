"""Telling an application what happened to files, whichever way it came: the catalog, watched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from carboy.catalog.base import Catalog, Move
from carboy.model import Act, File, Placed, Placement, Publication

Tell = Callable[[str, Mapping[str, Any]], None]
"""Called after a commit with what happened (``stored``, ``deleted``, ``moved``, ``restored``, ``changed``, ``folder_moved``,
``folder_deleted``) and its facts. It must not raise."""


def observed(catalog: Catalog, tell: Tell) -> Catalog:
    """The same catalog, which tells of each change of a file once it is committed."""
    return cast(Catalog, _Observed(catalog, tell))


class _Observed:
    def __init__(self, catalog: Catalog, tell: Tell) -> None:
        self._catalog = catalog
        self._tell = tell

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    # --- stored ---

    def place(self, placements: Sequence[Placement], **how: Any) -> list[Placed]:
        return [self._stored(one) for one in self._catalog.place(placements, **how)]

    def publish(self, publications: Sequence[Publication], **how: Any) -> list[Placed]:
        return [self._stored(one) for one in self._catalog.publish(publications, **how)]

    def complete(self, upload_id: str, placement: Placement, **how: Any) -> Placed:
        return self._stored(self._catalog.complete(upload_id, placement, **how))

    def restore_version(self, id: str, number: int, **how: Any) -> File:
        return self._stored(Placed(self._catalog.restore_version(id, number, **how), False)).file

    def _stored(self, placed: Placed) -> Placed:
        self._tell("stored", {"file": placed.file, "created": placed.created})
        return placed

    # --- deleted and back ---

    def delete_file(self, id: str, **how: Any) -> File | None:
        """Only what was at its path is news: staged files were never there, those of the trash are gone already."""
        shelved = self._catalog.shelved(id)
        return self._deleted(self._catalog.delete_file(id, **how), news=shelved is None)

    def trash_file(self, id: str, **how: Any) -> File | None:
        return self._deleted(self._catalog.trash_file(id, **how))

    def trash_folder(self, space: str, folder: str, **how: Any) -> int:
        count = self._catalog.trash_folder(space, folder, **how)
        self._tell("folder_deleted", {"space": space, "folder": folder, "files": count})
        return count

    def restore(self, id: str, move: Move, **how: Any) -> File:
        file = self._catalog.restore(id, move, **how)
        self._tell("restored", {"file": file})
        return file

    def _deleted(self, file: File | None, *, news: bool = True) -> File | None:
        if file is not None and news:
            self._tell("deleted", {"file": file})
        return file

    # --- changed ---

    def move(self, id: str, move: Move, *, now: float, etags: tuple[str, ...] | None = None, by: Act | None = None) -> File:
        file = self._catalog.move(id, move, now=now, etags=etags, by=by)
        self._tell("moved", {"file": file})
        return file

    def move_folder(self, space: str, folder: str, move: Move, **how: Any) -> int:
        count = self._catalog.move_folder(space, folder, move, **how)
        self._tell("folder_moved", {"space": space, "folder": folder, "to_space": move.space, "to": move.to, "files": count})
        return count

    def update_file(self, id: str, **how: Any) -> File:
        file = self._catalog.update_file(id, **how)
        self._tell("changed", {"file": file})
        return file
