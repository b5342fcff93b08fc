"""Uploads that are parts of others; bytes that must go on where an upload stands; who lets go for whom."""

from __future__ import annotations

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import wire
from catalogs import an_upload
from sources import SlowSource

from carboy import checksums
from carboy.engine.joining import join_parts
from carboy.engine.receive import AsUpload
from carboy.engine.writing import Writing
from carboy.errors import (
    BodyCut,
    CarboyError,
    DigestMismatch,
    Interrupted,
    InvalidRequest,
    NotFound,
    OffsetMismatch,
    PreconditionFailed,
    TooLarge,
    UnsupportedType,
    UploadGone,
)
from carboy.model import Condition, Progress, Upload
from carboy.streams import BytesSource

if TYPE_CHECKING:
    from conftest import Engine, EngineFactory


def begin(engine: Engine, path: str = "a", **options: Any) -> Upload:
    return engine.services.uploads.begin(engine.target(path), protocol="test", **options).upload


def write(engine: Engine, upload: Upload, at: int, data: bytes, **options: Any) -> Writing:
    return engine.services.uploads.write(upload, at, BytesSource(data), **options)


def part(engine: Engine, data: bytes = b"", size: int | None = None, **options: Any) -> Upload:
    """A part that has ``data`` already."""
    upload = begin(engine, "part", size=len(data) if size is None else size, partial=True, **options)
    if data:
        write(engine, upload, 0, data)
    return upload


def whole(engine: Engine, *parts: Upload, path: str = "a", **options: Any) -> Progress:
    return engine.services.uploads.concatenate(engine.target(path, **options), [one.id for one in parts], protocol="test")


def state(engine: Engine, upload: Upload) -> str:
    return engine.services.uploads.progress(upload.id).upload.state


# --- parts ---------------------------------------------------------------------------------------------------------


def test_parts_that_are_there_become_the_file_at_once(engine: Engine) -> None:
    pieces = [os.urandom(5_001), b"", os.urandom(1), os.urandom(70_000)]
    parts = [part(engine, data) for data in pieces]
    progress = whole(engine, *parts)
    data = b"".join(pieces)
    assert (progress.upload.state, progress.upload.size) == ("complete", len(data))
    assert engine.read("a") == data
    file = engine.file("a")
    assert file and file.blob.crc64nvme == checksums.crc64nvme(data)
    assert [state(engine, one) for one in parts] == ["complete"] * 4
    engine.services.sweeper.run(grace=0)
    assert engine.stored() == {file.blob.key}, "the parts' own bytes are gone"
    assert engine.findings() == []


def test_a_part_is_no_file(engine: Engine) -> None:
    covered = part(engine, b"hello")
    assert state(engine, covered) == "receiving"
    engine.services.sweeper.run(grace=0)
    assert state(engine, covered) == "receiving"
    assert engine.file("part") is None
    assert engine.services.catalog.counts()["files"] == 0


def test_the_whole_may_be_begun_before_its_parts_are_there(engine: Engine) -> None:
    first, second = part(engine, size=5), part(engine, b"world")
    progress = whole(engine, first, second)
    assert (progress.upload.state, progress.upload.size, progress.offset) == ("receiving", None, 0)
    write(engine, first, 0, b"hel")
    assert state(engine, progress.upload) == "receiving"
    write(engine, first, 3, b"lo")
    assert state(engine, progress.upload) == "complete"
    assert engine.read("a") == b"helloworld"


def test_a_part_whose_size_comes_last(engine: Engine) -> None:
    first = begin(engine, "part", partial=True)
    write(engine, first, 0, b"hello")
    progress = whole(engine, first)
    assert state(engine, progress.upload) == "receiving"
    engine.services.uploads.declare(first, 5)
    assert state(engine, progress.upload) == "complete"
    assert engine.read("a") == b"hello"


def test_the_same_part_twice(engine: Engine) -> None:
    one = part(engine, b"ho ")
    whole(engine, one, one)
    assert engine.read("a") == b"ho ho "


@pytest.mark.parametrize("swept", [False, True], ids=["told", "swept"])
def test_however_many_others_wait_for_other_parts(make_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch, swept: bool) -> None:
    engine = make_engine(durability="relaxed")
    uploads, mine, other = engine.services.uploads, part(engine, size=5), part(engine, size=5)
    for number in range(1000):
        engine.services.catalog.create_upload(
            an_upload(id=f"{number:032x}", path=f"{number}", parts=(other.id,), expires_at=engine.now + 100))
    uploads.concatenate(engine.target("a"), [mine.id], protocol="test", id="f" * 32)
    if swept:
        monkeypatch.setattr(uploads, "_tell_those_of", lambda part: None)  # as if it were killed before
    write(engine, mine, 0, b"hello")
    assert engine.services.sweeper.run().completed == swept
    assert engine.read("a") == b"hello"


