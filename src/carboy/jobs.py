"""The nouns of processing as frozen values: what is ordered, what runs, what comes of it. No I/O, no framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from carboy.model import Blob, File

JobState = Literal["waiting", "queued", "running", "done", "dead", "cancelled"]

MOVES: Mapping[JobState, frozenset[JobState]] = {
    "waiting": frozenset({"queued", "cancelled"}),
    "queued": frozenset({"running", "cancelled"}),
    "running": frozenset({"done", "queued", "dead", "cancelled"}),
    "done": frozenset(),
    "dead": frozenset({"waiting", "queued", "cancelled"}),
    "cancelled": frozenset({"waiting", "queued"}),
}
"""The life of a job. ``waiting`` for other steps of the same content; ``queued``, perhaps for a later time; ``dead`` once it failed too
often, kept with its error until somebody has it tried again."""

DEFAULT_QUEUE = "carboy"


@dataclass(frozen=True, slots=True)
class Order:
    """A step that a content is to go through: what becomes a job. One content has one job for each step and ``version``, however
    often it is ordered. ``version`` is the step's, with a fingerprint of the ``args`` where there are any, and a word for the space's rules
    where the step goes by them."""

    step: str
    version: str = "1"
    args: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    """Steps that have to be done before, as far as they are ordered for the same content."""
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    """Higher goes first."""
    holds: bool = False
    """Whether the content is held back from all but its owner until this is done."""


class Plan(Protocol):
    """What is ordered for contents when they get to their files. Pure: it is asked within transactions, perhaps several times."""

    def concerns(self, space: str) -> bool:
        """Whether anything is ordered for any file of this space."""

    def holds(self, space: str) -> bool:
        """Whether any of that holds a content back."""

    def orders(self, file: File) -> Sequence[Order]:
        """What is ordered for the content that the file has just been given."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run of one step on one content, as the catalog has it. ``file_id`` is the file that it was ordered for; others may have the
    same content.

    ``fence`` grows with each claim: whoever claimed it before can change nothing any more. ``progress`` is from 0 to 1.
    ``request`` is the id of the request that ordered it.
    """

    id: str
    blob_id: str
    file_id: str
    space: str
    owner: str | None
    step: str
    version: str
    state: JobState
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    args: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    holds: bool = False
    attempts: int = 0
    fence: int = 0
    instance: str | None = None
    progress: float = 0.0
    phrase: str = ""
    result: Mapping[str, Any] | None = None
    failure: str | None = None
    request: str = ""
    created_at: float = 0.0
    changed_at: float = 0.0
    due_at: float = 0.0
    started_at: float | None = None

    @property
    def is_holding(self) -> bool:
        """Whether the content is held back on its account: until it is done, and after it too where it let the content not through. Then it
        says so in ``failure``, and may be retried."""
        return self.holds and (self.state != "done" or self.failure is not None)

    @property
    def may_be_retried(self) -> bool:
        """Whether it may be asked to be tried again: nothing came of it, or it let its content not through."""
        return self.state in ("dead", "cancelled") or (self.state == "done" and self.failure is not None)

    @property
    def is_over(self) -> bool:
        """Whether nothing comes of it any more unless somebody asks."""
        return self.state in ("done", "dead", "cancelled")


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that is this process's to run, the content it is about, and what its earlier steps gave, by their names."""

    job: Job
    blob: Blob
    file: File | None
    """None where the file that it was ordered for is gone, or has another content now; others have this one still."""
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Derived:
    """A file made of a content by a step: a thumbnail, a poster. It goes with the content."""

    of: str
    """The id of the blob that it was made of."""
    step: str
    name: str
    blob: Blob
    media_type: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job has come to: committed together, once, with its being done."""

    result: Mapping[str, Any] = field(default_factory=dict)
    derived: Sequence[Derived] = ()
    """Their bytes are on stable storage. They take the place of what the same step derived before."""
    sha256: bytes | None = None
    media_type: str | None = None
    """What the content turned out to be: files of the job's space that have it get this type, where theirs is the one that the job's file
    had when it was claimed."""
    quarantine: str | None = None
    """Why nobody is to be given the content any more; the result tells it too. Where the same job is tried again and gives none, its
    quarantine is lifted."""
    same_as: str | None = None
    """The id of a blob with the same bytes, which takes this one's place in all files of ``same_in``; None has the catalog look for it."""
    same_in: tuple[str, str | None] | None = None
    """A space, and the owner in it where it is private: only files there are looked at, and changed."""
    release: bool = True
    """Whether the content is held back no longer on this job's account. False: its step says that it may not pass."""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a list shows: all that is given must hold. Of a ``space``: without those whose file has gone to another one."""

    space: str | None = None
    owner: str | None = None
    file_id: str | None = None
    blob_id: str | None = None
    step: str | None = None
    states: tuple[JobState, ...] = ()


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened: an entry of the log in the order of commits. ``cursor`` is opaque, and one may go on after it.

    ``kind`` is such as ``file.create``, ``file.trash``, ``upload.cancelled``, ``job.done``. ``owner`` is whose file it is about;
    ``request`` is the id of the request that did it, or that ordered the job.
    """

    cursor: str
    at: float
    kind: str
    space: str | None = None
    path: str | None = None
    file_id: str | None = None
    owner: str | None = None
    upload_id: str | None = None
    job_id: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    request: str = ""


def place_in_log(cursor: str) -> tuple[int, ...]:
    """Cursors of one catalog are in the order of these: what comes after one has a greater place."""
    return tuple(int(number) for number in cursor.split("."))


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """How many jobs of a step there are in a state, and when the oldest of them got into it."""

    step: str
    state: JobState
    count: int
    oldest: float
