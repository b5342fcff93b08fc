"""Bearer tokens: random, kept only as a SHA-256 (their 256 bits need no slow hash)."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from carboy.catalog.base import Catalog
from carboy.config import SPACE_NAME
from carboy.errors import Conflict, InvalidRequest, NotFound
from carboy.model import NOBODY, Act, Action, Principal, Token, new_id

ACTIONS: frozenset[Action] = frozenset({"read", "write", "delete", "admin"})


def parse_scopes(texts: Sequence[str]) -> dict[str, frozenset[Action]]:
    """``["main:read,write", "*:admin"]`` as a mapping. Raises InvalidRequest saying what would be right."""
    scopes: dict[str, frozenset[Action]] = {}
    for text in texts:
        space, _, names = text.rpartition(":")
        wanted = frozenset(name.strip() for name in names.split(","))
        if not (space == "*" or SPACE_NAME.fullmatch(space)) or not wanted <= ACTIONS:
            raise InvalidRequest(f"{text!r} is not a scope; write SPACE:ACTION,… with read, write, delete or admin", scope=text)
        scopes[space] = scopes.get(space, frozenset()) | wanted  # type: ignore[operator]
    return scopes


class Tokens:
    """Makes, finds and revokes tokens."""

    def __init__(self, catalog: Catalog, clock: Callable[[], float]) -> None:
        self._catalog = catalog
        self._clock = clock

    def create(self, name: str, scopes: Mapping[str, frozenset[Action]], *, expires_at: float | None = None,
               secret: str | None = None, by: Act | None = None) -> tuple[Token, str]:
        """A new token and its secret, which is shown only now. ``by`` is entered in the audit log."""
        secret = secret or "carboy_" + secrets.token_urlsafe(32)
        token = Token(new_id(), name, scopes, self._clock(), expires_at)
        self._catalog.add_token(token, _hash(secret), by=by)
        return token, secret

    def principal(self, secret: str) -> Principal:
        """Who bears the secret: NOBODY for one that is unknown, expired or revoked."""
        found = self._living(self._catalog.token(_hash(secret)))
        return found[1] if found else NOBODY

    def with_id(self, id: str) -> tuple[Token, Principal] | None:
        """The token with this id and who bears it; None for one that is unknown, expired or revoked."""
        return self._living(self._catalog.token_with_id(id))

    def _living(self, token: Token | None) -> tuple[Token, Principal] | None:
        if token is None or token.revoked_at is not None or (token.expires_at or self._clock() + 1) <= self._clock():
            return None
        return token, Principal(token.id, "token", token.scopes)

    def all(self) -> list[Token]:
        return self._catalog.tokens()

    def revoke(self, id: str, *, by: Act | None = None) -> None:
        """From now on the token proves nothing. ``by`` is entered in the audit log. Raises NotFound."""
        if not self._catalog.revoke_token(id, now=self._clock(), by=by):
            raise NotFound("there is no such token", token=id)

    def first(self, data: Path, given: str) -> str | None:
        """Make sure that somebody can administer: the ``given`` secret, or where there is no token at all a new one,
        which is returned once and written to ``data/first-token`` (mode 0600)."""
        everything: dict[str, frozenset[Action]] = {"*": frozenset({"admin"})}
        if given:
            self._add_once(given, everything)
            return None
        if self._catalog.tokens():
            return None
        secret = "carboy_" + secrets.token_urlsafe(32)
        _write_private(data / "first-token", secret + "\n")
        self.create("first", everything, secret=secret)
        return secret

    def _add_once(self, secret: str, scopes: Mapping[str, frozenset[Action]]) -> None:
        """Nodes that start at the same moment are given the same one."""
        if self._catalog.token(_hash(secret)) is None:
            try:
                self.create("CARBOY_ADMIN_TOKEN", scopes, secret=secret)
            except Conflict:
                if self._catalog.token(_hash(secret)) is None:
                    raise


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _write_private(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
