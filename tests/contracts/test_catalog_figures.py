"""What every catalog tells operators: how much there is of everything."""

from __future__ import annotations

from catalogs import a_blob, an_upload, put

from carboy.catalog.base import Catalog
from carboy.catalog.base_figures import Standing, StepDepth
from carboy.model import Instance, Usage, new_id


def test_nothing_yet(catalog: Catalog) -> None:
    assert catalog.standing(now=1.0) == Standing({}, [], {}, [], [])


def test_files_by_space_and_contents_by_storage(catalog: Catalog) -> None:
    one = put(catalog, "a", 1.0, blob=a_blob(size=10))
    put(catalog, "b", 1.0, blob=a_blob(size=20))
    catalog.set_damaged(one.blob.id, 2.0)
    standing = catalog.standing(now=3.0)
    assert standing.usage == {"main": Usage(2, 30)}
    stored, = standing.stored
    assert (stored.storage, stored.blobs, stored.bytes, stored.damaged, stored.quarantined, stored.held) == ("local", 2, 30, 1, 0, 0)


def test_uploads_that_take_bytes_by_protocol(catalog: Catalog) -> None:
    ended = catalog.create_upload(an_upload(protocol="tus"))
    for protocol in ("tus", "tus", "resumable"):
        catalog.create_upload(an_upload(protocol=protocol))
    catalog.end_upload(ended.id, "cancelled", now=2.0, expires_at=9.0)
    assert catalog.standing(now=3.0).receiving == {"tus": 2, "resumable": 1}


def test_jobs_by_state_and_since_when_the_first_is_due(catalog: Catalog) -> None:
    """One that is to be tried later is not due, however long ago it was ordered."""
    worker = Instance(new_id(), "host", 77, 0)
    catalog.appear(worker)
    for number in range(4):
        put(catalog, f"{number}", float(number + 1), metadata={"steps": ["digest"]})
    later, dead = catalog.claim_jobs(worker.id, now=10.0, steps=["digest"], limit=2)
    catalog.fail_job(later, "no", now=11.0, due_at=100.0)
    assert catalog.standing(now=50.0).jobs == [StepDepth("digest", "carboy", "queued", 3, 3.0), StepDepth("digest", "carboy", "running", 1, None)]
    catalog.fail_job(dead, "no", now=12.0, due_at=None)
    assert catalog.standing(now=2.5).jobs == [StepDepth("digest", "carboy", "dead", 1, None), StepDepth("digest", "carboy", "queued", 3, None)]
