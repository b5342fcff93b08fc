"""The nouns of Carboy as frozen values. No I/O, no framework.

Sizes and offsets are bytes, times are seconds since 1970 UTC (float), CRCs are unsigned 64-bit integers
(CRC-64/NVME), spans are half open.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NewType

from carboy.errors import PreconditionFailed

Key = NewType("Key", str)
"""The opaque name of a blob's bytes in a storage: ``ab/<32 hex digits>``."""

Action = Literal["read", "write", "delete", "admin"]

TRASH, STAGED = ".trash", ".staged"
"""The spaces, which nobody can name or be allowed, of files that are not at their path: see :class:`Shelved`."""

MAX_SIZE = 2**63 - 1


def new_id() -> str:
    """128 random bits as 32 hex digits: unguessable, so it may stand in a URL."""
    return secrets.token_hex(16)


def key_for(id: str) -> Key:
    """The storage key of the blob with this id: one of 256 folders, then the id."""
    return Key(f"{id[:2]}/{id}")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open byte range ``[start, end)`` with the CRC-64/NVME of its bytes."""

    start: int
    end: int
    crc: int = 0

    @property
    def length(self) -> int:
        return self.end - self.start


def gaps(spans: Iterable[Span], size: int) -> list[tuple[int, int]]:
    """The half-open ranges of ``[0, size)`` that no span covers, in order."""
    missing, at = [], 0
    for span in sorted(spans):
        if span.start > at:
            missing.append((at, min(span.start, size)))
        at = max(at, span.end)
        if at >= size:
            return missing
    return [*missing, (at, size)] if at < size else missing


@dataclass(frozen=True, slots=True)
class Blob:
    """Immutable stored bytes under an opaque key in one storage."""

    id: str
    storage: str
    key: Key
    size: int
    crc64nvme: int
    sha256: bytes | None = None
    created_at: float = 0.0
    damaged_at: float | None = None
    """When a scrub found that the stored bytes are not the ones received; nobody is given them any more."""
    held: int = 0
    """How many steps have to be through with it before others than its owner are given it."""
    quarantine: str | None = None
    """Why nobody is given it any more: what a virus scan found."""


@dataclass(frozen=True, slots=True)
class File:
    """What people see: a path in a space that points at a blob. ``version`` counts the contents it has had, from 1."""

    id: str
    space: str
    path: str
    owner: str | None
    media_type: str
    metadata: Mapping[str, Any]
    blob: Blob
    version: int
    created_at: float
    modified_at: float
    tags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def size(self) -> int:
        return self.blob.size

    @property
    def etag(self) -> str:
        """Strong: every stored content has a blob of its own."""
        return f'"{self.blob.id}"'


@dataclass(frozen=True, slots=True)
class Version:
    """An older content of a file."""

    number: int
    blob: Blob
    media_type: str
    created_at: float


UploadState = Literal["receiving", "complete", "cancelled", "failed", "expired"]

TRANSITIONS: Mapping[UploadState, frozenset[UploadState]] = {
    "receiving": frozenset({"complete", "cancelled", "failed", "expired"}),
    "complete": frozenset(),
    "cancelled": frozenset(),
    "failed": frozenset(),
    "expired": frozenset(),
}
"""The life of an upload: it takes bytes while ``receiving``; every other state is final."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A transfer under way. A ``partial`` one becomes no file by itself: it is for one that has it among its ``parts``, which are joined
    once all of them are covered.

    ``name`` is the client's own name for it (a ``file_id``), unique among the receiving uploads of one owner and
    space. ``key`` is where its bytes go, the final place. ``file_id`` is set once complete, ``failure`` once failed.
    """

    id: str
    space: str
    path: str
    owner: str | None
    protocol: str
    storage: str
    key: Key
    state: UploadState = "receiving"
    name: str | None = None
    size: int | None = None
    chunk_size: int | None = None
    media_type: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    driver_state: Mapping[str, Any] = field(default_factory=dict)
    if_match: str | None = None
    created_at: float = 0.0
    touched_at: float = 0.0
    expires_at: float = 0.0
    file_id: str | None = None
    failure: str | None = None
    partial: bool = False
    parts: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    """What the whole must hash to, in hexadecimal by algorithm; "" where the digest is only to be known."""
    parts_given: str | None = None
    """How its creator named the parts, word for word, for a protocol that tells it again."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A numbered chunk of an upload. With ``key`` it is a piece: bytes whose place is not known yet, in a file of their
    own; without, its bytes are already at ``start``."""

    index: int
    size: int
    crc: int
    start: int | None = None
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class Fragment:
    """Where a storage that can't write in place keeps the bytes ``[start, end)`` of an upload until it is sealed. ``crc`` is their
    CRC-64/NVME, None where only the storage has seen them (a copy); ``ref`` is the storage's own, JSON. With ``key`` it is a piece, an
    object of its own; without, a part of the upload's own key."""

    start: int
    end: int
    crc: int | None
    ref: Mapping[str, Any]
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """The range ``[start, end)`` (None: to infinity) of a key that one instance alone may write, until it lets go or is taken for dead."""

    id: str
    storage: str
    key: Key
    start: int
    end: int | None
    instance: str


