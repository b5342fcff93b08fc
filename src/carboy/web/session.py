"""Who has signed in with a browser: a signed cookie that names a token, which is looked up each time.

So a session ends with its token, at once. It holds no right of its own, and nothing of it is kept on the server.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from werkzeug import Response
from werkzeug.http import parse_cookie

from carboy.engine.tokens import Tokens
from carboy.errors import CarboyError, Unauthenticated
from carboy.model import Principal, Token

if TYPE_CHECKING:
    from carboy.engine.signing import Signer

NAME, SECURE_NAME = "carboy", "__Host-carboy"
"""With ``__Host-`` browsers take the cookie from this host alone, and only over TLS (RFC 6265bis section 4.1.3.2)."""


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody signed in. ``id`` is random, and what the session's forms are bound to."""

    id: str
    token: Token
    principal: Principal


class Sessions:
    """Begins sessions, and knows them again. A session lives ``expiry`` seconds."""

    def __init__(self, signer: Signer, tokens: Tokens, expiry: float, clock: Callable[[], float] = time.time) -> None:
        self._signer = signer
        self._tokens = tokens
        self._expiry = expiry
        self._clock = clock

    def begin(self, response: Response, environ: Mapping[str, Any], secret: str) -> None:
        """Have the browser keep a new session of the token with this secret. Raises Unauthenticated."""
        principal = self._tokens.principal(secret)
        if principal.id is None:
            raise Unauthenticated("this token is unknown, expired or revoked")
        value = self._signer.sign("session", [secrets.token_urlsafe(12), principal.id, int(self._clock() + self._expiry)])
        _set(response, is_secure(environ), value, int(self._expiry))

    def end(self, response: Response, environ: Mapping[str, Any]) -> None:
        """Have the browser forget it."""
        for secure in (False, True):
            _set(response, secure, "", 0)

    def of(self, environ: Mapping[str, Any]) -> Session | None:
        """The request's session; None where there is none, or none any more."""
        try:
            id, token_id, until = self._signer.unsign("session", cookie(environ))
        except (CarboyError, ValueError, TypeError):
            return None
        if until <= self._clock():
            return None
        found = self._tokens.with_id(token_id)
        return Session(id, *found) if found else None


def cookie(environ: Mapping[str, Any]) -> str:
    """The session's cookie; ``""`` without one. Over TLS only the one that no plain page of this host can have set."""
    cookies = parse_cookie(environ.get("HTTP_COOKIE"))
    plain = "" if environ.get("wsgi.url_scheme") == "https" else cookies.get(NAME, "")
    return cookies.get(SECURE_NAME) or plain


def is_secure(environ: Mapping[str, Any]) -> bool:
    """Whether the browser speaks TLS: to us, or to the proxy in front, as the origin of its form or the cookie it keeps tell. A
    browser that lies harms its own session alone."""
    return (environ.get("wsgi.url_scheme") == "https" or str(environ.get("HTTP_ORIGIN", "")).startswith("https://")
            or SECURE_NAME + "=" in str(environ.get("HTTP_COOKIE", "")))


def _set(response: Response, secure: bool, value: str, age: int) -> None:
    response.set_cookie(SECURE_NAME if secure else NAME, value, max_age=age, path="/", secure=secure, httponly=True, samesite="Lax")
