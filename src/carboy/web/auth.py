"""Who is asking, from the request's head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carboy.engine.tokens import Tokens
from carboy.errors import Unauthenticated
from carboy.model import NOBODY, Principal


def principal_of(environ: Mapping[str, Any], tokens: Tokens) -> Principal:
    """The bearer of ``Authorization: Bearer …`` (RFC 6750 section 2.1); NOBODY without the field.

    Raises Unauthenticated for a token that proves nothing: a mistake is told, not taken for nobody.
    """
    field = environ.get("HTTP_AUTHORIZATION")
    if field is None:
        return NOBODY
    scheme, _, secret = field.partition(" ")
    principal = tokens.principal(secret.strip()) if scheme.lower() == "bearer" else NOBODY
    if principal.kind == "nobody":
        raise Unauthenticated("the token is unknown, expired or revoked; send one as 'Authorization: Bearer …'")
    return principal
