"""Pages of other origins (the Fetch standard's CORS): preflights, and who may read what. Only for the origins of ``cors_origins``, and
never with credentials: a cookie proves nothing there (see :mod:`carboy.web.forgery`), a token does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from werkzeug import Response

_AGE = 7200
"""Seconds that a browser may keep the answer to a preflight: what the most patient one takes."""
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_FIELDS = re.compile(r"[\w!#$%&'*+.^`|~-]+(?:[ \t]*,[ \t]*[\w!#$%&'*+.^`|~-]+)*", re.ASCII)
ALLOWED = (
    "Authorization", "Content-Type", "Content-Disposition", "Content-Digest", "Repr-Digest", "Want-Repr-Digest", "Content-MD5",
    "Idempotency-Key", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range", "X-Requested-With",
    "X-HTTP-Method-Override", "X-Request-ID", "X-CSRF-Token", "Cache-Control", "Tus-Resumable", "Upload-Length", "Upload-Defer-Length",
    "Upload-Offset", "Upload-Metadata", "Upload-Concat", "Upload-Checksum", "Upload-Complete", "Upload-Incomplete", "Upload-Name",
    "Upload-Draft-Interop-Version", "Prefer", "Last-Event-ID")
"""The request's fields that matter to some protocol; what a page asks for besides is allowed as well."""
EXPOSED = (
    "Location", "Content-Location", "Content-Disposition", "Content-Length", "Content-Range", "Accept-Ranges", "ETag", "Last-Modified",
    "Content-Digest", "Repr-Digest", "Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "X-Request-ID",
    "Idempotency-Replayed", "Preference-Applied",
    "WWW-Authenticate", "Allow", "Carboy-File", "Upload-Offset", "Upload-Length", "Upload-Defer-Length",
    "Upload-Expires", "Upload-Metadata", "Upload-Concat", "Upload-Complete", "Upload-Incomplete", "Upload-Limit",
    "Upload-Draft-Interop-Version", "Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size", "Tus-Checksum-Algorithm")
"""The answers' fields that a page may read, of every protocol."""


class Cors:
    """The origins of the settings: ``scheme://host[:port]``, or ``*`` for all."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origins)
        self._all = "*" in self._origins

    @property
    def on(self) -> bool:
        """Whether any other origin is let in."""
        return bool(self._origins)

    def preflight(self, environ: Mapping[str, Any]) -> Response | None:
        """The answer to a browser that asks whether it may; None for every other request, and for an origin that may not."""
        if environ["REQUEST_METHOD"] != "OPTIONS" or "HTTP_ACCESS_CONTROL_REQUEST_METHOD" not in environ:
            return None
        allowed = self._allowed(environ.get("HTTP_ORIGIN"))
        if allowed is None:
            return None
        asked = str(environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "")).strip()
        fields = f"{', '.join(ALLOWED)}, {asked}" if _FIELDS.fullmatch(asked) else ", ".join(ALLOWED)
        response = Response(status=204, headers={
            "Access-Control-Allow-Origin": allowed, "Access-Control-Allow-Methods": _METHODS, "Access-Control-Allow-Headers": fields,
            "Access-Control-Max-Age": str(_AGE), "Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"})
        del response.headers["Content-Type"]
        return response

    def mark(self, response: Response, origin: str | None) -> None:
        """Let pages of the request's ``origin`` read the answer, whatever it says."""
        if not self._origins:
            return
        response.vary.add("Origin")
        allowed = self._allowed(origin)
        if allowed is not None:
            response.headers["Access-Control-Allow-Origin"] = allowed
            response.headers["Access-Control-Expose-Headers"] = ", ".join(EXPOSED)

    def _allowed(self, origin: str | None) -> str | None:
        if origin is None:
            return None
        return "*" if self._all else origin if origin in self._origins else None
