"""What the API takes, as models that validate it. ``/openapi.json`` is made from these same models, and from those of
:mod:`carboy.web.answers`.

Bodies are strict: an unknown member, or a text where a number is due, is refused. Queries are texts, so numbers are read from digits.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from carboy.web.fields import (
    MAX_TAGS,
    Count,
    Cursor,
    Flag,
    Folder,
    Id,
    Instant,
    Limit,
    Metadata,
    Name,
    OnConflict,
    Password,
    Path,
    Plain,
    Seconds,
    Space,
    Tag,
    Tags,
    TokenName,
    VersionNumber,
    Whole,
)

JobState = Literal["waiting", "queued", "running", "done", "dead", "cancelled"]
MAX_ZIPPED = 10_000
"""Most paths and ids that one request for a zip may name; the folders among them may hold more files."""


class Body(BaseModel):
    """A JSON body."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    optional: ClassVar[bool] = False
    """Whether no body at all is an empty object."""


class Query(BaseModel):
    """A query string. What is not known is passed over, as ever in queries."""

    model_config = ConfigDict(extra="ignore", frozen=True)


# --- queries -------------------------------------------------------------------------------------------------------


class PageQuery(Query):
    """Which page of a list."""

    limit: Limit = 100
    cursor: Cursor = None


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

    version: Annotated[VersionNumber | None, Field(description="The content that had this number.")] = None
    download: Annotated[str | None, Field(description="If it is there, a browser saves and doesn't show.")] = None


class DerivedQuery(Query):
    """How a browser takes it."""

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


class JobsQuery(PageQuery):
    """Which jobs."""

    space: Annotated[Space, Field(description="Those that were ordered for its files. Not looked at with `file`.")] = "main"
    file: Annotated[Id | None, Field(description="Those that were ordered for this file.")] = None
    step: Plain | None = None
    state: Annotated[list[JobState], Field(max_length=6, description="Any of these.")] = []


class EventsQuery(Query):
    """Of what one wants to hear; all that is given must fit."""

    space: Space | None = None
    file: Id | None = None
    upload: Annotated[Id | None, Field(description="With the file that it becomes, and that one's jobs.")] = None
    job: Id | None = None
    kinds: Annotated[str, Field(max_length=500, pattern=r"^[a-z_.*,]*$", description="Such as `job.*,file.create`; all without it.")] = ""
    last_event_id: Annotated[str | None, Field(max_length=100,
                                               description="As the field `Last-Event-ID`, for those who can't send it.")] = None


class AuditQuery(Query):
    """Which entries of the audit log."""

    space: Annotated[Space | None, Field(description="Those of a space; all without it.")] = None
    principal: Plain | None = None
    action: Annotated[Plain | None, Field(examples=["file.create"])] = None
    file_id: Id | None = None
    since: Annotated[Instant | None, Field(description="Not before this time.")] = None
    until: Annotated[Instant | None, Field(description="Before this time.")] = None
    limit: Limit = 100
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


class JobNew(Body):
    """A step that a file's content is to go through."""

    step: Annotated[str, Field(min_length=1, max_length=63)]
    args: Annotated[dict[str, JsonValue], Field(description="What the step takes.")] = {}


class TokenNew(Body):
    """A token to be made."""

    name: TokenName
    scopes: Annotated[list[str], Field(min_length=1, max_length=1000, examples=[["main:read,write"]])]
    expires_in: Annotated[Seconds | None, Field(description="Seconds from now.")] = None
