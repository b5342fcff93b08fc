"""Resumable Uploads for HTTP: interim answers, connections cut anywhere, several at once. What is asked and answered is in transcripts."""

from __future__ import annotations

import os
import random
import re
import select
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import certificates
import proxies
import pytest
import wire
from fixtures_server import Server, ServerFactory, eventually
from fixtures_site import Site
from transcript import play, transcripts

MIB = 2**20
VERSIONS = range(3, 11)
BODY = {"Content-Type": "application/partial-upload"}
SPEAKS = {"Upload-Draft-Interop-Version": "8"}
DATA = random.Random(9).randbytes(300_000)


@pytest.mark.parametrize("name", transcripts("resumable"))
def test_transcript(site: Site, name: str) -> None:
    play(name, site)


def whole(version: int | None) -> dict[str, str]:
    """The fields of a request that brings all of it."""
    said = {"Upload-Incomplete": "?0"} if version == 3 else {"Upload-Complete": "?1"}
    return said if version is None else {**said, "Upload-Draft-Interop-Version": str(version)}


def standing(one: Server, address: str) -> tuple[int, bool]:
    """The offset, and whether it is complete."""
    answer = one.request("HEAD", address)
    assert answer.status == 204, answer
    return int(answer.header("Upload-Offset") or ""), answer.header("Upload-Complete") == "?1"


def append(one: Server, address: str, at: int, data: bytes, *, complete: bool = True, **fields: str) -> wire.Response:
    return one.request("PATCH", address, {**BODY, "Upload-Offset": str(at), "Upload-Complete": "?1" if complete else "?0", **fields}, data)


def begin(one: Server, name: str, data: bytes = b"", **fields: str) -> str:
    answer = one.request("PUT", f"/files/main/{name}", {"Upload-Complete": "?0", **fields}, data)
    assert answer.status == 201, answer
    return answer.header("Location") or ""


# --- 104 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_of_the_draft_learns_where_to_resume(live: Server, version: int) -> None:
    answer = live.request("PUT", f"/files/main/rufh-104-{version}", whole(version), b"hello")
    assert answer.status in (200, 201)
    [interim] = answer.interim
    assert (interim.status, interim.reason) == (104, "Upload Resumption Supported")
    assert interim.header("Upload-Draft-Interop-Version") == str(version)
    assert (interim.header("Upload-Limit") is None) == (version < 6)
    assert standing(live, interim.header("Location") or "") == (5, True)


def test_its_address_stays_the_same(live: Server) -> None:
    answer = live.request("PUT", "/files/main/rufh-same", {**SPEAKS, "Upload-Complete": "?0"}, b"hello")
    assert answer.interim[0].header("Location") == answer.header("Location")


@pytest.mark.parametrize("fields", [
    whole(None), {**whole(None), "Upload-Draft-Interop-Version": "2"}, {**whole(None), "Upload-Draft-Interop-Version": "11"},
    {**whole(None), "Upload-Draft-Interop-Version": "eight"}, {**whole(8), "Via": "1.1 proxy"}, {**whole(8), "X-Forwarded-For": "10.0.0.1"},
    {**whole(8), "Forwarded": "for=10.0.0.1"}, {"Upload-Draft-Interop-Version": "8"}], ids=str)
def test_others_get_no_interim_answer(live: Server, fields: dict[str, str]) -> None:
    answer = live.request("PUT", "/files/main/rufh-none", fields, b"hello")
    assert (answer.status in (200, 201), answer.interim) == (True, ())


@pytest.mark.parametrize("wish", ["on", "off"])
def test_interim_answers_can_be_switched(server: ServerFactory, wish: str) -> None:
    one = server(env={"CARBOY_SEND_104": wish})
    answer = one.request("PUT", "/files/main/a", {**whole(8), "Via": "1.1 proxy"}, b"hello")
    assert (answer.status, len(answer.interim)) == (201, 1 if wish == "on" else 0)


def test_nothing_breaks_behind_nginx(live: Server, tmp_path: Path) -> None:
    with proxies.nginx(live, tmp_path / "nginx") as url:
        answer = wire.request(url, "PUT", "/files/main/rufh-nginx", {**live.auth, **whole(8)}, DATA)
        assert (answer.status in (200, 201), answer.interim) == (True, ())
        made = wire.request(url, "PUT", "/files/main/rufh-nginx-2", {**live.auth, **SPEAKS, "Upload-Complete": "?0"}, DATA[:1000])
        rest = {**live.auth, **SPEAKS, **BODY, "Upload-Complete": "?1", "Upload-Offset": "1000"}
        assert wire.request(url, "PATCH", made.header("Location") or "", rest, DATA[1000:]).status in (200, 201)
        assert wire.request(url, "GET", "/files/main/rufh-nginx-2", live.auth).body == DATA


