"""Requests that another site made a browser send: told apart before a cookie is believed.

Two things must hold for a changing request that a cookie proves. The browser doesn't say that it comes from elsewhere
(``Sec-Fetch-Site``, which no page can set; ``Origin`` where the connection is plain and browsers leave the former out), and it carries
the token that Carboy's own pages put into their forms, which no other site can read. The token stands in the address of a form that
uploads, because a form's fields may come after its files and nothing may be received before; small forms have it as a field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from carboy.errors import CarboyError, Forbidden

if TYPE_CHECKING:
    from carboy.engine.signing import Signer

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing (RFC 9110 section 9.2.1)."""


def is_foreign(environ: Mapping[str, Any]) -> bool:
    """Whether the browser says that another site made it send this. What no browser sent says nothing."""
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = environ.get("HTTP_ORIGIN")
    return origin is not None and origin.partition("://")[2] != environ.get("HTTP_HOST")


def must_be_own(environ: Mapping[str, Any]) -> None:
    """Raises Forbidden for a request that another site made."""
    if is_foreign(environ):
        raise Forbidden("another site made this request; open Carboy's own page and do it there",
                        origin=str(environ.get("HTTP_ORIGIN", ""))[:200])


def token_for(signer: Signer, session: str) -> str:
    """What the forms of this session carry."""
    return signer.sign("csrf", session)


def must_carry(signer: Signer, session: str, token: str | None) -> None:
    """Raises Forbidden unless ``token`` is one that was made for this session."""
    try:
        if token and signer.unsign("csrf", token) == session:
            return
    except CarboyError:
        pass
    raise Forbidden("the form is not one of this session's; load the page again, then send it again", field="csrf")
