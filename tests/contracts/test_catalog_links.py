"""What every catalog keeps of links: counted exactly, gone with their files."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from catalogs import at, put, together

from carboy.catalog.base import Catalog, Move
from carboy.errors import InvalidRequest, LinkExpired, NotFound
from carboy.model import Act, Link, new_id

DAY = 86400.0


def add(catalog: Catalog, by: Act | None = None, **changes: Any) -> Link:
    link = replace(Link(new_id(), "inbox", "main", path="in/", created_by="ann", creator_kind="token", created_at=1.0), **changes)
    catalog.add_link(link, by=by)
    return link


def reason(call: Any) -> str:
    with pytest.raises(LinkExpired) as caught:
        call()
    return str(caught.value.facts["reason"])


class TestLinks:
    def test_a_link_reads_back_whole(self, catalog: Catalog) -> None:
        file = put(catalog, "a")
        link = add(catalog, kind="file", file_id=file.id, path="", name='Grüße "x"', password="scrypt:1:2", max_uses=3, max_size=2**63 - 1,
                   max_bytes=2**63 - 1, expires_at=99.5)
        assert catalog.link(link.id) == link
        assert catalog.link(new_id()) is None

    def test_it_needs_its_file(self, catalog: Catalog) -> None:
        file = put(catalog, "a")
        catalog.trash_file(file.id, now=1.0, expires_at=9.0)
        for id in (new_id(), file.id, catalog.stage([at("b")], now=1.0, expires_at=9.0)[0].file.id):
            with pytest.raises(NotFound):
                add(catalog, kind="file", file_id=id)
        assert catalog.links() == ([], None)

    def test_it_goes_with_its_file_and_comes_back_with_it(self, catalog: Catalog) -> None:
        file = put(catalog, "a")
        link = add(catalog, kind="file", file_id=file.id, path="")
        catalog.trash_file(file.id, now=1.0, expires_at=9.0)
        assert catalog.link(link.id) == link, "the file may be restored"
        catalog.restore(file.id, Move("main", "b"), now=2.0)
        assert catalog.link(link.id) == link
        catalog.delete_file(file.id, now=3.0)
        put(catalog, "a")
        assert catalog.link(link.id) is None

    def test_links_are_listed_by_what_is_asked(self, catalog: Catalog) -> None:
        file = put(catalog, "a")
        links = sorted([add(catalog), add(catalog, created_by="bob"), add(catalog, space="other", created_by=None),
                        add(catalog, kind="file", file_id=file.id, path="", revoked_at=5.0)], key=lambda link: link.id)
        for asked, passes in ((dict[str, Any](), lambda link: True), ({"space": "main"}, lambda link: link.space == "main"),
                              ({"created_by": "ann"}, lambda link: link.created_by == "ann"),
                              ({"file_id": file.id}, lambda link: link.file_id == file.id),
                              ({"space": "main", "created_by": "bob"}, lambda link: link.created_by == "bob"),
                              ({"space": "none"}, lambda link: False)):
            assert catalog.links(asked.pop("space", None), **asked) == ([link for link in links if passes(link)], None)
        first, cursor = catalog.links(limit=3)
        rest, end = catalog.links(limit=3, cursor=cursor)
        assert (first + rest, end) == (links, None)
        with pytest.raises(InvalidRequest):
            catalog.links(cursor="!")


class TestUse:
    def test_uses_and_bytes_are_counted(self, catalog: Catalog) -> None:
        link = add(catalog, max_uses=3, max_bytes=10)
        assert catalog.use_link(link.id, now=2.0, received=4) == replace(link, uses=1, received=4)
        assert catalog.use_link(link.id, now=2.0, uses=2, received=6) == replace(link, uses=3, received=10) == catalog.link(link.id)
        assert catalog.use_link(link.id, now=2.0, uses=-2, received=-6) == replace(link, uses=1, received=4)

    @pytest.mark.parametrize(("changes", "why"), [
        ({"revoked_at": 1.5}, "revoked"), ({"expires_at": 2.0}, "expired"), ({"expires_at": 2.0, "revoked_at": 1.0}, "revoked"),
        ({"max_uses": 0}, "used_up"), ({"max_bytes": 4}, "used_up"), ({"max_uses": 5, "uses": 5}, "used_up"),
        ({"received": 2**63 - 2}, "used_up")])
    def test_a_dead_link_says_why_and_counts_nothing(self, catalog: Catalog, changes: dict[str, Any], why: str) -> None:
        link = add(catalog, **changes)
        assert reason(lambda: catalog.use_link(link.id, now=2.0, received=5)) == why
        assert catalog.link(link.id) == link

    def test_a_link_lives_until_it_expires(self, catalog: Catalog) -> None:
        link = add(catalog, expires_at=2.0)
        assert catalog.use_link(link.id, now=1.999).uses == 1

    def test_no_link_is_not_found(self, catalog: Catalog) -> None:
        with pytest.raises(NotFound):
            catalog.use_link(new_id(), now=1.0)

    def test_counts_are_exact_however_many_come_at_once(self, catalog: Catalog) -> None:
        link = add(catalog, max_uses=20, max_bytes=2**40)
        assert sum(together(*[lambda: sum(_tries(catalog, link) for _ in range(5))] * 8)) == 20  # type: ignore[arg-type]
        assert catalog.link(link.id) == replace(link, uses=20, received=60)

    def test_bytes_are_exact_however_many_come_at_once(self, catalog: Catalog) -> None:
        link = add(catalog, max_bytes=31)
        assert sum(together(*[lambda: sum(_tries(catalog, link) for _ in range(5))] * 8)) == 10  # type: ignore[arg-type]
        assert catalog.link(link.id) == replace(link, uses=10, received=30)


def _tries(catalog: Catalog, link: Link) -> bool:
    try:
        catalog.use_link(link.id, now=2.0, received=3)
    except LinkExpired:
        return False
    return True


class TestEnds:
    def test_a_revoked_link_stays_revoked(self, catalog: Catalog) -> None:
        link = add(catalog)
        assert catalog.revoke_link(link.id, now=5.0)
        assert not catalog.revoke_link(link.id, now=6.0)
        assert not catalog.revoke_link(new_id(), now=6.0)
        assert catalog.link(link.id) == replace(link, revoked_at=5.0)

    def test_the_audit_log_learns_of_it(self, catalog: Catalog) -> None:
        link = add(catalog, by=Act("ann", "token"), password="scrypt:salt:hash")
        catalog.revoke_link(link.id, now=5.0, by=Act("bob", "token"))
        catalog.revoke_link(link.id, now=6.0, by=Act("bob", "token"))
        entries = catalog.audit()
        assert [(entry.action, entry.by.principal, entry.at, entry.space, entry.path, entry.facts["link"]) for entry in entries] == [
            ("link.revoke", "bob", 5.0, "main", "in/", link.id), ("link.create", "ann", 1.0, "main", "in/", link.id)]
        assert "hash" not in str(entries)

    def test_links_dead_for_a_month_are_purged(self, catalog: Catalog) -> None:
        expired, revoked, living = add(catalog, expires_at=10.0), add(catalog, revoked_at=20.0), add(catalog)
        assert catalog.purge(now=10.0 + 29 * DAY) == 0
        assert catalog.purge(now=10.0 + 30 * DAY) == 1
        assert catalog.links() == (sorted([revoked, living], key=lambda link: link.id), None)
        assert catalog.purge(now=20.0 + 30 * DAY) == 1
        assert (catalog.link(expired.id), catalog.link(living.id)) == (None, living)
