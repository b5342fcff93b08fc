"""The members and parameters of the API, as types that check and describe them."""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, WithJsonSchema

from carboy.model import MAX_SIZE

MAX_TAGS = 50


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
Flag = Annotated[bool, BeforeValidator(_flag), WithJsonSchema({"type": "string", "enum": ["true", "false", "1", "0", ""]})]
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
Limit = Annotated[int, Field(ge=1, le=1000, description="The most that a page holds."), BeforeValidator(_digits)]
Cursor = Annotated[Plain | None, Field(description="`next` of the page before.")]
VersionNumber = Annotated[int, Field(ge=0, le=999_999_999), BeforeValidator(_digits)]
TokenName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
