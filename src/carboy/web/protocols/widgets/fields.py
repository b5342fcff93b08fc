"""The fields in which upload widgets say which part of which file a request brings, as the widgets' own sources have them. Pure: values in,
values out.

Dropzone 6 numbers chunks from 0 and tells the byte they begin at. Resumable.js 1 and Flow.js 2 number them from 1; all but the last are as
long as the chunk size, and the last may be nearly twice as long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from carboy.engine.names import clean_name, clean_path
from carboy.errors import InvalidRequest, TooLarge
from carboy.web import http

_LONGEST = 1000
_PREFIX = {"resumablejs": "resumable", "flowjs": "flow"}
_DROPZONE = ("dzuuid", "dzchunkindex", "dztotalfilesize", "dzchunksize", "dztotalchunkcount", "dzchunkbyteoffset")
_NUMBERED = ("ChunkNumber", "ChunkSize", "CurrentChunkSize", "TotalSize", "Type", "Identifier", "Filename", "RelativePath", "TotalChunks")
_OTHERS = ("fullPath", "csrf")


@dataclass(frozen=True, slots=True)
class Chunk:
    """``size`` bytes from ``at`` of the file ``path``, which has ``total`` and is sent in ``count`` chunks. ``identifier`` is what its
    chunks have in common."""

    identifier: str
    path: str
    at: int
    size: int
    total: int
    count: int


def dropzone(fields: Mapping[str, str], filename: str | None) -> Chunk | None:
    """The chunk that these fields describe; None where they tell of none. Raises InvalidRequest, InvalidName, TooLarge."""
    if not any(name in fields for name in _DROPZONE):
        return None
    index, total, stride = (_number(fields, name) for name in ("dzchunkindex", "dztotalfilesize", "dzchunksize"))
    count = _number(fields, "dztotalchunkcount")
    at = _number(fields, "dzchunkbyteoffset") if "dzchunkbyteoffset" in fields else index * stride
    path = path_of(fields.get("fullPath"), filename)
    return _checked(Chunk(_identifier(fields, "dzuuid"), path, at, min(stride, total - at), total, count), index, stride)


def numbered(widget: str, fields: Mapping[str, str], filename: str | None = None) -> Chunk | None:
    """The same for Resumable.js and Flow.js, whose fields differ in their prefix alone."""
    prefix = _PREFIX[widget]
    if not any(prefix + name in fields for name in _NUMBERED):
        return None
    number, stride, size, total, count = (_number(fields, prefix + name) for name in
                                          ("ChunkNumber", "ChunkSize", "CurrentChunkSize", "TotalSize", "TotalChunks"))
    path = path_of(fields.get(f"{prefix}RelativePath"), fields.get(f"{prefix}Filename") or filename)
    return _checked(Chunk(_identifier(fields, f"{prefix}Identifier"), path, (number - 1) * stride, size, total, count), number - 1, stride)


def others(fields: Mapping[str, str]) -> dict[str, str]:
    """What an application added to the widget's own fields: the file's metadata."""
    own = {*_DROPZONE, *_OTHERS, *(prefix + name for prefix in _PREFIX.values() for name in _NUMBERED)}
    return {name: value for name, value in fields.items() if name not in own}


def path_of(relative: str | None, filename: str | None) -> str:
    """Where the file goes: its path in the folder that was chosen, else its name. Raises InvalidName, InvalidRequest."""
    if relative:
        return clean_path(relative.removeprefix("/"))
    if not filename:
        raise InvalidRequest("the file has no name")
    return clean_name(filename)


def _checked(chunk: Chunk, index: int, stride: int) -> Chunk:
    """Raises InvalidRequest where the numbers contradict one another, TooLarge past the end."""
    if not 0 <= index < max(1, chunk.count) or (chunk.at, chunk.size) < (0, 0) or (stride == 0 and chunk.total):
        raise InvalidRequest("the numbers of this chunk contradict one another", index=index, chunks=chunk.count, chunk_size=stride)
    if chunk.size < 0 or chunk.at + chunk.size > chunk.total:
        raise TooLarge(f"bytes to {chunk.at + max(0, chunk.size)} are past the declared size of {chunk.total}", limit=chunk.total)
    return chunk


def _identifier(fields: Mapping[str, str], name: str) -> str:
    identifier = fields.get(name, "")
    if not identifier or len(identifier) > _LONGEST or "\0" in identifier:
        raise InvalidRequest(f"{name} must be 1 to {_LONGEST} characters", field=name)
    return identifier


def _number(fields: Mapping[str, str], name: str) -> int:
    if name not in fields:
        raise InvalidRequest(f"the field {name} is missing", field=name)
    return http.count(fields[name], name)
