"""What every catalog keeps of contents that go from one storage to another."""

from __future__ import annotations

from dataclasses import replace

import pytest
from catalogs import a_blob, at, begin, put, together

from carboy.catalog.base import Catalog, Move
from carboy.errors import StorageFailed
from carboy.jobs import Derived, Outcome
from carboy.model import Blob, Instance, key_for, new_id


def apart(catalog: Catalog, space: str = "main", storage: str = "s3", limit: int = 2) -> set[str]:
    """The ids of all pages, no one twice, in order."""
    found: list[Blob] = []
    while page := catalog.blobs_apart(space, storage, after=found[-1].id if found else None, limit=limit):
        found += page
    ids = [blob.id for blob in found]
    assert ids == sorted(set(ids))
    return set(ids)


def test_every_content_of_a_space_is_found_wherever_its_file_lies(catalog: Catalog) -> None:
    first = put(catalog, "a")
    second = put(catalog, "a", keep_versions=3)
    copy = put(catalog, "copy", blob=second.blob)
    trashed = put(catalog, "trashed")
    older = trashed.blob
    trashed = put(catalog, "trashed", keep_versions=3)
    catalog.trash_file(trashed.id, now=2.0, expires_at=9.0)
    [staged] = catalog.stage([at("staged")], now=2.0, expires_at=9.0)
    put(catalog, "elsewhere", space="other")
    there = put(catalog, "there", blob=a_blob(storage="s3"))
    assert apart(catalog) == {first.blob.id, second.blob.id, trashed.blob.id, older.id, staged.file.blob.id}
    assert copy.blob.id in apart(catalog)
    assert apart(catalog, storage="local") == {there.blob.id}
    assert len(apart(catalog, "other")) == 1
    assert apart(catalog, "nowhere") == set()


def test_a_content_that_two_spaces_have_is_of_both(catalog: Catalog) -> None:
    file = put(catalog, "a")
    put(catalog, "b", space="other", blob=file.blob)
    assert apart(catalog) == apart(catalog, "other") == {file.blob.id}
    catalog.move(file.id, Move("third", "c"), now=2.0)
    assert apart(catalog) == set()


def test_a_switch_changes_where_the_bytes_are_and_nothing_else(catalog: Catalog) -> None:
    file = put(catalog, "a")
    key = key_for(new_id())
    assert catalog.switch_blob(file.blob, "s3", key, now=5.0)
    assert catalog.file(file.id) == replace(file, blob=replace(file.blob, storage="s3", key=key))
    assert catalog.condemned("local", before=5.0) == [file.blob.key]
    assert catalog.condemned("local", before=4.9) == catalog.condemned("s3", before=9.0) == []
    assert catalog.known("s3", [key]) == {key}
    assert apart(catalog) == set()
    assert catalog.miscounted() == []


def test_what_is_not_where_it_was_is_not_switched(catalog: Catalog) -> None:
    file = put(catalog, "a")
    first, second = key_for(new_id()), key_for(new_id())
    assert catalog.switch_blob(file.blob, "s3", first, now=5.0)
    assert not catalog.switch_blob(file.blob, "s3", second, now=6.0)
    assert not catalog.switch_blob(replace(file.blob, storage="s3", key=second), "local", key_for(new_id()), now=6.0)
    assert catalog.blob(file.blob.id) == replace(file.blob, storage="s3", key=first)
    catalog.delete_file(file.id, now=7.0)
    assert not catalog.switch_blob(replace(file.blob, storage="s3", key=first), "local", key_for(new_id()), now=8.0)
    assert catalog.condemned("s3", before=9.0) == [first]
    assert catalog.condemned("local", before=9.0) == [file.blob.key]


def test_of_many_at_once_one_switches(catalog: Catalog) -> None:
    file = put(catalog, "a")
    keys = [key_for(new_id()) for _ in range(6)]
    done = together(*[lambda key=key: catalog.switch_blob(file.blob, "s3", key, now=5.0) for key in keys])
    assert sorted(map(bool, done)) == [False] * 5 + [True]
    kept = catalog.blob(file.blob.id)
    assert kept and kept.key == keys[[bool(one) for one in done].index(True)]
    assert catalog.condemned("local", before=9.0) == [file.blob.key]


def test_what_a_dead_process_made_is_not_switched_to(catalog: Catalog) -> None:
    file = put(catalog, "a")
    instance = Instance(new_id(), "host", 7, 0)
    catalog.appear(instance)
    assert catalog.switch_blob(file.blob, "s3", key_for(new_id()), now=5.0, fence=[instance.id])
    now = catalog.blob(file.blob.id)
    assert now
    catalog.bury(instance)
    with pytest.raises(StorageFailed):
        catalog.switch_blob(now, "s3", key_for(new_id()), now=6.0, fence=[instance.id])
    assert catalog.blob(file.blob.id) == now


def test_a_copy_of_a_file_read_before_the_switch_has_the_bytes_where_they_are_now(catalog: Catalog) -> None:
    file = put(catalog, "a")
    key = key_for(new_id())
    catalog.switch_blob(file.blob, "s3", key, now=5.0)
    assert put(catalog, "copy", blob=file.blob).blob == replace(file.blob, storage="s3", key=key)


def test_what_is_kept_in_each_storage(catalog: Catalog) -> None:
    assert catalog.stored() == {}
    put(catalog, "a", blob=a_blob(size=3))
    put(catalog, "b", blob=a_blob(size=5))
    put(catalog, "c", blob=a_blob(size=2**40, storage="s3"))
    put(catalog, "d", blob=a_blob(size=2**40, storage="s3"))
    begin(catalog)
    assert catalog.stored() == {"local": (2, 8), "s3": (2, 2**41)}


def test_what_is_derived_goes_along(catalog: Catalog) -> None:
    """Of contents that files have, and of older ones."""
    worker = Instance(new_id(), "host", 7, 0)
    catalog.appear(worker)
    made = []
    for _ in range(2):
        catalog.place([at("a", metadata={"steps": ["digest"]}, keep_versions=1)], now=1.0)
        claim, = catalog.claim_jobs(worker.id, now=2.0, steps=["digest"])
        derived = Derived(claim.job.blob_id, "digest", "small", a_blob(), "image/webp")
        assert catalog.finish_job(claim, Outcome(derived=[derived]), now=3.0)
        made += [claim.job.blob_id, derived.blob.id]
    assert [blob.id for blob in catalog.blobs_apart("main", "bulk")] == sorted(made)
    assert catalog.blobs_apart("other", "bulk") == []
