"""Links as people meet them: made, opened, ended; and the signer behind them."""

from __future__ import annotations

from typing import Any

import pytest
from engine.conftest import Engine

from carboy.config import SpaceSettings
from carboy.engine.links import Links
from carboy.engine.signing import Signer
from carboy.errors import (
    BadSignature,
    CarboyError,
    Forbidden,
    InvalidName,
    InvalidRequest,
    LinkExpired,
    NotFound,
    PasswordNeeded,
    Unauthenticated,
)
from carboy.model import NOBODY, TRUSTED, Action, File, Link, Principal
from carboy.streams import BytesSource

SPACES = {"main": SpaceSettings(), "own": SpaceSettings(private=True), "open": SpaceSettings(public="read"), "small": SpaceSettings(max_size=10)}


@pytest.fixture
def engine(make_engine: Engine) -> Engine:
    return make_engine(spaces=SPACES)


@pytest.fixture
def links(engine: Engine) -> Links:
    return engine.services.links


def somebody(engine: Engine, *scopes: str) -> Principal:
    """The bearer of a new token."""
    granted = {scope.partition(":")[0]: frozenset[Action](scope.partition(":")[2].split(",")) for scope in scopes}  # type: ignore[arg-type]
    token, _ = engine.services.tokens.create("t", granted)
    return Principal(token.id, "token", token.scopes)


def opened(engine: Engine, link: Link, password: str | None = None) -> Any:
    return engine.services.links.open(engine.services.links.address(link), password)


def reason(call: Any) -> Any:
    with pytest.raises(LinkExpired) as caught:
        call()
    return caught.value.facts["reason"]


