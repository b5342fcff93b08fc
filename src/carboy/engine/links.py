"""Links: ways in for those who have their address. A link lends a right of the one who made it, and ends with that right."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from carboy.catalog.base import Catalog
from carboy.config import Settings, SpaceSettings
from carboy.engine.access import actions, authorise
from carboy.engine.files import Files
from carboy.engine.names import clean_folder, clean_path, clean_prefix, home_of
from carboy.engine.receive import Target
from carboy.engine.signing import Signer
from carboy.engine.tokens import Tokens
from carboy.errors import (
    CarboyError,
    CommitUnknown,
    Forbidden,
    InvalidRequest,
    LinkExpired,
    NotFound,
    PasswordNeeded,
    Unauthenticated,
)
from carboy.model import MAX_SIZE, Action, File, Link, LinkKind, Page, Principal, new_id

_PURPOSE, _PROOF = "link", "link password"
_LONGEST_PASSWORD = 1000
StillMay = Callable[[Principal, Action, str, File | None], bool]
"""Whether an application's user may still do this in the space, to the file where the link is to one."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A link that was good a moment ago, and what it opens. ``principal`` is who comes by it, for the audit log and for limits."""

    link: Link
    rules: SpaceSettings
    principal: Principal
    of: File | None = None


class Links:
    """Every call but those with an :class:`Opened` link is authorised here; opening authorises these."""

    def __init__(self, settings: Settings, catalog: Catalog, files: Files, tokens: Tokens, signer: Signer,
                 clock: Callable[[], float] = time.time, still_may: StillMay | None = None) -> None:
        self._settings = settings
        self._catalog = catalog
        self._files = files
        self._tokens = tokens
        self._signer = signer
        self._clock = clock
        self.still_may = still_may
        """Asked about links of an application's users; without it they keep what they had."""

    # --- making and ending them ---

    def create(self, principal: Principal, *, kind: LinkKind, file: File | None = None, space: str | None = None, folder: str = "",
               name: str = "", password: str | None = None, expires_at: float | None = None, max_uses: int | None = None,
               max_size: int | None = None, max_bytes: int | None = None) -> Link:
        """A link to the ``file``, or to the ``folder`` of the ``space`` as the principal sees it. It needs the right that the link lends:
        to read, and for an inbox to write. Raises what ``authorise`` raises, NotFound, and InvalidRequest for limits that allow nothing."""
        _must_be_somebody(principal)
        now = self._clock()
        _check_limits(now, kind, expires_at, {"max_uses": max_uses, "max_size": max_size, "max_bytes": max_bytes})
        link = Link(new_id(), kind, *self._place(principal, kind, file, space, folder), name=name, created_by=principal.id,
                    creator_kind=principal.kind, password=_hashed(password) if password else None, max_uses=max_uses,
                    max_size=max_size, max_bytes=max_bytes, created_at=now, expires_at=expires_at)
        self._catalog.add_link(link, by=self._files.act(principal))
        return link

    def _place(self, principal: Principal, kind: LinkKind, file: File | None, space: str | None,
               folder: str) -> tuple[str, str | None, str]:
        """The link's space, its file, and its folder."""
        if kind == "file" and file is not None:
            rules = self._files.rules(file.space)
            authorise(principal, "read", file.space, rules, owner=file.owner, owned=rules is not None and rules.private, file=file)
            return file.space, file.id, ""
        if kind == "file" or space is None:
            raise InvalidRequest("a link of the kind file is to a file, one of another kind to a folder of a space", kind=kind)
        _, home = self._files.inside(principal, _lends(kind), space)
        return space, None, home + clean_folder(folder)

    def address(self, link: Link) -> str:
        """What stands behind ``/s/`` in its address: letters, digits, ``-``, ``_`` and ``~``."""
        return self._signer.sign(_PURPOSE, link.id)

    def get(self, principal: Principal, id: str) -> Link:
        """A link that the principal made, or of a space that it administers; others are NotFound."""
        _must_be_somebody(principal)
        link = self._catalog.link(id)
        if link is None or not (_made(principal, link) or self._administers(principal, link.space)):
            raise NotFound("there is no such link", link=id)
        return link

    def list(self, principal: Principal, *, space: str | None = None, file_id: str | None = None, cursor: str | None = None,
             limit: int = 100) -> tuple[list[Link], str | None]:
        """The links that the principal made, with the next cursor; all of a ``space`` that it administers. Raises what ``authorise``
        raises for a space in which it may do nothing."""
        _must_be_somebody(principal)
        if space is not None and not actions(principal, space, self._files.rules(space)):
            authorise(principal, "read", space, self._files.rules(space))
        everyones = principal.kind == "trusted" or (space is not None and self._administers(principal, space))
        found, following = self._catalog.links(space, created_by=None if everyones else principal.id, file_id=file_id, cursor=cursor,
                                               limit=limit)
        return [link for link in found if everyones or _made(principal, link)], following

    def revoke(self, principal: Principal, id: str) -> None:
        """From now on it opens nothing. Repeatable. Raises NotFound."""
        self._catalog.revoke_link(self.get(principal, id).id, now=self._clock(), by=self._files.act(principal))

    def _administers(self, principal: Principal, space: str) -> bool:
        return "admin" in actions(principal, space, self._files.rules(space))

    # --- opening them ---

    def open(self, token: str, password: str | None = None, *, proof: str | None = None, request: str = "", address: str = "") -> Opened:
        """What the address leads to, now.

        Raises BadSignature for an address that was not made here, LinkExpired, NotFound where the file or the space is gone,
        Forbidden where whoever made the link has lost the right it lends, and PasswordNeeded unless the ``password`` fits or the
        ``proof`` tells that it did.
        """
        link = self._catalog.link(str(self._signer.unsign(_PURPOSE, token)))
        if link is None:
            raise NotFound("there is no such link any more")
        _must_live(link, self._clock())
        file = self._catalog.file(link.file_id) if link.file_id else None
        rules = self._files.rules(file.space if file else link.space)
        if rules is None or (link.kind == "file" and file is None):
            raise NotFound("what the link led to is not there any more")
        if not self._still_lends(link, file, rules):
            raise Forbidden("whoever made this link has lost the right that it lends", link=link.id)
        if link.password is not None and not self._is_proved(link, proof) and not _fits(password, link.password):
            raise PasswordNeeded("the password is wrong" if password else "this link needs a password", link=link.id)
        return Opened(link, rules, Principal(link.id, "link", request=request, address=address), file)

    def proof(self, opened: Opened, *, expires_at: float) -> str:
        """That the link's password was given, for those who come again: checking a password is slow on purpose."""
        return self._signer.sign(_PROOF, [opened.link.id, opened.link.password], expires_at=expires_at)

    def _is_proved(self, link: Link, proof: str | None) -> bool:
        with suppress(CarboyError):
            return proof is not None and self._signer.unsign(_PROOF, proof) == [link.id, link.password]
        return False

    def _still_lends(self, link: Link, file: File | None, rules: SpaceSettings) -> bool:
        if link.creator_kind == "trusted":
            return True
        space, action = file.space if file else link.space, _lends(link.kind)
        if link.creator_kind == "user":
            creator = Principal(link.created_by, "user")
            return (self.still_may is None or self.still_may(creator, action, space, file)) and _is_own(creator, link, file, rules)
        found = self._tokens.with_id(link.created_by) if link.creator_kind == "token" and link.created_by else None
        if found is None:
            return False
        allowed = actions(found[1], space, rules)
        return action in allowed and ("admin" in allowed or _is_own(found[1], link, file, rules))

    # --- through them ---

    def file(self, opened: Opened, path: str = "") -> File:
        """The link's file, or the one at ``path`` in its folder. An inbox shows nothing. Raises NotFound, InvalidName."""
        if opened.of is not None and path in ("", opened.of.name):
            return opened.of
        found = self._catalog.file_at(opened.link.space, opened.link.path + clean_path(path)) if opened.link.kind == "folder" else None
        if found is None:
            raise NotFound("there is no such file here", path=path)
        return found

    def page(self, opened: Opened, prefix: str = "", *, cursor: str | None = None, limit: int = 100, folders: bool = True) -> Page:
        """What lies in the link's folder; :meth:`shown` tells the paths. Raises NotFound for links to no folder."""
        if opened.link.kind != "folder":
            raise NotFound("there is no folder here")
        start = opened.link.path
        page = self._catalog.files(opened.link.space, prefix=start + clean_prefix(prefix), cursor=cursor, limit=limit, folders=folders)
        return replace(page, folders=[folder.removeprefix(start) for folder in page.folders])

    def shown(self, opened: Opened, file: File) -> str:
        """The file's path as those who come by the link see it: within its folder."""
        return file.name if opened.link.kind == "file" else file.path.removeprefix(opened.link.path)

    def target(self, opened: Opened, path: str, *, metadata: Mapping[str, Any] | None = None) -> Target:
        """Where a file goes that is put into an inbox: never over another, as its maker's, and within the link's limits. What came is
        counted by :meth:`counted`. Raises NotFound for other links, LinkExpired where nothing more fits."""
        link = opened.link
        if link.kind != "inbox":
            raise NotFound("files can't be put here")
        left = MAX_SIZE if link.max_bytes is None else link.max_bytes - link.received
        if left <= 0:
            raise LinkExpired("the link is used up", reason="used_up")
        largest = min(opened.rules.max_size, left, MAX_SIZE if link.max_size is None else link.max_size)
        rules = opened.rules.model_copy(update={"on_conflict": "rename", "max_size": largest})
        return Target(link.space, link.path + clean_path(path), link.created_by, rules, metadata or {},
                      by=self._files.act(opened.principal))

    def count(self, opened: Opened, *, uses: int = 1, received: int = 0) -> Link:
        """Count downloads that begin, or files that came and their bytes together; exactly, however many come at once. Raises LinkExpired
        where the link's limits don't allow them, and then counts nothing."""
        return self._catalog.use_link(opened.link.id, now=self._clock(), uses=uses, received=received)

    @contextmanager
    def counted(self, opened: Opened, *, uses: int = 1, received: int = 0) -> Iterator[Link]:
        """:meth:`count` for what is published in the block; where that fails it is counted back."""
        link = self.count(opened, uses=uses, received=received)
        try:
            yield link
        except CommitUnknown:
            raise
        except BaseException:
            with suppress(CarboyError):
                self._catalog.use_link(link.id, now=self._clock(), uses=-uses, received=-received)
            raise


