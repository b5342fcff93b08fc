"""CRC-64/NVME, which every byte passes once, and the digests a client may ask for by name.

All of them release the GIL on large inputs. CRC-64/NVME is the one of the NVM Express specification (Rocksoft
parameters), the same that S3 calls ``CRC64NVME``.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

from awscrt import checksums as _crt

EMPTY_SHA256 = hashlib.sha256().digest()


class Hash(Protocol):
    """What :func:`new` returns: the part of hashlib's objects used here."""

    def update(self, data: bytes | memoryview, /) -> None: ...

    def digest(self) -> bytes: ...




class _Crc:
    """A CRC as a running digest: its bytes are big endian, as S3's checksum headers have them."""

    def __init__(self, more: Callable[[bytes | memoryview, int], int], size: int) -> None:
        self._more = more
        self._size = size
        self._crc = 0

    def update(self, data: bytes | memoryview, /) -> None:
        self._crc = self._more(data, self._crc)

    def digest(self) -> bytes:
        return self._crc.to_bytes(self._size, "big")


_BY_NAME: Mapping[str, Callable[[], Hash]] = {
    "sha-256": hashlib.sha256, "sha-512": hashlib.sha512, "md5": lambda: hashlib.md5(usedforsecurity=False),
    "sha-1": lambda: hashlib.sha1(usedforsecurity=False), "crc32": lambda: _Crc(zlib.crc32, 4), "crc32c": lambda: _Crc(_crt.crc32c, 4),
    "crc64nvme": lambda: _Crc(crc64nvme, 8),
}

DIGEST_SIZES = {"sha-256": 32, "sha-512": 64, "md5": 16, "sha-1": 20, "crc32": 4, "crc32c": 4, "crc64nvme": 8}
"""The algorithms of :func:`new`, by their names in RFC 9530 where they have one (``md5`` for Content-MD5), with their lengths in bytes."""


def crc64nvme(data: bytes | memoryview, crc: int = 0) -> int:
    """The CRC of what ``crc`` covered followed by ``data``, unsigned."""
    return int(_crt.crc64nvme(data, crc))


def combine(first: int, second: int, second_length: int) -> int:
    """The CRC of two neighbours from the CRC of each, reading no byte again."""
    return int(_crt.combine_crc64nvme(first, second, second_length))


def new(name: str) -> Hash:
    """A running digest by its RFC 9530 name. Raises KeyError for one that is not in DIGEST_SIZES."""
    return _BY_NAME[name]()
