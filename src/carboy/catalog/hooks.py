"""What webhooks are told: deliveries made of the log, claimed, settled, replayed.

Who makes deliveries, ends them or replays them has the hook's row locked: else one that is made while the one before it ends would wait
for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, delete, exists, func, insert, literal_column, null, or_, select, update
from sqlalchemy.sql.dml import Update

from carboy.catalog import paths
from carboy.catalog.base_hooks import Delivery, DeliveryFilter, DeliveryState, Hook, HookDepth, Message
from carboy.catalog.claiming import SKEW
from carboy.catalog.sessions import Row, Session
from carboy.catalog.tables import OPEN, QUEUED, deliveries, hooks, writers
from carboy.errors import InvalidRequest, NotFound

_ROW = tuple(deliveries.c)
_C = deliveries.c
_HOOK = select(hooks.c.name, hooks.c.cursor, hooks.c.seq).where(hooks.c.name == bindparam("hook"))
_HOOK_LOCKED = _HOOK.with_for_update()
_ADD_HOOK = insert(hooks)
_MOVE = update(hooks).where(hooks.c.name == bindparam("hook"), hooks.c.cursor == bindparam("was")).values(
    cursor=bindparam("to"), seq=hooks.c.seq + bindparam("more"))
_COUNT_ON = update(hooks).where(hooks.c.name == bindparam("hook")).values(seq=hooks.c.seq + bindparam("more"))
_ADD = insert(deliveries)
_FIRST_OPEN = (select(_C.id, _C.state).where(_C.hook == bindparam("of"), _C.subject == bindparam("about"), OPEN)
               .order_by(_C.seq).limit(1))

_DUE = (select(*_ROW).where(_C.hook == bindparam("of"), _C.state == QUEUED,
                            or_(_C.due_at <= bindparam("now"), _C.changed_at > bindparam("later")))
        .order_by(_C.due_at, _C.seq).limit(bindparam("count")))
_DUE_LOCKED = _DUE.with_for_update(skip_locked=True)
_TAKE = update(deliveries).where(_C.id == bindparam("one"), _C.state == QUEUED).values(
    state="sending", fence=_C.fence + 1, attempts=_C.attempts + 1, instance=bindparam("by"), changed_at=bindparam("now"))
_SENDING: ColumnElement[str] = literal_column("'sending'")
_MINE = (_C.id == bindparam("one"), _C.fence == bindparam("at_fence"), _C.state == _SENDING)
_SETTLE = update(deliveries).where(*_MINE).values(
    state=bindparam("to"), answer=bindparam("said"), changed_at=bindparam("now"), due_at=bindparam("due"), instance=null())
_QUEUE = update(deliveries).where(_C.id == bindparam("one")).values(
    state="queued", since=bindparam("anew"), changed_at=bindparam("now"))
_GONE: ColumnElement[bool] = ~exists(select(writers.c.id).where(writers.c.id == _C.instance))
_LEFT = select(_C.id).where(_C.state == _SENDING, _GONE).limit(1)
_RECOVER = update(deliveries).where(_C.state == _SENDING, _GONE).values(
    state="queued", changed_at=bindparam("now"), due_at=bindparam("now"), instance=null(),
    answer="the process that sent it is gone; perhaps it was taken")
_SENT_NOW = select(func.count(literal_column("*"))).where(_C.hook == bindparam("of"), _C.state == _SENDING)

_OVER: ColumnElement[bool] = literal_column("state IN ('taken', 'dead')")
_AGAIN = update(deliveries).where(_C.id == bindparam("one")).values(
    seq=bindparam("number"), state=bindparam("to"), attempts=0, since=bindparam("anew"), changed_at=bindparam("now"),
    due_at=bindparam("now"))
_BY_ID = select(*_ROW).where(_C.id == bindparam("one"))
_DEPTHS = (select(_C.hook, _C.state, func.count(literal_column("*")), func.min(_C.changed_at))
           .group_by(_C.hook, _C.state).order_by(_C.hook, _C.state))
_BOUNDS: dict[str, ColumnElement[bool]] = {
    "id": _C.id == bindparam("with_id"), "subject": _C.subject == bindparam("about"), "state": _C.state == bindparam("in_state"),
    "since": _C.created_at >= bindparam("made")}
_PARAMETERS = {"id": "with_id", "subject": "about", "state": "in_state", "since": "made"}
_OLD = select(_C.id).where(_C.state == bindparam("was"), _C.changed_at < bindparam("before")).limit(10_000)
_FORGET = delete(deliveries).where(_C.id.in_(_OLD))


@cache
def _found(names: frozenset[str], over: bool, following: bool) -> Select[Any]:
    """Of one hook: a page, the last first; or those that are ``over``, the first first."""
    wanted = [_C.hook == bindparam("of"), *(_BOUNDS[name] for name in sorted(names))]
    if over:
        found = select(_C.id, _C.subject).where(*wanted, _OVER, _C.seq <= bindparam("last")).order_by(_C.seq)
    else:
        found = select(*_ROW).where(*wanted, *([_C.seq < bindparam("last")] if following else [])).order_by(_C.seq.desc())
    return found.limit(bindparam("count"))


@cache
def _hasten(names: frozenset[str]) -> Update:
    return update(deliveries).where(
        _C.hook == bindparam("of"), _C.state == QUEUED, _C.due_at > bindparam("now"), _C.since != bindparam("anew"),
        *(_BOUNDS[name] for name in sorted(names))
    ).values(due_at=bindparam("now"), since=bindparam("anew"), changed_at=bindparam("now"))


# --- the log becomes deliveries ---


def hook(session: Session, name: str) -> Hook | None:
    row = session.one(_HOOK, hook=name)
    return Hook(*row) if row else None


def begin(session: Session, name: str, cursor: str) -> Hook:
    session.serialise(f"webhook {name}")
    found = hook(session, name)
    if found is None:
        session.run(_ADD_HOOK, name=name, cursor=cursor, seq=0)
    return found or Hook(name, cursor)


def tell(session: Session, at: Hook, cursor: str, messages: Sequence[Message], now: float) -> bool:
    if not session.run(_MOVE, hook=at.name, was=at.cursor, to=cursor, more=len(messages)):
        return False
    moved = hook(session, at.name)
    assert moved, "this transaction has changed it"
    first = moved.seq - len(messages) + 1
    for seq, message in enumerate(messages, first):
        behind = _first_open(session, at.name, message.subject) is not None
        session.run(_ADD, id=message.id, hook=at.name, subject=message.subject, seq=seq, kind=message.kind, body=message.body,
                    state="waiting" if behind else "queued", attempts=0, fence=0, instance=None, answer=None, created_at=now, since=now,
                    changed_at=now, due_at=now)
    return True


def _first_open(session: Session, hook: str, subject: str) -> Row | None:
    return session.one(_FIRST_OPEN, of=hook, about=subject)


# --- sending ---


def claim(session: Session, hook: str, instance: str, now: float, limit: int) -> list[Delivery]:
    found = [Delivery(*row) for row in session.rows(_DUE_LOCKED, of=hook, now=now, later=now + SKEW, count=limit)]
    return [_claimed(one, instance, now) for one in found if session.run(_TAKE, one=one.id, by=instance, now=now)]


def _claimed(was: Delivery, instance: str, now: float) -> Delivery:
    return replace(was, state="sending", fence=was.fence + 1, attempts=was.attempts + 1, instance=instance, changed_at=now)


def due(session: Session, hook: str, now: float) -> bool:
    return bool(session.one(_DUE, of=hook, now=now, later=now + SKEW, count=1))


def settle(session: Session, delivery: Delivery, to: DeliveryState, now: float, due_at: float, answer: str) -> bool:
    session.one(_HOOK_LOCKED, hook=delivery.hook)
    if not session.run(_SETTLE, one=delivery.id, at_fence=delivery.fence, to=to, said=answer, now=now, due=due_at):
        return False
    if to != "queued":
        following = _first_open(session, delivery.hook, delivery.subject)
        if following and following[1] == "waiting":
            session.run(_QUEUE, one=following[0], now=now, anew=now)
    return True


def are_left(session: Session) -> bool:
    """Whether any is claimed by an instance that is gone."""
    return bool(session.one(_LEFT))


def recover(session: Session, now: float) -> int:
    return session.run(_RECOVER, now=now)


def sending(session: Session, hook: str) -> int:
    return int((session.one(_SENT_NOW, of=hook) or (0,))[0])


# --- replaying ---


def replay(session: Session, name: str, filter: DeliveryFilter, up_to: int, now: float, limit: int) -> int:
    row = session.one(_HOOK_LOCKED, hook=name)
    if row is None:
        raise NotFound("nothing was ever sent to this webhook", name=name)
    given = _given(filter)
    hastened = session.run(_hasten(frozenset(given)), of=name, now=now, anew=now, **_values(given))
    found = session.rows(_found(frozenset(given), True, True), of=name, last=up_to, count=limit, **_values(given))
    for seq, (id, subject) in enumerate(found, Hook(*row).seq + 1):
        behind = _first_open(session, name, subject) is not None
        session.run(_AGAIN, one=id, number=seq, to="waiting" if behind else "queued", now=now, anew=now)
    if found:
        session.run(_COUNT_ON, hook=name, more=len(found))
    return hastened + len(found)


# --- looking ---


def _given(filter: DeliveryFilter) -> dict[str, Any]:
    return {name: value for name in _BOUNDS if (value := getattr(filter, name)) is not None}


def _values(given: dict[str, Any]) -> dict[str, Any]:
    """As the statements have them."""
    return {_PARAMETERS[name]: value for name, value in given.items()}


def by_id(session: Session, id: str) -> Delivery | None:
    row = session.one(_BY_ID, one=id)
    return Delivery(*row) if row else None


def page(session: Session, hook: str, filter: DeliveryFilter, cursor: str | None, limit: int) -> tuple[list[Delivery], str | None]:
    given, place = _given(filter), {"last": _place(cursor)} if cursor else {}
    found = session.rows(_found(frozenset(given), False, bool(place)), of=hook, count=limit + 1, **_values(given), **place)
    listed = [Delivery(*row) for row in found[:limit]]
    return listed, paths.to_cursor(str(listed[-1].seq)) if len(found) > limit else None


def _place(cursor: str) -> int:
    number = paths.from_cursor(cursor)
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        raise InvalidRequest("this is no cursor of a list of deliveries", cursor=cursor)
    return int(number)


def depths(session: Session) -> list[HookDepth]:
    return [HookDepth(*row) for row in session.rows(_DEPTHS)]


def forget(session: Session, taken_before: float, dead_before: float) -> int:
    """Drop up to 10,000 that were taken, and given up, before these times; how many."""
    return session.run(_FORGET, was="taken", before=taken_before) + session.run(_FORGET, was="dead", before=dead_before)
