"""Leaving: the files of spaces become a tree of files, with what is known of each in a file of lines beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from carboy.catalog.base import Catalog
from carboy.config import Settings
from carboy.engine.names import clean_prefix
from carboy.engine.reading import look, pieces
from carboy.engine.trees import Moved, Tree
from carboy.errors import BytesDamaged, BytesMissing, CarboyError, InvalidRequest, NotFound
from carboy.model import Blob, File, Version
from carboy.storage.base import OnDisk, Storage

SIDECAR = "carboy-export.jsonl"
"""One JSON object in a line for each file: id, space, path, place in the tree, owner, type, times, checksums, metadata, tags, versions."""
VERSIONS = ".carboy-versions"
"""The folder of older contents: ``{file id}/{version number}``."""


class Exporter:
    """Writes trees of files that another program can use; no byte leaves that isn't the one that was received."""

    def __init__(self, settings: Settings, catalog: Catalog, storages: Mapping[str, Storage]) -> None:
        self._settings = settings
        self._catalog = catalog
        self._storages = storages

    def run(self, root: Path, *, space: str | None = None, prefix: str = "", link: bool = False, versions: bool = False,
            into: bool = False) -> Iterator[Moved]:
        """Every file whose path starts with ``prefix``, of one space or (None) of each in a folder of its name; told one by one:
        ``copied``, ``linked``, ``kept`` (it is there already) or ``left out``. Older contents too with ``versions``.

        ``root`` is made, or must be empty unless ``into``: then nothing in it is changed or overwritten, and an export that was cut
        short goes on. Nothing is written outside it, whatever links lie in it. With ``link`` files are hard links to the stored bytes where
        that can be: whoever changes one in place damages what is stored. Raises NotFound, InvalidRequest, OSError.
        """
        spaces = self._spaces(space)
        with Tree(root) as tree:
            if not into and not tree.is_empty():
                raise InvalidRequest(f"the folder {str(root)!r} is not empty; with `--into` what is in it stays as it is")
            with tree.lines(self._sidecar(spaces, space)) as sidecar:
                for name in spaces:
                    for file in self._files(name, clean_prefix(prefix)):
                        yield from self._export(_Export(tree, link, "" if space else f"{name}/"), file, versions, sidecar)
            tree.sync()

    def _spaces(self, space: str | None) -> list[str]:
        if space is not None and space not in self._settings.spaces:
            raise NotFound(f"there is no space {space!r}", space=space)
        return [space] if space else list(self._settings.spaces)

    def _sidecar(self, spaces: list[str], space: str | None) -> str:
        """A name that no exported file has."""
        name, number = SIDECAR, 1
        while space and self._catalog.file_at(space, name):
            name, number = f"carboy-export-{number}.jsonl", number + 1
        return name

    def _files(self, space: str, prefix: str) -> Iterator[File]:
        cursor: str | None = None
        while True:
            page = self._catalog.files(space, prefix=prefix, cursor=cursor, limit=1000)
            yield from page.files
            cursor = page.cursor
            if cursor is None:
                return

    def _export(self, export: _Export, file: File, versions: bool, sidecar: Any) -> Iterator[Moved]:
        name = export.within + file.path
        moved = self._content(export, file, file.blob, name, file.modified_at)
        if moved:
            yield moved
            if moved.outcome != "left out":
                older = self._catalog.versions(file.id) if versions else []
                for version in older:
                    yield from filter(None, [self._content(export, file, version.blob, _older(file, version), version.created_at)])
                sidecar.write(json.dumps(_described(file, name, older), ensure_ascii=False) + "\n")

    def _content(self, export: _Export, file: File, blob: Blob, name: str, modified_at: float) -> Moved | None:
        """None where the file went meanwhile."""
        try:
            return export.content(self._storages[blob.storage], blob, name, modified_at)
        except BytesMissing as error:
            if self._catalog.file(file.id) is None:
                return None
            return Moved(name, "left out", blob.size, error.detail)
        except CarboyError as error:
            return Moved(name, "left out", blob.size, error.detail)


class _Export:
    """One run: where to, and how."""

    def __init__(self, tree: Tree, link: bool, within: str) -> None:
        self.within = within
        self._tree = tree
        self._link = link

    def content(self, storage: Storage, blob: Blob, name: str, modified_at: float) -> Moved:
        if blob.damaged_at is not None:
            raise BytesDamaged("the stored bytes are damaged")
        try:
            there = self._tree.open(name)
            if there is not None:
                return self._compared(there, blob, name)
            return self._written(storage, blob, name, modified_at)
        except OSError as error:
            return Moved(name, "left out", blob.size, error.strerror or str(error))

    def _compared(self, there: int, blob: Blob, name: str) -> Moved:
        try:
            same = os.fstat(there).st_size == blob.size and look(pieces(there)).fits(blob)
        finally:
            os.close(there)
        return Moved(name, "kept", blob.size) if same else Moved(name, "left out", blob.size, "there is another file already")

    def _written(self, storage: Storage, blob: Blob, name: str, modified_at: float) -> Moved:
        with self._tree.writing(name) as made:
            if isinstance(storage, OnDisk):
                with storage.open(blob.key) as source:
                    linked = made.take(source.fileno(), link=self._link)
            else:
                linked = made.write(storage.read(blob.key))
            if not look(made.pieces()).fits(blob):
                raise BytesDamaged("the stored bytes are not the ones that were received")
            made.keep(modified_at)
        return Moved(name, "linked" if linked else "copied", blob.size)


def _older(file: File, version: Version) -> str:
    return f"{VERSIONS}/{file.id}/{version.number}"


def _described(file: File, name: str, older: list[Version]) -> dict[str, Any]:
    return {"id": file.id, "space": file.space, "path": file.path, "file": name, "owner": file.owner, "media_type": file.media_type,
            **_sums(file.blob), "metadata": dict(file.metadata), "tags": list(file.tags), "version": file.version,
            "created_at": file.created_at, "modified_at": file.modified_at,
            "versions": [{"number": one.number, "file": _older(file, one), "media_type": one.media_type, **_sums(one.blob),
                          "created_at": one.created_at} for one in older]}


def _sums(blob: Blob) -> dict[str, Any]:
    return {"size": blob.size, "crc64nvme": f"{blob.crc64nvme:016x}", "sha256": blob.sha256.hex() if blob.sha256 else None}
