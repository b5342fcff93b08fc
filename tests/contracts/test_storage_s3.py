"""What the S3 storage does beyond the contract: how bytes become parts and pieces, what it asks of the server, and what it makes of answers."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from faults import s3_faults as faults
from faults.messages import replaced
from faults.proxy import Exchange, Fault, Proxy
from fixtures_s3 import S3Server
from storages import Begun, s3_storage

from carboy import checksums
from carboy.errors import (
    BytesDamaged,
    BytesMissing,
    ConfigError,
    Conflict,
    Interrupted,
    RangeBusy,
    StorageFailed,
    StorageFull,
    StorageUnavailable,
)
from carboy.model import Key, Span
from carboy.storage.base import Redirects
from carboy.storage.s3 import S3Storage

MIB = 2**20
Open = Callable[..., S3Storage]


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[Proxy]:
    with Proxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def open_storage(s3_server: S3Server, tmp_path: Path, empty_sqlite: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """``open_storage(setting=…)``: a storage on the real server."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(s3_storage(s3_server, tmp_path, empty_sqlite, **options))


@pytest.fixture
def storage(open_storage: Open, proxy: Proxy) -> S3Storage:
    """Behind the proxy, which knows already what the server can."""
    storage = open_storage(endpoint=proxy.url)
    storage.prepare()
    proxy.requests.clear()
    return storage


def stored(storage: S3Storage, data: bytes, size: int | None = None) -> Key:
    with storage.stage(size) as (key, writer):
        for at in range(0, len(data), 100_000):
            writer.write(memoryview(data)[at:at + 100_000])
        writer.flush()
    return key


def content(storage: S3Storage, key: Key, span: Span | None = None) -> bytes:
    return b"".join(storage.read(key, span))


def written(storage: S3Storage, data: bytes, bounds: list[int], size: int | None, order: list[int] | None = None) -> Begun:
    """An upload whose requests end at these bounds."""
    upload, requests = Begun(storage, size), list(zip([0, *bounds], [*bounds, len(data)], strict=True))
    for number in order or range(len(requests)):
        start, end = requests[number]
        upload.write(start, data[start:end])
    return upload


