"""Who may see and do what: one function, asked by every protocol."""

from __future__ import annotations

from carboy.config import SpaceSettings
from carboy.errors import Forbidden, NotFound, Unauthenticated
from carboy.model import Action, Principal

_PUBLIC: dict[str, frozenset[Action]] = {
    "": frozenset(),
    "read": frozenset({"read"}),
    "write": frozenset({"write"}),
}


def actions(principal: Principal, space: str, rules: SpaceSettings | None = None) -> frozenset[Action]:
    """What the principal may do in the space; ``admin`` includes everything."""
    granted = principal.scopes.get(space, frozenset()) | principal.scopes.get("*", frozenset())
    if "admin" in granted:
        return frozenset({"read", "write", "delete", "admin"})
    return granted | (_PUBLIC[rules.public] if rules else frozenset())


def authorise(principal: Principal, action: Action, space: str, rules: SpaceSettings | None, *, owner: str | None = None,
              owned: bool = False) -> None:
    """Return if the principal may, else raise.

    Unauthenticated where nobody asks and a token might help; NotFound where the principal may do nothing in the space,
    where the space doesn't exist, or where the thing is private to another ``owner`` (``owned``: an upload under way, or a
    file of a private space); Forbidden where it may do other things than this one.
    """
    allowed = actions(principal, space, rules)
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
