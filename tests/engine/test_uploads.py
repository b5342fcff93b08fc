"""Uploads with many hands: parallel parts, take-overs, storages that fail. tests/properties has one hand against a model."""

from __future__ import annotations

import os
import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import wire
from fixtures_server import eventually
from sources import SlowSource

from carboy import checksums
from carboy.catalog.base import Reservation
from carboy.engine.asks import Asks
from carboy.engine.checkpoints import Checkpoints
from carboy.engine.turns import Turns
from carboy.engine.writing import Writing
from carboy.errors import BodyCut, BytesDiffer, Interrupted, RangeBusy, StorageFailed, StorageFull, TooLarge, UnsupportedType, UploadGone
from carboy.model import Key, Upload
from carboy.storage.base import no_fragments
from carboy.streams import BytesSource

if TYPE_CHECKING:
    from conftest import Engine, EngineFactory


def begin(engine: Engine, path: str = "a", **options: Any) -> Upload:
    return engine.services.uploads.begin(engine.target(path), protocol="test", **options).upload


def write(engine: Engine, upload: Upload, at: int, data: bytes, **options: Any) -> Writing:
    return engine.services.uploads.write(upload, at, BytesSource(data), **options)


# --- parallel parts ------------------------------------------------------------------------------------------------


def test_parts_sent_by_many_at_once_and_twice_become_the_file(make_engine: EngineFactory) -> None:
    engine, other = make_engine(), make_engine()
    data, stride = os.urandom(40 * 5_003), 5_003
    upload = begin(engine, size=len(data))

    def send(number: int) -> None:
        process = (engine, other)[number % 2]
        at = number // 2 * stride
        try:
            write(process, upload, at, data[at:at + stride])
        except (BodyCut, UploadGone):
            pass  # the other one's bytes came first, or made it complete

    numbers = list(range(80))
    random.Random(7).shuffle(numbers)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(send, numbers))
    assert engine.read("a") == data
    assert engine.services.uploads.progress(upload.id).upload.state == "complete"
    assert engine.findings() == []


def test_numbered_pieces_sent_by_many_at_once_are_joined(engine: Engine) -> None:
    uploads, parts = engine.services.uploads, [os.urandom(3_001) for _ in range(24)]

    def send(index: int) -> None:
        with uploads.piece(engine.target("a").rules) as piece:
            piece.feed(parts[index])
            piece.keep(uploads.begin(engine.target("a"), protocol="test", name="file").upload, index)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(send, [*range(24), *range(24)]))
    progress = uploads.named("main", "me", "file")
    assert progress
    placed = uploads.complete_chunks(progress, 24)
    assert engine.read("a") == b"".join(parts)
    assert placed.file.blob.crc64nvme == checksums.crc64nvme(b"".join(parts))
    assert engine.services.sweeper.run(grace=0).orphans == 0
    assert engine.stored() == {placed.file.blob.key}


def test_two_last_parts_at_once_complete_it_once(engine: Engine) -> None:
    for turn in range(10):
        upload, start = begin(engine, f"{turn}", size=8), threading.Barrier(2)

        def send(at: int, upload: Upload = upload, start: threading.Barrier = start) -> Writing:
            start.wait()
            return write(engine, upload, at, b"half")

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(send, (0, 4)))
        assert engine.read(f"{turn}") == b"halfhalf"
        file = engine.file(f"{turn}")
        assert file and file.version == 1
    assert engine.findings() == []


def test_everyone_who_completes_the_same_chunks_gets_the_same_file(engine: Engine) -> None:
    uploads = engine.services.uploads
    upload = begin(engine, name="file")
    for index in range(3):
        with uploads.piece(engine.target("a").rules) as piece:
            piece.feed(b"part %d" % index)
            piece.keep(upload, index)

    progress, start = uploads.progress(upload.id), threading.Barrier(4)

    def complete(_: int) -> str:
        start.wait()
        return uploads.complete_chunks(progress, 3).file.id

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(complete, range(4)))) == 1
    assert engine.read("a") == b"part 0part 1part 2"
    assert uploads.complete_chunks(progress, 3).file.id == (engine.file("a") or pytest.fail()).id
    engine.services.sweeper.run(grace=0)
    assert len(engine.stored()) == 1


# --- taking over ---------------------------------------------------------------------------------------------------


def test_a_second_request_for_the_same_bytes_takes_over_and_nothing_that_came_is_lost(engine: Engine) -> None:
    upload = begin(engine, size=10)
    silent = SlowSource(10)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(engine.services.uploads.write, upload, 0, silent)
        silent.say(b"01234")
        silent.wait_until_asked(2)
        second = write(engine, upload, 5, b"56789")
        assert second.placed
        assert isinstance(first.exception(wire.LIMIT), Interrupted)
    assert engine.read("a") == b"0123456789"


