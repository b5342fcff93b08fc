"""Faults of a real S3 server and of the way to it, at each kind of request: what was acknowledged reads back, what failed says so and goes on,
and nothing is left over in the bucket."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from faults import s3_faults as faults
from faults.check import Check
from faults.disk import until
from faults.journal import Content, Journal
from faults.load import Load
from faults.proxy import Fault
from faults.runner import Client
from faults.s3_lab import MIB, Lab, Send, chunks, heard, insist, lab, put, tus
from faults.sequential import Sequential
from fixtures_s3 import S3Server

SMALL, MIDDLE, TUS, LARGE = 300_000, 11 * MIB + 5, 7 * MIB + 5, 9 * MIB + 12_345
KINDS: dict[str, tuple[Send, int, tuple[str, ...]]] = {
    "small-put": (put, SMALL, ("PutObject",)),
    "large-put": (put, MIDDLE, ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")),
    "tus": (tus, TUS, ("CreateMultipartUpload", "UploadPart", "PutObject", "GetObject", "CompleteMultipartUpload")),
    "chunks": (chunks, LARGE, ("CreateMultipartUpload", "UploadPart", "PutObject", "GetObject", "CompleteMultipartUpload")),
}
"""How bytes come, and the requests to S3 that this takes."""
MEET: dict[str, tuple[Fault, ...]] = {"tus": faults.CUTS, "chunks": faults.REFUSALS}
"""Those that send the same requests share the faults among them."""


@pytest.fixture(scope="module")
def shared(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One server for all single faults, which leave nothing behind."""
    with lab(tmp_path_factory.mktemp("s3"), s3_server) as one:
        put(one, "first", Content(1, 1000), one.told)
        yield one
        one.must_be_tidy()


@pytest.fixture
def own(s3_server: S3Server, tmp_path: Path) -> Iterator[Lab]:
    """A server of the test's own."""
    with lab(tmp_path, s3_server) as one:
        put(one, "first", Content(1, 1000), one.told)
        yield one
        one.must_be_tidy()


@pytest.mark.parametrize("kind, operation", [(kind, operation) for kind, (_, _, operations) in KINDS.items() for operation in operations])
def test_one_fault_at_a_request_is_no_fault_of_the_upload(shared: Lab, kind: str, operation: str) -> None:
    """It is tried again, or what was done is found out; no client hears of it."""
    send, size, _ = KINDS[kind]
    for number, fault in enumerate(MEET.get(kind, (*faults.REFUSALS, *faults.CUTS))):
        rule = shared.proxy.on(fault, operation)
        content, path, told = Content(random.Random(f"{kind}{operation}{number}").getrandbits(60), size), f"{kind}-{operation}-{number}", []
        send(shared, path, content, told)
        assert rule.struck.is_set(), f"{kind} makes no {operation}"
        assert told == [], fault.__name__
        shared.must_read(path, content)


@pytest.mark.parametrize("kind, operation, fault", [
    ("small-put", "PutObject", faults.wrong_request), ("small-put", "PutObject", faults.wrong_etag),
    ("large-put", "UploadPart", faults.wrong_request), ("large-put", "UploadPart", faults.wrong_etag),
    ("large-put", "CompleteMultipartUpload", faults.error_in_200), ("large-put", "CompleteMultipartUpload", faults.wrong_request),
    ("tus", "UploadPart", faults.wrong_request), ("tus", "PutObject", faults.wrong_request), ("tus", "GetObject", faults.wrong_answer),
    ("chunks", "PutObject", faults.wrong_etag), ("chunks", "GetObject", faults.wrong_answer),
    ("tus", "CreateMultipartUpload", faults.wrong_answer), ("large-put", "CreateMultipartUpload", faults.wrong_answer),
])
def test_what_comes_wrong_is_seen(shared: Lab, kind: str, operation: str, fault: Fault) -> None:
    """It is put right, or the client hears that it failed and sends again; never is a wrong byte acknowledged."""
    send, size, _ = KINDS[kind]
    content, path = Content(random.Random(f"{kind}{operation}{fault.__name__}").getrandbits(60), size), f"{kind}-{operation}-{fault.__name__}"
    rule = shared.proxy.on(fault, operation)
    send(shared, path, content, shared.told)
    assert rule.struck.is_set(), f"{kind} makes no {operation}"
    shared.must_read(path, content)


@pytest.mark.parametrize("fault", [faults.internal_error, faults.reset_before])
def test_a_server_that_is_away_for_long_is_told_and_uploads_go_on_when_it_is_back(own: Lab, fault: Fault) -> None:
    """Each kind of upload is under way when the server goes; each client hears 503, and what it was acknowledged is still there."""
    proxy = own.proxy
    with ThreadPoolExecutor(len(KINDS)) as threads:
        proxy.on(fault, "UploadPart", "PutObject", "CompleteMultipartUpload", times=float("inf"), after=4)
        jobs, told = [], {}
        for number, (kind, (send, size, _)) in enumerate(KINDS.items()):
            told[kind] = []
            jobs.append((f"away-{kind}", Content(number + 50, size), threads.submit(send, own, f"away-{kind}", Content(number + 50, size), told[kind])))
        until(lambda: sum(map(bool, told.values())) >= 2, "the clients hear of it")
        proxy.clear()
        for path, content, job in jobs:
            job.result(120)
            own.must_read(path, content)
    assert {word for words in told.values() for word in words} <= {"503 storage_unavailable", "409 range_busy"}


