"""What an export wrote beside its files, for when they come in again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from carboy.engine.changes import check_metadata, check_tags
from carboy.engine.exporting import VERSIONS
from carboy.errors import Conflict, InvalidRequest
from carboy.model import Placement


@dataclass(frozen=True, slots=True)
class Description:
    """What is known of one file."""

    crc64nvme: int
    metadata: Mapping[str, Any]
    tags: tuple[str, ...]
    owner: str | None
    modified_at: float

    def applied(self, placement: Placement) -> Placement:
        """The placement as it was before; an owner that it has already stays. Raises Conflict where the bytes are others."""
        if placement.blob.crc64nvme != self.crc64nvme:
            raise Conflict("it is not what was exported: the bytes are others")
        return replace(placement, metadata=self.metadata, tags=self.tags, owner=placement.owner or self.owner, modified_at=self.modified_at)


class Descriptions:
    """Of the files below ``root``, read from the lines that an export wrote into ``sidecar``. Raises InvalidRequest for what is none."""

    def __init__(self, root: Path, sidecar: Path) -> None:
        self._within = os.path.relpath(root.resolve(), sidecar.resolve().parent)
        self._own = {sidecar.name, VERSIONS} if self._within == "." else set()
        with sidecar.open(encoding="utf-8") as lines:
            self._found = dict(_read(line, number) for number, line in enumerate(lines, 1))

    def of(self, path: str) -> Description | None:
        return self._found.get(os.path.normpath(f"{self._within}/{path}"))

    def is_own(self, path: str) -> bool:
        """Whether it is the export's own: no file that was exported, but what it wrote beside them."""
        return path.partition("/")[0] in self._own


def _read(line: str, number: int) -> tuple[str, Description]:
    try:
        told = json.loads(line)
        metadata, tags = dict(told["metadata"]), tuple(map(str, told["tags"]))
        description = Description(int(told["crc64nvme"], 16), metadata, tags, told["owner"], float(told["modified_at"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(f"line {number} is none that an export wrote", line=number) from error
    check_metadata(metadata)
    check_tags(tags)
    return str(told["file"]), description