@pytest.mark.parametrize("wanted", [(0, 10), (5, 10), (9, None)])
def test_another_process_takes_over_too(make_engine: EngineFactory, wanted: tuple[int, int | None]) -> None:
    """It asks by a datagram: the one in the way is stopped, one beside it isn't."""
    engine, other = make_engine(), make_engine()
    upload = begin(engine, size=30)
    silent, beside = SlowSource(10), SlowSource(10)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(engine.services.uploads.write, upload, 0, silent)
        second = threads.submit(engine.services.uploads.write, upload, 20, beside)
        for source in (silent, beside):
            source.say(b"01234")
            source.wait_until_asked(2)
        at = wanted[0]
        write(other, upload, at, b"0123456789"[at:10])
        assert isinstance(first.exception(wire.LIMIT), Interrupted)
        assert beside.ended == "open"
        beside.say(b"56789")
        beside.say(None)
        second.result(wire.LIMIT)
    assert engine.services.uploads.progress(upload.id).missing == ([(10, 20)] if at < 9 else [(5, 9), (10, 20)])


def test_an_upload_cancelled_in_another_process_is_stopped_here(make_engine: EngineFactory) -> None:
    engine, other = make_engine(), make_engine()
    upload = begin(engine, size=10)
    silent = SlowSource(10)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(engine.services.uploads.write, upload, 0, silent)
        silent.wait_until_asked()
        other.services.uploads.cancel(upload)
        assert isinstance(first.exception(wire.LIMIT), (BodyCut, UploadGone))


def test_processes_that_died_are_forgotten(tmp_path: Path) -> None:
    """Their sockets stay behind; who asks next removes them."""
    heard: list[tuple[Key, int, int | None]] = []
    living, asking = Asks(tmp_path / "turns"), Asks(tmp_path / "turns")
    asking.ask(Key("x"), 0, None)  # nobody has ever listened
    living.listen(lambda *asked: heard.append(asked))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(os.path.relpath(tmp_path / "turns" / "dead"))
    asking.ask(Key("ab/cd"), 5, None)
    eventually(lambda: heard == [(Key("ab/cd"), 5, None)])
    assert len(os.listdir(tmp_path / "turns")) == 1
    living.ask(Key("ab/cd"), 0, 1)  # not to itself
    living.close()
    living.close()
    assert os.listdir(tmp_path / "turns") == []
    asking.ask(Key("ab/cd"), 6, 7)
    eventually(lambda: not any(thread.name == "asks" for thread in threading.enumerate()))
    assert len(heard) == 1


def test_a_folder_with_a_long_path_is_no_hindrance(tmp_path: Path) -> None:
    heard: list[tuple[Key, int, int | None]] = []
    folder = tmp_path / ("x" * 200) / "turns"
    listening = Asks(folder)
    listening.listen(lambda *asked: heard.append(asked))
    Asks(folder).ask(Key("x"), 1, 2)
    eventually(lambda: heard == [(Key("x"), 1, 2)])
    listening.close()


def test_a_cancelled_uploads_writer_is_stopped(engine: Engine) -> None:
    upload = begin(engine, size=10)
    silent = SlowSource(10)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(engine.services.uploads.write, upload, 0, silent)
        silent.say(b"01234")
        silent.wait_until_asked(2)
        engine.services.uploads.cancel(upload)
        assert isinstance(first.exception(wire.LIMIT), (BodyCut, UploadGone))
    engine.services.sweeper.run(grace=0)
    assert engine.stored() == set()


def test_parts_beside_a_silent_one_go_on(engine: Engine) -> None:
    upload = begin(engine, size=15)
    silent = SlowSource(5)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(engine.services.uploads.write, upload, 5, silent)
        silent.wait_until_asked()
        write(engine, upload, 0, b"01234")
        write(engine, upload, 10, b"abcde")
        assert silent.ended == "open"
        silent.say(b"56789")
        silent.say(None)
        assert first.result(wire.LIMIT).placed
    assert engine.read("a") == b"0123456789abcde"


def test_all_writers_are_asked_to_end_when_the_process_ends(engine: Engine) -> None:
    upload = begin(engine, size=20)
    silent = [SlowSource(10), SlowSource(10)]
    with ThreadPoolExecutor(2) as threads:
        writers = [threads.submit(engine.services.uploads.write, upload, at, source) for at, source in zip((0, 10), silent, strict=True)]
        for source in silent:
            source.say(b"half.")
            source.wait_until_asked(2)
        engine.services.uploads.turns.stop_all()
        assert all(isinstance(writer.exception(wire.LIMIT), BodyCut) for writer in writers)
    assert engine.services.uploads.progress(upload.id).missing == [(5, 10), (15, 20)]