def test_interim_answers_tell_what_is_kept(live: Server) -> None:
    """What was told is there, though the connection ends without an answer."""
    check_progress(live)


def test_over_tls_too(server: ServerFactory, tmp_path: Path) -> None:
    check_progress(server(args=certificates.make(tmp_path).args))


def check_progress(one: Server) -> None:
    size, piece = 400 * MIB, DATA[:65536]
    with one.connect() as connection:
        connection.send(wire.head("PUT", "/files/main/rufh-progress", {**one.auth, **whole(8), "Content-Length": str(size)}))
        address = connection.interim().header("Location") or ""
        sent = 0
        while not select.select([connection.socket], [], [], 0.01)[0]:
            connection.send(piece)
            sent += len(piece)
        told = connection.interim()
        assert (told.status, told.header("Location")) == (104, None)
        kept = int(told.header("Upload-Offset") or "")
        assert 0 < kept <= sent
        connection.reset()
    offset, complete = standing(one, address)
    assert kept <= offset <= sent and not complete
    assert one.request("DELETE", address).status == 204


# --- connections that end ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [0, 1, 4095, 4096, 16_383, 16_384, 16_385, 131_072, 262_145, 299_999], ids=str)
@pytest.mark.parametrize("ending", ["fin", "rst"])
def test_a_cut_upload_goes_on_where_it_stands(live: Server, sent: int, ending: str) -> None:
    name = f"rufh-cut-{sent}-{ending}"
    with live.connect() as connection:
        connection.send(wire.head("PUT", f"/files/main/{name}", {**live.auth, **whole(8), "Content-Length": str(len(DATA))}))
        address = connection.interim().header("Location") or ""
        connection.send(DATA[:sent])
        eventually(lambda: live.request("GET", address).status == 200)
        connection.reset() if ending == "rst" else connection.close()
    offset, complete = standing(live, address)
    assert offset <= sent and not complete
    assert live.request("GET", f"/files/main/{name}").status == 404, "an upload that was cut is no file"
    assert append(live, address, offset, DATA[offset:]).status == 201
    assert live.request("GET", f"/files/main/{name}").body == DATA
    assert standing(live, address) == (len(DATA), True)


@pytest.mark.parametrize("ask", ["HEAD", "PATCH", "DELETE"])
def test_a_newer_request_ends_the_older(live: Server, ask: str) -> None:
    """A stalled one holds nobody up: it ends, what it had brought is kept, and the next goes on from there."""
    name = f"rufh-newer-{ask}"
    with live.connect() as stalled:
        fields = {**live.auth, **whole(8), "Content-Length": str(len(DATA)), "Expect": "100-continue"}
        stalled.send(wire.head("PUT", f"/files/main/{name}", fields))
        address = stalled.interim().header("Location") or ""
        assert stalled.interim().status == 100, "it writes now"
        stalled.send(DATA[:100_000])
        if ask == "HEAD":
            kept, complete = standing(live, address)
            assert kept <= 100_000 and not complete
            assert append(live, address, kept, DATA[kept:]).status == 201
        elif ask == "PATCH":
            assert append(live, address, 300_000, b"").status == 409, "the wrong offset is told the right one, after the older has let go"
            kept, _ = standing(live, address)
            assert append(live, address, kept, DATA[kept:]).status == 201
        else:
            assert live.request("DELETE", address).status == 204
        assert stalled.response("PUT").status in (400, 409, 410)
    assert live.request("GET", f"/files/main/{name}").status == (404 if ask == "DELETE" else 200)


def test_what_was_announced_is_kept_though_nobody_listens(live: Server) -> None:
    """The client has gone while the server still tells it how much is there."""
    with live.connect() as connection:
        connection.send(wire.head("PUT", "/files/main/rufh-gone", {**live.auth, **whole(8), "Content-Length": str(400 * MIB)}))
        address = connection.interim().header("Location") or ""
        while not select.select([connection.socket], [], [], 0.01)[0]:
            connection.send(DATA[:65536])
        connection.reset()  # with interim answers unread
    eventually(lambda: live.request("GET", address).json()["offset"] > 0)
    assert not standing(live, address)[1]
    assert live.request("DELETE", address).status == 204