@dataclass(frozen=True, slots=True)
class Instance:
    """A process that writes to a storage shared by many. ``beats`` grows while it lives."""

    id: str
    host: str
    pid: int
    beats: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What the catalog knows of an upload after a commit."""

    upload: Upload
    spans: Sequence[Span]

    @property
    def received(self) -> int:
        return sum(span.length for span in self.spans)

    @property
    def offset(self) -> int:
        """How many bytes are there without a gap from the start."""
        first = self.spans[0] if self.spans else None
        return first.end if first and first.start == 0 else 0

    @property
    def covered(self) -> bool:
        """Whether the size is known and every byte of it recorded."""
        return self.upload.size is not None and not gaps(self.spans, self.upload.size)

    @property
    def due(self) -> bool:
        """Whether it is to become its file now."""
        return self.upload.state == "receiving" and self.covered and not self.upload.partial

    @property
    def missing(self) -> list[tuple[int, int]]:
        """The gaps up to the declared size, or up to the furthest byte where none is declared."""
        end = self.upload.size if self.upload.size is not None else max((s.end for s in self.spans), default=0)
        return gaps(self.spans, end)


@dataclass(frozen=True, slots=True)
class Condition:
    """A precondition on what a path holds now, checked in the transaction that changes it.

    ``etags`` lists the ETags one of which must be current (``If-Match``; ``*`` means any file);
    ``absent`` demands that there is none (``If-None-Match: *``); ``not_etags`` lists those it must not have.
    """

    etags: tuple[str, ...] | None = None
    not_etags: tuple[str, ...] | None = None
    absent: bool = False

    def check(self, current: File | None) -> None:
        """Raises PreconditionFailed unless it holds for what the path holds now (RFC 9110 section 13.1: strong comparison for
        those that are wanted, weak for those that are not)."""
        etag = current.etag if current else None
        if self.absent and current:
            raise PreconditionFailed("there is a file already", etag=etag)
        if self.etags is not None and not (current and {"*", etag} & set(self.etags)):
            raise PreconditionFailed("the file has another content" if current else "there is no file", etag=etag)
        if self.not_etags is not None and current and {"*", etag, f"W/{etag}"} & set(self.not_etags):
            raise PreconditionFailed("the file has an excluded content", etag=etag)


OnConflict = Literal["replace", "rename", "refuse"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How many bytes a space, and one owner in it, may keep together (:attr:`Usage.total`); None is no limit."""

    space: int | None = None
    owner: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What is kept in a space, or by one owner in it: files and the bytes of their contents, of their older versions, and of
    what lies in the trash (with its versions). Copies count in full, though their bytes are kept once."""

    files: int = 0
    bytes: int = 0
    older: int = 0
    trash: int = 0

    @property
    def total(self) -> int:
        """What quotas count."""
        return self.bytes + self.older + self.trash


@dataclass(frozen=True, slots=True)
class Act:
    """Who asks for a change, as the audit log keeps it. ``request`` is the request's id, ``address`` the client's."""

    principal: str | None = None
    kind: str = "trusted"
    request: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that somebody did. ``action`` is such as ``file.create``, ``file.move``, ``link.revoke``, ``token.create``."""

    id: int
    at: float
    by: Act
    action: str
    space: str | None = None
    path: str | None = None
    file_id: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Placement:
    """A blob on its way to a path: what ``Catalog.place`` takes."""

    space: str
    path: str
    owner: str | None
    media_type: str
    metadata: Mapping[str, Any]
    blob: Blob
    condition: Condition = Condition()
    on_conflict: OnConflict = "replace"
    keep_versions: int = 0
    tags: tuple[str, ...] = ()
    limits: Limits = Limits()
    modified_at: float | None = None
    """When the content was made, where that was before it came here; else it is now."""


