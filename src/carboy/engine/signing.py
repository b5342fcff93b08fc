"""What Carboy gave out and gets back unaltered: links, addresses, cookies. Signed by HMAC-SHA-256; whoever has it can read it."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable
from typing import Any

import itsdangerous
from itsdangerous.encoding import base64_decode, base64_encode

from carboy.catalog.base import Catalog
from carboy.config import Settings
from carboy.errors import BadSignature, LinkExpired

_SEPARATOR = "~"
"""As base64url's letters it goes unescaped in paths, queries and cookies; a dot at an address's end would be taken for a sentence's."""


class Signer:
    """Signs by the setting ``secret_key``, else by a key that all processes share through the catalog. Older keys
    (``secret_key_fallbacks``) still prove what they signed. The keys are fetched when first needed."""

    def __init__(self, settings: Settings, catalog: Catalog, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._catalog = catalog
        self._clock = clock
        self._keys: list[bytes] = []

    def sign(self, purpose: str, payload: Any, *, expires_at: float | None = None) -> str:
        """The JSON value ``payload`` as text of letters, digits, ``-``, ``_`` and ``~``. What was signed for one purpose proves nothing for
        another."""
        wrapped = [payload] if expires_at is None else [payload, expires_at]
        value = base64_encode(json.dumps(wrapped, separators=(",", ":")).encode())
        return self._signer(purpose).sign(value).decode()

    def unsign(self, purpose: str, text: str) -> Any:
        """The payload. Raises BadSignature, and LinkExpired once its time is over."""
        try:
            value = self._signer(purpose).unsign(text.encode())
        except (itsdangerous.BadSignature, ValueError):
            raise BadSignature("this was not signed here, or was altered since") from None
        if not _is_exact(text):
            raise BadSignature("this was altered since it was signed")
        payload, *expiry = json.loads(base64_decode(value))
        if expiry and expiry[0] <= self._clock():
            raise LinkExpired("this has expired", reason="expired", expires_at=expiry[0])
        return payload

    def _signer(self, purpose: str) -> itsdangerous.Signer:
        return itsdangerous.Signer(self._secret_keys(), salt=f"carboy {purpose}", sep=_SEPARATOR, key_derivation="hmac",
                                   digest_method=hashlib.sha256)

    def _secret_keys(self) -> list[bytes]:
        """The last one signs."""
        if not self._keys:
            newest = self._settings.secret_key.encode() or self._catalog.secret("signing", secrets.token_bytes(32))
            self._keys = [*[key.encode() for key in reversed(self._settings.secret_key_fallbacks) if key], newest]
        return self._keys


def _is_exact(text: str) -> bool:
    """Base64 has spare bits in its last letter: several texts would pass for one signature."""
    signature = text.rpartition(_SEPARATOR)[2]
    return base64_encode(base64_decode(signature)) == signature.encode()
