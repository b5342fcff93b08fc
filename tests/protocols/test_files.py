"""``/files/{space}/{path}``: PUT, GET, HEAD and DELETE of whole files."""

from __future__ import annotations

import base64
import hashlib
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import wire
from fixtures_site import Site
from transcript import play, transcripts

CHUNKED = {"Transfer-Encoding": "chunked"}


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


@pytest.mark.parametrize("name", transcripts("files"))
def test_transcript(site: Site, name: str) -> None:
    play(name, site)


# --- bodies --------------------------------------------------------------------------------------------------------


def test_a_large_file_comes_back_whole_and_in_parts(site: Site) -> None:
    data = random.Random(1).randbytes(9 * 2**20 + 7)
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    put = site.ask("PUT", "/files/main/files/large.bin", {"Content-Digest": f"sha-256=:{digest}:"}, data)
    assert (put.status, put.json()["size"], put.json()["sha256"]) == (201, len(data), hashlib.sha256(data).hexdigest())
    assert site.content("/files/main/files/large.bin") == data
    part = site.ask("GET", "/files/main/files/large.bin", {"Range": "bytes=5000000-8999999", "If-Range": str(put.header("ETag"))})
    assert (part.status, part.header("Content-Range")) == (206, f"bytes 5000000-8999999/{len(data)}")
    assert part.body == data[5000000:9000000]


@pytest.mark.parametrize("pieces", [(), (b"hello",), (b"h", b"ell", b"o"), (b"x" * 70_000, b"y")])
def test_a_body_of_unknown_length(site: Site, pieces: tuple[bytes, ...]) -> None:
    target = f"/files/main/files/chunked-{len(pieces)}"
    put = site.ask("PUT", target, CHUNKED, chunked(*pieces))
    assert (put.status, put.json()["size"]) == (201, sum(map(len, pieces)))
    assert site.content(target) == b"".join(pieces)


def test_a_body_of_unknown_length_that_is_too_large_leaves_nothing(site: Site) -> None:
    before = site.kept()
    answer = site.ask("PUT", "/files/small/chunked.bin", CHUNKED, chunked(b"x" * 1000, b"y" * 25))
    assert (answer.status, answer.json()["limit"]) == (413, 1024)
    site.must_be_as(before)


def test_a_body_of_unknown_length_may_carry_a_digest(site: Site) -> None:
    digest = base64.b64encode(hashlib.sha256(b"hello").digest()).decode()
    headers = {**CHUNKED, "Repr-Digest": f"sha-256=:{digest}:"}
    assert site.ask("PUT", "/files/main/files/digest", headers, chunked(b"he", b"llo")).status == 201
    before = site.kept()
    assert site.ask("PUT", "/files/main/files/digest", headers, chunked(b"he", b"lp!")).json()["code"] == "digest_mismatch"
    site.must_be_as(before)


@pytest.mark.parametrize("target, headers, status", [
    ("/files/small/a.bin", {"Content-Length": "1025"}, 413),
    ("/files/nowhere/a.bin", {"Content-Length": "5"}, 404),
    ("/files/main/a/", {"Content-Length": "5"}, 400),
    ("/files/main/files/guarded", {"Content-Length": "5", "If-Match": "*"}, 412),
    ("/files/main/files/ranged", {"Content-Length": "5", "Content-Range": "bytes 0-4/9"}, 400),
    ("/files/main/files/digest", {"Content-Length": "5", "Content-Digest": "sha-256=hello"}, 400),
])
def test_what_is_refused_anyway_is_refused_before_its_body(site: Site, target: str, headers: dict[str, str], status: int) -> None:
    with site.server.connect() as connection:
        connection.send(wire.head("PUT", target, site.fields("admin", {**headers, "Expect": "100-continue"})))
        answer = connection.response()
        assert (answer.status, answer.interim, answer.header("Connection")) == (status, (), "close")
        assert connection.at_end()


def test_a_client_that_leaves_leaves_nothing(site: Site) -> None:
    """PUT can't be resumed, so half a file is no file."""
    before = site.kept()
    with site.server.connect() as connection:
        connection.send(wire.head("PUT", "/files/main/files/cut", site.fields("admin", {"Content-Length": "100000"})) + b"x" * 60000)
        connection.end_writing()
        answer = connection.response()
    assert (answer.status, answer.json()["code"], answer.json()["received"]) == (400, "body_cut", 60000)
    assert site.ask("GET", "/files/main/files/cut").status == 404
    site.must_be_as(before)


def test_replacing_fails_as_a_whole(site: Site) -> None:
    """A cut or wrong body leaves the file as it was."""
    site.ask("PUT", "/files/main/files/stays", body=b"good")
    with site.server.connect() as connection:
        connection.send(wire.head("PUT", "/files/main/files/stays", site.fields("admin", {"Content-Length": "100"})) + b"bad")
        connection.end_writing()
        assert connection.response().status == 400
    assert site.content("/files/main/files/stays") == b"good"


# --- several at once -----------------------------------------------------------------------------------------------


def test_of_many_that_create_one_does(site: Site) -> None:
    def create(number: int) -> int:
        return site.ask("PUT", "/files/main/files/first", {"If-None-Match": "*"}, b"%d" % number).status

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(create, range(8))) == [201] + [412] * 7


def test_of_many_that_guard_one_replaces(site: Site) -> None:
    etag = str(site.ask("PUT", "/files/main/files/guard", body=b"x").header("ETag"))

    def replace(number: int) -> int:
        return site.ask("PUT", "/files/main/files/guard", {"If-Match": etag}, b"%d" % number).status

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(replace, range(8))) == [200] + [412] * 7


def test_a_path_is_a_file_or_a_folder_whoever_comes_first(site: Site) -> None:
    for turn in range(5):
        targets = [f"/files/main/files/race{turn}", f"/files/main/files/race{turn}/below"] * 2
        with ThreadPoolExecutor(4) as pool:
            statuses = list(pool.map(lambda target: site.ask("PUT", target, body=b"x").status, targets))
        files, folders = {statuses[0], statuses[2]}, {statuses[1], statuses[3]}
        assert (files, folders) in [({200, 201}, {409}), ({409}, {200, 201})], statuses


def test_twins_at_once_each_get_a_name(site: Site) -> None:
    with ThreadPoolExecutor(8) as pool:
        placed = list(pool.map(lambda _: site.ask("PUT", "/files/twins/race.txt", body=b"x"), range(12)))
    assert {answer.status for answer in placed} == {201}
    assert len({answer.header("Location") for answer in placed}) == 12


def test_a_download_under_way_survives_the_file(site: Site) -> None:
    """Replaced, then deleted: who is reading reads on."""
    data = random.Random(2).randbytes(8 * 2**20)
    site.ask("PUT", "/files/main/files/going", body=data)
    with site.server.connect() as connection:
        connection.send(wire.head("GET", "/files/main/files/going", site.fields("admin")))
        first = connection.socket.recv(1000)
        assert first.startswith(b"HTTP/1.1 200 ")
        assert site.ask("PUT", "/files/main/files/going", body=b"new").status == 200
        assert site.ask("DELETE", "/files/main/files/going").status == 204
        received = bytearray(first)
        while len(received) - received.find(b"\r\n\r\n") - 4 < len(data):
            received += connection.socket.recv(2**20)
    assert received.partition(b"\r\n\r\n")[2] == data