def test_the_same_bytes_twice_at_once(live: Server) -> None:
    address = begin(live, "rufh-twice", DATA[:1000])
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: append(live, address, 1000, DATA[1000:]), range(8)))
    assert {answer.status for answer in answers} <= {200, 201, 400, 409}
    assert sum(answer.status in (200, 201) for answer in answers) <= 1
    kept, complete = standing(live, address)
    if not complete:  # one was asked to let go in the midst of it, and the others came too late
        assert append(live, address, kept, DATA[kept:]).status == 201
    assert live.request("GET", "/files/main/rufh-twice").body == DATA


def test_parts_over_many_connections_and_processes(server: ServerFactory) -> None:
    one = server(workers=2)
    data = random.Random(3).randbytes(8 * MIB + 17)
    address = begin(one, "parts")
    parts = [(at, min(at + 333_333, len(data))) for at in range(0, len(data), 333_333)]
    order = [*parts, *parts[:5]]
    random.Random(4).shuffle(order)

    def send(part: tuple[int, int]) -> int:
        start, end = part
        answer = one.request("PUT", address, {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}, data[start:end])
        return answer.status

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(send, order))
    assert set(statuses) <= {201, 200, 204, 409}
    if 409 in statuses:  # the same part twice at the same time: one of them was asked to let go
        for part in parts:
            send(part)
    assert one.request("GET", "/files/main/parts").body == data


@pytest.mark.parametrize("sent", [0, 1])
def test_a_cut_part_tells_the_length_with_its_first_byte(live: Server, sent: int) -> None:
    """A part of which nothing was kept declares nothing, and another may then tell another length."""
    address = begin(live, f"told-{sent}.bin")
    with live.connect() as connection:
        part = {**live.auth, "Content-Range": "bytes 10-19/300", "Content-Length": "10"}
        connection.send(wire.head("PUT", address, part) + DATA[10:10 + sent])
        connection.end_writing()
        assert connection.response("PUT").status == 400
    told = live.request("GET", address).json()
    assert (told["received"], told["size"]) == (sent, 300 if sent else None)
    answer = live.request("PUT", address, {"Content-Range": "bytes 10-19/400"}, DATA[10:20])
    assert (answer.status, answer.header("Upload-Length")) == ((400, None) if sent else (204, "400"))


def test_a_part_that_is_there_already_may_tell_the_length(live: Server) -> None:
    address = begin(live, "told-later.bin")
    for size, told in (("*", None), ("20", "20")):
        answer = live.request("PUT", address, {"Content-Range": f"bytes 10-19/{size}"}, DATA[10:20])
        assert (answer.status, answer.header("Upload-Length")) == (204, told)


def test_a_question_stops_no_part(live: Server) -> None:
    """HEAD asks who writes in order to let go, not those who send parts beyond a gap."""
    address = begin(live, "rufh-gap")
    assert live.request("PUT", address, {"Content-Range": "bytes 200000-200009/300000"}, DATA[200_000:200_010]).status == 204
    with live.connect() as connection:
        part = {**live.auth, "Content-Range": "bytes 0-99999/300000", "Content-Length": "100000", "Expect": "100-continue"}
        connection.send(wire.head("PUT", address, part))
        assert connection.interim().status == 100, "it writes now"
        connection.send(DATA[:50_000])
        assert not standing(live, address)[1]
        connection.send(DATA[50_000:100_000])
        assert connection.response("PUT").status == 204
    assert live.request("GET", address).json()["missing"] == [[100_000, 200_000], [200_010, 300_000]]


# --- bodies without a length ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [None, 8])
def test_a_body_of_unknown_length(live: Server, version: int | None) -> None:
    name = f"rufh-chunked-{version}"
    with live.connect() as connection:
        connection.send(wire.head("PUT", f"/files/main/{name}", {**live.auth, **whole(version), "Transfer-Encoding": "chunked"}))
        for at in range(0, len(DATA), 70_000):
            connection.chunk(DATA[at:at + 70_000])
        connection.chunk(b"")
        answer = connection.response("PUT")
    assert (answer.status, answer.header("Upload-Complete")) == (201, "?1")
    assert live.request("GET", f"/files/main/{name}").body == DATA


def test_a_body_of_unknown_length_past_the_length(live: Server) -> None:
    address = begin(live, "rufh-past", **{"Upload-Length": "1000"})
    with live.connect() as connection:
        fields = {**live.auth, **BODY, "Upload-Offset": "0", "Upload-Complete": "?0", "Transfer-Encoding": "chunked"}
        connection.send(wire.head("PATCH", address, fields))
        connection.chunk(DATA[:1001])
        answer = connection.response("PATCH")
    assert answer.status == 413 and answer.json()["type"].endswith("#inconsistent-upload-length")
    assert live.request("HEAD", address).status == 410


