"""The fault proxy does to requests what the script says, and nothing to the others."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, HTTPClientError
from faults import s3_faults as faults
from faults.proxy import Fault, Proxy
from fixtures_s3 import S3Server

DATA = bytes(range(256)) * 8192


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[Proxy]:
    with Proxy(s3_server.endpoint) as proxy:
        yield proxy
    assert proxy.errors == []


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    return s3_server.new_bucket()


@pytest.fixture
def through(s3_server: S3Server, proxy: Proxy) -> Any:
    return s3_server.client(proxy.url)


def stored(s3: S3Server, bucket: str) -> dict[str, bytes]:
    return {key: s3.client().get_object(Bucket=bucket, Key=key)["Body"].read() for key in s3.keys(bucket)}


def test_what_no_rule_names_passes_signed_as_it_was(s3_server: S3Server, proxy: Proxy, through: Any, bucket: str) -> None:
    through.put_object(Bucket=bucket, Key="a/b c", Body=DATA, IfNoneMatch="*")
    upload = through.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
    part = through.upload_part(Bucket=bucket, Key="m", UploadId=upload, PartNumber=1, Body=DATA)
    assert len(through.list_parts(Bucket=bucket, Key="m", UploadId=upload)["Parts"]) == 1
    through.complete_multipart_upload(Bucket=bucket, Key="m", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    assert through.head_object(Bucket=bucket, Key="m")["ContentLength"] == len(DATA)
    assert through.get_object(Bucket=bucket, Key="a/b c", Range="bytes=1-9")["Body"].read() == DATA[1:10]
    through.delete_object(Bucket=bucket, Key="m")
    assert stored(s3_server, bucket) == {"a/b c": DATA}
    assert [one.operation for one in proxy.requests] == [
        "PutObject", "CreateMultipartUpload", "UploadPart", "ListParts", "CompleteMultipartUpload", "HeadObject", "GetObject", "DeleteObject"]
    assert proxy.requests[0].key == "a/b c" and all(one.status == one.done for one in proxy.requests)


@pytest.mark.parametrize("fault, is_done", [
    (faults.internal_error, False), (faults.slow_down, False), (faults.early_refusal, False), (faults.reset_before, False),
    (faults.reset_in_body, False), (faults.done_but_500, True), (faults.lose_answer, True)])
def test_what_fails_is_done_or_not_as_the_fault_says(s3_server: S3Server, proxy: Proxy, through: Any, bucket: str, fault: Fault,
                                                     is_done: bool) -> None:
    proxy.on(fault, "PutObject")
    with pytest.raises((ClientError, HTTPClientError)):
        through.put_object(Bucket=bucket, Key="a", Body=DATA)
    assert stored(s3_server, bucket) == ({"a": DATA} if is_done else {})
    through.put_object(Bucket=bucket, Key="b", Body=DATA)
    assert proxy.count("PutObject") == 2 and proxy.count(fault=fault.__name__) == 1


@pytest.mark.parametrize("fault", [faults.silence, faults.done_in_silence])
def test_silence_lasts_until_it_is_ended(proxy: Proxy, through: Any, bucket: str, fault: Fault) -> None:
    rule = proxy.on(fault, "PutObject")
    failed: list[Exception] = []

    def put() -> None:
        with pytest.raises(HTTPClientError) as error:
            through.put_object(Bucket=bucket, Key="a", Body=DATA)
        failed.append(error.value)

    thread = threading.Thread(target=put)
    thread.start()
    assert rule.struck.wait(30) and not failed
    proxy.release()
    thread.join(30)
    assert len(failed) == 1


def test_a_byte_of_a_request_and_of_an_answer_can_be_another(s3_server: S3Server, proxy: Proxy, through: Any, bucket: str) -> None:
    s3_server.client().put_object(Bucket=bucket, Key="a", Body=DATA)
    proxy.on(faults.wrong_answer, "GetObject")
    assert _differs(through.get_object(Bucket=bucket, Key="a")) == 1
    proxy.on(faults.wrong_request, "PutObject")
    with pytest.raises(ClientError, match=r"BadDigest|XAmzContentSHA256Mismatch"):
        through.put_object(Bucket=bucket, Key="b", Body=DATA)
    proxy.on(faults.wrong_etag, "PutObject")
    assert through.put_object(Bucket=bucket, Key="b", Body=DATA)["ETag"] != f'"{hashlib.md5(DATA).hexdigest()}"'


def test_the_same_seed_strikes_the_same_requests(proxy: Proxy, through: Any, bucket: str) -> None:
    struck = []
    for seed in (1, 1, 2):
        proxy.clear()
        del proxy.requests[:]
        proxy.at_random(seed, 0.5, faults.REFUSALS)
        for number in range(20):
            try:
                through.put_object(Bucket=bucket, Key=str(number), Body=b"x")
            except (ClientError, HTTPClientError):
                pass
        struck.append([one.fault for one in proxy.requests])
    assert struck[0] == struck[1] != struck[2] and "" in struck[0]


def test_rules_count_and_skip(proxy: Proxy, through: Any, bucket: str) -> None:
    proxy.on(faults.answered(503, "Custom"), "PutObject", times=2, after=1, where=lambda one: one.key.startswith("in"))
    answers = []
    for key in ("in1", "out", "in2", "in3", "in4"):
        try:
            through.put_object(Bucket=bucket, Key=key, Body=b"x")
            answers.append("")
        except ClientError as error:
            answers.append(error.response["Error"]["Code"])
    assert answers == ["", "", "Custom", "Custom", ""]


def test_an_answer_can_wait_for_a_gate(s3_server: S3Server, proxy: Proxy, through: Any, bucket: str) -> None:
    gate = threading.Event()
    rule = proxy.on(faults.held(gate), "PutObject")
    thread = threading.Thread(target=through.put_object, kwargs={"Bucket": bucket, "Key": "a", "Body": b"x"})
    thread.start()
    assert rule.struck.wait(30) and stored(s3_server, bucket) == {}
    gate.set()
    thread.join(30)
    assert stored(s3_server, bucket) == {"a": b"x"}


def _differs(answer: Any) -> int:
    """How many bytes of a download are not those that were stored."""
    return sum(a != b for a, b in zip(answer["Body"].read(), DATA, strict=True))
