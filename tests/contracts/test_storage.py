"""The contract of :mod:`carboy.storage.base`, for every storage. A new driver is one more line in ``STORAGES``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest
from storages import Begun, s3_storage

from carboy import checksums
from carboy.errors import BytesMissing, CarboyError, NotFound, RangeBusy, StorageFailed
from carboy.model import Key, Span, key_for, new_id
from carboy.storage.base import OnDisk, Storage, Vouches, no_fragments
from carboy.storage.local import LocalStorage

LOCAL: dict[str, Callable[[Path], LocalStorage]] = {
    "local": lambda folder: LocalStorage(folder / "blobs"),
    "local-relaxed": lambda folder: LocalStorage(folder / "blobs", durable=False),
}
S3 = {"s3-moto": "moto_server", "s3-real": "s3_server"}
KEY = re.compile(r"([0-9a-f]{2})/\1[0-9a-f]{30}")
MISSING = key_for("0123456789abcdef0123456789abcdef")


@pytest.fixture(params=[*LOCAL, *S3])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    with made(request, tmp_path, monkeypatch) as one:
        one.prepare()
        yield one


def made(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[Storage]:
    if request.param in LOCAL:
        return closing(LOCAL[request.param](folder))
    server = request.getfixturevalue(S3[request.param])
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    return s3_storage(server, folder, request.getfixturevalue("empty_sqlite"))


def stored(storage: Storage, data: bytes = b"") -> Key:
    """A new blob with this content, let go."""
    with storage.stage(len(data)) as (key, writer):
        writer.write(data)
        writer.flush()
    return key


def content(storage: Storage, key: Key, span: Span | None = None) -> bytes:
    return b"".join(storage.read(key, span))


# --- new blobs -----------------------------------------------------------------------------------------------------


def test_a_staged_blob_is_what_was_written(storage: Storage) -> None:
    with storage.stage(11) as (key, writer):
        writer.write(b"hello ")
        writer.write(memoryview(b"world"))
        writer.flush()
    assert content(storage, key) == b"hello world"
    assert storage.size(key) == 11


def test_keys_are_one_of_256_folders_and_128_random_bits(storage: Storage) -> None:
    keys = [stored(storage) for _ in range(20)]
    assert all(KEY.fullmatch(key) for key in keys)
    assert len(set(keys)) == 20


def test_a_closed_storage_may_be_used_again(storage: Storage) -> None:
    key = stored(storage, b"kept")
    before = len(os.listdir("/proc/self/fd"))
    storage.close()
    storage.close()
    after = len(os.listdir("/proc/self/fd"))
    assert after < before if storage.name == "local" else after <= before  # not every server keeps connections open
    assert content(storage, key) == b"kept"
    assert storage.size(stored(storage, b"more")) == 4


def test_an_empty_blob_is_a_blob(storage: Storage) -> None:
    key = stored(storage)
    assert storage.size(key) == 0
    assert content(storage, key) == b""


def test_prepare_may_be_repeated_and_keeps_what_is_there(storage: Storage) -> None:
    key = stored(storage, b"kept")
    storage.prepare()
    assert content(storage, key) == b"kept"


def test_threads_staging_at_once_get_blobs_of_their_own(storage: Storage) -> None:
    start, turns = threading.Barrier(32), 8 if storage.name == "local" else 2

    def stage(number: int) -> list[tuple[Key, bytes]]:
        start.wait()
        return [(stored(storage, data), data) for data in (f"{number}/{turn}".encode() for turn in range(turns))]

    with ThreadPoolExecutor(32) as threads:
        made = [pair for pairs in threads.map(stage, range(32)) for pair in pairs]
    assert len({key for key, _ in made}) == 32 * turns
    assert all(content(storage, key) == data for key, data in made)


def test_a_closed_writer_may_be_closed_again(storage: Storage) -> None:
    with storage.stage(None) as (key, writer):
        writer.write(b"x")
        writer.flush()
        writer.close()
        writer.close()
        with storage.writer(key, 1, 2, {}, no_fragments):
            pass


# --- writing -------------------------------------------------------------------------------------------------------


def test_bytes_go_to_their_place_in_any_order(storage: Storage) -> None:
    upload = Begun(storage)
    for at, data in ((8, b"cccc"), (0, b"aaaa"), (4, b"bbbb")):
        upload.write(at, data)
    upload.seal(12)
    assert upload.content() == b"aaaabbbbcccc"
    assert upload.covers(b"aaaabbbbcccc")


def test_a_writer_is_for_a_blob_that_is_there(storage: Storage) -> None:
    with pytest.raises(NotFound), storage.writer(MISSING, 0, 1, {}, no_fragments):
        pass


@pytest.mark.parametrize(("one", "other"), [((0, 10), (5, 15)), ((5, 15), (0, 10)), ((0, 10), (0, 10)), ((0, None), (999, 1000)),
                                            ((999, 1000), (0, None)), ((0, 10), (9, None)), ((0, 2**63 - 1), (2**62, 2**62 + 1))])
def test_overlapping_ranges_exclude_one_another(storage: Storage, one: tuple[int, int | None], other: tuple[int, int | None]) -> None:
    key = stored(storage)
    with storage.writer(key, *one, {}, no_fragments), pytest.raises(RangeBusy), storage.writer(key, *other, {}, no_fragments):
        pass
    with storage.writer(key, *other, {}, no_fragments):
        pass


@pytest.mark.parametrize(("one", "other"), [((0, 10), (10, 20)), ((10, None), (0, 10)), ((2**40, None), (0, 2**40))])
def test_disjoint_ranges_are_written_at_once(storage: Storage, one: tuple[int, int | None], other: tuple[int, int | None]) -> None:
    upload, spans = Begun(storage), [Span(start, start + 1, checksums.crc64nvme(b"1")) for start in (one[0], other[0])]
    with upload.writer(*one) as first, upload.writer(*other) as second:
        for writer, span in zip((first, second), spans, strict=True):
            writer.write(b"1")
            upload.record(writer.keep([span], last=True))
    assert upload.spans == sorted(spans)
    for start in (one[0], other[0]):
        with upload.writer(start, start + 1) as writer:
            assert writer.compare(b"1")
        with upload.writer(start, start + 1) as writer:
            assert not writer.compare(b"2")


def test_a_staged_blob_is_held_whole(storage: Storage) -> None:
    with storage.stage(4) as (key, _), pytest.raises((RangeBusy, NotFound)), storage.writer(key, 2**50, None, {}, no_fragments):
        pass


def test_parallel_writers_leave_every_byte_as_it_was_sent(storage: Storage) -> None:
    upload, parts = Begun(storage), [os.urandom(70_001) for _ in range(16)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: upload.write(n * 70_001, parts[n]), reversed(range(16))))
    upload.seal(16 * 70_001)
    assert upload.content() == b"".join(parts)
    assert upload.covers(b"".join(parts))


def test_a_range_reaches_further_when_extended(storage: Storage) -> None:
    upload = Begun(storage)
    with upload.writer(0, 4) as writer:
        writer.write(b"four")
        writer.extend(8)
        with pytest.raises(RangeBusy), upload.writer(7, 9):
            pass
        with pytest.raises(RangeBusy), upload.writer(0, 1):
            pass
        with upload.writer(8, 9):
            pass
        writer.write(b"more")
        upload.record(writer.keep([Span(0, 8, checksums.crc64nvme(b"fourmore"))], last=True))
    upload.seal(8)
    assert upload.content() == b"fourmore"
    assert upload.covers(b"fourmore")


def test_a_range_cant_reach_into_anothers(storage: Storage) -> None:
    key = stored(storage)
    with storage.writer(key, 0, 4, {}, no_fragments) as writer, storage.writer(key, 6, 9, {}, no_fragments):
        writer.write(b"four")
        with pytest.raises(RangeBusy):
            writer.extend(7)
        writer.extend(6)


@pytest.mark.parametrize(("data", "same"), [(b"abcd", True), (b"abcx", False), (b"xbcd", False), (b"abcde", False), (b"", True),
                                            (memoryview(b"abcd"), True)])
def test_compare_says_whether_bytes_are_the_stored_ones(storage: Storage, data: bytes, same: bool) -> None:
    key = stored(storage, b"abcd")
    with storage.writer(key, 0, None, {}, no_fragments) as writer:
        assert writer.compare(data) is same
    assert content(storage, key) == b"abcd"


def test_compare_moves_on(storage: Storage) -> None:
    upload = Begun(storage)
    upload.write(0, b"abcd")
    with upload.writer(0) as writer:
        assert writer.compare(b"ab")
        assert writer.compare(b"cd")
        writer.write(b"ef")
        upload.record(writer.keep([Span(4, 6, checksums.crc64nvme(b"ef"))], last=True))
    upload.seal(6)
    assert upload.content() == b"abcdef"
    assert upload.covers(b"abcdef")


def test_large_pieces_are_compared_to_their_last_byte(storage: Storage) -> None:
    data = os.urandom(3 * 2**20 + 5)
    key = stored(storage, data)
    with storage.writer(key, 0, None, {}, no_fragments) as writer:
        assert writer.compare(data)
    with storage.writer(key, 0, None, {}, no_fragments) as writer:
        assert not writer.compare(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize("size", [0, 1, 4095, 3 * 2**20 + 17])
def test_copy_takes_the_bytes_of_another_blob(storage: Storage, size: int) -> None:
    data = os.urandom(size + 20)
    source = stored(storage, data)
    with storage.stage(None) as (key, writer):
        writer.write(b"before")
        writer.copy(source, 10, size)
        writer.write(b"after")
        writer.flush()
    assert content(storage, key) == b"before" + data[10:10 + size] + b"after"
    assert content(storage, source) == data


def test_copy_refuses_a_cut_or_missing_source(storage: Storage) -> None:
    source = stored(storage, b"short")
    with storage.stage(None) as (_, writer):
        with pytest.raises(BytesMissing):
            writer.copy(source, 1, 5)
        with pytest.raises(BytesMissing):
            writer.copy(MISSING, 0, 1)


# --- sealing -------------------------------------------------------------------------------------------------------


def test_sealing_leaves_what_is_recorded_and_may_be_repeated(storage: Storage) -> None:
    upload = Begun(storage)
    upload.write(0, b"0123")
    with upload.writer(4) as writer:
        writer.write(b"456789")
        writer.keep([Span(4, 10, checksums.crc64nvme(b"456789"))], last=True)
    for _ in range(3):
        upload.seal(4)
        assert upload.content() == b"0123"
    assert storage.size(upload.key) == 4


@pytest.mark.parametrize("size", [0, None])
def test_an_empty_upload_is_sealed(storage: Storage, size: int | None) -> None:
    upload = Begun(storage, size)
    for _ in range(2):
        upload.seal(0)
    assert storage.size(upload.key) == 0
    assert upload.content() == b""


def test_a_blob_that_is_too_short_is_not_sealed(storage: Storage) -> None:
    upload = Begun(storage)
    upload.write(0, b"0123")
    with pytest.raises(BytesMissing):
        upload.seal(5)
    with pytest.raises(BytesMissing):
        storage.seal(MISSING, 0, {}, no_fragments)
    upload.seal(4)
    assert upload.content() == b"0123"


def test_a_key_that_is_gone_cant_be_sealed(storage: Storage) -> None:
    upload = Begun(storage)
    upload.write(0, b"0123")
    assert storage.delete(upload.key)
    for fragment in upload.fragments():
        assert storage.delete(fragment.key or upload.key)
    with pytest.raises(StorageFailed):
        upload.seal(4)


# --- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "end"), [(0, 5), (0, 0), (3, 3), (2, 2**20 + 3), (2**20, 2**21), (2**21 + 1, 2**21 + 7), (0, 2**21 + 7)])
def test_a_span_reads_exactly_its_bytes(storage: Storage, start: int, end: int) -> None:
    data = os.urandom(2**21 + 7)
    key = stored(storage, data)
    pieces = list(storage.read(key, Span(start, end)))
    assert b"".join(pieces) == data[start:end]
    assert all(0 < len(piece) <= 2**20 for piece in pieces)


def test_missing_bytes_are_told_before_the_first(storage: Storage) -> None:
    with pytest.raises(BytesMissing):
        storage.read(MISSING)


def test_a_read_under_way_ends_well_when_the_blob_is_deleted(storage: Storage) -> None:
    data = os.urandom(3 * 2**20)
    key = stored(storage, data)
    pieces = storage.read(key)
    first = next(pieces)
    assert storage.delete(key)
    assert first + b"".join(pieces) == data


# --- deleting ------------------------------------------------------------------------------------------------------


def test_what_is_deleted_is_gone_and_a_missing_key_is_fine(storage: Storage) -> None:
    key = stored(storage, b"x")
    assert storage.delete(key)
    assert storage.size(key) is None
    assert key not in set(storage.keys())
    assert storage.delete(key)
    assert storage.delete(MISSING)


def test_what_a_writer_holds_is_not_deleted(storage: Storage) -> None:
    with storage.stage(1) as (staged, writer):
        assert not storage.delete(staged)
        writer.write(b"x")
        writer.flush()
    assert content(storage, staged) == b"x"
    with storage.writer(staged, 100, 101, {}, no_fragments):
        assert not storage.delete(staged)
    assert storage.delete(staged)


def test_unless_decides_and_is_not_asked_while_a_writer_holds_it(storage: Storage) -> None:
    asked: list[Key] = []

    def unless(key: Key) -> bool:
        asked.append(key)
        return len(asked) == 1

    with storage.stage(1) as (key, writer):
        writer.write(b"x")
        writer.flush()
        assert not storage.delete(key, unless=unless)
    assert not asked
    assert not storage.delete(key, unless=unless)
    assert storage.size(key) == 1
    assert storage.delete(key, unless=unless)
    assert storage.size(key) is None
    assert asked == [key, key]


def test_no_writer_begins_while_unless_is_asked(storage: Storage) -> None:
    key = stored(storage, b"x")

    def unless(key: Key) -> bool:
        with pytest.raises(RangeBusy), storage.writer(key, 0, 1, {}, no_fragments):
            pass
        return True

    assert not storage.delete(key, unless=unless)
    with storage.writer(key, 0, 1, {}, no_fragments):
        pass


def test_a_missing_key_is_not_asked_about(storage: Storage) -> None:
    assert storage.delete(MISSING, unless=lambda key: pytest.fail(f"asked about {key}"))


def test_a_sweeper_that_removes_all_it_sees_never_takes_a_staged_blob(storage: Storage) -> None:
    """The moment between a blob's birth and its lock: a sweeper in it must not leave a writer with a nameless file."""
    ended = threading.Event()

    def sweep() -> int:
        removed = 0
        while not ended.is_set():
            removed += sum(storage.delete(key, unless=kept.__contains__) for key in iter(storage.keys()) if key not in kept)
        return removed

    kept: set[Key] = set()
    turns = 60 if storage.name == "local" else 10

    def stage(number: int) -> None:
        for turn in range(turns):
            with storage.stage(None) as (key, writer):
                writer.write(f"{number}/{turn}".encode())
                writer.flush()
                kept.add(key)

    with ThreadPoolExecutor(6) as threads:
        sweepers = [threads.submit(sweep) for _ in range(2)]
        for done in [threads.submit(stage, number) for number in range(4)]:
            done.result()
        ended.set()
        assert all(sweeper.result() >= 0 for sweeper in sweepers)
    assert len(kept) == 4 * turns
    assert all(storage.size(key) for key in kept)


