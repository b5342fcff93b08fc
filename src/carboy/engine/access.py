"""Who may see and do what: one function, asked by every protocol."""

from __future__ import annotations

from carboy.config import SpaceSettings
from carboy.errors import Forbidden, NotFound, Unauthenticated
from carboy.model import Action, File, Principal

_PUBLIC: dict[str, frozenset[Action]] = {
    "": frozenset(),
    "read": frozenset({"read"}),
    "write": frozenset({"write"}),
}


_ALL: tuple[Action, ...] = ("read", "write", "delete", "admin")
_OWN: frozenset[Action] = frozenset({"read", "write", "delete"})


def actions(principal: Principal, space: str, rules: SpaceSettings | None = None, *, file: File | None = None) -> frozenset[Action]:
    """What the principal may do in the space, or to the ``file``; ``admin`` includes everything.

    The rules are its scopes, what the space lets anybody do, and for an application's users everything in their own trees of private
    spaces. An application's judge is asked first, for each action; where it says None the rules hold.
    """
    granted = _granted(principal, space, rules)
    if principal.judge is None or rules is None:
        return granted
    verdicts = {action: principal.judge(action, space, file) for action in _ALL}
    return frozenset(action for action, verdict in verdicts.items() if (action in granted if verdict is None else verdict))


def _granted(principal: Principal, space: str, rules: SpaceSettings | None) -> frozenset[Action]:
    granted = principal.scopes.get(space, frozenset()) | principal.scopes.get("*", frozenset())
    if "admin" in granted:
        return frozenset(_ALL)
    if rules is None:
        return granted
    own = _OWN if rules.private and principal.kind == "user" else frozenset()
    return granted | _PUBLIC[rules.public] | own


def authorise(principal: Principal, action: Action, space: str, rules: SpaceSettings | None, *, owner: str | None = None,
              owned: bool = False, file: File | None = None) -> None:
    """Return if the principal may, else raise.

    Unauthenticated where nobody asks and a token might help; NotFound where the principal may do nothing in the space,
    where the space doesn't exist, or where the thing is private to another ``owner`` (``owned``: an upload under way, or a
    file of a private space); Forbidden where it may do other things than this one. Where an application's judge says yes, that is all.
    """
    if principal.judge and rules is not None and principal.judge(action, space, file):
        return
    allowed = actions(principal, space, rules, file=file)
    if action not in allowed and principal.kind == "nobody":
        raise Unauthenticated("send a token as 'Authorization: Bearer …'")
    if rules is None or not allowed:
        raise NotFound(f"there is no space {space!r}", space=space)
    if owned and owner != principal.id and "admin" not in allowed:
        raise NotFound("there is no such thing here")
    if action not in allowed:
        raise Forbidden(f"this token may not {action} in the space {space!r}", space=space, action=action,
                        allowed=sorted(allowed))


def authorise_server(principal: Principal) -> None:
    """Return if the principal administers every space, else raise: tokens are made and listed by such ones alone."""
    if principal.kind == "nobody":
        raise Unauthenticated("send a token as 'Authorization: Bearer …'")
    if "admin" not in principal.scopes.get("*", frozenset()):
        raise Forbidden("this needs a token with the scope *:admin")
