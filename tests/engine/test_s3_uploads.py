"""Uploads into a bucket, as the engine keeps them: bytes that come once more, and bytes that clients send to the bucket themselves."""

from __future__ import annotations

import os
from typing import Any
from urllib.request import Request, urlopen

import pytest
from fixtures_server import eventually
from fixtures_stores import EngineOver, Stores

from carboy.engine import direct
from carboy.errors import BytesMissing, StorageFailed
from carboy.model import Key, Placed, Upload
from carboy.storage.base import Direct
from carboy.storage.s3_direct import S3Direct
from carboy.streams import BytesSource

MIB = 2**20


def begin(engine: Stores, size: int) -> Upload:
    return engine.services.uploads.begin(engine.target("a", "one"), protocol="tus", size=size).upload


def offer(engine: Stores, **options: Any) -> Upload:
    return engine.services.direct.begin(engine.target("a", "one"), **options)


def send(engine: Stores, upload: Upload, *parts: bytes) -> None:
    """As a client does: asks for addresses, and sends to them."""
    now = engine.services.uploads.progress(upload.id).upload
    for number, signed in engine.services.direct.sign(now, range(1, len(parts) + 1)).items():
        with urlopen(Request(signed.url, parts[number - 1], {"Content-Type": "application/octet-stream"}, method="PUT")):
            pass


# --- bytes that come once more -------------------------------------------------------------------------------------


def test_who_repeats_bytes_while_another_writes_on_harms_nothing(stores: EngineOver) -> None:
    engine, data = stores(), os.urandom(20 * MIB)
    uploads, upload = engine.services.uploads, begin(engine, 40 * MIB)
    uploads.write(upload, 0, BytesSource(data[:8 * MIB]))
    uploads.write(upload, 8 * MIB, BytesSource(data[8 * MIB:10 * MIB]))
    with uploads.writing(upload, 0, 10 * MIB, BytesSource(b"")) as writing:
        writing.feed(data[:MIB])
        uploads.write(upload, 10 * MIB, BytesSource(data[10 * MIB:]))
        assert engine.services.sweeper.run(grace=0, orphans=False).deleted == 1
        writing.feed(data[MIB:10 * MIB])
        writing.end()
    progress = uploads.progress(upload.id)
    assert (progress.upload.state, progress.missing) == ("receiving", [(20 * MIB, 40 * MIB)])


def test_bytes_that_cant_be_compared_fail_the_request_and_not_the_upload(stores: EngineOver) -> None:
    """What the request has brought before is kept."""
    engine, data = stores(), os.urandom(4 * MIB)
    uploads, upload = engine.services.uploads, begin(engine, 40 * MIB)
    uploads.write(upload, 2 * MIB, BytesSource(data[2 * MIB:]))
    piece, = engine.services.catalog.fragments(upload.id)
    engine.s3.client().delete_object(Bucket=engine.buckets["one"], Key=f"one/{piece.key}")
    with pytest.raises(BytesMissing):
        uploads.write(upload, 0, BytesSource(data))
    progress = uploads.progress(upload.id)
    assert (progress.upload.state, progress.missing) == ("receiving", [(4 * MIB, 40 * MIB)])


# --- bytes that clients send to the bucket -------------------------------------------------------------------------


@pytest.mark.parametrize(("longest", "settled"), [(6 * MIB, 0), (7 * MIB, 1)])
def test_what_is_long_is_not_settled_by_the_sweeper_joined_or_not(stores: EngineOver, monkeypatch: pytest.MonkeyPatch, longest: int,
                                                                  settled: int) -> None:
    engine, data = stores(), os.urandom(7 * MIB)
    upload = offer(engine, size=len(data), part_size=5 * MIB)
    send(engine, upload, data[:5 * MIB], data[5 * MIB:])
    monkeypatch.setattr(direct, "MAX_PART", 6 * MIB)
    assert engine.services.direct.settle() == 0
    storage = engine.services.storages["one"]
    assert isinstance(storage, Direct)
    storage.join(upload.key, upload.driver_state, storage.client_parts(upload.key, upload.driver_state) or ())
    monkeypatch.setattr(direct, "MAX_PART", longest)
    assert engine.services.direct.settle() == settled
    engine.services.direct.complete(upload)
    assert engine.read("a", "one") == data


def test_who_asks_for_an_address_late_is_found_by_the_sweeper(stores: EngineOver) -> None:
    engine = stores(direct_expiry=60)
    upload = offer(engine, size=5)
    engine.now += 200
    send(engine, upload, b"hello")
    engine.now += 50
    assert engine.services.direct.settle() == 1
    assert engine.read("a", "one") == b"hello"


def test_a_copy_that_was_taken_for_an_orphan_becomes_no_file(stores: EngineOver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server takes late parts: its maker was stopped before the commit, and others have swept meanwhile."""
    engine, other, data = stores(), stores(), os.urandom(MIB)
    catalog, upload = engine.services.catalog, offer(engine)
    complete, copies = catalog.complete, set[Key]()
    monkeypatch.setattr(S3Direct, "_late", True)
    send(engine, upload, data)
    other.now += 3 * other.settings.direct_expiry

    def stopped(*args: Any, **options: Any) -> Placed:
        copies.update(other.keys("one") - {upload.key})
        while instances := catalog.instances():
            for instance in instances:
                catalog.bury(instance)
        other.swept()
        monkeypatch.setattr(catalog, "complete", complete)
        return complete(*args, **options)

    monkeypatch.setattr(catalog, "complete", stopped)
    with pytest.raises(StorageFailed):
        engine.services.direct.complete(upload)
    assert len(copies) == 1
    assert not copies & other.keys("one")
    eventually(lambda: engine.services.leases.instance() in [instance.id for instance in catalog.instances()])
    engine.services.direct.complete(upload)
    assert engine.read("a", "one") == data
    assert engine.findings() == []
