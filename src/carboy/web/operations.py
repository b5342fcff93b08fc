"""What ``POST /api/v1/bulk`` takes: many operations, each a model of its own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from carboy.web.fields import Etags, Id, Metadata, OnConflict, Path, Space, Tags
from carboy.web.schemas import Body

MAX_OPERATIONS = 1000


class OnFile(Body):
    """What is done with one file, named by id or by its place."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [
        {"required": ["id"], "properties": {"id": {"type": "string"}, "path": {"type": "null"}}},
        {"required": ["path"], "properties": {"id": {"type": "null"}, "path": {"type": "string"}}}]})

    id: Id | None = None
    space: Space | None = None
    path: Path | None = None

    @model_validator(mode="after")
    def _one(self) -> OnFile:
        if (self.id is None) == (self.path is None):
            raise ValueError("name the file by id, or by space and path")
        return self


class Guarded(OnFile):
    """The same, with a guard."""

    if_match: Etags | None = None


class BulkMove(Guarded):
    """Move a file."""

    op: Literal["move"]
    to_space: Space | None = None
    to: Path
    on_conflict: OnConflict = "refuse"


class BulkCopy(OnFile):
    """Copy a file."""

    op: Literal["copy"]
    to_space: Space | None = None
    to: Path
    on_conflict: OnConflict = "refuse"


class BulkUpdate(Guarded):
    """Change metadata and tags."""

    op: Literal["update"]
    metadata: Metadata | None = None
    tags: Tags | None = None


class BulkDelete(Guarded):
    """Delete a file."""

    op: Literal["delete"]
    permanent: bool = False


class BulkRestore(Body):
    """Have a file back from the trash."""

    op: Literal["restore"]
    id: Id
    path: Path | None = None
    on_conflict: OnConflict = "refuse"


class BulkPurge(Body):
    """Remove a file from the trash."""

    op: Literal["purge"]
    id: Id


Operation = BulkMove | BulkCopy | BulkUpdate | BulkDelete | BulkRestore | BulkPurge


class Bulk(Body):
    """Operations, done one after another, each for itself."""

    operations: Annotated[list[Annotated[Operation, Field(discriminator="op")]], Field(min_length=1, max_length=MAX_OPERATIONS)]