# --- what there is -------------------------------------------------------------------------------------------------


def test_keys_are_all_blobs_those_under_way_too(storage: Storage) -> None:
    made = {stored(storage) for _ in range(30)}
    with storage.begin(None) as (begun, _):
        assert set(storage.keys()) == {*made, begun}
    upload = Begun(storage)
    upload.write(0, b"a piece of its own, where the storage can't write in place")
    assert set(storage.keys()) == {*made, begun, upload.key, *(one.key for one in upload.fragments() if one.key)}


def test_size_is_none_for_no_such_key(storage: Storage) -> None:
    assert storage.size(MISSING) is None


def test_there_is_room_and_never_less_than_none(storage: Storage) -> None:
    assert isinstance(storage.room(), int)
    assert storage.room() >= 0


# --- a process that dies -------------------------------------------------------------------------------------------

_HOLD = """
import sys
from pathlib import Path
from carboy.storage.local import LocalStorage
storage = LocalStorage(Path(sys.argv[1]))
with storage.stage(None) as (key, writer):
    writer.write(b"half")
    writer.flush()
    print(key, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[LocalStorage, Key, subprocess.Popen[str]]]:
    """Another process that holds a staged blob."""
    storage = LocalStorage(tmp_path / "blobs")
    storage.prepare()
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path / "blobs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout
    try:
        yield storage, Key(process.stdout.readline().strip()), process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
        storage.close()


def test_a_killed_process_frees_its_blob(holder: tuple[LocalStorage, Key, subprocess.Popen[str]]) -> None:
    storage, key, process = holder
    assert not storage.delete(key)
    with pytest.raises(RangeBusy), storage.writer(key, 0, 1, {}, no_fragments):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    with storage.writer(key, 4, None, {}, no_fragments) as writer:
        writer.write(b"full")
        writer.flush()
    assert content(storage, key) == b"halffull"
    assert storage.delete(key)


def test_a_stopped_process_keeps_its_blob(holder: tuple[LocalStorage, Key, subprocess.Popen[str]]) -> None:
    storage, key, process = holder
    process.send_signal(signal.SIGSTOP)
    assert not storage.delete(key)
    with pytest.raises(RangeBusy), storage.writer(key, 0, 1, {}, no_fragments):
        pass


# --- files on a disk: sealing ----------------------------------------------------------------------------------------


def test_sealing_cuts_off_what_is_past_the_end(local: LocalStorage) -> None:
    key = stored(local, b"0123456789")
    local.seal(key, 4, {}, no_fragments)
    assert content(local, key) == b"0123"


def test_sealing_waits_for_no_writer_past_the_end(local: LocalStorage) -> None:
    key = stored(local, b"0123456789")
    with local.writer(key, 5, None, {}, no_fragments):
        with pytest.raises(RangeBusy):
            local.seal(key, 4, {}, no_fragments)
        assert local.size(key) == 10
    with local.writer(key, 10, None, {}, no_fragments), pytest.raises(RangeBusy):  # it has written nothing there yet, and still may
        local.seal(key, 10, {}, no_fragments)
    with local.writer(key, 0, 4, {}, no_fragments):
        local.seal(key, 4, {}, no_fragments)
    assert content(local, key) == b"0123"


# --- files on a disk: security case 7 ------------------------------------------------------------------------------


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalStorage]:
    storage = LocalStorage(tmp_path / "blobs")
    storage.prepare()
    yield storage
    storage.close()


def plant(storage: LocalStorage, tmp_path: Path) -> tuple[Key, Path]:
    """A key whose file is a symbolic link to a secret outside."""
    secret, key = tmp_path / "secret", key_for(new_id())
    secret.write_bytes(b"secret")
    (tmp_path / "blobs" / key).symlink_to(secret)
    return key, secret


def test_a_symlink_planted_as_a_blob_is_never_followed(local: LocalStorage, tmp_path: Path) -> None:
    key, secret = plant(local, tmp_path)
    with pytest.raises(StorageFailed):
        local.read(key)
    with pytest.raises(StorageFailed):
        local.open(key)
    with pytest.raises(StorageFailed), local.writer(key, 0, None, {}, no_fragments):
        pass
    with pytest.raises(StorageFailed):
        local.seal(key, 0, {}, no_fragments)
    with pytest.raises(StorageFailed):
        local.delete(key)
    with local.stage(None) as (_, writer), pytest.raises(StorageFailed):
        writer.copy(key, 0, 6)
    assert local.size(key) != len(b"secret")
    assert secret.read_bytes() == b"secret"


def test_a_symlink_planted_as_a_folder_is_never_followed(local: LocalStorage, tmp_path: Path) -> None:
    key, outside = key_for(new_id()), tmp_path / "outside"
    outside.mkdir()
    (outside / key[3:]).write_bytes(b"secret")
    (tmp_path / "blobs" / key[:2]).rmdir()
    (tmp_path / "blobs" / key[:2]).symlink_to(outside)
    for touch in (local.read, local.open, local.delete, local.size):
        with pytest.raises(CarboyError):
            touch(key)
    with pytest.raises(CarboyError), local.writer(key, 0, None, {}, no_fragments):
        pass
    assert (outside / key[3:]).read_bytes() == b"secret"
    assert len(list(outside.iterdir())) == 1


def test_only_blobs_are_keys(local: LocalStorage, tmp_path: Path) -> None:
    """What an operator or a file system leaves in the folders is nobody's orphan."""
    key, _ = plant(local, tmp_path)
    folder = tmp_path / "blobs" / key[:2]
    (folder / "README").write_text("not a blob")
    (folder / new_id()).mkdir()
    mine = stored(local, b"x")
    assert list(local.keys()) == [mine]


def test_a_directory_in_a_blobs_place_is_an_error_and_stays(local: LocalStorage, tmp_path: Path) -> None:
    key = key_for(new_id())
    (tmp_path / "blobs" / key).mkdir()
    with pytest.raises(StorageFailed):
        local.delete(key)
    assert (tmp_path / "blobs" / key).is_dir()


def test_blobs_are_nobody_elses_to_read(local: LocalStorage, tmp_path: Path) -> None:
    path = tmp_path / "blobs" / stored(local, b"x")
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_local_blobs_are_on_disk(local: LocalStorage, tmp_path: Path) -> None:
    assert isinstance(local, OnDisk)
    key = stored(local, b"here")
    assert (tmp_path / "blobs" / local.path(key)).read_bytes() == b"here"
    with local.open(key) as file:
        assert file.read() == b"here"


def test_what_a_storage_vouches_for_is_what_it_has(storage: Storage) -> None:
    data = os.urandom(100_000)
    key = stored(storage, data)
    assert not isinstance(storage, Vouches) or storage.vouched(key) in (None, checksums.crc64nvme(data))