# --- rules ---------------------------------------------------------------------------------------------------------


def _lends(kind: LinkKind) -> Action:
    return "write" if kind == "inbox" else "read"


def _must_be_somebody(principal: Principal) -> None:
    """Nobody, and who came by a link, has no right to lend."""
    if principal.kind == "nobody":
        raise Unauthenticated("send a token as 'Authorization: Bearer …'")
    if principal.kind == "link":
        raise Forbidden("links are not made through links")


def _made(principal: Principal, link: Link) -> bool:
    return principal.kind == link.creator_kind and principal.id == link.created_by


def _is_own(principal: Principal, link: Link, file: File | None, rules: SpaceSettings) -> bool:
    """Whether it lies in the principal's own tree, where a space gives each owner one."""
    if not rules.private:
        return True
    return file.owner == principal.id if file else link.path.startswith(home_of(principal.id))


def _must_live(link: Link, now: float) -> None:
    if link.revoked_at is not None:
        raise LinkExpired("the link was revoked", reason="revoked")
    if link.expires_at is not None and link.expires_at <= now:
        raise LinkExpired("the link has expired", reason="expired", expires_at=link.expires_at)
    if link.max_uses is not None and link.uses >= link.max_uses:
        raise LinkExpired("the link is used up", reason="used_up")


