"""``/direct/…``: bytes that go from the client straight to S3, over moto (which checks little) and a real server (Swift)."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import wire
from browsing import Browser
from faults.proxy import Fault, Proxy
from faults.s3_faults import done_but_500, lose_answer, reset_before, slow_down
from fixtures_s3 import S3Server
from fixtures_server import Server, eventually
from fixtures_site import Site, field, file
from transcript import play, transcripts

from carboy.config import load
from carboy.errors import ConfigError

MIB = 2**20
PART = 5 * MIB
CONFIG = """
classic = "local"
sweep = false
[storages.bulk]
type = "s3"
bucket = "{bucket}"
endpoint = "{endpoint}"
region = "{region}"
style = "path"
prefix = "some/where/"
[spaces]
local = {{}}
main = {{ storage = "bulk" }}
images = {{ storage = "bulk", accept = ["image/*"] }}
small = {{ storage = "bulk", max_size = "1 KiB" }}
tight = {{ storage = "bulk", quota = "1 MiB" }}
twins = {{ storage = "bulk", on_conflict = "rename" }}
once = {{ storage = "bulk", on_conflict = "refuse" }}
home = {{ storage = "bulk", private = true }}
inbox = {{ storage = "bulk", public = "write" }}
"""
SPACES = ("main", "local", "images", "small", "tight", "twins", "once", "home", "inbox")


class Directly(Site):
    """A site whose spaces are in S3."""

    def __init__(self, server: Server, s3: S3Server, bucket: str) -> None:
        super().__init__(server)
        self.s3, self.bucket = s3, bucket

    def settle(self) -> Directly:
        for name in ("ann", "bob", "carl"):
            made = self.ask("POST", "/api/v1/tokens", body=json.dumps({"name": name, "scopes": [f"{space}:read,write,delete" for space in SPACES]}).encode())
            assert made.status == 201, made
            self.secrets[name], self.ids[name] = made.json()["secret"], made.json()["id"]
        for name, scope in (("reader", "main:read"), ("stranger", "elsewhere:write")):
            made = self.ask("POST", "/api/v1/tokens", body=json.dumps({"name": name, "scopes": [scope]}).encode())
            self.secrets[name], self.ids[name] = made.json()["secret"], made.json()["id"]
        return self

    # --- the routes ---

    def json(self, method: str, target: str, body: object = None, *, who: str = "ann", headers: Mapping[str, str] | None = None) -> wire.Response:
        return self.ask(method, target, headers or {}, None if body is None else json.dumps(body).encode(), who=who)

    def begin(self, path: str, space: str = "main", *, who: str = "ann", **asked: Any) -> dict[str, Any]:
        answer = self.json("POST", f"/direct/{space}", {"path": path, **asked}, who=who)
        assert answer.status == 201, answer
        made: dict[str, Any] = answer.json()
        return made

    def sign(self, id: str, *numbers: int, space: str = "main", who: str = "ann", **more: Any) -> list[dict[str, Any]]:
        answer = self.json("POST", f"/direct/{space}/{id}/parts", {"parts": [{"number": number, **more} for number in numbers]}, who=who)
        assert answer.status == 200, answer
        signed: list[dict[str, Any]] = answer.json()["parts"]
        return signed

    def send(self, id: str, data: bytes, size: int = PART, *, space: str = "main", who: str = "ann", but: tuple[int, ...] = ()) -> list[dict[str, Any]]:
        """All parts of it, to S3; what it calls them."""
        named = []
        for number in range(1, max(1, -(-len(data) // size)) + 1):
            if number not in but:
                signed, = self.sign(id, number, space=space, who=who)
                status, etag = put(signed, data[(number - 1) * size:number * size])
                assert status == 200
                named.append({"number": number, "etag": etag})
        return named

    def complete(self, id: str, parts: object = None, *, space: str = "main", who: str = "ann") -> wire.Response:
        return self.json("POST", f"/direct/{space}/{id}/complete", None if parts is None else {"parts": parts}, who=who)

    def store(self, path: str, data: bytes, **more: Any) -> wire.Response:
        upload = self.begin(path, size=len(data), part_size=PART, **more)
        return self.complete(upload["id"], self.send(upload["id"], data, **more), **more)

    # --- behind it ---

    def sweep(self) -> str:
        """``carboy sweep`` in a process of its own."""
        done = subprocess.run([sys.executable, "-m", "carboy.cli.main", "sweep", "--config", str(self.server.data.parent / "carboy.toml"),
                               "--data", str(self.server.data)], capture_output=True, text=True, check=False,
                              env={**os.environ, **self.s3.env})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stored(self) -> set[str]:
        """Everything in the bucket, and every multipart upload under way."""
        return {*self.s3.keys(self.bucket), *self.s3.multiparts(self.bucket)}


def put(signed: Mapping[str, Any], data: bytes, **changed: str) -> tuple[int, str]:
    """PUT it to S3 as a client does: the status, and the ETag."""
    request = urllib.request.Request(signed["url"], data, {"Content-Type": "application/octet-stream", **signed.get("headers", {}), **changed}, method="PUT")
    try:
        with urllib.request.urlopen(request, timeout=wire.LIMIT) as answer:
            return answer.status, answer.headers["ETag"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(errors="replace")


def start(folder: Path, s3: S3Server, settings: str = "", endpoint: str = "") -> Iterator[Directly]:
    bucket = s3.new_bucket()
    (folder / "carboy.toml").write_text(settings + CONFIG.format(bucket=bucket, endpoint=endpoint or s3.endpoint, region=s3.region))
    server = Server(folder / "data", args=["--config", str(folder / "carboy.toml")], env=s3.env)
    site = Directly(server.start(), s3, bucket).settle()
    yield site
    if server.running:
        server.stop()
    server.must_be_sound()
    site.must_keep_its_secrets()


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory, moto_server: S3Server) -> Iterator[Directly]:
    yield from start(tmp_path_factory.mktemp("direct-moto"), moto_server)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[Directly]:
    yield from start(tmp_path_factory.mktemp("direct-real"), s3_server)


@pytest.fixture(params=["moto", "real"])
def direct(request: pytest.FixtureRequest) -> Directly:
    found: Directly = request.getfixturevalue(request.param)
    return found


def name() -> str:
    return f"film-{secrets.token_hex(4)}.bin"


@pytest.mark.parametrize("size", [1, 70_000, PART, PART + 1, 2 * PART + 12345], ids=str)
def test_parts(direct: Directly, size: int) -> None:
    path, data = name(), secrets.token_bytes(size)
    answer = direct.store(path, data)
    assert (answer.status, answer.json()["size"], answer.json()["path"]) == (201, size, path)
    assert direct.content(f"/files/main/{path}", who="ann") == data
    again = direct.store(path, data[::-1])
    assert again.status == 200 and again.json()["version"] == 2
    assert direct.content(f"/files/main/{path}", who="ann") == data[::-1]


# --- what becomes a file, and when ---------------------------------------------------------------------------------


def test_nothing_is_there_before_it_is_confirmed(direct: Directly) -> None:
    path, data = name(), secrets.token_bytes(PART + 1)
    upload = direct.begin(path, size=len(data), part_size=PART)
    assert (upload["state"], upload["part_size"], upload["received"], upload["parts"]) == ("receiving", PART, 0, [])
    named = direct.send(upload["id"], data)
    shown = direct.json("GET", f"/direct/main/{upload['id']}").json()
    assert [(part["number"], part["size"], part["etag"]) for part in shown["parts"]] == [
        (1, PART, named[0]["etag"].strip('"')), (2, 1, named[1]["etag"].strip('"'))]
    assert shown["received"] == len(data)
    assert direct.ask("GET", f"/files/main/{path}", who="ann").status == 404
    placed = direct.complete(upload["id"], named)
    assert placed.status == 201 and placed.header("Location") == f"/files/main/{path}"
    assert placed.json()["media_type"] == "application/octet-stream" and len(placed.json()["crc64nvme"]) == 16
    shown = direct.json("GET", f"/direct/main/{upload['id']}").json()
    assert (shown["state"], shown["file_id"], shown["parts"], shown["received"]) == ("complete", placed.json()["id"], [], len(data))
    entry = direct.ask("GET", "/api/v1/audit?limit=1&action=file.create").json()["entries"][0]
    assert (entry["file_id"], entry["principal"]) == (placed.json()["id"], direct.ids["ann"])


def test_an_answer_that_was_lost_is_asked_for_again(direct: Directly) -> None:
    path, data = name(), secrets.token_bytes(1000)
    upload = direct.begin(path, size=len(data))
    named = direct.send(upload["id"], data)
    first = direct.complete(upload["id"], named)
    for again in (direct.complete(upload["id"], named), direct.complete(upload["id"])):
        assert (again.status, again.json()["id"], again.json()["version"]) == (200, first.json()["id"], 1)
    assert direct.ask("DELETE", f"/direct/main/{upload['id']}", who="ann").status == 410
    direct.ask("DELETE", f"/files/main/{path}", who="ann")
    assert direct.complete(upload["id"]).status == 410


@pytest.mark.parametrize("told", [True, False], ids=["declared", "not declared"])
def test_empty(direct: Directly, told: bool) -> None:
    path = name()
    upload = direct.begin(path, **({"size": 0} if told else {}))
    if not told:
        assert direct.complete(upload["id"]).json()["code"] == "missing_bytes"
        signed, = direct.sign(upload["id"], 1)
        assert put(signed, b"")[0] == 200
        assert direct.complete(upload["id"]).status == 201
    assert direct.content(f"/files/main/{path}", who="ann") == b""
    assert direct.json("GET", f"/direct/main/{upload['id']}").json()["state"] == "complete"


def test_digests(direct: Directly) -> None:
    path, data = name(), secrets.token_bytes(3000)
    sha256 = hashlib.sha256(data).hexdigest()
    crc = direct.store(path, data).json()["crc64nvme"]
    for digests, status in (({"sha256": sha256}, 200), ({"crc64nvme": crc}, 200), ({"sha256": sha256, "crc64nvme": crc}, 200),
                            ({"sha256": "0" * 64}, 400), ({"crc64nvme": "0" * 16}, 400)):
        upload = direct.begin(path, size=len(data), **digests)
        direct.send(upload["id"], data)
        answer = direct.complete(upload["id"])
        assert answer.status == status, digests
        if status == 200:
            assert answer.json()["sha256"] == digests.get("sha256")
        else:
            assert answer.json()["code"] == "digest_mismatch"
            assert direct.complete(upload["id"]).status == 410
    assert direct.content(f"/files/main/{path}", who="ann") == data


def test_what_is_there_is_taken_on_completion(direct: Directly) -> None:
    path = name()
    assert direct.store(path, b"first", space="once").status == 201
    assert direct.store(path, b"second", space="once").json()["code"] == "conflict"
    assert direct.store(path, b"first", space="twins").status == 201
    assert direct.store(path, b"second", space="twins").json()["path"] == path.replace(".bin", " (1).bin")
    etag = direct.store(path, b"first").json()["etag"]
    for headers, status in (({"If-None-Match": "*"}, 412), ({"If-Match": '"other"'}, 412), ({"If-Match": etag}, 200)):
        upload = direct.json("POST", "/direct/main", {"path": path, "size": 5}, headers=headers).json()
        direct.send(upload["id"], b"other")
        assert direct.complete(upload["id"]).status == status


def test_a_tree_of_ones_own(direct: Directly) -> None:
    path = name()
    for who in ("ann", "bob"):
        assert direct.store(f"trip/{path}", who.encode(), space="home", who=who).json()["path"] == f"trip/{path}"
    for who in ("ann", "bob"):
        assert direct.content(f"/files/home/trip/{path}", who=who) == who.encode()


def test_metadata(direct: Directly) -> None:
    upload = direct.begin(name(), size=1, metadata={"album": "summer", "stars": 5})
    direct.send(upload["id"], b"x")
    assert direct.complete(upload["id"]).json()["metadata"] == {"album": "summer", "stars": 5}


def test_completed_by_many_at_once(direct: Directly) -> None:
    path, data = name(), secrets.token_bytes(PART + 1)
    upload = direct.begin(path, size=len(data), part_size=PART)
    direct.send(upload["id"], data)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: direct.complete(upload["id"]), range(4)))
    assert {answer.status for answer in answers} <= {200, 201}, answers
    assert len({answer.json()["etag"] for answer in answers}) == 1
    assert direct.content(f"/files/main/{path}", who="ann") == data


# --- what is refused -----------------------------------------------------------------------------------------------


def test_parts_that_are_missing(direct: Directly) -> None:
    path, data = name(), secrets.token_bytes(2 * PART + 10)
    upload = direct.begin(path, size=len(data), part_size=PART)
    named = direct.send(upload["id"], data, but=(2,))
    for parts in (named, None):
        answer = direct.complete(upload["id"], parts)
        assert (answer.status, answer.json()["code"], answer.json()["missing"]) == (409, "missing_bytes", [2])
    signed, = direct.sign(upload["id"], 2)
    etag = put(signed, data[PART:2 * PART])[1]
    wrong = direct.complete(upload["id"], [named[0], {"number": 2, "etag": named[0]["etag"]}, named[1]])
    assert (wrong.status, wrong.json()["code"], wrong.json()["parts"]) == (409, "conflict", [2])
    few = direct.complete(upload["id"], [named[0]])
    assert (few.status, few.json()["code"], few.json()["parts"]) == (409, "conflict", [2, 3])
    many = direct.complete(upload["id"], [*named, {"number": 4, "etag": "x"}, {"number": 2, "etag": etag}])
    assert (many.status, many.json()["missing"]) == (409, [4])
    assert direct.complete(upload["id"], [named[0], {"number": 2, "etag": etag.strip('"')}, named[1]]).status == 201
    assert direct.content(f"/files/main/{path}", who="ann") == data


def test_a_part_may_be_sent_again(direct: Directly) -> None:
    path, data = name(), secrets.token_bytes(PART + 10)
    upload = direct.begin(path, size=len(data), part_size=PART)
    direct.send(upload["id"], data[::-1])
    direct.send(upload["id"], data)
    assert direct.complete(upload["id"]).status == 201
    assert direct.content(f"/files/main/{path}", who="ann") == data


def test_fewer_bytes_than_declared(direct: Directly) -> None:
    """And where the server checks what is signed, no others are taken at all."""
    data = secrets.token_bytes(1000)
    upload = direct.begin(name(), size=2000)
    signed, = direct.sign(upload["id"], 1)
    assert signed["size"] == 2000
    status, _ = put(signed, data)
    if direct.s3.access_key == "moto":
        assert status == 200
    else:
        assert status == 403
    answer = direct.complete(upload["id"])
    assert (answer.status, answer.json()["code"]) == (409, "missing_bytes")
    assert put(signed, data + data)[0] == 200
    assert direct.complete(upload["id"]).status == 201


def test_more_bytes_than_declared(moto: Directly) -> None:
    upload = moto.begin(name(), size=10)
    assert put(moto.sign(upload["id"], 1)[0], b"x" * 11)[0] == 200
    answer = moto.complete(upload["id"])
    assert (answer.status, answer.json()["code"], answer.json()["limit"]) == (413, "too_large", 10)


def test_parts_that_are_too_short(direct: Directly) -> None:
    upload = direct.begin(name())
    for number in (1, 2):
        assert put(direct.sign(upload["id"], number)[0], b"short")[0] == 200
    answer = direct.complete(upload["id"])
    assert (answer.status, answer.json()["parts"], answer.json()["least"]) == (400, [1], PART)


@pytest.mark.parametrize(("asked", "number", "status"), [({}, 0, 400), ({}, 10_001, 400), ({"size": 10}, 2, 413), ({"size": 3 * PART, "part_size": PART}, 4, 413),
                                                         ({"size": 3 * PART, "part_size": PART}, 3, 200), ({}, 1000, 200)])
def test_numbers(direct: Directly, asked: dict[str, Any], number: int, status: int) -> None:
    upload = direct.begin(name(), **asked)
    answer = direct.json("POST", f"/direct/main/{upload['id']}/parts", {"parts": [{"number": number}]})
    assert answer.status == status, answer
    assert direct.ask("GET", f"/direct/main/s3/multipart/{upload['id']}/{number}", who="ann").status == status


def test_sizes(direct: Directly) -> None:
    for size, asked in ((2000, {"size": 2000}), (2**70, {"size": 2**70})):
        answer = direct.json("POST", "/direct/small", {"path": name(), **asked})
        assert answer.status in (400, 413), size
    upload = direct.begin(name(), space="small")
    direct.send(upload["id"], b"x" * 2000, space="small")
    for _ in range(2):
        assert direct.complete(upload["id"], space="small").json()["code"] == "too_large"
    assert direct.json("POST", "/direct/tight", {"path": name(), "size": 2 * MIB}).json()["code"] == "quota_exceeded"
    upload = direct.begin(name(), space="tight")
    direct.send(upload["id"], b"x" * 2 * MIB, space="tight")
    assert direct.complete(upload["id"], space="tight").status == 507
    for part_size in (PART - 1, 5 * 2**30 + 1):
        assert direct.json("POST", "/direct/main", {"path": name(), "part_size": part_size}).json()["field"] == "part_size"


def test_types(direct: Directly) -> None:
    """By content, once it is there; what the client says counts nothing."""
    path = name().replace(".bin", ".png")
    upload = direct.begin(path, space="images", size=9)
    direct.send(upload["id"], b"plain tex", space="images")
    for _ in range(2):
        answer = direct.complete(upload["id"], space="images")
        assert (answer.status, answer.json()["detected"]) == (415, "text/plain")
    assert direct.ask("GET", f"/files/images/{path}", who="ann").status == 404
    png = bytes.fromhex("89504e470d0a1a0a0000000d49484452") + secrets.token_bytes(100)
    assert direct.store(path, png, space="images").json()["media_type"] == "image/png"


@pytest.mark.parametrize("wrong", ["", "/a", "a//b", "a/../b", "..", "a\0b", "a/%2e%2e/b", "x" * 256])
def test_names(direct: Directly, wrong: str) -> None:
    for answer in (direct.json("POST", "/direct/main", {"path": wrong}),
                   direct.json("POST", "/direct/main/s3/multipart", {"filename": "a", "metadata": {"relativePath": f"a/{wrong}"}})):
        assert answer.status == 400, answer
    assert "/" in wrong or direct.json("POST", "/direct/main/s3/multipart", {"filename": wrong}).status == 400


@pytest.mark.parametrize(("who", "status"), [("nobody", 401), ("stranger", 404), ("reader", 403), ("bob", 404)])
def test_uploads_are_private(direct: Directly, who: str, status: int) -> None:
    upload = direct.begin(name(), size=1)
    direct.send(upload["id"], b"x")
    own, uppy = f"/direct/main/{upload['id']}", f"/direct/main/s3/multipart/{upload['id']}"
    for method, target, body in (("GET", own, None), ("POST", f"{own}/parts", {"parts": [{"number": 1}]}), ("POST", f"{own}/complete", {}), ("DELETE", own, None),
                                 ("GET", uppy, None), ("GET", f"{uppy}/1", None), ("GET", f"{uppy}/batch?partNumbers=1", None),
                                 ("POST", f"{uppy}/complete", {"parts": []}), ("DELETE", uppy, None)):
        assert direct.json(method, target, body, who=who).status == status, (method, target)
    if who != "bob":
        for method, target, body in (("POST", "/direct/main", {"path": "x"}), ("GET", "/direct/main/s3/params?filename=x", None),
                                     ("POST", "/direct/main/s3/multipart", {"filename": "x"})):
            assert direct.json(method, target, body, who=who).status == status, (method, target)
    assert direct.complete(upload["id"]).status == 201


def test_what_is_no_such_upload(direct: Directly) -> None:
    upload = direct.begin(name(), size=1)
    other = direct.ask("POST", "/tus/main/", {"Tus-Resumable": "1.0.0", "Upload-Length": "5", "Upload-Metadata": ""}, who="ann").header("Location")
    assert other
    for id in ("x", "0" * 32, other.rpartition("/")[2]):
        assert direct.ask("GET", f"/direct/main/{id}", who="ann").status == 404
    assert direct.ask("GET", f"/direct/images/{upload['id']}", who="ann").status == 404
    assert direct.ask("GET", f"/direct/main/s3/multipart/{upload['id']}/1?key={'0' * 32}", who="ann").status == 404


def test_its_bytes_do_not_pass_through_carboy(direct: Directly) -> None:
    """Whichever protocol somebody tries."""
    upload = direct.begin(name(), size=5)
    patch = direct.ask("PATCH", f"/tus/main/{upload['id']}", {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"},
                       b"hello", who="ann")
    append = direct.ask("PATCH", f"/uploads/{upload['id']}", {"Upload-Offset": "0", "Upload-Complete": "?1", "Content-Type": "application/partial-upload"},
                        b"hello", who="ann")
    assert (patch.status, append.status) == (409, 409), (patch, append)
    direct.send(upload["id"], b"hello")
    assert direct.complete(upload["id"]).status == 201


def test_a_space_that_is_not_in_s3(direct: Directly) -> None:
    for method, target, body in (("POST", "/direct/local", {"path": "x"}), ("GET", "/direct/local/s3/params?filename=x", None),
                                 ("POST", "/direct/local/s3/multipart", {"filename": "x"})):
        answer = direct.json(method, target, body)
        assert (answer.status, answer.json()["code"]) == (501, "not_supported")


# --- addresses -----------------------------------------------------------------------------------------------------


def test_an_address_is_for_one_part_of_one_upload(real: Directly) -> None:
    """Whoever changes it finds the signature wrong."""
    upload, other = real.begin(name(), size=1000), real.begin(name(), size=1000, who="bob")
    signed, = real.sign(upload["id"], 1)
    theirs, = real.sign(other["id"], 1, who="bob")
    mine, yours = (urllib.parse.urlsplit(one["url"]) for one in (signed, theirs))
    queries = [dict(urllib.parse.parse_qsl(one.query)) for one in (mine, yours)]
    for changed in ({"partNumber": "2"}, {"uploadId": queries[1]["uploadId"]}, {"X-Amz-Expires": "604800"}, {"X-Amz-Signature": queries[1]["X-Amz-Signature"]}):
        url = mine._replace(query=urllib.parse.urlencode({**queries[0], **changed})).geturl()
        assert put({"url": url}, b"x" * 1000)[0] == 403, changed
    assert put({"url": mine._replace(path=yours.path).geturl()}, b"x" * 1000)[0] == 403
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(signed["url"], timeout=wire.LIMIT)
    refused.value.close()
    assert refused.value.code == 403
    assert put(signed, b"x" * 1000)[0] == 200


def test_an_md5_that_was_declared(real: Directly) -> None:
    upload = real.begin(name(), size=5)
    signed, = real.sign(upload["id"], 1, md5=hashlib.md5(b"hello").hexdigest())
    assert put(signed, b"other")[0] == 400
    assert put({"url": signed["url"]}, b"hello")[0] == 403
    assert put(signed, b"hello")[0] == 200
    assert real.complete(upload["id"]).status == 201


def test_nothing_is_overwritten_once_it_is_confirmed(direct: Directly) -> None:
    """The addresses that are still good are good for nothing."""
    path = name()
    upload = direct.begin(path, size=5)
    signed, = direct.sign(upload["id"], 1)
    single = direct.json("GET", f"/direct/main/s3/params?filename=single-{path}").json()
    for each, id in ((signed, upload["id"]), (single, single["fields"]["key"])):
        assert put(each, b"right")[0] == 200
        assert direct.complete(id).status == 201
        put(each, b"wrong")  # Swift takes it, and nothing becomes of it
    for each in (path, f"single-{path}"):
        assert direct.content(f"/files/main/{each}", who="ann") == b"right"
    assert direct.json("POST", f"/direct/main/{upload['id']}/parts", {"parts": [{"number": 1}]}).status == 410


def test_more_parts_than_s3_lists_at_once(moto: Directly) -> None:
    upload = moto.begin(name())
    with ThreadPoolExecutor(8) as pool:
        signed = [*moto.sign(upload["id"], *range(1, 1001)), *moto.sign(upload["id"], 1001)]
        assert {status for status, _ in pool.map(lambda one: put(one, b"x"), signed)} == {200}
    shown = moto.json("GET", f"/direct/main/{upload['id']}").json()
    assert [part["number"] for part in shown["parts"]] == list(range(1, 1002))
    assert moto.complete(upload["id"]).json()["parts"] == list(range(1, 1001))


# --- Uppy's routes -------------------------------------------------------------------------------------------------


def test_uppy_in_parts(direct: Directly) -> None:
    path, data = name(), secrets.token_bytes(2 * PART + 1)
    begun = direct.json("POST", "/direct/main/s3/multipart", {"filename": path, "type": "video/x", "metadata": {"relativePath": f"a/{path}", "n": 1, "none": None}})
    id = begun.json()["uploadId"]
    assert begun.status == 200 and begun.json() == {"key": id, "uploadId": id, "bucket": "main"}
    base = f"/direct/main/s3/multipart/{id}"
    urls = direct.json("GET", f"{base}/batch?key={id}&partNumbers=1,2").json()["presignedUrls"]
    urls["3"] = direct.json("GET", f"{base}/3?key={id}").json()["url"]
    etags = [put({"url": urls[str(number)]}, data[(number - 1) * PART:number * PART])[1] for number in (1, 2, 3)]
    listed = direct.json("GET", f"{base}?key={id}").json()
    assert listed == [{"PartNumber": number, "Size": size, "ETag": etag} for number, size, etag in zip((1, 2, 3), (PART, PART, 1), etags, strict=True)]
    done = direct.json("POST", f"{base}/complete?key={id}", {"parts": [{"PartNumber": number + 1, "ETag": etag} for number, etag in enumerate(etags)]})
    assert (done.status, done.json()["location"], done.json()["file"]["path"]) == (200, f"/files/main/a/{path}", f"a/{path}")
    assert direct.content(f"/files/main/a/{path}", who="ann") == data
    assert direct.ask("DELETE", base, who="ann").status == 410


def test_uppy_cancels(direct: Directly) -> None:
    id = direct.json("POST", "/direct/main/s3/multipart", {"filename": name()}).json()["uploadId"]
    answer = direct.ask("DELETE", f"/direct/main/s3/multipart/{id}?key={id}", who="ann")
    assert (answer.status, answer.json()) == (200, {})
    assert direct.ask("GET", f"/direct/main/s3/multipart/{id}/1", who="ann").status == 410


def test_no_other_site_begins_an_upload(moto: Directly) -> None:
    """A GET does, which a browser would send with its cookie for any site."""
    browser, target = Browser(moto).sign_in("ann"), f"/direct/main/s3/params?filename={name()}"
    assert browser.ask("GET", target, {"Sec-Fetch-Site": "cross-site"}).status == 403
    assert browser.ask("GET", target, {"Origin": "https://evil.example"}).status == 403
    assert browser.ask("GET", target, {"Sec-Fetch-Site": "same-origin"}).status == 200
    assert moto.ask("GET", target, {"Sec-Fetch-Site": "cross-site"}, who="ann").status == 200, "a token is no cookie"


def test_anybody_where_anybody_may_write(direct: Directly) -> None:
    single = direct.json("GET", f"/direct/inbox/s3/params?filename={name()}", who="nobody").json()
    assert put(single, b"from nobody")[0] == 200
    answer = direct.complete(single["fields"]["key"], space="inbox", who="nobody")
    assert (answer.status, answer.json()["owner"]) == (201, None)


# --- what nobody tells of, and what is left ------------------------------------------------------------------------


def test_a_single_put_is_found_by_the_sweeper(direct: Directly) -> None:
    """Uppy tells only S3 that it is done. What is under way, or came in part, stays."""
    path, data = name(), secrets.token_bytes(70_000)
    single = direct.json("GET", f"/direct/main/s3/params?filename={path}&type=text/plain&metadata[album]=summer").json()
    whole, part = direct.begin(f"whole-{path}", size=PART + 1, part_size=PART), direct.begin(f"part-{path}", size=PART + 1, part_size=PART)
    direct.send(whole["id"], b"x" * (PART + 1))
    direct.send(part["id"], b"x" * (PART + 1), but=(2,))
    assert (single["method"], single["fields"]["bucket"], single["expires"]) == ("PUT", "main", 3600)
    direct.sweep()
    assert direct.ask("GET", f"/files/main/{path}", who="ann").status == 404
    assert put(single, data)[0] == 200
    direct.sweep()
    found = direct.ask("GET", f"/api/v1/files/at?space=main&path={path}", who="ann")
    assert direct.content(f"/files/main/{path}", who="ann") == data, found
    assert direct.content(f"/files/main/whole-{path}", who="ann") == b"x" * (PART + 1)
    assert direct.ask("GET", f"/files/main/part-{path}", who="ann").status == 404
    assert direct.complete(part["id"], direct.send(part["id"], b"x" * (PART + 1))).status == 201


@pytest.fixture
def hasty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Directly]:
    """One whose addresses and uploads live for a second or two, on the server that the test names."""
    s3: S3Server = request.getfixturevalue(request.param)
    yield from start(tmp_path, s3, 'direct_expiry = 1\nupload_expiry = 2\ndelete_grace = 0\n')


@pytest.mark.parametrize("hasty", ["moto_server", "s3_server"], indirect=True)
def test_what_is_abandoned_is_swept(hasty: Directly) -> None:
    kept = hasty.store("kept.bin", b"kept")
    refused = hasty.begin("refused.bin", space="images", size=4)
    hasty.send(refused["id"], b"text", space="images")
    assert hasty.complete(refused["id"], space="images").status == 415
    begun, cancelled = hasty.begin("begun.bin"), hasty.begin("cancelled.bin")
    for upload in (begun, cancelled):
        assert put(hasty.sign(upload["id"], 1)[0], b"x" * PART)[0] == 200
    assert hasty.ask("DELETE", f"/direct/main/{cancelled['id']}", who="ann").status == 204
    assert len(hasty.stored()) > 1

    def swept() -> bool:
        hasty.sweep()
        return len(hasty.stored()) == 1

    eventually(swept)
    for id in (begun["id"], cancelled["id"]):
        assert hasty.complete(id).status in (404, 410)
    assert hasty.content("/files/main/kept.bin", who="ann") == b"kept" and kept.status == 201


@pytest.mark.parametrize("hasty", ["s3_server"], indirect=True)
def test_an_address_expires_and_another_is_asked_for(hasty: Directly) -> None:
    upload = hasty.begin(name(), size=5)
    old, = hasty.sign(upload["id"], 1)
    eventually(lambda: put(old, b"hello")[0] == 403)
    assert put(hasty.sign(upload["id"], 1)[0], b"hello")[0] == 200
    assert hasty.complete(upload["id"]).status == 201


# --- the classic endpoint ------------------------------------------------------------------------------------------


def test_the_classic_upload_s3(direct: Directly) -> None:
    """Word for word; it passes through Carboy. The first space in S3 has it."""
    answer = direct.form("/upload-s3", [field("title", "x"), file("file", "My film.mov", b"film" * 1000)], who="ann")
    assert (answer.status, answer.json()) == (200, {"message": "File My_film.mov uploaded to S3"})
    assert direct.content("/files/main/My_film.mov", who="ann") == b"film" * 1000
    for parts in ([], [field("file", "text")], [file("file", "")], [file("other", "a.txt", b"x")]):
        answer = direct.form("/upload-s3", parts, who="ann")
        assert (answer.status, answer.json()["message"]) == (400, "No file uploaded")
    assert direct.ask("POST", "/upload-s3", {}, b"", who="ann").json()["message"] == "No file uploaded"
    assert direct.form("/upload-s3", [file("file", "a.txt", b"x")], who="reader").status == 403


def test_the_classic_upload_s3_where_there_is_none(site: Site) -> None:
    answer = site.form("/upload-s3", [file("file", "a.txt", b"x")], who="ann")
    assert (answer.status, answer.json()["message"]) == (501, "No S3 storage configured")


def test_the_space_of_the_classic_upload_s3(tmp_path: Path, moto_server: S3Server) -> None:
    for one in start(tmp_path, moto_server, 'classic_s3 = "twins"\n'):
        for path in ("a.txt", "a (1).txt"):
            assert one.form("/upload-s3", [file("file", "a.txt", b"x")], who="ann").json() == {"message": f"File {path} uploaded to S3"}
    with pytest.raises(ConfigError, match="no space whose storage is in S3"):
        load(classic_s3="main")


# --- transcripts, and what goes wrong on the way to S3 -------------------------------------------------------------


@pytest.mark.parametrize("transcript", transcripts("direct"))
def test_transcript(direct: Directly, transcript: str) -> None:
    play(transcript, direct)


@pytest.mark.parametrize("fault", [lose_answer, done_but_500, slow_down, reset_before])
def test_a_bad_day(fault: Fault, tmp_path: Path, s3_server: S3Server) -> None:
    """Each kind of call to S3 fails once, or is done and its answer lost: it is found out, and nothing is there twice or left."""
    with Proxy(s3_server.endpoint) as proxy:
        for site in start(tmp_path, s3_server, "delete_grace = 0\n", proxy.url):
            for operation in ("CreateMultipartUpload", "ListParts", "CompleteMultipartUpload", "HeadObject", "GetObject"):
                path, data = name(), secrets.token_bytes(PART + 1)
                proxy.on(fault, operation)
                assert site.store(path, data).status == 201, operation
                assert [one.operation for one in proxy.requests if one.fault].count(operation) == 1
                assert site.content(f"/files/main/{path}", who="ann") == data
            site.sweep()
            assert len(site.stored()) == 5
