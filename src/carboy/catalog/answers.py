"""What requests with an Idempotency-Key were answered, and which are under way."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, insert, select, update

from carboy.catalog.sessions import Session
from carboy.catalog.tables import answers

_ONE = (answers.c.principal == bindparam("who"), answers.c.key == bindparam("its"))
_FIND = select(answers.c.fingerprint, answers.c.answer, answers.c.expires_at).where(*_ONE)
_ADD = insert(answers)
_KEEP = update(answers).where(*_ONE).values(answer=bindparam("answer"), expires_at=bindparam("expires_at"))
_EXTEND = update(answers).where(*_ONE, answers.c.answer.is_(None)).values(expires_at=bindparam("expires_at"))
_DROP = delete(answers).where(*_ONE)
_LAPSED = delete(answers).where(answers.c.expires_at <= bindparam("now"))


def claim(session: Session, principal: str, key: str, fingerprint: bytes, now: float, expires_at: float) -> tuple[bytes, str | None] | None:
    session.serialise(f"answer {principal} {key}")
    row = session.one(_FIND, who=principal, its=key)
    if row is not None and row[2] > now:
        return bytes(row[0]), row[1]
    if row is not None:
        session.run(_DROP, who=principal, its=key)
    session.run(_ADD, principal=principal, key=key, fingerprint=fingerprint, answer=None, created_at=now, expires_at=expires_at)
    return None


def keep(session: Session, principal: str, key: str, answer: str | None, expires_at: float) -> None:
    if answer is None:
        session.run(_EXTEND, who=principal, its=key, expires_at=expires_at)
    else:
        session.run(_KEEP, who=principal, its=key, answer=answer, expires_at=expires_at)


def drop(session: Session, principal: str, key: str) -> None:
    session.run(_DROP, who=principal, its=key)


def forget(session: Session, now: float) -> int:
    return session.run(_LAPSED, now=now)