def test_expect_is_met_besides_the_interim_answer(live: Server) -> None:
    with live.connect() as connection:
        fields = {**live.auth, **whole(8), "Expect": "100-continue", "Content-Length": "5"}
        connection.send(wire.head("PUT", "/files/main/rufh-expect", fields))
        assert [connection.interim().status, connection.interim().status] == [104, 100]
        connection.send(b"hello")
        assert connection.response("PUT").status == 201


def test_a_refused_body_leaves_no_upload_that_nobody_knows(site: Site) -> None:
    digest = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"
    made = site.ask("PUT", "/files/main/rufh-refused", {"Upload-Complete": "?0", "Content-Digest": digest}, b"hello", who="ann")
    assert (made.status, made.json()["code"]) == (400, "digest_mismatch")
    assert made.header("Location") is None
    uploads = site.ask("GET", "/api/v1/uploads?space=main&limit=1000", who="ann").json()["uploads"]
    assert [one for one in uploads if one["path"] == "rufh-refused"] == []


def test_any_protocols_upload_goes_on(live: Server) -> None:
    """There is one engine: an upload that tus began is one as any other."""
    made = live.request("POST", "/tus/main/", {"Tus-Resumable": "1.0.0", "Upload-Length": "10", "Upload-Metadata": "filename cnVmaC10dXM="})
    address = "/uploads/" + (made.header("Location") or "").rpartition("/")[2]
    assert append(live, address, 0, b"hello", complete=False).status == 204
    assert append(live, address, 5, b"world").status == 201
    assert live.request("GET", "/files/main/rufh-tus").body == b"helloworld"


# --- whose it is, and how long -------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["bob", "reader", "stranger"])
def test_it_is_nobody_elses_business(site: Site, who: str) -> None:
    made = site.ask("PUT", "/files/main/rufh-private", {"Upload-Complete": "?0", "Upload-Length": "10"}, b"hello", who="ann")
    address = made.header("Location") or ""
    for method, fields, body in [
            ("HEAD", {}, None), ("GET", {}, None), ("DELETE", {}, None), ("PUT", {"Content-Range": "bytes 5-9/10"}, b"world"),
            ("PATCH", {**BODY, "Upload-Offset": "5", "Upload-Complete": "?1"}, b"world")]:
        answer, none = (site.ask(method, f"/uploads/{id}", fields, body, who=who) for id in (address.rpartition("/")[2], "0" * 32))
        assert (answer.status, none.status) == (404, 404)
    assert site.ask("GET", address, who="ann").json()["offset"] == 5


def test_an_expired_one_is_over(server: ServerFactory) -> None:
    one = server(env={"CARBOY_UPLOAD_EXPIRY": "1", "CARBOY_SWEEP_INTERVAL": "0.2"})
    address = begin(one, "late", b"hello")
    eventually(lambda: one.request("HEAD", address).status in (404, 410))
    assert append(one, address, 5, b"!").status in (404, 410)
    assert one.request("GET", "/files/main/late").status == 404


def test_a_restart_loses_nothing_that_was_told(server: ServerFactory) -> None:
    one = server()
    with one.connect() as connection:
        connection.send(wire.head("PUT", "/files/main/kept", {**one.auth, **whole(8), "Content-Length": str(len(DATA))}))
        address = connection.interim().header("Location") or ""
        one.kill()
    one.start()
    offset, _ = standing(one, address)
    assert append(one, address, offset, DATA[offset:100_000], complete=False).status == 204
    one.kill()
    one.start()
    assert standing(one, address) == (100_000, False)
    assert append(one, address, 100_000, DATA[100_000:]).status == 201
    assert one.request("GET", "/files/main/kept").body == DATA


# --- its page ------------------------------------------------------------------------------------------------------


def test_the_examples_for_curl_work(server: ServerFactory, tmp_path: Path) -> None:
    one = server()
    film = random.Random(5).randbytes(6_000_000)
    (tmp_path / "film.mkv").write_bytes(film)
    page = (Path(__file__).parents[2] / "docs/resumable.md").read_text()
    whole_or_not, parts = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for example in (whole_or_not, f"{whole_or_not.splitlines()[0]}\n{parts}"):
        script = "set -e\n" + example.replace("http://127.0.0.1:8080", one.url)
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env={**os.environ, "CARBOY_TOKEN": one.token}, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert one.request("GET", "/files/main/film.mkv").body == film
        assert b"upload-offset" in done.stdout.lower() or example is not whole_or_not
    assert one.request("GET", "/api/v1/uploads?space=main").json()["uploads"] == []
    versions = one.request("GET", "/api/v1/files?space=main").json()["files"][0]["version"]
    assert versions == 3, "each example stored it"
