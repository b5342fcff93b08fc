"""The sweeper and fsck, beside writers: what is needed stays, whatever is not goes, and what is wrong is found."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import wire
from catalogs import an_upload

from carboy import checksums
from carboy.engine.sweeper import Swept
from carboy.errors import NotFound, UploadGone
from carboy.model import Key, Span, key_for, new_id
from carboy.storage.base import no_fragments
from carboy.streams import BytesSource

if TYPE_CHECKING:
    from conftest import Engine, EngineFactory

DAY = 24 * 3600.0


def sweep(engine: Engine, **options: float) -> Swept:
    return engine.services.sweeper.run(**options)  # type: ignore[arg-type]


# --- deleted and replaced files ------------------------------------------------------------------------------------


def test_a_sound_store_needs_nothing(engine: Engine) -> None:
    engine.put("a", b"one")
    engine.services.uploads.begin(engine.target("b"), protocol="test", size=100)
    assert sweep(engine, grace=0) == Swept()
    assert engine.findings() == []


def test_a_deleted_files_bytes_go_after_the_grace_and_not_before(engine: Engine) -> None:
    file = engine.put("a", b"bytes").file
    engine.services.catalog.delete_file(file.id, now=engine.now)
    engine.now += engine.settings.delete_grace - 1
    assert sweep(engine).deleted == 0
    assert engine.stored() == {file.blob.key}
    engine.now += 1
    assert sweep(engine).deleted == 1
    assert engine.stored() == set()
    assert sweep(engine, grace=0) == Swept()


def test_replaced_bytes_go_after_the_grace_and_the_new_ones_stay(engine: Engine) -> None:
    old = engine.put("a", b"old").file
    new = engine.put("a", b"new").file
    assert sweep(engine).deleted == 0
    assert engine.stored() == {old.blob.key, new.blob.key}
    engine.now += engine.settings.delete_grace
    assert sweep(engine).deleted == 1
    assert engine.stored() == {new.blob.key}
    assert engine.read("a") == b"new"


def test_versions_stay_as_long_as_they_are_kept(make_engine: EngineFactory) -> None:
    engine = make_engine(spaces={"kept": {"versions": 1}})
    for data in (b"1", b"2", b"3"):
        engine.put("a", data, space="kept")
    assert sweep(engine, grace=0).deleted == 1
    assert len(engine.stored()) == 2
    assert engine.findings() == []


def test_bytes_that_something_still_writes_are_left_for_the_next_round(engine: Engine) -> None:
    upload = engine.services.uploads.begin(engine.target("a"), protocol="test").upload
    with engine.services.storages["local"].writer(upload.key, 0, 10, {}, no_fragments):
        engine.services.uploads.cancel(upload)
        assert sweep(engine, grace=0).deleted == 0
        assert engine.stored() == {upload.key}
    assert sweep(engine, grace=0).deleted == 1
    assert engine.stored() == set()


def test_one_file_that_cant_be_removed_does_not_stop_the_others(engine: Engine) -> None:
    files = [engine.put(name, name.encode()).file for name in "abc"]
    for file in files:
        engine.services.catalog.delete_file(file.id, now=engine.now)
    stuck = min(file.blob.key for file in files)
    engine.blob(stuck).unlink()
    engine.blob(stuck).symlink_to("/dev/null")
    assert sweep(engine, grace=0).deleted == 2
    assert not any(os.path.lexists(engine.blob(file.blob.key)) for file in files if file.blob.key != stuck)


# --- uploads -------------------------------------------------------------------------------------------------------


def test_an_upload_expires_a_day_after_its_last_byte(engine: Engine) -> None:
    uploads = engine.services.uploads
    upload = uploads.begin(engine.target("a"), protocol="test", size=10).upload
    engine.now += DAY - 1
    uploads.write(upload, 0, BytesSource(b"12345"))
    engine.now += DAY - 1
    assert sweep(engine, grace=0) == Swept()
    assert uploads.progress(upload.id).received == 5
    engine.now += 1
    swept = sweep(engine, grace=0)
    assert (swept.expired, swept.deleted) == (1, 1)
    assert engine.stored() == set()
    expired = uploads.progress(upload.id).upload
    assert expired.state == "expired"
    with pytest.raises(UploadGone):
        uploads.write(expired, 5, BytesSource(b"67890"))
    assert engine.findings() == []


def test_an_upload_that_got_bytes_after_it_was_listed_as_expired_goes_on(engine: Engine) -> None:
    uploads, catalog = engine.services.uploads, engine.services.catalog
    upload = uploads.begin(engine.target("a"), protocol="test", size=10).upload
    engine.now += DAY
    listed = catalog.expired_uploads(now=engine.now)
    assert [one.id for one in listed] == [upload.id]
    uploads.write(upload, 0, BytesSource(b"12345"))
    assert not catalog.end_upload(upload.id, "expired", now=engine.now, expires_at=engine.now + DAY)
    assert uploads.progress(upload.id).received == 5


def test_what_has_ended_is_forgotten_a_day_later(engine: Engine) -> None:
    uploads = engine.services.uploads
    cancelled = uploads.begin(engine.target("a"), protocol="test", size=10).upload
    uploads.cancel(cancelled)
    done = uploads.begin(engine.target("b"), protocol="test", size=1).upload
    uploads.write(done, 0, BytesSource(b"x"))
    engine.now += DAY - 1
    assert sweep(engine).purged == 0
    assert uploads.progress(done.id).upload.state == "complete"
    engine.now += 1
    assert sweep(engine).purged == 2
    for upload in (cancelled, done):
        with pytest.raises(NotFound):
            uploads.progress(upload.id)
    assert engine.read("b") == b"x"


def test_pieces_go_with_their_upload(engine: Engine) -> None:
    uploads = engine.services.uploads
    upload = uploads.begin(engine.target("a"), protocol="test").upload
    for data in (b"one", b"again"):
        with uploads.piece(engine.target("a").rules) as piece:
            piece.feed(data)
            piece.keep(upload, 0)
    assert len(engine.stored()) == 3
    assert sweep(engine, grace=0).deleted == 1
    assert len(engine.stored()) == 2
    uploads.cancel(upload)
    assert sweep(engine, grace=0).deleted == 2
    assert engine.stored() == set()


def test_a_covered_upload_that_no_request_completed_is_completed(engine: Engine) -> None:
    uploads = engine.services.uploads
    upload = uploads.begin(engine.target("a"), protocol="test", size=6).upload
    with engine.services.storages["local"].writer(upload.key, 0, 6, {}, no_fragments) as writer:
        writer.write(b"whole!")
        writer.flush()
        engine.services.catalog.record(upload.id, [Span(0, 6, checksums.crc64nvme(b"whole!"))], now=engine.now, expires_at=engine.now + DAY)
    assert engine.file("a") is None
    assert sweep(engine).completed == 1
    assert engine.read("a") == b"whole!"
    assert sweep(engine).completed == 0
    assert engine.findings() == []


def test_a_covered_upload_that_cant_be_completed_keeps_its_bytes_until_it_expires(engine: Engine) -> None:
    uploads = engine.services.uploads
    upload = uploads.begin(engine.target("a/b"), protocol="test", size=1).upload
    engine.put("a", b"in the way")
    with engine.services.storages["local"].writer(upload.key, 0, 1, {}, no_fragments) as writer:
        writer.write(b"x")
        writer.flush()
        engine.services.catalog.record(upload.id, [Span(0, 1, checksums.crc64nvme(b"x"))], now=engine.now, expires_at=engine.now + DAY)
    assert sweep(engine, grace=0) == Swept()
    assert upload.key in engine.stored()
    engine.now += DAY
    assert sweep(engine, grace=0).expired == 1
    assert upload.key not in engine.stored()


def test_a_covered_upload_is_completed_however_many_others_are_refused(make_engine: EngineFactory) -> None:
    engine = make_engine(durability="relaxed")
    engine.put("a", b"in the way")
    for number in range(1000):
        engine.services.catalog.create_upload(an_upload(id=f"{number:032x}", path=f"a/{number}", size=0, expires_at=engine.now + DAY))
    upload = an_upload(id="f" * 32, path="b", size=0, expires_at=engine.now + DAY)
    with engine.services.storages["local"].begin(0) as (key, state):
        engine.services.catalog.create_upload(replace(upload, key=key, driver_state=state))
    assert sweep(engine).completed == 1
    assert engine.read("b") == b""
    assert sweep(engine).completed == 0


# --- orphans -------------------------------------------------------------------------------------------------------


def test_bytes_that_nobody_knows_go(engine: Engine) -> None:
    kept = engine.put("a", b"kept").file.blob.key
    orphans = {key_for(new_id()) for _ in range(20)}
    for key in orphans:
        engine.plant(key)
    assert engine.findings() == [("orphan", key) for key in sorted(orphans)]
    assert engine.stored() == {kept, *orphans}
    assert sweep(engine, orphans=False) == Swept()
    assert sweep(engine).orphans == 20
    assert engine.stored() == {kept}
    assert engine.findings() == []


def test_staged_bytes_are_nobodys_orphan_before_and_after_their_commit(engine: Engine) -> None:
    """A writer holds its bytes until its commit is decided: no moment in between is a sweeper's."""
    with engine.services.receiver.delivery("me") as delivery:
        incoming = delivery.open(engine.target("a"))
        incoming.feed(b"not yet committed")
        assert len(engine.stored()) == 1
        assert sweep(engine, grace=0) == Swept()
        assert engine.findings() == []
        incoming.end()
        delivery.publish()
        assert sweep(engine, grace=0) == Swept()
    assert engine.read("a") == b"not yet committed"
    assert engine.findings() == []