def test_parts_of_nothing_are_an_empty_file(engine: Engine) -> None:
    assert whole(engine, part(engine), part(engine)).upload.state == "complete"
    assert engine.read("a") == b""


def test_parts_live_as_long_as_their_whole_gets_bytes(make_engine: EngineFactory) -> None:
    engine = make_engine(upload_expiry=100.0)
    one, other = part(engine, size=10), part(engine, size=1)
    progress = whole(engine, one, other)
    for at in range(5):
        engine.now += 60
        write(engine, one, at, b"x")
        engine.services.sweeper.run()
    write(engine, other, 0, b"y")
    write(engine, one, 5, b"xxxxx")
    assert state(engine, progress.upload) == "complete"
    assert engine.read("a") == b"x" * 10 + b"y"


@pytest.mark.parametrize("purged", [False, True], ids=["known", "purged"])
@pytest.mark.parametrize("end", ["cancelled", "failed", "expired"])
def test_a_whole_without_a_part_fails(engine: Engine, end: Any, purged: bool) -> None:
    lost, kept = part(engine, b"hello"), part(engine, size=5)
    progress = whole(engine, lost, kept)
    later = engine.now + 2 * engine.settings.upload_expiry
    assert engine.services.catalog.end_upload(lost.id, end, now=later, expires_at=later)
    if purged:
        engine.services.catalog.purge(now=later + 1)
    found = engine.services.uploads.progress(progress.upload.id).upload
    assert (found.state, found.failure) == ("failed", "missing_bytes")
    assert engine.file("a") is None
    engine.services.sweeper.run(grace=0)
    assert progress.upload.key not in engine.stored()


def test_what_is_no_part_is_refused(engine: Engine) -> None:
    uploads = engine.services.uploads
    with pytest.raises(InvalidRequest):
        whole(engine, begin(engine, size=5))
    with pytest.raises(NotFound):
        uploads.concatenate(engine.target("a"), ["0" * 32], protocol="test")
    with pytest.raises(NotFound):
        whole(engine, part(engine, b"x"), owner="you")
    with pytest.raises(NotFound):
        whole(engine, part(engine, b"x"), space="other")
    used = part(engine, b"x")
    whole(engine, used)
    with pytest.raises(UploadGone):
        whole(engine, used)


def test_more_than_a_file_may_have(make_engine: EngineFactory) -> None:
    engine = make_engine(max_size=8)
    parts = [part(engine, b"12345"), part(engine, b"67890")]
    with pytest.raises(TooLarge):
        whole(engine, *parts)
    assert engine.file("a") is None
    assert [state(engine, one) for one in parts] == ["receiving"] * 2


def test_a_refusal_leaves_the_whole_to_be_asked_for_again(engine: Engine) -> None:
    engine.put("a", b"before")
    progress = whole(engine, part(engine, b"hello"), condition=Condition(absent=True))
    assert (progress.upload.state, progress.due) == ("receiving", True)
    with pytest.raises(PreconditionFailed):
        engine.services.uploads.complete(progress)
    assert engine.read("a") == b"before"


