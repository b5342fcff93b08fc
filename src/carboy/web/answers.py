"""What the API answers, as models. They describe (``/openapi.json`` is made from them); :mod:`carboy.web.render` makes the
answers, and tests hold the one against the other."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from carboy.model import Action
from carboy.web.fields import OnConflict

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Cursor = Annotated[str | None, Field(description="Of the next page; null on the last one.")]
Hex = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Status = Annotated[Literal["ready", "pending", "quarantined"], Field(
    description="`pending`: held back from all but its owner until it is checked. `quarantined`: given to nobody.")]
Quarantine = Annotated[str | None, Field(description="Why nobody is given it: what a scan found.")]


JobState = Literal["waiting", "queued", "running", "done", "dead", "cancelled"]


class Answer(BaseModel):
    """A JSON object. Members may be added to it one day."""

    model_config = ConfigDict(extra="allow")


class Problem(Answer):
    """What went wrong (RFC 9457); further members are facts of the case."""

    type: str
    title: str
    status: int
    code: Annotated[str, Field(description="Stable; what programs look at.")]
    detail: str | None = None
    request_id: Annotated[str | None, Field(description="The request's, as in X-Request-ID and the server's log.")] = None


class File(Answer):
    """A file."""

    id: Hex
    space: str
    path: str
    name: str
    size: int
    media_type: str
    etag: str
    version: Annotated[int, Field(description="Counts the contents it has had, from 1.")]
    status: Status
    quarantine: Quarantine
    crc64nvme: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    sha256: Annotated[str | None, Field(pattern="^[0-9a-f]{64}$")]
    owner: str | None
    metadata: dict[str, Any]
    tags: list[str]
    created_at: Time
    modified_at: Time
    url: str
    content_url: str
    derived_url: Annotated[str, Field(description="Lists what was made of it, such as thumbnails.")]


class JobBrief(Answer):
    """A job, in short."""

    id: Hex
    step: str
    state: JobState


class Stored(File):
    """A file that was stored, with the jobs of its content where it has any."""

    jobs: list[JobBrief] = []


class Files(Answer):
    """Files that one request made."""

    files: list[Stored]


class FilePage(Answer):
    """A page of files, and of folders where they were asked for."""

    files: list[File]
    folders: list[str]
    next: Cursor


class Version(Answer):
    """One of the contents of a file."""

    number: int
    current: bool
    size: int
    media_type: str
    etag: str
    status: Status
    quarantine: Quarantine
    crc64nvme: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    sha256: Annotated[str | None, Field(pattern="^[0-9a-f]{64}$")]
    created_at: Time
    content_url: str


class Versions(Answer):
    """The contents of a file, the newest first."""

    versions: list[Version]


class Derived(Answer):
    """What a step made of a file's content."""

    step: str
    name: str
    media_type: str
    size: int
    etag: str
    facts: Annotated[dict[str, Any], Field(description="What the step tells of it, such as width and height.")]
    created_at: Time
    content_url: str


class DerivedFiles(Answer):
    """All that was made of a file's content, by step and name."""

    derived: list[Derived]


class Folder(Answer):
    """A folder, and what lies in it at any depth."""

    path: str
    files: int
    bytes: int


class FolderPage(Answer):
    """A page of folders."""

    folders: list[Folder]
    next: Cursor


class FolderDone(Answer):
    """How many files it was about."""

    files: int


class Trashed(Answer):
    """A file in the trash."""

    file: File
    deleted_at: Time
    deleted_by: str | None
    expires_at: Time


class TrashPage(Answer):
    """A page of the trash, last deleted first."""

    trash: list[Trashed]
    next: Cursor


class Purged(Answer):
    """How many files are gone for good."""

    files: int


class Job(JobBrief):
    """A step that a content goes through in the background."""

    progress: Annotated[float, Field(ge=0, le=1)]
    phrase: Annotated[str, Field(description="What is being done.")]
    attempts: int
    args: dict[str, Any]
    result: Annotated[dict[str, Any] | None, Field(description="What the step gave, once it is done.")]
    failure: Annotated[str | None, Field(description="Why the last attempt failed.")]
    file_id: Hex
    space: str
    created_at: Time
    changed_at: Time
    due_at: Time
    started_at: Time | None
    waits_for: Annotated[list[str], Field(description="Steps of the same content that come first.")]


