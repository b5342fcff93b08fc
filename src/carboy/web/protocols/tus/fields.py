"""The header fields of tus 1.0.0 (https://tus.io/protocols/resumable-upload). Pure: values in, values out."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from carboy.checksums import DIGEST_SIZES
from carboy.engine.names import clean_name, clean_path
from carboy.errors import InvalidName, InvalidRequest

VERSION = "1.0.0"
BODY = "application/offset+octet-stream"
"""The media type of bytes that go on at an offset."""
ALGORITHMS: Mapping[str, str] = MappingProxyType({
    "sha1": "sha-1", "sha256": "sha-256", "sha512": "sha-512", "md5": "md5", "crc32": "crc32", "crc32c": "crc32c", "crc64nvme": "crc64nvme",
})
"""The algorithms of Upload-Checksum, and what :mod:`carboy.checksums` calls them. The bytes of CRCs are big endian."""

_KEY = re.compile(r"[!-+\x2d-~]+")
_MARK = " (base64)"
"""What is behind the name of a value that is no text: no name of tus has a space in it, so nobody else's ends like this."""
_NOT_A_PATH = ("", "null", "undefined")
"""What JavaScript makes of a path that isn't there."""
_ID = re.compile(r"[0-9a-f]{32}")


# --- Upload-Metadata -----------------------------------------------------------------------------------------------


def parse_metadata(value: str) -> dict[str, bytes]:
    """``Upload-Metadata``: pairs of a key and a value in base64, which may be empty. Raises InvalidRequest."""
    pairs: dict[str, bytes] = {}
    for pair in value.split(","):
        key, _, encoded = pair.strip(" \t").partition(" ")
        if not key:
            continue
        if not _KEY.fullmatch(key):
            raise InvalidRequest("a key in Upload-Metadata has other characters than printable ASCII", field="Upload-Metadata")
        if key in pairs:
            raise InvalidRequest(f"Upload-Metadata has the key {key!r} twice", field="Upload-Metadata", key=key)
        pairs[key] = _decoded(encoded.strip(" \t"), f"the value of {key!r} in Upload-Metadata is not base64", "Upload-Metadata")
    return pairs


def as_metadata(pairs: Mapping[str, bytes]) -> dict[str, str]:
    """As uploads and files keep them: texts, and what is no text in UTF-8 (or holds NUL) in base64 as ``key (base64)``."""
    kept = {}
    for key, value in pairs.items():
        text = _text(value)
        kept[key if text is not None else key + _MARK] = base64.b64encode(value).decode() if text is None else text
    return kept


def format_metadata(metadata: Mapping[str, Any]) -> str:
    """The ``Upload-Metadata`` that :func:`as_metadata` was given. What no such field can hold, from elsewhere, is left out."""
    pairs = []
    for name, value in metadata.items():
        key = name.removesuffix(_MARK)
        if _KEY.fullmatch(key) and isinstance(value, str):
            encoded = value if key != name else base64.b64encode(value.encode()).decode()
            pairs.append(f"{key} {encoded}" if encoded else key)
    return ",".join(pairs)


def path_in(pairs: Mapping[str, bytes], id: str) -> str:
    """Where the file is to go: ``relativePath`` or ``path`` with its folders, else ``filename`` or ``name``, else the id.

    Raises InvalidName for a name that is not allowed.
    """
    for key in ("relativePath", "path"):
        if (path := _name(pairs, key)) not in _NOT_A_PATH:
            return clean_path(path.removeprefix("/"))
    for key in ("filename", "name"):
        if name := _name(pairs, key):
            return clean_name(name)
    return id


def _name(pairs: Mapping[str, bytes], key: str) -> str:
    try:
        return pairs.get(key, b"").decode()
    except UnicodeDecodeError:
        raise InvalidName(f"the {key} in Upload-Metadata is not UTF-8", rule="utf8") from None


def _text(value: bytes) -> str | None:
    try:
        return None if b"\0" in value else value.decode()
    except UnicodeDecodeError:
        return None


# --- Upload-Checksum -----------------------------------------------------------------------------------------------


def parse_checksum(value: str) -> tuple[str, bytes]:
    """``Upload-Checksum`` as :mod:`carboy.checksums` wants it: the algorithm and the digest. Raises InvalidRequest."""
    name, _, encoded = value.strip(" \t").partition(" ")
    algorithm = ALGORITHMS.get(name)
    if algorithm is None:
        raise InvalidRequest("Upload-Checksum names an algorithm that is not known here", field="Upload-Checksum", known=list(ALGORITHMS))
    size = DIGEST_SIZES[algorithm]
    wrong = f"Upload-Checksum must be {name} and the base64 of {size} bytes"
    digest = _decoded(encoded.strip(" \t"), wrong, "Upload-Checksum")
    if len(digest) != size:
        raise InvalidRequest(wrong, field="Upload-Checksum")
    return algorithm, digest


# --- Upload-Concat -------------------------------------------------------------------------------------------------


def parse_concat(value: str) -> tuple[str, ...]:
    """``Upload-Concat``: the ids of the parts of a final upload, none for one that is a part. Of addresses, absolute or not, the ids at
    the end count. Raises InvalidRequest."""
    kind, semicolon, addresses = value.strip(" \t").partition(";")
    if kind == "partial" and not semicolon:
        return ()
    ids = tuple(_id_in(address) for address in addresses.split())
    if kind != "final" or not ids:
        raise InvalidRequest("Upload-Concat must be 'partial', or 'final;' and the addresses of the parts", field="Upload-Concat")
    return ids


def is_id(text: str) -> bool:
    """Whether an upload can have this id."""
    return _ID.fullmatch(text) is not None


def _id_in(address: str) -> str:
    try:
        id = urlsplit(address).path.rpartition("/")[2]
    except ValueError:
        id = ""
    if not is_id(id):
        raise InvalidRequest("an address in Upload-Concat is none of an upload", field="Upload-Concat")
    return id


def _decoded(text: str, wrong: str, field: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(wrong, field=field) from None
