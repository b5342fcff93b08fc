"""Bearer tokens, found by the hash of their secret."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, insert, select, update

from carboy.catalog import auditing, rows
from carboy.catalog.sessions import Session
from carboy.catalog.tables import tokens
from carboy.model import Act, Token

_ADD = insert(tokens)
_BY_SECRET = select(*rows.TOKEN).where(tokens.c.secret_sha256 == bindparam("secret_sha256"))
_BY_ID = select(*rows.TOKEN).where(tokens.c.id == bindparam("id"))
_ALL = select(*rows.TOKEN).order_by(tokens.c.created_at, tokens.c.id)
_REVOKE = (update(tokens).where(tokens.c.id == bindparam("token"), tokens.c.revoked_at.is_(None))
           .values(revoked_at=bindparam("revoked_at")))


def add(session: Session, token: Token, secret_sha256: bytes, by: Act | None) -> None:
    session.run(_ADD, secret_sha256=secret_sha256, **rows.token_values(token))
    auditing.enter(session, by, "token.create", at=token.created_at, facts=_facts(token))


def _facts(token: Token) -> dict[str, Any]:
    return {"token": token.id, "name": token.name, "scopes": {space: sorted(actions) for space, actions in token.scopes.items()},
            "expires_at": token.expires_at}


def by_secret(session: Session, secret_sha256: bytes) -> Token | None:
    row = session.one(_BY_SECRET, secret_sha256=secret_sha256)
    return rows.token_of(row) if row else None


def by_id(session: Session, id: str) -> Token | None:
    row = session.one(_BY_ID, id=id)
    return rows.token_of(row) if row else None


def every(session: Session) -> list[Token]:
    """Oldest first."""
    return [rows.token_of(row) for row in session.rows(_ALL)]


def revoke(session: Session, id: str, now: float, by: Act | None) -> bool:
    """False if there is none or it was revoked before."""
    revoked = session.run(_REVOKE, token=id, revoked_at=now) == 1
    if revoked:
        auditing.enter(session, by, "token.revoke", at=now, facts={"token": id})
    return revoked
