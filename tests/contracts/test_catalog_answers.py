"""What every catalog keeps of requests with an Idempotency-Key."""

from __future__ import annotations

from catalogs import together

from carboy.catalog.base import Catalog


def claim(catalog: Catalog, principal: str = "ann", key: str = "k", fingerprint: bytes = b"f", now: float = 1.0) -> tuple[bytes, str | None] | None:
    return catalog.claim_answer(principal, key, fingerprint, now=now, expires_at=now + 10)


def test_the_first_has_it(catalog: Catalog) -> None:
    assert claim(catalog) is None
    assert claim(catalog, fingerprint=b"other") == (b"f", None)
    catalog.keep_answer("ann", "k", "said", expires_at=20.0)
    assert claim(catalog, now=19.0) == (b"f", "said")


def test_keys_of_others_are_others(catalog: Catalog) -> None:
    assert [claim(catalog), claim(catalog, "bob"), claim(catalog, key="l")] == [None, None, None]
    catalog.keep_answer("ann", "k", "said", expires_at=20.0)
    assert claim(catalog, "bob") == (b"f", None)


def test_what_is_dropped_or_lapsed_may_be_claimed_again(catalog: Catalog) -> None:
    claim(catalog)
    catalog.drop_answer("ann", "k")
    assert claim(catalog, fingerprint=b"g") is None
    assert claim(catalog, now=11.0, fingerprint=b"h") is None
    assert claim(catalog, now=12.0) == (b"h", None)


def test_a_claim_is_extended_and_an_answer_is_not(catalog: Catalog) -> None:
    claim(catalog)
    catalog.keep_answer("ann", "k", None, expires_at=50.0)
    assert claim(catalog, now=49.0) == (b"f", None)
    catalog.keep_answer("ann", "k", "said", expires_at=60.0)
    catalog.keep_answer("ann", "k", None, expires_at=99.0)
    assert claim(catalog, now=59.0) == (b"f", "said")
    assert claim(catalog, now=61.0) is None


def test_purged_when_they_lapse(catalog: Catalog) -> None:
    claim(catalog)
    assert (catalog.purge(now=10.0), catalog.purge(now=11.0)) == (0, 1)
    assert claim(catalog) is None


def test_of_many_at_once_one_has_it(catalog: Catalog) -> None:
    answers = together(*[lambda: claim(catalog) for _ in range(8)])
    assert sorted(answer is None for answer in answers) == [False] * 7 + [True]