def test_silence_is_not_waited_for_for_ever(own: Lab) -> None:
    """A request that is never answered counts as failed after a while, done or not, and is made again."""
    for operation in ("PutObject", "UploadPart", "CreateMultipartUpload", "CompleteMultipartUpload"):
        for fault in faults.SILENCES:
            own.proxy.on(fault, operation)
    with ThreadPoolExecutor(8) as threads:
        jobs = []
        for number in range(2):
            for kind, (send, size, _) in KINDS.items():
                path, content = f"silent-{kind}-{number}", Content(number + len(kind) * 10, size)
                jobs.append((path, content, threads.submit(send, own, path, content, own.told)))
        for path, content, job in jobs:
            job.result(120)
            own.must_read(path, content)
    assert own.proxy.count(fault="silence") == own.proxy.count(fault="done_in_silence") == 4


@pytest.mark.parametrize("size", [SMALL, MIDDLE])
@pytest.mark.parametrize("fault", [faults.internal_error, faults.reset_before, faults.cut_answer, faults.wrong_answer], ids=lambda one: one.__name__)
def test_a_download_is_right_or_is_seen_to_be_cut(shared: Lab, fault: Fault, size: int) -> None:
    content, path = Content(size + 7, size), f"down-{fault.__name__}-{size}"
    put(shared, path, content, [])
    rule = shared.proxy.on(fault, "GetObject")
    with closing(Client(shared.server.address)) as client:
        try:
            answer = client.get(path)
            assert answer.body == content.read() if answer.ok else heard(answer, shared.told) is False
        except OSError as error:
            shared.told.append(f"cut: {error}")
        except Exception as error:
            assert "IncompleteRead" in type(error).__name__, error
    assert rule.struck.is_set()
    shared.must_read(path, content)


def test_who_is_gone_leaves_nothing(own: Lab) -> None:
    """Uploads that are cancelled, and a server that is killed in the middle of each kind of request: the sweep after it finds all."""
    for number, operation in enumerate(("PutObject", "UploadPart", "CompleteMultipartUpload", "CreateMultipartUpload")):
        gate = threading.Event()
        rule = own.proxy.on(faults.answer_held(gate), operation)
        kind = "small-put" if operation == "PutObject" else "large-put"
        send, size, _ = KINDS[kind]
        with ThreadPoolExecutor(1) as threads:
            job = threads.submit(_once, own, f"gone-{operation}", Content(number + 70, size))
            assert rule.struck.wait(60)
            own.server.kill()
            gate.set()
            assert job.result(60) == "nothing"
            own.server.start()
        send(own, f"gone-{operation}", Content(number + 80, size), own.told)
        own.must_read(f"gone-{operation}", Content(number + 80, size))


def test_what_the_storage_took_before_it_failed_is_recorded(s3_server: S3Server, tmp_path: Path) -> None:
    """The client goes on behind that, and sends only the rest again."""
    with lab(tmp_path, s3_server, deadline=1.0) as one, closing(Client(one.server.address)) as client:
        content, told = Content(7, 24 * MIB), list[str]()
        upload = Sequential("half", content, "tus")
        upload.note(insist(partial(upload.create, client, 0), told))
        one.proxy.on(faults.slow_down, "UploadPart", times=1000, after=2)
        heard(upload.append(client, content.size), told)
        assert told == ["503 storage_unavailable"]
        one.proxy.clear()
        upload.note(insist(partial(upload.stand, client), told))
        assert upload.offset >= 10 * MIB
        upload.note(insist(partial(upload.append, client, content.size), told))
        one.must_read("half", content)
        one.must_be_tidy()


def _once(lab: Lab, path: str, content: Content) -> str:
    told: list[str] = []
    with closing(Client(lab.server.address)) as client:
        try:
            heard(client.put(path, content.read()), told)
        except OSError:
            return "nothing"
        except Exception as error:
            return "nothing" if "RemoteDisconnected" in type(error).__name__ else repr(error)
    return told[0] if told else "stored"


@pytest.mark.parametrize("seed", [1])
def test_many_clients_under_many_faults_lose_nothing(s3_server: S3Server, tmp_path: Path, seed: int) -> None:
    """Mixed traffic while one request to S3 in twelve fails in some way."""
    some: Sequence[Fault] = (*faults.REFUSALS, *faults.CUTS, faults.wrong_request, faults.wrong_etag)
    with lab(tmp_path, s3_server, workers=2) as one:
        journal = Journal()
        one.proxy.at_random(seed, 1 / 12, some)
        load = Load(partial(Client, one.server.address, timeout=60), journal, seed, clients=6, largest=9 * MIB).start()
        until(lambda: one.proxy.count() > 150, "enough was asked", 120)
        load.stop()
        struck = sum(bool(request.fault) for request in one.proxy.requests)
        one.proxy.clear()
        check = Check(one.server, journal).run()
        assert check.problems == []
        assert struck > 5 and check.counts["files_acknowledged"] > 10 and check.counts["bytes_in_offsets"] > 0
        one.must_be_tidy()
