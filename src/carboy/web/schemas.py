"""What the API takes, as models that validate it. ``/openapi.json`` is made from these same models, and from those of
:mod:`carboy.web.answers`.

Bodies are strict: an unknown member, or a text where a number is due, is refused. Queries are texts, so numbers are read from digits.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, WithJsonSchema, model_validator

from carboy.model import MAX_SIZE

MAX_OPERATIONS = 1000
MAX_ZIPPED = 10_000
"""Most paths and ids that one request for a zip may name; the folders among them may hold more files."""
MAX_TAGS = 50


class Body(BaseModel):
    """A JSON body."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    optional: ClassVar[bool] = False
    """Whether no body at all is an empty object."""


class Query(BaseModel):
    """A query string. What is not known is passed over, as ever in queries."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def _digits(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,20}", value, re.ASCII):
        raise ValueError("must be a number in decimal digits")
    return value


def _flag(value: Any) -> Any:
    if isinstance(value, str):
        known = {"": True, "1": True, "true": True, "0": False, "false": False}
        if value not in known:
            raise ValueError("must be true or false")
        return known[value]
    return value


def _instant(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value.replace(" ", "+", 1) if re.search(r"T.* ", value) else value)
        if moment.tzinfo is None:
            raise ValueError
        return moment.timestamp()
    except OverflowError:
        return 0.0
    except ValueError:
        raise ValueError("must be a time as RFC 3339 writes it, such as 2026-11-23T00:00:59Z") from None


def _whole(value: Any) -> Any:
    """JSON knows one kind of number: 5.0 is 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _plain(value: str) -> str:
    if any(ord(char) < 32 or ord(char) == 127 or "\ud800" <= char <= "\udfff" for char in value):
        raise ValueError("must hold no control characters")
    return value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must hold printable characters alone")
    return value


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a number")
    return value


