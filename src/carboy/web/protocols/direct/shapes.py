"""What the direct routes take and answer, as models: their own, and those that Uppy's AWS S3 plugin has from Companion."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, JsonValue

from carboy.storage.base import MAX_PARTS
from carboy.web import answers
from carboy.web.fields import Count, Path, Whole
from carboy.web.schemas import Body, Query

MAX_SIGNED = 1000
"""How many addresses one request may ask for."""
_Number = Annotated[int, Field(ge=1, le=MAX_PARTS)]
_Etag = Annotated[str, Field(min_length=1, max_length=200)]


# --- Carboy's own --------------------------------------------------------------------------------------------------


class DirectBegin(Body):
    """A file that is about to be sent to S3."""

    path: Path
    size: Annotated[Count | None, Field(description="In bytes. Worth telling: S3 then takes no part of another length.")] = None
    part_size: Annotated[Whole | None, Field(description="How long all parts but the last will be; chosen for you where only `size` "
                                                         "is told.")] = None
    metadata: Annotated[dict[Annotated[str, Field(min_length=1, max_length=200)], JsonValue], Field(default_factory=dict)]
    sha256: Annotated[str | None, Field(pattern="^[0-9a-f]{64}$", description="What the file must hash to. It is read once more for "
                                                                              "that.")] = None
    crc64nvme: Annotated[str | None, Field(pattern="^[0-9a-f]{16}$", description="The same as CRC-64/NVME.")] = None


class DirectWanted(Body):
    """A part that is about to be sent."""

    number: _Number
    md5: Annotated[str | None, Field(pattern="^[0-9a-f]{32}$", description="S3 then takes no other bytes.")] = None


class DirectSign(Body):
    """Parts that are about to be sent."""

    parts: Annotated[list[DirectWanted], Field(min_length=1, max_length=MAX_SIGNED)]


class DirectNamed(Body):
    """A part as the client knows it."""

    number: _Number
    etag: Annotated[_Etag, Field(description="What S3 answered, with or without its quotes.")]


class DirectComplete(Body):
    """All parts are sent."""

    optional: ClassVar[bool] = True
    parts: Annotated[list[DirectNamed] | None,
                     Field(max_length=MAX_PARTS, description="All of them; without it, those that S3 has.")] = None


class DirectPart(answers.Answer):
    """A part that S3 has."""

    number: int
    size: int
    etag: str


class DirectUpload(answers.Upload):
    """An upload straight to S3, with the parts that are there."""

    part_size: int | None
    parts: list[DirectPart]


class DirectSignedPart(answers.Answer):
    """Where a part goes: a request of this method, with these header fields at least."""

    number: int
    method: str
    url: str
    headers: dict[str, str]
    size: Annotated[int | None, Field(description="How long the part has to be; null where any length is right.")]


class DirectSigned(answers.Answer):
    """Where the parts go."""

    parts: list[DirectSignedPart]
    expires_at: answers.Time


# --- Uppy's ---------------------------------------------------------------------------------------------------------


class UppyParams(Query):
    """A file that is about to be sent by a single PUT; `metadata[…]` besides."""

    filename: Annotated[str, Field(min_length=1)]
    type: str = ""


class UppyKey(Query):
    """What was given out with the upload."""

    key: str | None = None


class UppyBatch(UppyKey):
    """Which parts."""

    partNumbers: Annotated[str, Field(pattern="^[0-9]{1,5}(,[0-9]{1,5})*$", max_length=5999)]  # noqa: N815


class UppyBegin(Body):
    """A file that is about to be sent in parts."""

    model_config = ConfigDict(extra="ignore")
    filename: Annotated[str, Field(min_length=1)]
    type: str | None = None
    metadata: dict[str, JsonValue] | None = None


class UppyPart(Body):
    """A part as Uppy knows it."""

    model_config = ConfigDict(extra="ignore")
    PartNumber: _Number
    ETag: _Etag


class UppyComplete(Body):
    """All parts are sent."""

    model_config = ConfigDict(extra="ignore")
    parts: Annotated[list[UppyPart], Field(max_length=MAX_PARTS)]


class UppyPut(answers.Answer):
    """Where the file goes. `fields` has the upload's id as its key."""

    method: str
    url: str
    fields: dict[str, str]
    headers: dict[str, str]
    expires: int


class UppyUpload(answers.Answer):
    """An upload in parts; `key` and `uploadId` are both its id."""

    key: str
    uploadId: str  # noqa: N815
    bucket: str


class UppyAddress(answers.Answer):
    """Where a part goes."""

    url: str
    headers: dict[str, str]
    expires: int


class UppyAddresses(answers.Answer):
    """Where parts go, by their numbers."""

    presignedUrls: dict[str, str]  # noqa: N815
    expires: int


class UppyDone(answers.Answer):
    """The file that came of it."""

    location: str
    key: str
    bucket: str
    file: answers.Stored


UPPY_PARTS: dict[str, Any] = {"application/json": {"schema": {"type": "array", "items": {"type": "object", "properties": {
    "PartNumber": {"type": "integer"}, "Size": {"type": "integer"}, "ETag": {"type": "string"}}}}}}
"""The parts that are there."""
