"""What every catalog keeps for the sweeper, the limits and access."""

from __future__ import annotations

from dataclasses import replace

import pytest
from catalogs import a_blob, begin, every_path, put, together

from carboy.catalog.base import Catalog, Reservation
from carboy.errors import Conflict, StorageFull
from carboy.model import Token, key_for, new_id


class TestRoom:
    def reserve(self, catalog: Catalog, id: str, size: int, principal: str = "ann", storage: str = "local", now: float = 1.0,
                room: int = 100, cap: int = 60, until: float = 10.0) -> None:
        catalog.reserve(Reservation(id, storage, principal, size, until), room=room, cap=cap, now=now)

    def test_room_and_cap(self, catalog: Catalog) -> None:
        self.reserve(catalog, "a", 60)
        with pytest.raises(StorageFull):
            self.reserve(catalog, "b", 1)
        self.reserve(catalog, "b", 40, "bob")
        with pytest.raises(StorageFull):
            self.reserve(catalog, "c", 1, "cid")
        self.reserve(catalog, "c", 60, storage="s3")
        assert (catalog.reserved("local", now=1.0), catalog.reserved("s3", now=1.0)) == (100, 60)
        with pytest.raises(StorageFull):
            self.reserve(catalog, "d", 2**63 - 1, "dan", room=2**63 - 1, cap=2**63 - 1)

    def test_the_same_id_renews(self, catalog: Catalog) -> None:
        self.reserve(catalog, "a", 60)
        self.reserve(catalog, "a", 50, until=99.0)
        assert catalog.reserved("local", now=50.0) == 50
        with pytest.raises(StorageFull):
            self.reserve(catalog, "a", 61)
        assert catalog.reserved("local", now=1.0) == 50

    def test_lapse_and_release(self, catalog: Catalog) -> None:
        self.reserve(catalog, "a", 60)
        assert (catalog.reserved("local", now=9.9), catalog.reserved("local", now=10.0)) == (60, 0)
        self.reserve(catalog, "b", 60, now=10.0, until=20.0)
        catalog.release("b")
        catalog.release("b")
        assert catalog.reserved("local", now=10.0) == 0

    def test_those_at_once_never_promise_more_than_there_is(self, catalog: Catalog) -> None:
        outcomes = together(*[lambda n=n: self.reserve(catalog, str(n), 30, f"p{n}") for n in range(8)])  # type: ignore[misc]
        assert sum(outcome is None for outcome in outcomes) == 3
        assert catalog.reserved("local", now=1.0) == 90


class TestUpkeep:
    def test_known_names_everything_that_holds_bytes(self, catalog: Catalog) -> None:
        file, upload = put(catalog, "a", keep_versions=1), begin(catalog)
        newer = put(catalog, "a", keep_versions=1)
        ended = begin(catalog)
        catalog.end_upload(ended.id, "failed", now=2.0, expires_at=9.0)
        keys = {file.blob.key, newer.blob.key, upload.key, ended.key}
        others = [key_for(new_id()) for _ in range(1500)]
        assert catalog.known("local", [*others, *keys]) == keys
        assert catalog.known("s3", list(keys)) == set()
        assert catalog.known("local", []) == set()
        catalog.forget("local", [ended.key, *others])
        assert catalog.known("local", [ended.key]) == set()

    def test_condemned_oldest_first(self, catalog: Catalog) -> None:
        keys = []
        for now in (3.0, 2.0, 4.0):
            upload = begin(catalog)
            catalog.end_upload(upload.id, "cancelled", now=now, expires_at=9.0)
            keys.append(upload.key)
        assert catalog.condemned("local", before=9.0) == [keys[1], keys[0], keys[2]]
        assert catalog.condemned("local", before=9.0, limit=2) == [keys[1], keys[0]]
        assert catalog.condemned("local", before=3.0) == [keys[1], keys[0]]
        assert catalog.condemned("s3", before=9.0) == []
        catalog.forget("s3", keys)
        assert len(catalog.condemned("local", before=9.0)) == 3
        catalog.forget("local", keys[:2])
        assert catalog.condemned("local", before=9.0) == [keys[2]]

    def test_blobs_by_key(self, catalog: Catalog) -> None:
        blobs = sorted((put(catalog, str(n)).blob for n in range(5)), key=lambda blob: blob.key)
        put(catalog, "s3", blob=a_blob(storage="s3"))
        assert catalog.blobs("local") == blobs
        assert catalog.blobs("local", limit=2) == blobs[:2]
        assert catalog.blobs("local", after=blobs[1].key) == blobs[2:]

    def test_a_digest_learned_later(self, catalog: Catalog) -> None:
        file = put(catalog, "a")
        catalog.set_sha256(file.blob.id, b"\x00" * 32)
        assert catalog.file(file.id).blob == replace(file.blob, sha256=b"\x00" * 32)  # type: ignore[union-attr]

    def test_a_key_belongs_to_one_blob(self, catalog: Catalog) -> None:
        file = put(catalog, "a")
        with pytest.raises(Conflict):
            put(catalog, "b", blob=replace(file.blob, id=new_id()))
        assert every_path(catalog) == ["a"]


class TestTokens:
    def test_found_by_the_hash_of_the_secret(self, catalog: Catalog) -> None:
        token = Token(new_id(), "lap top", {"*": frozenset({"read"}), "main": frozenset({"write", "delete", "admin"})}, 1.0, 5.0)
        catalog.add_token(token, b"\xff" * 32)
        assert catalog.token(b"\xff" * 32) == token
        assert catalog.token(b"\xfe" * 32) is None

    def test_revoking_is_seen_at_once(self, catalog: Catalog) -> None:
        tokens = [Token(new_id(), str(n), {}, float(n)) for n in (2, 1)]
        for number, token in enumerate(tokens):
            catalog.add_token(token, bytes([number]) * 32)
        assert catalog.tokens() == tokens[::-1]
        assert catalog.revoke_token(tokens[0].id, now=9.0)
        assert not catalog.revoke_token(tokens[0].id, now=10.0)
        assert not catalog.revoke_token(new_id(), now=9.0)
        assert catalog.token(b"\x00" * 32) == replace(tokens[0], revoked_at=9.0)

    def test_a_secret_is_of_one_token(self, catalog: Catalog) -> None:
        catalog.add_token(Token(new_id(), "a", {}, 1.0), b"x" * 32)
        with pytest.raises(Conflict):
            catalog.add_token(Token(new_id(), "b", {}, 1.0), b"x" * 32)