@dataclass(frozen=True, slots=True)
class Placed:
    """What came of a placement: the file, and whether its path was new. ``planned`` is how many jobs its content has by the plan."""

    file: File
    created: bool
    planned: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list; ``cursor`` is None on the last one. ``folders`` only where folders were asked for."""

    files: Sequence[File]
    folders: Sequence[str] = ()
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder, its path with the slash at the end (``""`` is the whole space), and what lies in it at any depth."""

    path: str
    files: int = 0
    bytes: int = 0


SortKey = Literal["path", "modified", "size"]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which files a list shows: all that is given must hold. ``media_type`` is a type or ``image/*``; ``tags`` must all be there;
    ``modified_from`` is inclusive, ``modified_to`` exclusive, sizes are inclusive."""

    media_type: str | None = None
    owner: str | None = None
    tags: tuple[str, ...] = ()
    min_size: int | None = None
    max_size: int | None = None
    modified_from: float | None = None
    modified_to: float | None = None


@dataclass(frozen=True, slots=True)
class Shelved:
    """A file that is not at its path: in the trash, or staged (received, and not yet kept). ``file`` shows the space and path that it
    had or is meant for. It is removed after ``expires_at``."""

    file: File
    kind: Literal["trash", "staged"]
    since: float
    by: str | None
    expires_at: float


@dataclass(frozen=True, slots=True)
class Publication:
    """A staged file on its way to a path: what ``Catalog.publish`` takes."""

    staged_id: str
    space: str
    path: str
    owner: str | None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    on_conflict: OnConflict = "replace"
    keep_versions: int = 0
    limits: Limits = Limits()


LinkKind = Literal["file", "folder", "inbox"]


@dataclass(frozen=True, slots=True)
class Link:
    """A way in for those who have its address: to one file, to what lies in a folder, or (``inbox``) to put files into a folder and
    see nothing. ``path`` is the folder's, with its slash; ``created_by`` must still have the right that the link lends
    (None: trusted). ``uses`` counts downloads begun, or files received; ``received`` their bytes. ``max_bytes`` bounds what all of
    them may hold together, ``max_size`` each."""

    id: str
    kind: LinkKind
    space: str
    file_id: str | None = None
    path: str = ""
    name: str = ""
    created_by: str | None = None
    creator_kind: str = "trusted"
    password: str | None = None
    max_uses: int | None = None
    max_size: int | None = None
    max_bytes: int | None = None
    uses: int = 0
    received: int = 0
    created_at: float = 0.0
    expires_at: float | None = None
    revoked_at: float | None = None


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """One file of a zip: its path in the archive, and the content as it was when the zip was asked for."""

    path: str
    file_id: str
    blob_id: str
    size: int
    modified_at: float


@dataclass(frozen=True, slots=True)
class Zip:
    """A zip that may be asked for until ``expires_at``, by whoever made it, in ranges too. ``size`` is its exact length in bytes."""

    id: str
    principal: str | None
    name: str
    entries: tuple[ZipEntry, ...]
    size: int
    created_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token as kept: its secret is only a SHA-256. ``scopes`` maps a space (``*`` for all) to actions."""

    id: str
    name: str
    scopes: Mapping[str, frozenset[Action]]
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None


Judge = Callable[[Action, str, File | None], bool | None]
"""Whether one may do this in the space, to the file where it is about one; None leaves it to the rules."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking. ``id`` is None for nobody; ``kind`` says what proved it. ``request`` and ``address`` say in which request and from
    where,
    for the audit log."""

    id: str | None = None
    kind: Literal["nobody", "token", "user", "link", "trusted"] = "nobody"
    scopes: Mapping[str, frozenset[Action]] = field(default_factory=dict)
    request: str = ""
    address: str = ""
    judge: Judge | None = field(default=None, compare=False, repr=False)
    """An application's own say, asked before the rules: see :func:`carboy.engine.access.actions`."""
    actor: str | None = None
    """For whom a trusted call was made, where that is known: the audit log names it."""

    @property
    def act(self) -> Act:
        return Act(self.actor if self.id is None else self.id, self.kind, self.request, self.address)


NOBODY = Principal()
TRUSTED = Principal(None, "trusted", {"*": frozenset({"admin"})})
"""Who calls from Python or from the command line: the machine's own people, who may do everything."""