class Jobs(Answer):
    """The jobs of a content, in the order in which they were ordered."""

    jobs: list[Job]


class JobPage(Jobs):
    """A page of jobs, the newest first."""

    next: Cursor


class Link(Answer):
    """A link, without its password."""

    id: Hex
    kind: Literal["file", "folder", "inbox"]
    space: str
    path: str
    file_id: Hex | None
    name: str
    url: Annotated[str, Field(description="What is given to others.")]
    password: Annotated[bool, Field(description="Whether it has one.")]
    max_uses: int | None
    max_size: int | None
    max_bytes: int | None
    uses: int
    received: int
    created_by: str | None
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None


class LinkPage(Answer):
    """A page of links."""

    links: list[Link]
    next: Cursor


class Upload(Answer):
    """An upload under way."""

    id: Hex
    state: Literal["receiving", "complete", "cancelled", "failed", "expired"]
    space: str
    path: str
    protocol: str
    size: int | None
    received: int
    offset: int
    missing: list[list[int]]
    metadata: dict[str, Any]
    created_at: Time
    expires_at: Time
    file_id: Hex | None
    failure: str | None


class UploadPage(Answer):
    """A page of uploads."""

    uploads: list[Upload]
    next: Cursor


class Usage(Answer):
    """What is kept, and what may be: bytes. ``used`` is ``bytes``, ``older`` and ``trash`` together."""

    files: int
    bytes: int
    older: int
    trash: int
    used: int
    quota: int | None
    free: int | None


class Space(Answer):
    """A space, its rules, and what is kept in it."""

    name: str
    actions: list[Action]
    accept: list[str]
    max_size: int
    on_conflict: OnConflict
    versions: int
    trash: Annotated[float, Field(description="Seconds that deleted files can be restored; 0 deletes at once.")]
    private: bool
    public: Literal["", "read", "write"]
    usage: Annotated[Usage | None, Field(description="Of the whole space; null for who may see nothing of it.")]
    own: Annotated[Usage | None, Field(description="One's own; null for nobody.")]


class Spaces(Answer):
    """The spaces in which one may do something."""

    spaces: list[Space]


class Token(Answer):
    """A token, without its secret."""

    id: Hex
    name: str
    scopes: dict[str, list[Action]]
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None


class TokenMade(Token):
    """A new token with its secret, which is shown only now."""

    secret: str


class Tokens(Answer):
    """All tokens."""

    tokens: list[Token]


class Entry(Answer):
    """One thing that somebody did."""

    id: int
    at: Time
    principal: str | None
    kind: str
    request: str
    address: str
    action: str
    space: str | None
    path: str | None
    file_id: str | None
    facts: dict[str, Any]


class EntryPage(Answer):
    """A page of the audit log, the newest first."""

    entries: list[Entry]
    next: Cursor


class Result(Answer):
    """What came of one operation: the file where there is one, else the problem."""

    index: int
    status: int
    file: File | None = None
    problem: Problem | None = None


class Results(Answer):
    """What came of each operation, in their order."""

    results: list[Result]
    succeeded: int
    failed: int


class Zip(Answer):
    """A zip that waits to be fetched."""

    id: Hex
    url: str
    name: str
    size: int
    files: int
    expires_at: Time


class Health(Answer):
    """That all is well."""

    status: str


class Message(Answer):
    """What the classic endpoints say."""

    message: str


class TaskBegun(Message):
    """A file is stored, and goes through what its space orders."""

    task_id: Hex


TaskState = Literal["PENDING", "STARTED", "PROGRESS", "RETRY", "SUCCESS", "FAILURE", "REVOKED"]


class Task(Answer):
    """How far a task is."""

    task_id: Hex
    state: TaskState
    status: Annotated[TaskState, Field(description="The same.")]
    ready: Annotated[bool, Field(description="Whether it is over.")]
    successful: bool | None
    progress: Annotated[float, Field(ge=0, le=1)]
    phrase: str
    result: Annotated[Any, Field(description="What came of it, or why it failed.")]