def test_the_sweeper_completes_what_a_crash_left_between_the_bytes_and_the_file(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = engine.services.uploads
    one = part(engine, b"hello")
    with monkeypatch.context() as crash:
        crash.setattr(uploads, "complete", lambda *_: (_ for _ in ()).throw(UnsupportedType("not now")))
        progress = whole(engine, one)
    assert progress.upload.state == "receiving" and progress.covered
    engine.services.sweeper.run()
    assert engine.read("a") == b"hello"


def test_a_crash_before_the_parts_are_used_up(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = engine.services.uploads
    one = part(engine, b"hello")
    with monkeypatch.context() as crash:
        crash.setattr(uploads, "used_up", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            whole(engine, one)
    engine.services.sweeper.run()
    assert engine.read("a") == b"hello"
    engine.now += engine.settings.upload_expiry + 1
    engine.services.sweeper.run(grace=0)
    file = engine.file("a")
    assert file and engine.stored() == {file.blob.key}


def test_last_parts_at_once_and_askers_make_one_file(make_engine: EngineFactory) -> None:
    """The joins race, in two processes, with who asks for the whole meanwhile."""
    engine, other = make_engine(), make_engine()
    for turn in range(8):
        pieces = [os.urandom(random.Random(turn).randrange(1, 200_000)) for _ in range(6)]
        parts = [part(engine, size=len(data)) for data in pieces]
        progress = whole(engine, *parts, path=f"{turn}")
        start = threading.Barrier(10)

        def send(number: int, pieces: list[bytes] = pieces, parts: list[Upload] = parts, start: threading.Barrier = start,
                 id: str = progress.upload.id) -> None:
            process = (engine, other)[number % 2]
            start.wait()
            if number < 6:
                write(process, parts[number], 0, pieces[number])
            else:
                for _ in range(20):
                    process.services.uploads.progress(id)

        with ThreadPoolExecutor(10) as threads:
            list(threads.map(send, range(10)))
        assert state(engine, progress.upload) == "complete"
        assert engine.read(f"{turn}") == b"".join(pieces)
        file = engine.file(f"{turn}")
        assert file and file.version == 1
    assert engine.findings() == []


def test_one_who_comes_late_to_a_join_does_not_undo_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It had seen the whole without bytes; now its parts are used up, for that is what has been done."""
    uploads, one = engine.services.uploads, part(engine, b"hello")
    late: list[str] = []
    real = uploads.used_up

    def used_up(upload: Upload) -> None:
        real(upload)
        found = engine.services.catalog.upload(progress_id[0])
        assert found
        join_parts(uploads, replace(found.upload, size=None))
        late.append(upload.id)

    progress_id: list[str] = []
    create = engine.services.catalog.create_upload

    def remember(upload: Upload, **more: Any) -> Upload:
        progress_id.append(upload.id)
        return create(upload, **more)

    monkeypatch.setattr(uploads, "used_up", used_up)
    monkeypatch.setattr(engine.services.catalog, "create_upload", remember)
    assert whole(engine, one).upload.state == "complete"
    assert late == [one.id]
    assert engine.read("a") == b"hello"


# --- where it stands -----------------------------------------------------------------------------------------------


def test_bytes_must_go_on_where_it_stands(engine: Engine) -> None:
    upload = begin(engine, size=10)
    write(engine, upload, 0, b"01234", exact=True)
    for at in (0, 4, 6, 10):
        with pytest.raises(OffsetMismatch) as caught:
            write(engine, upload, at, b"5678"[:max(0, 10 - at)], exact=True)
        assert caught.value.facts == {"expected": 5, "provided": at}
    write(engine, upload, 5, b"56789", exact=True)
    assert engine.read("a") == b"0123456789"
    with pytest.raises(UploadGone):
        write(engine, upload, 10, b"", exact=True)


def test_who_is_behind_leaves_who_writes_alone(engine: Engine) -> None:
    upload = begin(engine, size=10)
    write(engine, upload, 0, b"01", exact=True)
    slow = SlowSource(8)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(engine.services.uploads.write, upload, 2, slow, exact=True)
        slow.say(b"234")
        slow.wait_until_asked(2)
        with pytest.raises(OffsetMismatch):
            write(engine, upload, 0, b"01", exact=True)
        assert slow.ended == "open"
        slow.say(b"56789")
        slow.say(None)
        assert first.result(wire.LIMIT).placed
    assert engine.read("a") == b"0123456789"


def test_who_takes_over_learns_where_it_stands_by_then(engine: Engine) -> None:
    """The one before had more bytes than were recorded when the newcomer asked."""
    upload = begin(engine, size=10)
    slow = SlowSource(10)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(engine.services.uploads.write, upload, 0, slow, exact=True)
        slow.say(b"01234")
        slow.wait_until_asked(2)
        with pytest.raises(OffsetMismatch) as caught:
            write(engine, upload, 0, b"0123456789", exact=True)
        assert caught.value.facts["expected"] == 5
        assert isinstance(first.exception(wire.LIMIT), Interrupted)
    assert write(engine, upload, 5, b"56789", exact=True).placed


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "in another process"])
def test_who_asks_where_it_stands_has_the_writer_let_go(make_engine: EngineFactory, elsewhere: bool) -> None:
    engine = make_engine()
    asker = make_engine() if elsewhere else engine
    upload = begin(engine, size=10)
    slow = SlowSource(10)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(engine.services.uploads.write, upload, 0, slow, exact=True)
        slow.say(b"01234")
        slow.wait_until_asked(2)
        assert asker.services.uploads.standing(upload.id).offset == 5
        assert isinstance(first.exception(wire.LIMIT), Interrupted)
    assert write(asker, upload, 5, b"56789", exact=True).placed


def test_who_asks_leaves_parts_further_on_alone(engine: Engine) -> None:
    upload = begin(engine, size=20)
    first, further = SlowSource(10), SlowSource(10)
    with ThreadPoolExecutor(2) as threads:
        writers = [threads.submit(engine.services.uploads.write, upload, at, source) for at, source in ((0, first), (10, further))]
        for source in (first, further):
            source.say(b"01234")
            source.wait_until_asked(2)
        assert engine.services.uploads.standing(upload.id).offset == 5
        assert isinstance(writers[0].exception(wire.LIMIT), Interrupted)
        assert further.ended == "open"
        further.say(b"56789")
        further.say(None)
        writers[1].result(wire.LIMIT)
    write(engine, upload, 5, b"56789")
    assert engine.read("a") == b"0123456789" * 2


def test_who_asks_disturbs_nobody_where_nobody_writes(engine: Engine) -> None:
    uploads = engine.services.uploads
    upload = begin(engine)
    assert uploads.standing(upload.id).offset == 0
    write(engine, upload, 0, b"x")
    assert uploads.standing(upload.id).offset == 1
    uploads.declare(upload, 1)
    assert uploads.standing(upload.id).upload.state == "complete"
    gone = begin(engine, "b")
    uploads.cancel(gone)
    assert uploads.standing(gone.id).upload.state == "cancelled"
    with pytest.raises(NotFound):
        uploads.standing("0" * 32)


# --- digests that come behind the bytes ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", checksums.DIGEST_SIZES)
def test_bytes_are_read_once_more_for_a_digest_that_comes_behind_them(make_engine: EngineFactory, name: str) -> None:
    engine = make_engine(checkpoint_bytes=1000)
    uploads, data = engine.services.uploads, os.urandom(1_500_000)
    upload = begin(engine, size=5 + len(data))
    write(engine, upload, 0, b"hello")
    running = checksums.new(name)
    running.update(data)
    for digest, right in ((running.digest()[::-1], False), (running.digest(), True)):
        source = BytesSource([data[at:at + 100_000] for at in range(0, len(data), 100_000)])
        try:
            with uploads.writing(upload, 5, None, source, whole=True, exact=True) as writing:
                for piece in source.lend():
                    writing.feed(piece)
                uploads.verify(upload, 5, writing.received, [(name, digest)])
                writing.end()
        except DigestMismatch:
            assert not right
            assert uploads.progress(upload.id).offset == 5
    assert engine.read("a") == b"hello" + data


# --- a whole body, told of as an upload ----------------------------------------------------------------------------


def test_a_whole_body_is_told_of_as_an_upload(engine: Engine) -> None:
    uploads, id = engine.services.uploads, "ab" * 16
    placed = engine.services.receiver.receive(engine.target("a"), BytesSource(b"hello"), as_upload=AsUpload(id, "test"))
    upload = uploads.progress(id).upload
    assert (upload.state, upload.size, upload.file_id, upload.owner, upload.protocol) == ("complete", 5, placed.file.id, "me", "test")
    assert uploads.file(upload) == placed.file
    with pytest.raises(UploadGone):
        uploads.cancel(upload)
    assert engine.read("a") == b"hello"
    engine.now += engine.settings.upload_expiry + 1
    engine.services.sweeper.run(grace=0)
    with pytest.raises(NotFound):
        uploads.progress(id)
    assert engine.read("a") == b"hello"
    assert engine.findings() == []


def test_of_a_body_that_is_refused_nothing_is_told(engine: Engine) -> None:
    id = "cd" * 16
    engine.put("a", b"before")
    cases: list[tuple[dict[str, Any], BytesSource, type[CarboyError]]] = [
        ({"condition": Condition(absent=True)}, BytesSource(b"x"), PreconditionFailed), ({}, BytesSource(b"x", cut=True), BodyCut)]
    for options, source, error in cases:
        with pytest.raises(error):
            engine.services.receiver.receive(engine.target("a", **options), source, as_upload=AsUpload(id, "test"))
        assert engine.services.catalog.upload(id) is None
    assert engine.read("a") == b"before"