def _check_limits(now: float, kind: LinkKind, expires_at: float | None, limits: Mapping[str, int | None]) -> None:
    if expires_at is not None and expires_at <= now:
        raise InvalidRequest("the link would have expired already", field="expires_at")
    for field, limit in limits.items():
        if limit is not None and not 1 <= limit <= MAX_SIZE:
            raise InvalidRequest(f"{field} is a whole number from 1, or left out", field=field)
        if limit is not None and kind != "inbox" and field != "max_uses":
            raise InvalidRequest(f"{field} is for links of the kind inbox", field=field)


# --- passwords -----------------------------------------------------------------------------------------------------

_COST = {"n": 2**14, "r": 8, "p": 1}


def _hashed(password: str) -> str:
    """scrypt (RFC 7914), salted: 16 MiB and some 50 ms for each try."""
    if len(password) > _LONGEST_PASSWORD:
        raise InvalidRequest(f"a password has at most {_LONGEST_PASSWORD} characters", field="password", limit=_LONGEST_PASSWORD)
    salt = secrets.token_bytes(16)
    return f"scrypt:{salt.hex()}:{_scrypt(password, salt).hex()}"


def _fits(password: str | None, kept: str) -> bool:
    if not password or len(password) > _LONGEST_PASSWORD:
        return False
    _, salt, hashed = kept.split(":")
    return hmac.compare_digest(_scrypt(password, bytes.fromhex(salt)), bytes.fromhex(hashed))


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, dklen=32, **_COST)