def open_files() -> list[str]:
    """What this process has open."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return found


def parts(upload: Begun) -> list[tuple[int, int]]:
    return [(one.start, one.end) for one in upload.fragments() if one.key is None]


def pieces(upload: Begun) -> list[tuple[int, int]]:
    return [(one.start, one.end) for one in upload.fragments() if one.key]


# --- what is asked of the server -----------------------------------------------------------------------------------


def test_a_small_file_is_one_request_that_overwrites_nothing(storage: S3Storage, proxy: Proxy) -> None:
    stored(storage, b"small", 5)
    assert [request.operation for request in proxy.requests] == ["PutObject"]
    assert b"if-none-match: *" in proxy.requests[0].head.raw.lower()


def test_a_file_of_unknown_size_that_one_part_holds_is_one_request_too(storage: S3Storage, proxy: Proxy) -> None:
    stored(storage, bytes(8 * MIB))
    assert [request.operation for request in proxy.requests] == ["PutObject"]


def test_a_large_file_comes_in_parts(storage: S3Storage, proxy: Proxy) -> None:
    data = os.urandom(20 * MIB)
    key = stored(storage, data, len(data))
    assert [proxy.count(name) for name in ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")] == [1, 3, 1]
    assert content(storage, key) == data


def test_a_small_upload_of_one_request_is_one_request_to_s3(storage: S3Storage, proxy: Proxy) -> None:
    upload = written(storage, b"small", [], 5)
    assert [request.operation for request in proxy.requests] == ["PutObject"]
    upload.seal(5)
    assert not pieces(upload)
    assert upload.content() == b"small"


def test_what_is_left_open_is_aborted(storage: S3Storage, s3_server: S3Server) -> None:
    with storage.stage(None) as (_, writer):
        writer.write(bytes(20 * MIB))
    assert s3_server.multiparts(storage.settings.bucket) == []
    assert s3_server.keys(storage.settings.bucket) == []


def test_deleting_an_upload_aborts_it(storage: S3Storage, s3_server: S3Server) -> None:
    upload = written(storage, bytes(6 * MIB), [], None)
    assert len(s3_server.multiparts(storage.settings.bucket)) == 1
    assert upload.key in set(storage.keys())
    assert storage.delete(upload.key)
    assert s3_server.multiparts(storage.settings.bucket) == []


def test_a_large_copy_is_made_by_the_server(storage: S3Storage, proxy: Proxy) -> None:
    data = os.urandom(33 * MIB)
    source = stored(storage, data)
    proxy.requests.clear()
    with storage.stage(None) as (key, writer):
        writer.write(b"before")
        writer.copy(source, 5, 32 * MIB)
        writer.write(b"after")
        writer.flush()
    assert proxy.count("UploadPartCopy") >= 1
    assert sum(len(data) for data in [content(storage, key)]) == 32 * MIB + 11
    assert content(storage, key) == b"before" + data[5:5 + 32 * MIB] + b"after"


def test_copies_into_an_upload_are_recorded_with_the_sums_given(storage: S3Storage, proxy: Proxy) -> None:
    data = os.urandom(22 * MIB)
    source, upload = stored(storage, data), Begun(storage)
    whole = data[:11 * MIB] + data
    with upload.writer(0) as writer:
        writer.copy(source, 0, 11 * MIB)
        writer.copy(source, 0, 22 * MIB, checksums.crc64nvme(data))
        upload.record(writer.keep([Span(0, len(whole), checksums.crc64nvme(whole))], last=True))
    upload.seal(len(whole))
    assert upload.covers(whole)
    assert upload.content() == whole
    assert proxy.count("UploadPartCopy") >= 2


# --- parts and pieces ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("declared", [True, False])
def test_small_requests_one_after_another_become_parts(storage: S3Storage, proxy: Proxy, declared: bool) -> None:
    data = os.urandom(12 * MIB + 5)
    upload = written(storage, data, list(range(MIB, len(data), MIB)), len(data) if declared else None)
    assert parts(upload)
    assert len(pieces(upload)) <= 3
    assert sum(int(request.head.get("content-length") or 0) for request in proxy.requests) < 4 * len(data)
    upload.seal(len(data))
    assert upload.content() == data
    assert upload.covers(data)


def test_a_request_goes_on_where_a_piece_ends(storage: S3Storage) -> None:
    data = os.urandom(21 * MIB)
    upload = written(storage, data, [3 * MIB], len(data))
    assert parts(upload)[0][0] == 0
    assert not pieces(upload)
    assert len(upload.condemned) == 1
    upload.seal(len(data))
    assert upload.content() == data


@pytest.mark.parametrize("same", [True, False])
def test_what_comes_again_is_compared_with_where_it_is_by_then(storage: S3Storage, same: bool) -> None:
    """The piece goes while somebody compares, because another who goes on after it has taken it up into a part."""
    data = os.urandom(20 * MIB)
    again = data if same else data[:9 * MIB] + os.urandom(11 * MIB)
    upload = written(storage, data[:10 * MIB], [8 * MIB], 40 * MIB)
    assert pieces(upload) == [(8 * MIB, 10 * MIB)]
    with upload.writer(0, 10 * MIB) as writer:
        assert writer.compare(again[:MIB])
        upload.write(10 * MIB, data[10 * MIB:])
        assert pieces(upload) == [] and len(upload.condemned) == 1
        storage.delete(upload.condemned[0])
        assert writer.compare(again[MIB:9 * MIB])
        assert writer.compare(again[9 * MIB:10 * MIB]) == same


def test_parts_of_five_mebibytes_in_any_order_are_parts(storage: S3Storage) -> None:
    data = os.urandom(25 * MIB + 1)
    upload = written(storage, data, [n * 5 * MIB for n in range(1, 6)], None, [4, 0, 5, 2, 1, 3])
    assert len(parts(upload)) >= 5
    upload.seal(len(data))
    assert upload.content() == data


def test_small_pieces_between_parts_are_mended(storage: S3Storage, s3_server: S3Server) -> None:
    data = os.urandom(25 * MIB)
    upload = written(storage, data, [6 * MIB, 7 * MIB, 13 * MIB, 19 * MIB, 20 * MIB], len(data), [0, 2, 3, 5, 1, 4])
    assert pieces(upload) == [(6 * MIB, 7 * MIB), (19 * MIB, 20 * MIB)]
    for _ in range(2):
        upload.seal(len(data))
        assert upload.content() == data
    assert s3_server.multiparts(storage.settings.bucket) == []


def test_mending_goes_on_after_it_was_cut(storage: S3Storage, proxy: Proxy, s3_server: S3Server) -> None:
    data = os.urandom(15 * MIB)
    upload = written(storage, data, [6 * MIB, 7 * MIB], len(data), [0, 2, 1])
    proxy.on(faults.answered(400, "InvalidRequest"), "CompleteMultipartUpload", after=1)
    with pytest.raises(StorageUnavailable):
        upload.seal(len(data))
    upload.seal(len(data))
    assert upload.content() == data
    assert s3_server.multiparts(storage.settings.bucket) == []


@pytest.mark.parametrize("seed", range(4))
def test_requests_of_any_size_in_any_order_make_the_file(storage: S3Storage, seed: int) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(chance.randint(10, 30) * MIB + chance.randint(0, 1000))
    bounds = sorted(chance.sample(range(1, len(data)), chance.randint(2, 12)))
    order = list(range(len(bounds) + 1))
    chance.shuffle(order)
    upload = written(storage, data, bounds, chance.choice([len(data), None]), order)
    assert upload.covers(data)
    for at, end in zip([0, *bounds], [*bounds, len(data)], strict=True):
        with upload.writer(at, end) as writer:
            assert writer.compare(data[at:end])
        with upload.writer(at, end) as writer:
            assert not writer.compare(data[at:end - 1] + bytes([data[end - 1] ^ 1]))
    upload.seal(len(data))
    assert upload.content() == data
    for key in [upload.key, *upload.condemned, *(one.key for one in upload.fragments() if one.key)]:
        assert storage.delete(key)
    assert list(storage.keys()) == []


def test_what_is_whole_is_kept_while_the_rest_comes(storage: S3Storage) -> None:
    data, upload = os.urandom(20 * MIB), Begun(storage, 20 * MIB)
    with upload.writer(0, len(data)) as writer:
        writer.write(data[:9 * MIB])
        kept = writer.keep([], last=False)
        while not kept.spans:
            kept = writer.keep([], last=False)
        assert kept.spans == [Span(0, 8 * MIB, checksums.crc64nvme(data[:8 * MIB]))]
        upload.record(kept)
        writer.write(data[9 * MIB:])
        upload.record(writer.keep([], last=True))
    assert upload.covers(data)
    upload.seal(len(data))
    assert upload.content() == data


def test_an_object_that_somebody_else_put_there_is_not_taken_for_the_upload(storage: S3Storage, s3_server: S3Server) -> None:
    upload = Begun(storage, 5)
    s3_server.client().put_object(Bucket=storage.settings.bucket, Key=storage.settings.prefix + upload.key, Body=b"other")
    upload.write(0, b"small")
    assert pieces(upload) == [(0, 5)]


def test_parts_wait_in_files_where_memory_is_used_up(open_storage: Open, tmp_path: Path) -> None:
    storage = open_storage(memory=16 * MIB)
    data = [os.urandom(12 * MIB) for _ in range(4)]
    writers = [storage.stage(len(each)) for each in data]
    opened = [writer.__enter__() for writer in writers]
    for (_, writer), each in zip(opened, data, strict=True):
        writer.write(each[:7 * MIB])
    assert any(str(tmp_path / "spool") in path for path in open_files())
    for (_, writer), each in zip(opened, data, strict=True):
        writer.write(each[7 * MIB:])
        writer.flush()
    for writer in writers:
        writer.__exit__(None, None, None)
    assert [content(storage, key) for key, _ in opened] == data


def test_large_parts_wait_in_files(open_storage: Open) -> None:
    storage, data = open_storage(part_size=20 * MIB), os.urandom(45 * MIB)
    assert content(storage, stored(storage, data, len(data))) == data


# --- leases --------------------------------------------------------------------------------------------------------


def test_nothing_is_sent_once_the_lease_is_lost(storage: S3Storage, proxy: Proxy) -> None:
    upload = Begun(storage, 20 * MIB)

    class Lost:
        id = "0" * 32

        def extend(self, end: int) -> None: ...

        def check(self) -> None:
            raise Interrupted("lost")

    with upload.writer(0, 20 * MIB) as writer:
        writer._hold = Lost()  # type: ignore[attr-defined]
        writer.write(bytes(8 * MIB))
        with pytest.raises(Interrupted):
            writer.keep([], last=True)
    assert proxy.count("UploadPart", "PutObject") == 0


def test_keys_end_with_their_maker(storage: S3Storage) -> None:
    fence = storage.fence()
    assert fence
    assert stored(storage, b"x")[-8:] == fence[:8]


def test_what_somebody_alive_made_is_no_orphan(open_storage: Open, s3_server: S3Server) -> None:
    storage = open_storage()
    key = stored(storage, b"x")
    other = Key(key[:-8] + "00000000")
    s3_server.client().put_object(Bucket=storage.settings.bucket, Key=storage.settings.prefix + other, Body=b"of a dead one")
    assert storage.delete(other, unless=lambda _: False)
    assert storage.size(other) is None
    assert storage.delete(key, unless=lambda _: False)


# --- faults --------------------------------------------------------------------------------------------------------

OPERATIONS = ("PutObject", "CreateMultipartUpload", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload", "GetObject", "HeadObject",
              "DeleteObject", "AbortMultipartUpload", "ListObjects", "ListMultipartUploads")


@pytest.mark.parametrize("fault", [*faults.REFUSALS, *faults.CUTS], ids=lambda fault: fault.__name__)
def test_a_fault_of_each_kind_of_request_is_got_over(storage: S3Storage, proxy: Proxy, fault: Fault) -> None:
    for operation in OPERATIONS:
        proxy.on(fault, operation)
    data = os.urandom(22 * MIB)
    whole = stored(storage, data, len(data))
    small = stored(storage, b"small")
    upload = written(storage, data, [6 * MIB, 7 * MIB], None, [0, 2, 1])
    upload.seal(len(data))
    assert content(storage, whole) == upload.content() == data
    assert content(storage, small) == b"small"
    assert storage.size(small) == 5
    for key in list(storage.keys()):
        assert storage.delete(key)
    assert list(storage.keys()) == []


def test_bytes_that_are_spoilt_on_the_way_are_sent_and_fetched_again(storage: S3Storage, proxy: Proxy) -> None:
    proxy.on(faults.wrong_request, "UploadPart")
    proxy.on(faults.wrong_request, "PutObject")
    proxy.on(faults.wrong_answer, "GetObject")
    data = os.urandom(15 * MIB)
    upload = written(storage, data, [3 * MIB], len(data))
    upload.seal(len(data))
    assert upload.content() == data
    assert upload.covers(data)


def test_parts_whose_names_came_wrong_are_asked_for_again(storage: S3Storage, proxy: Proxy) -> None:
    proxy.on(faults.wrong_etag, "UploadPart", times=2)
    data = os.urandom(20 * MIB)
    upload = written(storage, data, [], len(data))
    upload.seal(len(data))
    assert upload.content() == data
    assert proxy.count("ListParts") == 1


def test_a_part_that_was_overwritten_is_found_out(storage: S3Storage, s3_server: S3Server) -> None:
    data = os.urandom(20 * MIB)
    upload = written(storage, data, [], len(data))
    first = upload.fragments()[0]
    s3_server.client().upload_part(Bucket=storage.settings.bucket, Key=storage.settings.prefix + upload.key, UploadId=upload.state["upload"],
                                   PartNumber=first.ref["number"], Body=os.urandom(first.end - first.start))
    with pytest.raises(BytesDamaged):
        upload.seal(len(data))


def test_a_clients_part_that_is_sent_again_before_the_joining_is_not_joined(storage: S3Storage) -> None:
    """It is listed and joined only once somebody asks again."""
    def send(data: bytes) -> None:
        with urlopen(Request(storage.sign(key, state, 1, length=len(data), md5=None, expiry=60).url, data, method="PUT")):
            pass

    with storage.offer() as (key, state):
        send(b"first")
        listed = storage.client_parts(key, state)
        assert listed
        send(b"other")
        with pytest.raises(Conflict):
            storage.join(key, state, listed)
        assert storage.size(key) is None
        now = storage.client_parts(key, state)
        assert now and now != listed
        storage.join(key, state, now)
    assert content(storage, key) == b"other"


def test_an_upload_that_s3_has_lost_has_failed(storage: S3Storage, s3_server: S3Server) -> None:
    upload = written(storage, bytes(6 * MIB), [], None)
    s3_server.client().abort_multipart_upload(Bucket=storage.settings.bucket, Key=storage.settings.prefix + upload.key,
                                              UploadId=upload.state["upload"])
    with pytest.raises(StorageFailed):
        upload.seal(6 * MIB)


def test_a_failed_part_fails_what_comes_after_it_and_not_what_came_before(open_storage: Open, proxy: Proxy) -> None:
    storage = open_storage(endpoint=proxy.url, deadline=1.0)
    data, upload = os.urandom(24 * MIB), Begun(storage, 24 * MIB)
    proxy.on(faults.slow_down, "UploadPart", times=1000, after=1)
    with upload.writer(0, len(data)) as writer:
        with pytest.raises(StorageUnavailable):
            writer.write(data)
            writer.keep([], last=True)
        kept = writer.keep([], last=False)
    assert [span.end - span.start for span in kept.spans] == [8 * MIB]


# --- reading -------------------------------------------------------------------------------------------------------


def test_a_read_goes_on_where_it_broke(storage: S3Storage, proxy: Proxy) -> None:
    data = os.urandom(5 * MIB)
    key = stored(storage, data)
    proxy.on(faults.cut_answer, "GetObject", times=2)
    assert content(storage, key) == data
    assert proxy.count("GetObject") == 3


def test_a_reader_that_stops_leaves_no_connection_half_read(storage: S3Storage) -> None:
    data = os.urandom(5 * MIB)
    key = stored(storage, data)
    for _ in range(3):
        pieces = storage.read(key)
        assert next(pieces) == data[:MIB]
        pieces.close()  # type: ignore[attr-defined]
    assert content(storage, key, Span(7, 70)) == data[7:70]


@pytest.mark.parametrize(("field", "value"), [("content-range", "bytes 0-9/100"), ("content-range", "bytes 10-19/5"), ("content-range", "what")])
def test_an_answer_to_another_question_is_refused(storage: S3Storage, proxy: Proxy, field: str, value: str) -> None:
    key = stored(storage, bytes(100))

    def lie(exchange: Exchange) -> None:
        exchange.forward()
        exchange.give(replaced(exchange.answer(), field, lambda _: value))

    proxy.on(lie, "GetObject")
    with pytest.raises(StorageFailed):
        content(storage, key, Span(10, 20))


def test_an_object_that_is_too_short_is_missing_bytes(storage: S3Storage) -> None:
    key = stored(storage, bytes(100))
    for span in (Span(0, 101), Span(100, 101), Span(500, 501)):
        with pytest.raises(BytesMissing):
            storage.read(key, span)


# --- what an operator is told --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "code", "reason", "words"), [
    (403, "InvalidAccessKeyId", "keys", "access key"), (403, "SignatureDoesNotMatch", "keys", "secret key"), (403, "AccessDenied", "keys", "denies"),
    (404, "NoSuchBucket", "bucket", "no bucket"), (403, "RequestTimeTooSkewed", "clock", "clock is wrong"),
    (400, "AuthorizationHeaderMalformed", "region", "region"), (400, "InvalidStorageClass", "answer", "InvalidStorageClass"),
    (503, "SlowDown", "busy", "SlowDown")])
def test_refusals_are_told_in_words_and_dont_fail_uploads(open_storage: Open, proxy: Proxy, status: int, code: str, reason: str, words: str) -> None:
    storage = open_storage(endpoint=proxy.url, deadline=1.0)
    storage.prepare()
    proxy.on(faults.answered(status, code), "PutObject", times=1000)
    with pytest.raises(StorageUnavailable) as caught:
        stored(storage, b"x")
    assert caught.value.facts["reason"] == reason
    assert words in caught.value.detail


def test_a_full_server_is_a_full_storage(storage: S3Storage, proxy: Proxy) -> None:
    proxy.on(faults.answered(507, "InsufficientStorage"), "PutObject")
    with pytest.raises(StorageFull):
        stored(storage, b"x")


def test_wrong_settings_stop_the_start(open_storage: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no bucket 'no-such-bucket'"):
        open_storage(bucket="no-such-bucket").prepare()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(ConfigError, match=r"storages\.s3: S3 "):
        open_storage().prepare()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID"):
        open_storage().prepare()


def test_a_server_that_is_down_stops_no_start(open_storage: Open, s3_server: S3Server) -> None:
    storage = open_storage(endpoint="http://127.0.0.1:9", deadline=1.0)
    storage.prepare()
    with pytest.raises(StorageUnavailable) as caught:
        stored(storage, b"x")
    assert caught.value.facts["reason"] == "connection"


def test_a_server_without_tls_is_told_from_one_that_is_down(open_storage: Open, s3_server: S3Server) -> None:
    storage = open_storage(endpoint=s3_server.endpoint.replace("http:", "https:"), deadline=1.0)
    with pytest.raises(ConfigError, match="certificate"):
        storage.prepare()


# --- downloads by redirect -----------------------------------------------------------------------------------------


def test_an_address_gives_the_bytes_with_name_and_type(open_storage: Open) -> None:
    storage = open_storage(redirect=True)
    assert isinstance(storage, Redirects)
    key = stored(storage, b"hello")
    address = storage.address(key, media_type="text/x-test", disposition='attachment; filename="a b.txt"')
    assert address
    with urlopen(address) as answer:
        assert answer.read() == b"hello"
        assert answer.headers["Content-Type"] == "text/x-test"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="a b.txt"'
    assert open_storage().address(key, media_type="text/x-test", disposition="inline") is None


def test_addresses_are_signed_for_the_name_that_clients_know(open_storage: Open) -> None:
    storage = open_storage(redirect=True, public_endpoint="https://s3.example")
    key = stored(storage, b"hello")
    address = storage.address(key, media_type="text/x-test", disposition="inline")
    assert address and address.startswith("https://s3.example/")
    assert content(storage, key) == b"hello"


def test_sealing_that_another_is_mending_waits_for_it(storage: S3Storage) -> None:
    data = os.urandom(15 * MIB)
    upload = written(storage, data, [6 * MIB, 7 * MIB], len(data), [0, 2, 1])
    with upload.writer(0, 1), pytest.raises(RangeBusy):
        upload.seal(len(data))
    upload.seal(len(data))
    assert upload.content() == data