def test_nothing_remains_of_a_delivery_that_was_not_published(engine: Engine) -> None:
    with engine.services.receiver.delivery("me") as delivery:
        delivery.open(engine.target("a")).feed(b"never mind")
    assert engine.stored() == set()


@pytest.mark.parametrize("by_another_process", [False, True])
def test_files_stored_while_sweepers_run_are_all_there(make_engine: EngineFactory, by_another_process: bool) -> None:
    engine = make_engine()
    sweeping = make_engine() if by_another_process else engine
    ended = threading.Event()

    def sweep_on() -> int:
        rounds = 0
        while not ended.is_set():
            sweep(sweeping, grace=0)  # it may take an empty blob between its birth and its lock: another one is made then
            rounds += 1
        return rounds

    def store(number: int) -> None:
        for turn in range(15):
            if turn % 3:
                engine.put(f"{number}/{turn}", f"{number}/{turn}".encode())
            else:
                upload = engine.services.uploads.begin(engine.target(f"{number}/{turn}"), protocol="test", size=len(f"{number}/{turn}")).upload
                engine.services.uploads.write(upload, 0, BytesSource(f"{number}/{turn}".encode()))

    with ThreadPoolExecutor(5) as threads:
        sweeper = threads.submit(sweep_on)
        for done in [threads.submit(store, number) for number in range(4)]:
            done.result(wire.LIMIT)
        ended.set()
        assert sweeper.result(wire.LIMIT) > 0
    assert all(engine.read(f"{number}/{turn}") == f"{number}/{turn}".encode() for number in range(4) for turn in range(15))
    assert engine.findings() == []


