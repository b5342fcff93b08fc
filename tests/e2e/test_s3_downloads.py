"""Files that lie in S3 come back by every way, as they do from a disk; or the S3 server gives them itself."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import random
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import wire
from fixtures_s3 import S3Server
from fixtures_server import Server, eventually

NOISE = random.Random("downloads")
BIG = NOISE.randbytes(9 * 2**20 + 77)
SMALL = b"<html>small</html>" * 10
FILES = {"big.bin": BIG, "small.txt": SMALL, "empty": b""}


def settings(s3: S3Server, bucket: str) -> str:
    """``main`` streams, ``away`` redirects."""
    lines = []
    for name, redirect in (("bulk", "false"), ("away", "true")):
        lines += [f"[storages.{name}]", f'bucket = "{bucket}"', f'prefix = "{name}/"', f'endpoint = "{s3.endpoint}"', f'region = "{s3.region}"',
                  'style = "path"', f"redirect = {redirect}"]
    return "\n".join([*lines, '[spaces.main]\nstorage = "bulk"', '[spaces.away]\nstorage = "away"', ""])


@pytest.fixture(scope="module", params=["moto_server", "s3_server"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    s3: S3Server = request.getfixturevalue(request.param)
    folder = tmp_path_factory.mktemp("downloads")
    (folder / "carboy.toml").write_text(settings(s3, s3.new_bucket()))
    server = Server(folder / "data", args=["--config", str(folder / "carboy.toml")], env=s3.env).start()
    for space in ("main", "away"):
        for name, data in FILES.items():
            digest = {"Repr-Digest": f"sha-256=:{wire_digest(data)}:"} if name == "big.bin" else {}
            assert server.request("PUT", f"/files/{space}/{name}", digest, data).status == 201
    yield server
    server.stop()
    server.must_be_sound()


def wire_digest(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


@pytest.fixture
def site(filled: Server) -> Server:
    return filled


def fetched(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """What an address answers to somebody without any token."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {name.lower(): value for name, value in error.headers.items()}, error.read()


# --- streamed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_a_file_comes_back_whole(site: Server, name: str) -> None:
    answer = site.request("GET", f"/files/main/{name}")
    assert (answer.status, answer.body == FILES[name], answer.header("Content-Length")) == (200, True, str(len(FILES[name])))
    head = site.request("HEAD", f"/files/main/{name}")
    assert (head.status, head.header("Content-Length"), head.header("ETag")) == (200, str(len(FILES[name])), answer.header("ETag"))
    assert site.request("GET", f"/files/main/{name}", {"If-None-Match": answer.header("ETag") or ""}).status == 304
    assert site.request("GET", f"/files/main/{name}", {"If-Match": '"other"'}).status == 412


@pytest.mark.parametrize(("asked", "start", "end"), [
    ("bytes=0-0", 0, 1), ("bytes=100-199", 100, 200), ("bytes=-5", len(BIG) - 5, len(BIG)), ("bytes=5242880-", 5 * 2**20, len(BIG)),
    ("bytes=1-9000000", 1, 9_000_001)])
def test_a_range_comes_back(site: Server, asked: str, start: int, end: int) -> None:
    answer = site.request("GET", "/files/main/big.bin", {"Range": asked})
    assert (answer.status, answer.header("Content-Range")) == (206, f"bytes {start}-{end - 1}/{len(BIG)}")
    assert answer.body == BIG[start:end]


def test_several_ranges_come_back_in_one_answer(site: Server) -> None:
    answer = site.request("GET", "/files/main/big.bin", {"Range": "bytes=0-99, 5242000-5243000, -7"})
    assert answer.status == 206
    assert (answer.header("Content-Type") or "").startswith("multipart/byteranges")
    for start, end in ((0, 100), (5_242_000, 5_243_001), (len(BIG) - 7, len(BIG))):
        assert f"bytes {start}-{end - 1}/{len(BIG)}".encode() + b"\r\n\r\n" + BIG[start:end] in answer.body


def test_conditions_of_ranges(site: Server) -> None:
    etag = site.request("HEAD", "/files/main/big.bin").header("ETag") or ""
    assert site.request("GET", "/files/main/big.bin", {"Range": "bytes=5-9", "If-Range": etag}).body == BIG[5:10]
    assert site.request("GET", "/files/main/big.bin", {"Range": "bytes=5-9", "If-Range": '"other"'}).body == BIG
    assert site.request("GET", "/files/main/big.bin", {"Range": f"bytes={len(BIG)}-"}).status == 416


def test_memory_is_flat_and_who_leaves_takes_the_connection_along(site: Server) -> None:
    data = BIG * 8
    assert site.request("PUT", "/files/main/large", body=data).status in (200, 201)
    [worker] = site.workers()
    assert hashlib.sha256(site.request("GET", "/files/main/large").body).digest() == hashlib.sha256(data).digest()
    before, there = peak(worker), connections(worker)
    for _ in range(3):
        assert len(site.request("GET", "/files/main/large").body) == len(data)
    for _ in range(8):
        with site.connect() as connection:
            connection.send(f"GET /files/main/large HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {site.token}\r\n\r\n".encode())
            assert connection.socket.recv(100)
    assert peak(worker) - before < len(data) // 2
    eventually(lambda: connections(worker) <= there + 1)
    assert site.request("GET", "/files/main/small.txt").body == SMALL


