"""What belongs to the pages: a style sheet and a picture. Each is served under a name with its hash: browsers may keep it for ever."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from werkzeug import Response

from carboy.errors import NotFound

_TYPES = {"css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
_HEADERS = {"Cache-Control": f"public, max-age={365 * 86400}, immutable", "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin"}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file. ``name`` is the one it is served under."""

    name: str
    data: bytes
    media_type: str


class Assets:
    """The files of ``carboy/web/static``, read when first asked for."""

    def __init__(self) -> None:
        self._read: Mapping[str, Asset] | None = None

    def named(self, file: str) -> str:
        """The name under which the file is served."""
        return self._all()[file].name

    def respond(self, name: str) -> Response:
        """Raises NotFound, also for a name of another version's."""
        for asset in self._all().values():
            if asset.name == name:
                return Response(asset.data, 200, _HEADERS, content_type=asset.media_type)
        raise NotFound("there is no such file of the page")

    def _all(self) -> Mapping[str, Asset]:
        if self._read is None:
            self._read = {file.name: _asset(file.name, file.read_bytes())
                          for file in resources.files("carboy.web").joinpath("static").iterdir()}
        return self._read


def _asset(file: str, data: bytes) -> Asset:
    stem, _, extension = file.rpartition(".")
    return Asset(f"{stem}-{hashlib.sha256(data).hexdigest()[:12]}.{extension}", data, _TYPES[extension])