# --- fsck ----------------------------------------------------------------------------------------------------------


def test_every_kind_of_damage_is_found_and_named(engine: Engine) -> None:
    missing, cut, longer, damaged, sound = (engine.put(name, name.encode() * 1000).file.blob.key
                                            for name in ("missing", "cut", "longer", "damaged", "sound"))
    orphan = key_for(new_id())
    engine.plant(orphan)
    engine.blob(missing).unlink()
    os.truncate(engine.blob(cut), 10)
    with engine.blob(longer).open("ab") as file:
        file.write(b"x")
    data = bytearray(engine.blob(damaged).read_bytes())
    data[3000] ^= 1
    engine.blob(damaged).write_bytes(data)
    shallow = sorted([("missing", missing), ("cut", cut), ("cut", longer), ("orphan", orphan)])
    assert engine.findings(deep=False) == shallow
    assert engine.findings() == sorted([*shallow, ("damaged", damaged)])
    assert engine.blob(orphan).exists()
    assert engine.blob(sound).exists()


def test_a_wrong_sha256_is_damage_too(engine: Engine) -> None:
    file = engine.put("a", b"bytes").file
    engine.services.catalog.set_sha256(file.blob.id, b"\0" * 32)
    assert engine.findings() == [("damaged", file.blob.key)]
    assert engine.findings(deep=False) == []


def test_fsck_counts_what_it_checked(engine: Engine) -> None:
    for name in "abc":
        engine.put(name, b"12345")
    assert engine.findings() == []
    assert (engine.services.fsck.blobs, engine.services.fsck.bytes) == (3, 15)


def test_a_symlink_in_a_blobs_place_is_found_not_followed(engine: Engine) -> None:
    file = engine.put("a", b"secret").file
    outside = engine.folder / "outside"
    outside.write_bytes(b"secret")
    engine.blob(file.blob.key).unlink()
    engine.blob(file.blob.key).symlink_to(outside)
    assert [key for _, key in engine.findings()] == [file.blob.key]


def test_uploads_under_way_are_no_findings(engine: Engine) -> None:
    upload = engine.services.uploads.begin(engine.target("a"), protocol="test", size=100).upload
    engine.services.uploads.write(upload, 50, BytesSource(b"later part"))
    with engine.services.uploads.piece(engine.target("a").rules) as piece:
        piece.feed(b"x")
        assert engine.findings() == []
        piece.keep(upload, 0)
    assert engine.findings() == []


def test_more_blobs_than_a_page_are_all_checked(engine: Engine) -> None:
    storage, catalog = engine.services.storages["local"], engine.services.catalog
    first = engine.put("0", b"").file
    placements = []
    for number in range(1, 1105):
        with storage.stage(0) as (key, _):
            blob = replace(first.blob, id=key[3:], key=Key(key))
            placements.append(engine.target(str(number)).placement(blob, "text/plain"))
    catalog.place(placements, now=engine.now)
    assert engine.findings() == []
    assert engine.services.fsck.blobs == 1105