def test_one_who_does_not_let_go_is_waited_for_only_so_long(engine: Engine) -> None:
    engine.services.uploads.turns = Turns(patience=0.05)
    upload = begin(engine, size=10)
    with engine.services.storages["local"].writer(upload.key, 3, 4, {}, no_fragments), pytest.raises(RangeBusy):
        write(engine, upload, 0, b"0123456789")
    assert write(engine, upload, 0, b"0123456789").placed


def test_who_completes_waits_for_who_still_holds_bytes_past_the_end(engine: Engine) -> None:
    """As one does that joins parts, or completes the upload too."""
    upload = begin(engine, size=10)
    with ThreadPoolExecutor(1) as threads:
        with engine.services.storages["local"].writer(upload.key, 10, None, {}, no_fragments):
            writing = threads.submit(write, engine, upload, 0, b"0123456789")
            eventually(lambda: engine.services.uploads.receiving(upload.id).covered)
            with pytest.raises(TimeoutError):
                writing.result(0.1)
        assert writing.result(wire.LIMIT).placed


def test_who_completes_waits_only_so_long(engine: Engine) -> None:
    engine.services.uploads.turns = Turns(patience=0.05)
    upload = begin(engine, size=3)
    with engine.services.storages["local"].writer(upload.key, 3, None, {}, no_fragments), pytest.raises(RangeBusy):
        write(engine, upload, 0, b"abc")
    assert engine.services.uploads.progress(upload.id).upload.state == "complete", "it has all, and is asked for"


# --- what came is kept as it comes ---------------------------------------------------------------------------------


def test_a_long_body_is_recorded_while_it_comes(make_engine: EngineFactory) -> None:
    engine = make_engine(checkpoint_bytes=1000)
    upload = begin(engine, size=100_000)
    slow = SlowSource(100_000)
    with ThreadPoolExecutor(1) as threads:
        writer = threads.submit(engine.services.uploads.write, upload, 0, slow)
        slow.say(b"x" * 1000)
        eventually(lambda: engine.services.uploads.progress(upload.id).received == 1000)
        slow.say(b"y" * 5000)
        eventually(lambda: engine.services.uploads.progress(upload.id).received == 6000)
        slow.stop()
        assert isinstance(writer.exception(wire.LIMIT), BodyCut)


def test_a_body_with_a_digest_reports_nothing_before_it_has_passed(make_engine: EngineFactory) -> None:
    engine = make_engine(checkpoint_bytes=1000)
    upload = begin(engine, size=100_000)
    slow = SlowSource(100_000)
    with ThreadPoolExecutor(1) as threads:
        writer = threads.submit(engine.services.uploads.write, upload, 0, slow, digests=[("sha-256", b"\0" * 32)])
        for _ in range(3):
            slow.say(b"x" * 5000)
        slow.wait_until_asked(4)
        assert engine.services.uploads.progress(upload.id).received == 0
        slow.stop()
        assert isinstance(writer.exception(wire.LIMIT), BodyCut)
    assert engine.services.uploads.progress(upload.id).received == 0


def test_a_checkpoints_error_comes_out_of_the_next_tick_or_the_end() -> None:
    def fail() -> None:
        raise StorageFailed("no")

    with ThreadPoolExecutor(1) as executor:
        checkpoints = Checkpoints(executor, lambda: fail, every_bytes=10, every_seconds=1e9)
        checkpoints.tick(9)
        checkpoints.settle()
        checkpoints.tick(10)
        with pytest.raises(StorageFailed):
            checkpoints.settle()
        checkpoints.settle()


def test_no_two_checkpoints_of_a_body_run_at_once() -> None:
    running, most, gate = [0], [0], threading.Semaphore(0)

    def job() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        assert gate.acquire(timeout=wire.LIMIT)
        running[0] -= 1

    with ThreadPoolExecutor(4) as executor:
        checkpoints = Checkpoints(executor, lambda: job, every_bytes=1, every_seconds=1e9)
        for received in range(1, 20):
            checkpoints.tick(received)
        gate.release()
        checkpoints.settle()
        assert most == [1]
        gate.release()
        checkpoints.tick(100)
        checkpoints.settle()


# --- storages that fail --------------------------------------------------------------------------------------------


