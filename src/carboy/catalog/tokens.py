"""Bearer tokens, found by the hash of their secret."""

from __future__ import annotations

from sqlalchemy import bindparam, insert, select, update

from carboy.catalog import rows
from carboy.catalog.sessions import Session
from carboy.catalog.tables import tokens
from carboy.model import Token

_ADD = insert(tokens)
_BY_SECRET = select(*rows.TOKEN).where(tokens.c.secret_sha256 == bindparam("secret_sha256"))
_ALL = select(*rows.TOKEN).order_by(tokens.c.created_at, tokens.c.id)
_REVOKE = (update(tokens).where(tokens.c.id == bindparam("token"), tokens.c.revoked_at.is_(None))
           .values(revoked_at=bindparam("revoked_at")))


def add(session: Session, token: Token, secret_sha256: bytes) -> None:
    session.run(_ADD, secret_sha256=secret_sha256, **rows.token_values(token))


def by_secret(session: Session, secret_sha256: bytes) -> Token | None:
    row = session.one(_BY_SECRET, secret_sha256=secret_sha256)
    return rows.token_of(row) if row else None


def every(session: Session) -> list[Token]:
    """Oldest first."""
    return [rows.token_of(row) for row in session.rows(_ALL)]


def revoke(session: Session, id: str, now: float) -> bool:
    """False if there is none or it was revoked before."""
    return session.run(_REVOKE, token=id, revoked_at=now) == 1