class TestSigner:
    @pytest.mark.parametrize("payload", [None, "x" * 5000, {"a": [1, 2.5, None, "Ü\x00\ud800"]}, []])
    def test_what_was_signed_comes_back(self, engine: Engine, payload: Any) -> None:
        signer = engine.services.signer
        text = signer.sign("a", payload)
        assert signer.unsign("a", text) == payload
        assert set(text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_~")

    def test_a_signature_is_for_one_purpose(self, engine: Engine) -> None:
        text = engine.services.signer.sign("link", "x")
        for purpose in ("session", "", "link ", "links"):
            with pytest.raises(BadSignature):
                engine.services.signer.unsign(purpose, text)

    def test_every_altered_letter_is_noticed(self, engine: Engine) -> None:
        signer = engine.services.signer
        text = signer.sign("a", "payload")
        for at in range(len(text)):
            for letter in {"A", "B", "_", "~", "=", "."} - {text[at]}:
                with pytest.raises(BadSignature):
                    signer.unsign("a", text[:at] + letter + text[at + 1:])
        for other in ("", "~", text[:-1], text + "A", text + "=", f"{text}~", f" {text}", "é" + text, "\ud800", "a" * 100_000):
            with pytest.raises(BadSignature):
                signer.unsign("a", other)

    def test_it_expires(self, engine: Engine) -> None:
        text = engine.services.signer.sign("a", "x", expires_at=engine.now + 10)
        engine.now += 9.9
        assert engine.services.signer.unsign("a", text) == "x"
        engine.now += 0.1
        assert reason(lambda: engine.services.signer.unsign("a", text)) == "expired"

    def test_the_key_is_kept_in_the_catalog(self, engine: Engine, make_engine: Engine) -> None:
        assert make_engine(spaces=SPACES).services.signer.unsign("a", engine.services.signer.sign("a", "x")) == "x"

    def test_keys_of_the_settings_are_turned_over(self, engine: Engine) -> None:
        def signer(key: str, *older: str) -> Signer:
            return Signer(engine.settings.model_copy(update={"secret_key": key, "secret_key_fallbacks": older}), engine.services.catalog)

        old, new = "o" * 32, "n" * 32
        text = signer(old).sign("a", "x")
        assert signer(new, old).unsign("a", text) == signer(new, "z" * 32, old).unsign("a", text) == "x"
        assert signer(new).unsign("a", signer(new, old).sign("a", "x")) == "x", "the newest signs"
        for others in (signer(new), engine.services.signer):
            with pytest.raises(BadSignature):
                others.unsign("a", text)


class TestFileLinks:
    def test_it_opens_the_file_wherever_that_moves(self, engine: Engine, links: Links) -> None:
        file = engine.put("a/b.txt", b"hello").file
        me = somebody(engine, "main:read")
        link = links.create(me, kind="file", file=file)
        assert (link.created_by, link.creator_kind, link.file_id) == (me.id, "token", file.id)
        assert links.file(opened(engine, link)) == file
        moved = engine.services.changes.move(TRUSTED, file, "c.txt", space="small")
        with pytest.raises(Forbidden):
            opened(engine, link)  # who made it may not read there
        back = engine.services.changes.move(TRUSTED, moved, "d.txt", space="main")
        assert links.file(opened(engine, link)) == links.file(opened(engine, link), "d.txt") == back
        assert links.shown(opened(engine, link), back) == "d.txt"
        with pytest.raises(NotFound):
            links.file(opened(engine, link), "a/b.txt")
        with pytest.raises(NotFound):
            links.page(opened(engine, link))
        with pytest.raises(NotFound):
            links.target(opened(engine, link), "x")

    def test_a_file_again_under_the_same_name_is_another(self, engine: Engine, links: Links) -> None:
        file = engine.put("a", b"one").file
        link = links.create(TRUSTED, kind="file", file=file)
        engine.services.catalog.delete_file(file.id, now=engine.now)
        engine.put("a", b"two")
        with pytest.raises(NotFound):
            opened(engine, link)

    def test_in_the_trash_it_is_closed(self, engine: Engine, links: Links) -> None:
        file = engine.put("a", b"one").file
        link = links.create(TRUSTED, kind="file", file=file)
        engine.services.changes.delete(TRUSTED, file)
        with pytest.raises(NotFound):
            opened(engine, link)
        restored = engine.services.changes.restore(TRUSTED, file.id)
        assert links.file(opened(engine, link)) == restored

    def test_an_altered_address_is_refused(self, engine: Engine, links: Links) -> None:
        address = links.address(links.create(TRUSTED, kind="file", file=engine.put("a", b"one").file))
        for other in (address[:-1] + ("A" if address[-1] != "A" else "B"), address.swapcase(), "x", engine.services.signer.sign("session", "x")):
            with pytest.raises(BadSignature):
                links.open(other)
        with pytest.raises(NotFound):
            links.open(engine.services.signer.sign("link", "no such link"))


class TestFolderLinks:
    def test_it_shows_what_lies_in_the_folder(self, engine: Engine, links: Links) -> None:
        for path in ("in/a", "in/deep/b", "in%/c", "inner", "out/d"):
            engine.put(path, b"x")
        look = opened(engine, links.create(somebody(engine, "main:read"), kind="folder", space="main", folder="in"))
        page = links.page(look)
        assert ([links.shown(look, file) for file in page.files], list(page.folders)) == (["a"], ["deep/"])
        assert [links.shown(look, file) for file in links.page(look, "deep/", folders=False).files] == ["deep/b"]
        first = links.page(look, limit=1, folders=False)
        assert [links.shown(look, file) for file in links.page(look, cursor=first.cursor, folders=False).files] == ["deep/b"]
        assert links.file(look, "deep/b").path == "in/deep/b"

    @pytest.mark.parametrize("path", ["../out/d", "deep/../../out/d", "%2e%2e/out/d", "/out/d", "", "deep/", "b"])
    def test_it_shows_nothing_else(self, engine: Engine, links: Links, path: str) -> None:
        engine.put("in/deep/b", b"x")
        engine.put("out/d", b"x")
        look = opened(engine, links.create(TRUSTED, kind="folder", space="main", folder="in/"))
        with pytest.raises((NotFound, InvalidName)):
            links.file(look, path)
        with pytest.raises(NotFound):
            links.target(look, "x")

    def test_a_cursor_leads_nowhere_else(self, engine: Engine, links: Links) -> None:
        for path in ("a", "in/b", "in/c", "z"):
            engine.put(path, b"x")
        look = opened(engine, links.create(TRUSTED, kind="folder", space="main", folder="in"))
        outside = engine.services.catalog.files("main", limit=1).cursor
        assert [file.path for file in links.page(look, cursor=outside).files] == ["in/b", "in/c"]


class TestInboxes:
    def receive(self, engine: Engine, inbox: Any, path: str, data: bytes) -> str:
        links = engine.services.links
        with links.counted(inbox, received=len(data)):
            return engine.services.receiver.receive(links.target(inbox, path), BytesSource(data)).file.path

    def test_files_are_put_in_and_never_over_others(self, engine: Engine, links: Links) -> None:
        me = somebody(engine, "main:write")
        inbox = opened(engine, links.create(me, kind="inbox", space="main", folder="in"))
        assert [self.receive(engine, inbox, "a.txt", data) for data in (b"one", b"two")] == ["in/a.txt", "in/a (1).txt"]
        file = engine.file("in/a.txt")
        assert file is not None
        assert file.owner == me.id
        assert engine.read("in/a.txt") == b"one"
        entry = engine.services.catalog.audit(action="file.create")[0]
        assert (entry.by.kind, entry.by.principal) == ("link", inbox.link.id)
        for call in (lambda: links.file(inbox, "a.txt"), lambda: links.file(inbox), lambda: links.page(inbox)):
            with pytest.raises(NotFound):
                call()
        with pytest.raises(InvalidName):
            links.target(inbox, "../a")

    def test_its_limits_hold(self, engine: Engine, links: Links) -> None:
        link = links.create(somebody(engine, "small:write"), kind="inbox", space="small", max_size=8, max_bytes=12, max_uses=3)
        inbox = opened(engine, link)
        assert links.target(inbox, "a").rules.max_size == 8
        with pytest.raises(CarboyError) as caught:
            self.receive(engine, inbox, "a", b"123456789")
        assert caught.value.code == "too_large"
        assert engine.services.catalog.link(link.id) == link, "what was not kept is not counted"
        self.receive(engine, inbox, "a", b"12345678")
        inbox = opened(engine, link)
        assert links.target(inbox, "b").rules.max_size == 4
        assert reason(lambda: self.receive(engine, inbox, "b", b"12345")) == "used_up"
        self.receive(engine, inbox, "b", b"1234")
        assert reason(lambda: links.target(opened(engine, link), "c")) == "used_up"

    def test_the_spaces_own_limit_stays(self, engine: Engine, links: Links) -> None:
        inbox = opened(engine, links.create(TRUSTED, kind="inbox", space="small", max_size=100))
        assert links.target(inbox, "a").rules.max_size == 10


class TestWhoMayMakeThem:
    def test_one_needs_the_right_that_is_lent(self, engine: Engine, links: Links) -> None:
        file = engine.put("a", b"x").file
        reader, writer, other = somebody(engine, "main:read"), somebody(engine, "main:write"), somebody(engine, "small:read,write")
        links.create(reader, kind="file", file=file)
        links.create(reader, kind="folder", space="main")
        links.create(writer, kind="inbox", space="main")
        for who, wanted in ((reader, {"kind": "inbox", "space": "main"}), (writer, {"kind": "folder", "space": "main"}),
                            (writer, {"kind": "file", "file": file})):
            with pytest.raises(Forbidden):
                links.create(who, **wanted)  # type: ignore[arg-type]
        for wanted in ({"kind": "folder", "space": "main"}, {"kind": "inbox", "space": "none"}, {"kind": "file", "file": file}):
            with pytest.raises(NotFound):
                links.create(other, **wanted)  # type: ignore[arg-type]

    def test_nobody_and_those_who_came_by_a_link_make_none(self, engine: Engine, links: Links) -> None:
        file = engine.put("a", b"x", space="open").file
        with pytest.raises(Unauthenticated):
            links.create(NOBODY, kind="file", file=file)
        with pytest.raises(Forbidden):
            links.create(opened(engine, links.create(TRUSTED, kind="file", file=file)).principal, kind="file", file=file)
        with pytest.raises(Unauthenticated):
            links.list(NOBODY)

    @pytest.mark.parametrize("wrong", [
        {"expires_at": 1_000_000.0}, {"max_uses": 0}, {"max_uses": -1}, {"max_uses": 2**63}, {"max_size": 5}, {"max_bytes": 5},
        {"password": "x" * 1001}, {"file": None}, {"kind": "folder"}])
    def test_limits_that_allow_nothing_are_refused(self, engine: Engine, links: Links, wrong: dict[str, Any]) -> None:
        with pytest.raises(InvalidRequest):
            links.create(TRUSTED, **{"kind": "file", "file": engine.put("a", b"x").file, **wrong})

    def test_in_a_private_space_links_are_to_ones_own(self, engine: Engine, links: Links) -> None:
        me, other = somebody(engine, "own:read,write"), somebody(engine, "own:read,write")
        services = engine.services
        mine = services.receiver.receive(services.files.target(me, "own", "a/b"), BytesSource(b"x")).file
        services.receiver.receive(services.files.target(other, "own", "a/c"), BytesSource(b"x"))
        look = opened(engine, links.create(me, kind="folder", space="own", folder="a"))
        assert [links.shown(look, file) for file in links.page(look).files] == ["b"]
        with pytest.raises(NotFound):
            links.create(other, kind="file", file=mine)
        inbox = opened(engine, links.create(me, kind="inbox", space="own"))
        placed = services.receiver.receive(links.target(inbox, "new"), BytesSource(b"x"))
        assert services.files.at(me, "own", "new") == placed.file


class TestWhoSeesThem:
    def test_makers_and_administrators_list_and_revoke_them(self, engine: Engine, links: Links) -> None:
        me, other, admin = somebody(engine, "main:read"), somebody(engine, "main:read"), somebody(engine, "main:admin")
        mine = links.create(me, kind="folder", space="main")
        theirs = links.create(other, kind="folder", space="main")
        assert links.list(me)[0] == links.list(me, space="main")[0] == [mine]
        assert sorted(link.id for link in links.list(admin, space="main")[0]) == sorted([mine.id, theirs.id])
        assert links.list(admin)[0] == []
        assert len(links.list(TRUSTED)[0]) == 2
        for call in (lambda: links.get(me, theirs.id), lambda: links.revoke(me, theirs.id), lambda: links.get(me, "none"),
                     lambda: links.list(me, space="small"), lambda: links.get(Principal(me.id, "user"), mine.id)):
            with pytest.raises(NotFound):
                call()
        links.revoke(admin, mine.id)
        links.revoke(me, mine.id)
        assert reason(lambda: opened(engine, mine)) == "revoked"
        assert opened(engine, theirs)


class TestTheirEnd:
    def test_they_expire_and_are_used_up(self, engine: Engine, links: Links) -> None:
        file = engine.put("a", b"x").file
        link = links.create(TRUSTED, kind="file", file=file, expires_at=engine.now + 10, max_uses=2)
        assert links.count(opened(engine, link)).uses == 1
        late = opened(engine, link)
        links.count(opened(engine, link))
        assert reason(lambda: opened(engine, link)) == reason(lambda: links.count(late)) == "used_up"
        engine.now += 10
        assert reason(lambda: opened(engine, link)) == "expired"

    @pytest.mark.parametrize("kind", ["file", "folder", "inbox"])
    def test_they_end_with_their_makers_right(self, make_engine: Engine, kind: Any) -> None:
        engine = make_engine(spaces=SPACES)
        links, services = engine.services.links, engine.services
        wanted = {"file": engine.put("a", b"x").file} if kind == "file" else {"space": "main"}
        revoked, expiring = somebody(engine, "main:read,write"), None
        token, _ = services.tokens.create("t", {"main": frozenset({"read", "write"})}, expires_at=engine.now + 10)
        expiring = Principal(token.id, "token", token.scopes)
        made = [links.create(who, kind=kind, **wanted) for who in (revoked, expiring)]  # type: ignore[arg-type]
        assert [opened(engine, link).link for link in made] == made
        services.tokens.revoke(revoked.id or "")
        engine.now += 10
        for link in made:
            with pytest.raises(Forbidden):
                opened(engine, link)

    def test_they_end_with_their_space(self, engine: Engine, make_engine: Engine) -> None:
        link = engine.services.links.create(TRUSTED, kind="folder", space="small")
        to_file = engine.services.links.create(TRUSTED, kind="file", file=engine.put("a", b"x", space="small").file)
        assert opened(engine, link)
        closed = make_engine(spaces={"main": SpaceSettings()})
        for one in (link, to_file):
            with pytest.raises(NotFound):
                opened(closed, one)

    def test_an_application_says_whether_its_users_still_may(self, engine: Engine, links: Links) -> None:
        ann = Principal("ann", "user", {"main": frozenset({"read"})})
        link = links.create(ann, kind="folder", space="main")
        assert opened(engine, link)
        asked: list[Any] = []

        def still_may(principal: Principal, action: Action, space: str, file: File | None) -> bool:
            asked.append((principal.id, principal.kind, action, space))
            return False

        links.still_may = still_may
        with pytest.raises(Forbidden):
            opened(engine, link)
        assert asked == [("ann", "user", "read", "main")]
        assert opened(engine, links.create(TRUSTED, kind="folder", space="main"))


class TestPasswords:
    def test_it_opens_with_its_password_alone(self, engine: Engine, links: Links) -> None:
        link = links.create(TRUSTED, kind="folder", space="main", password="Grüße 😀")
        assert opened(engine, link, "Grüße 😀").link == link
        for wrong in (None, "", "grüße 😀", "Grüße 😀 ", "\ud800", "x" * 100_000):
            with pytest.raises(PasswordNeeded):
                opened(engine, link, wrong)
        assert "Gr" not in str(link.password)
        other = links.create(TRUSTED, kind="folder", space="main", password="Grüße 😀")
        assert other.password != link.password, "each has its own salt"

    def test_without_one_any_will_do(self, engine: Engine, links: Links) -> None:
        assert opened(engine, links.create(TRUSTED, kind="folder", space="main", password=""), "x")

    def test_a_proof_stands_for_it(self, engine: Engine, links: Links) -> None:
        link, other = (links.create(TRUSTED, kind="folder", space="main", password="secret") for _ in range(2))
        proof = links.proof(opened(engine, link, "secret"), expires_at=engine.now + 10)
        assert links.open(links.address(link), proof=proof).link == link
        for address, wrong in ((links.address(other), proof), (links.address(link), proof[:-2]), (links.address(link), links.address(link))):
            with pytest.raises(PasswordNeeded):
                links.open(address, proof=wrong)
        engine.now += 10
        with pytest.raises(PasswordNeeded):
            links.open(links.address(link), proof=proof)