class BrokenSync:
    """``os.fdatasync`` on a disk that lost what was written."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, fd: int) -> None:
        self.calls += 1
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("checkpoint", [1000, 10**9])
def test_a_failed_sync_is_final_for_the_upload(make_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch, checkpoint: int) -> None:
    engine = make_engine(checkpoint_bytes=checkpoint)
    upload = begin(engine, size=10_000)
    write(engine, upload, 0, b"before")
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", BrokenSync())
        with pytest.raises(StorageFailed):
            engine.services.uploads.write(upload, 6, BytesSource([b"x" * 2000] * 3))
    failed = engine.services.uploads.progress(upload.id).upload
    assert (failed.state, failed.failure) == ("failed", "storage_failed")
    with pytest.raises(UploadGone):
        write(engine, failed, 6, b"again")
    engine.services.sweeper.run(grace=0)
    assert engine.stored() == set()


def test_a_failed_sync_keeps_nothing_of_a_file(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = BrokenSync()
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", sync)
        with pytest.raises(StorageFailed):
            engine.put("a", b"bytes")
    assert sync.calls == 1
    assert engine.file("a") is None
    assert engine.stored() == set()


def test_a_full_disk_leaves_the_upload_to_be_resumed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = begin(engine, size=10)
    write(engine, upload, 0, b"01234")
    with monkeypatch.context() as full:
        def no_room(fd: int, data: bytes, at: int) -> int:
            raise OSError(28, "No space left on device")

        full.setattr(os, "pwrite", no_room)
        with pytest.raises(StorageFull):
            write(engine, upload, 5, b"56789")
    assert engine.services.uploads.progress(upload.id).missing == [(5, 10)]
    assert write(engine, upload, 5, b"56789").placed
    assert engine.read("a") == b"0123456789"


def test_different_bytes_are_refused_while_a_checkpoint_is_under_way(make_engine: EngineFactory) -> None:
    """The checkpoint still uses the writer: it is waited for, and what it recorded is on the disk."""
    engine = make_engine(checkpoint_bytes=100)
    for turn in range(10):
        upload = begin(engine, f"{turn}", size=3000)
        write(engine, upload, 2000, b"kept" * 250)
        with pytest.raises(BytesDiffer):
            engine.services.uploads.write(upload, 0, BytesSource([b"a" * 500, b"b" * 500, b"c" * 500, b"d" * 500, b"different!"]))
        for span in engine.services.uploads.progress(upload.id).spans:
            stored = b"".join(engine.services.storages["local"].read(upload.key, span))
            assert checksums.crc64nvme(stored) == span.crc


# --- limits --------------------------------------------------------------------------------------------------------


def test_the_type_is_told_by_the_first_bytes_and_refused_before_the_rest(make_engine: EngineFactory) -> None:
    engine = make_engine(spaces={"images": {"accept": ["image/*"]}})
    upload = engine.services.uploads.begin(engine.target("a.png", "images"), protocol="test").upload
    with pytest.raises(UnsupportedType):
        engine.services.uploads.write(upload, 0, BytesSource([b"<!DOCTYPE html><html>" + b" " * 5000, b"more"]))
    assert engine.file("a.png", "images") is None


def test_more_than_the_largest_file_is_refused_at_once_or_where_it_is_passed(make_engine: EngineFactory) -> None:
    engine = make_engine(spaces={"main": {"max_size": 10}})
    with pytest.raises(TooLarge):
        begin(engine, size=11)
    upload = begin(engine)
    with pytest.raises(TooLarge):
        write(engine, upload, 5, b"678901")
    write(engine, upload, 5, b"67890")
    with pytest.raises(TooLarge):
        engine.services.receiver.receive(engine.target("b"), BytesSource([b"12345", b"67890", b"1"]))
    assert engine.file("b") is None


def test_declared_sizes_are_promised_room_and_give_it_back(make_engine: EngineFactory) -> None:
    engine = make_engine(reserve_from=10)
    catalog, uploads = engine.services.catalog, engine.services.uploads

    def promised() -> int:
        return catalog.reserved("local", now=engine.now)

    begin(engine, "small", size=9)
    assert promised() == 0
    cancelled, done = begin(engine, "b", size=1000), begin(engine, "c", size=100)
    assert promised() == 1100
    uploads.cancel(cancelled)
    assert promised() == 100
    write(engine, done, 0, b"x" * 100)
    assert promised() == 0
    begin(engine, "d", size=500)
    engine.now += engine.settings.reservation_expiry
    assert promised() == 0


def test_room_that_others_were_promised_is_not_given_away(make_engine: EngineFactory) -> None:
    engine = make_engine(reserve_from=10)
    room = engine.services.storages["local"].room()
    engine.services.catalog.reserve(Reservation("other", "local", "them", room, engine.now + 100), room=room, cap=room, now=engine.now)
    with pytest.raises(StorageFull):
        begin(engine, size=10**9)
    engine.now += 100
    assert engine.put("a", b"x" * 100).created