def peak(pid: int) -> int:
    """The most memory it ever had, in bytes."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def connections(pid: int) -> int:
    """Its sockets."""
    count = 0
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += os.readlink(fd).startswith("socket:")
        except FileNotFoundError:
            continue
    return count


def test_a_zip_is_the_same_from_anywhere(site: Server) -> None:
    made = site.request("POST", "/api/v1/zip", {"Content-Type": "application/json", "Accept": "application/json"},
                        json.dumps({"space": "main", "paths": ["big.bin", "small.txt", "empty"]}).encode())
    assert made.status == 201, made.body
    where = made.header("Location") or ""
    whole = site.request("GET", where).body
    with zipfile.ZipFile(io.BytesIO(whole)) as found:
        assert {name: found.read(name) for name in found.namelist()} == FILES
    for start in (1, 3_000_000, len(BIG) + 100, len(whole) - 10):
        answer = site.request("GET", where, {"Range": f"bytes={start}-"})
        assert (answer.status, answer.body == whole[start:]) == (206, True)


# --- redirected ----------------------------------------------------------------------------------------------------


def test_the_storage_gives_the_bytes_itself(site: Server) -> None:
    answer = site.request("GET", "/files/away/small.txt")
    where = answer.header("Location") or ""
    assert (answer.status, answer.header("Cache-Control"), answer.body) == (307, "no-store", b"")
    assert "away/" in urlsplit(where).path
    assert site.token not in where
    status, headers, body = fetched(where)
    assert (status, body) == (200, SMALL)
    shown = site.request("HEAD", "/files/away/small.txt")
    assert (shown.status, shown.header("Content-Length")) == (200, str(len(SMALL)))
    assert headers["content-type"] == shown.header("Content-Type")
    assert headers["cache-control"] == "private, no-cache"
    assert headers["content-disposition"] == shown.header("Content-Disposition")


def test_names_and_downloads_go_along(site: Server) -> None:
    assert site.request("PUT", "/files/away/gr%C3%BC%C3%9Fe%20%22x%22.txt", body=b"hello").status in (200, 201)
    answer = site.request("GET", "/files/away/gr%C3%BC%C3%9Fe%20%22x%22.txt?download")
    _, headers, body = fetched(answer.header("Location") or "")
    assert body == b"hello"
    assert headers["content-disposition"] == site.request("HEAD", "/files/away/gr%C3%BC%C3%9Fe%20%22x%22.txt?download").header("Content-Disposition")
    assert headers["content-disposition"].startswith("attachment")


def test_one_range_is_the_storages(site: Server) -> None:
    answer = site.request("GET", "/files/away/big.bin", {"Range": "bytes=100-199"})
    assert answer.status == 307
    status, headers, body = fetched(answer.header("Location") or "", Range="bytes=100-199")
    assert (status, body, headers["content-range"]) == (206, BIG[100:200], f"bytes 100-199/{len(BIG)}")
    again = site.request("GET", "/files/away/big.bin", {"Range": "bytes=200-", "If-Range": headers["etag"]})
    assert again.status == 307, "the tag is the storage's own"
    status, _, body = fetched(again.header("Location") or "", Range="bytes=200-299", **{"If-Range": headers["etag"]})
    assert (status, body) in ((206, BIG[200:300]), (200, BIG))


def test_what_only_carboy_knows_passes_through(site: Server) -> None:
    etag = site.request("HEAD", "/files/away/big.bin").header("ETag") or ""
    for headers, status, body in (
            ({"If-Match": etag}, 200, BIG), ({"If-Match": '"other"'}, 412, None), ({"If-None-Match": etag}, 304, b""),
            ({"Range": "bytes=3-5", "If-Range": etag}, 206, BIG[3:6]), ({"Want-Repr-Digest": "sha-256=5"}, 200, BIG),
            ({"Range": "bytes=0-1, 5-6"}, 206, None), ({"Range": f"bytes={len(BIG)}-"}, 416, None)):
        answer = site.request("GET", "/files/away/big.bin", headers)
        assert answer.status == status, headers
        assert body is None or answer.body == body
    assert site.request("GET", "/files/away/empty").status == 200


def test_an_address_is_for_reading_this_file_alone(site: Server) -> None:
    where = site.request("GET", "/files/away/small.txt").header("Location") or ""
    if "127.0.0.1" in where and fetched(where.replace("X-Amz-Signature=", "X-Amz-Signature=0"))[0] == 200:
        pytest.skip("moto looks at no signature")
    other = site.request("GET", "/files/away/big.bin").header("Location") or ""
    mixed = urlsplit(where)._replace(path=urlsplit(other).path).geturl()
    assert fetched(mixed)[0] == 403
    request = urllib.request.Request(where, method="DELETE")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    refused.value.close()
    assert fetched(where)[0] == 200


def test_links_redirect_unless_their_uses_are_counted(site: Server) -> None:
    id = site.request("GET", "/api/v1/files?space=away&prefix=small").json()["files"][0]["id"]

    def link(**more: object) -> str:
        made = site.request("POST", "/api/v1/links", {"Content-Type": "application/json"},
                            json.dumps({"kind": "file", "file_id": id, **more}).encode())
        assert made.status == 201, made.body
        return urlsplit(made.json()["url"]).path

    free, counted = link(), link(max_uses=1)
    answer = wire.request(site.url, "GET", free, {}, None)
    assert answer.status == 307
    assert fetched(answer.header("Location") or "")[2] == SMALL
    assert wire.request(site.url, "GET", counted, {}, None).body == SMALL
    assert wire.request(site.url, "GET", counted, {}, None).status in (404, 410)