_PLAIN = r"^[^\x00-\x1f\x7f]*$"
Count = Annotated[int, Field(ge=0, le=MAX_SIZE), BeforeValidator(_digits)]
Whole = Annotated[int, Field(ge=1, le=MAX_SIZE), BeforeValidator(_whole)]
Flag = Annotated[bool, BeforeValidator(_flag), WithJsonSchema({"type": "boolean", "default": False})]
Instant = Annotated[float, BeforeValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time"})]
Plain = Annotated[str, Field(max_length=1000, json_schema_extra={"pattern": _PLAIN}), AfterValidator(_plain)]
Space = Annotated[str, Field(description="A space's name.", examples=["main"])]
Path = Annotated[str, Field(min_length=1, description="A path in the space; see Names.", examples=["trip/film.mkv"])]
Folder = Annotated[str, Field(description="A folder's path, with or without its slash at the end.", examples=["trip/"])]
Id = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Seconds = Annotated[float, Field(ge=0.1, lt=1e10), AfterValidator(_finite)]
OnConflict = Literal["replace", "rename", "refuse"]
Tag = Annotated[str, Field(min_length=1, max_length=100, json_schema_extra={"pattern": _PLAIN}), AfterValidator(_plain)]
Metadata = Annotated[dict[Annotated[str, Field(min_length=1, max_length=200)], JsonValue], Field(
    description="A merge patch (RFC 7396): members are set, those that are null are removed.")]
Tags = Annotated[list[Tag], Field(max_length=MAX_TAGS, description="All tags from now on.")]
Etags = Annotated[str, Field(description="As the field If-Match: only if the file's content is this one.")]
Password = Annotated[str, Field(min_length=1, max_length=200, json_schema_extra={"pattern": _PLAIN}), AfterValidator(_plain)]
Name = Annotated[str, Field(max_length=200, json_schema_extra={"pattern": _PLAIN}), AfterValidator(_plain)]
LIMIT = Annotated[int, Field(ge=1, le=1000, description="The most that a page holds."), BeforeValidator(_digits)]
CURSOR = Annotated[Plain | None, Field(description="`next` of the page before.")]


# --- queries -------------------------------------------------------------------------------------------------------


class PageQuery(Query):
    """Which page of a list."""

    limit: LIMIT = 100
    cursor: CURSOR = None


class SpaceQuery(PageQuery):
    """Which page of a space's list."""

    space: Space = "main"
    prefix: Annotated[str, Field(description="Only paths that begin so; it may end anywhere.")] = ""


class FilesQuery(SpaceQuery):
    """Which files, and in which order."""

    folders: Annotated[Flag, Field(description="Give paths that go on past the next `/` once, as that folder: by path alone, without "
                                               "`q` and filters.")] = False
    sort: Annotated[Literal["path", "modified", "size"], Field(description="What the order goes by. Not looked at with `q`.")] = "path"
    descending: Annotated[Flag, Field(description="The other way round.")] = False
    q: Annotated[str, Field(max_length=1000,
                            description="Words that are all in the path, the metadata or the tags, whatever the case.")] = ""
    media_type: Annotated[Plain | None, Field(description="A type, or `image/*`.")] = None
    owner: Plain | None = None
    tag: Annotated[list[Tag], Field(max_length=MAX_TAGS, description="Tags that must all be there.")] = []
    min_size: Count | None = None
    max_size: Count | None = None
    modified_from: Annotated[Instant | None, Field(description="Not before this time.")] = None
    modified_to: Annotated[Instant | None, Field(description="Before this time.")] = None


class ContentQuery(Query):
    """Which content, and how a browser takes it."""

    version: Annotated[Annotated[int, Field(ge=0, le=999_999_999), BeforeValidator(_digits)] | None,
                       Field(description="The content that had this number.")] = None
    download: Annotated[str | None, Field(description="If it is there, a browser saves and doesn't show.")] = None


class DeleteQuery(Query):
    """How a file is deleted."""

    permanent: Annotated[Flag, Field(description="Away at once, not to the trash.")] = False


class FolderQuery(Query):
    """A folder."""

    space: Space = "main"
    path: Annotated[Folder, Field(min_length=1)]


class TrashQuery(Query):
    """A space whose trash is emptied."""

    space: Space


class LinksQuery(PageQuery):
    """Which links."""

    space: Annotated[Space | None, Field(description="Those of a space; without it one's own.")] = None
    file_id: Id | None = None


class UploadsQuery(PageQuery):
    """Which uploads."""

    space: Space = "main"
    cursor: Annotated[Id | None, Field(description="`next` of the page before.")] = None


class AuditQuery(Query):
    """Which entries of the audit log."""

    space: Annotated[Space | None, Field(description="Those of a space; all without it.")] = None
    principal: Plain | None = None
    action: Annotated[Plain | None, Field(examples=["file.create"])] = None
    file_id: Id | None = None
    since: Annotated[Instant | None, Field(description="Not before this time.")] = None
    until: Annotated[Instant | None, Field(description="Before this time.")] = None
    limit: LIMIT = 100
    cursor: Annotated[Count | None, Field(description="`next` of the page before.")] = None
    format: Annotated[Literal["json", "ndjson"], Field(description="`ndjson`: all that there is, an object a line.")] = "json"


# --- bodies --------------------------------------------------------------------------------------------------------


class Nothing(Body):
    """No members."""

    optional = True


class FilePatch(Body):
    """What changes of a file, its content and place excepted."""

    metadata: Metadata | None = None
    tags: Tags | None = None


class FileMove(Body):
    """Where a file goes."""

    space: Space | None = None
    path: Path
    on_conflict: OnConflict = "refuse"


class FolderMove(Body):
    """Which folder goes where."""

    space: Space = "main"
    path: Annotated[Folder, Field(min_length=1)]
    to_space: Space | None = None
    to: Annotated[Folder, Field(min_length=1)]


class Restore(Body):
    """Where a file goes that comes back from the trash: to where it was, unless it says otherwise."""

    optional = True

    path: Path | None = None
    on_conflict: OnConflict = "refuse"


class LinkNew(Body):
    """A link to a file (`file_id`), to a folder, or one through which others put files into a folder (`inbox`)."""

    model_config = ConfigDict(json_schema_extra={
        "if": {"properties": {"kind": {"const": "file"}}},
        "then": {"required": ["file_id"], "properties": {"file_id": {"type": "string"}}},
        "else": {"required": ["space"], "properties": {"file_id": {"type": "null"}, "space": {"type": "string"}}},
        "anyOf": [{"properties": {"kind": {"const": "inbox"}}},
                  {"properties": {"max_size": {"type": "null"}, "max_bytes": {"type": "null"}}}]})

    kind: Literal["file", "folder", "inbox"]
    file_id: Id | None = None
    space: Space | None = None
    path: Folder = ""
    name: Name = ""
    password: Password | None = None
    expires_in: Annotated[Seconds | None, Field(description="Seconds from now.")] = None
    max_uses: Annotated[Whole | None, Field(description="Downloads, or files received.")] = None
    max_size: Annotated[Whole | None, Field(description="Bytes of each file received.")] = None
    max_bytes: Annotated[Whole | None, Field(description="Bytes of all files received.")] = None

    @model_validator(mode="after")
    def _whole(self) -> LinkNew:
        if (self.kind == "file") != (self.file_id is not None):
            raise ValueError("file_id goes with kind file, and with it alone")
        if self.kind != "file" and self.space is None:
            raise ValueError(f"a link of kind {self.kind} needs a space")
        return self


class ZipNew(Body):
    """What a zip shall hold: files and folders by path, files by id."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [
        {"required": ["paths"], "properties": {"paths": {"minItems": 1}}}, {"required": ["ids"], "properties": {"ids": {"minItems": 1}}}]})

    space: Space = "main"
    paths: Annotated[list[str], Field(max_length=MAX_ZIPPED,
                                      description="Files, and folders with their slash at the end; `\"\"` is the whole space.")] = []
    ids: Annotated[list[Id], Field(max_length=MAX_ZIPPED)] = []
    name: Annotated[str, Field(max_length=200, description="What the archive is called.")] = "files.zip"

    @model_validator(mode="after")
    def _some(self) -> ZipNew:
        if not self.paths and not self.ids:
            raise ValueError("name files by path or id, or folders")
        return self


class TokenNew(Body):
    """A token to be made."""

    name: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
    scopes: Annotated[list[str], Field(min_length=1, max_length=1000, examples=[["main:read,write"]])]
    expires_in: Annotated[Seconds | None, Field(description="Seconds from now.")] = None


# --- many at once --------------------------------------------------------------------------------------------------


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
