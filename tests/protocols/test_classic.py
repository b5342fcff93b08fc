"""The classic tutorial's endpoints, to the letter, and its client."""

from __future__ import annotations

import hashlib
import json
import random
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import wire
from fixtures_server import ServerFactory
from fixtures_site import FORM, Site, field, file, multipart
from transcript import play, transcripts

KIB = 1024


@pytest.mark.parametrize("name", transcripts("classic"))
def test_transcript(site: Site, name: str) -> None:
    play(name, site)


def send_chunk(site: Site, file_id: str, index: int, data: bytes, *, last: bool = False, who: str = "admin",
               headers: dict[str, str] | None = None, **fields: int) -> wire.Response:
    """One chunk; ``last`` puts the fields after it."""
    texts = [field("file_id", file_id), field("index", index), *(field(name, value) for name, value in fields.items())]
    chunk = file("chunk", "blob", data)
    return site.form("/chunk-upload", [chunk, *texts] if last else [*texts, chunk], headers, who=who)


def complete(site: Site, file_id: str, total: int, *, who: str = "admin") -> wire.Response:
    return site.ask("POST", "/chunk-upload/complete", {"Content-Type": "application/json"},
                    json.dumps({"file_id": file_id, "total_chunks": total}).encode(), who=who)


def receiving(site: Site, file_id: str) -> dict[str, Any] | None:
    """The upload under way, as the API shows it."""
    uploads = site.ask("GET", "/api/v1/uploads?space=tutorial&limit=1000").json()["uploads"]
    found: dict[str, Any] | None = next((upload for upload in uploads if upload["path"] == file_id), None)
    return found


def must_be(site: Site, file_id: str, data: bytes) -> None:
    """The file is there, bit for bit, with the CRC that a whole upload of the same bytes has."""
    assert site.content(f"/files/tutorial/{file_id}") == data
    whole = site.ask("PUT", f"/files/main/classic/{file_id}", body=data).json()
    [listed] = site.ask("GET", f"/api/v1/files?space=tutorial&prefix={file_id}").json()["files"]
    assert (listed["size"], listed["crc64nvme"]) == (whole["size"], whole["crc64nvme"])


# --- the tutorial's client, as it stands there but for the token ---------------------------------------------------


class Tutorial:
    """Reads the file in parts of 5 MiB (here: of any size), sends each with its number, then asks for the merge."""

    def __init__(self, url: str, token: str, chunk_size: int = 5 * 1024 * 1024) -> None:
        self.url = url
        self.token = token
        self.chunk_size = chunk_size

    def split_file(self, file_path: Path) -> Iterator[tuple[int, bytes]]:
        with open(file_path, "rb") as f:
            index = 0
            while True:
                chunk = f.read(self.chunk_size)
                if not chunk:
                    break
                yield index, chunk
                index += 1

    def upload_chunk(self, index: int, chunk: bytes, file_id: str) -> dict[str, Any]:
        return self.post("/chunk-upload", files={"chunk": (f"chunk_{index}", chunk)}, data={"index": index, "file_id": file_id})

    def upload_file(self, file_path: Path, file_id: str) -> dict[str, Any]:
        total_chunks = 0
        for index, chunk in self.split_file(file_path):
            result = self.upload_chunk(index, chunk, file_id)
            assert result == {"message": f"Chunk {index} received"}
            total_chunks += 1
        return self.post("/chunk-upload/complete", data={"file_id": file_id, "total_chunks": total_chunks})

    def post(self, path: str, data: dict[str, Any], files: dict[str, tuple[str, bytes]] | None = None) -> dict[str, Any]:
        """What ``requests.post`` sends: the fields, then the files."""
        body = multipart(*(field(name, value) for name, value in data.items()),
                         *(file(name, *named) for name, named in (files or {}).items()))
        headers = {"Content-Type": FORM, "Authorization": f"Bearer {self.token}"}
        with urllib.request.urlopen(urllib.request.Request(self.url + path, body, headers)) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


@pytest.mark.parametrize("size", [1, 63, 64, 65, 640, 1000], ids=lambda size: f"{size} KiB")
def test_the_tutorials_client_works_unchanged(site: Site, tmp_path: Path, size: int) -> None:
    """Less than a part, a part, an exact multiple, and a rest."""
    data = random.Random(size).randbytes(size * KIB)
    (tmp_path / "video.mp4").write_bytes(data)
    name = f"video-{size}.mp4"
    client = Tutorial(site.server.url, site.secrets["ann"], 64 * KIB)
    assert client.upload_file(tmp_path / "video.mp4", name)["message"] == f"File {name} uploaded successfully"
    must_be(site, name, data)


def test_the_tutorials_client_works_with_its_own_parts(site: Site, tmp_path: Path) -> None:
    data = random.Random(5).randbytes(11 * 2**20)
    (tmp_path / "large.iso").write_bytes(data)
    Tutorial(site.server.url, site.secrets["ann"]).upload_file(tmp_path / "large.iso", "large.iso")
    assert hashlib.sha256(site.content("/files/tutorial/large.iso")).digest() == hashlib.sha256(data).digest()


# --- chunks in every way -------------------------------------------------------------------------------------------

Way = Callable[[int, int, int], dict[str, Any]]
"""The fields of the chunk with this index, of this stride, of a file of this size."""

WAYS: dict[str, Way] = {
    "offset": lambda index, stride, size: {"offset": index * stride},
    "offset and total": lambda index, stride, size: {"offset": index * stride, "total": size},
    "chunk_size": lambda index, stride, size: {"chunk_size": stride},
    "chunk_size and total": lambda index, stride, size: {"chunk_size": stride, "total": size},
    "bare index": lambda index, stride, size: {},
    "fields last": lambda index, stride, size: {"last": True},
    "all of it, last": lambda index, stride, size: {"offset": index * stride, "chunk_size": stride, "last": True},
    "mixed": lambda index, stride, size: [{}, {"offset": index * stride}, {"chunk_size": stride}, {"last": True}][index % 4],
}

ORDERS: dict[str, Callable[[int], list[int]]] = {
    "in order": lambda count: list(range(count)),
    "backwards": lambda count: list(range(count))[::-1],
    "shuffled": lambda count: random.Random(count).sample(range(count), count),
    "twice": lambda count: random.Random(count).sample([*range(count), *range(count)], 2 * count),
}


def chunks_of(data: bytes, stride: int) -> Sequence[bytes]:
    return [data[at:at + stride] for at in range(0, len(data), stride)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("order", ORDERS)
def test_chunks_in_any_order(site: Site, way: str, order: str) -> None:
    """A chunk sent after the file was complete (total, twice) begins another upload of it; so the last ones are left out."""
    data, stride, name = random.Random(way).randbytes(10_500), 1000, f"{order} {way}".replace(" ", "-").replace(",", "")
    chunks = chunks_of(data, stride)
    seen: set[int] = set()
    for index in ORDERS[order](len(chunks)):
        if len(seen) == len(chunks) and "total" in way:
            break
        answer = send_chunk(site, name, index, chunks[index], **WAYS[way](index, stride, len(data)))
        assert (answer.status, answer.json()) == (200, {"message": f"Chunk {index} received"}), answer
        seen.add(index)
    if "total" in way:
        must_be(site, name, data)
    assert complete(site, name, len(chunks)).status == 200
    must_be(site, name, data)
    assert complete(site, name, len(chunks)).status == 200, "completing again does no harm"
    assert receiving(site, name) is None


@pytest.mark.parametrize("way", [way for way in WAYS if "total" not in way])
def test_chunks_in_parallel(site: Site, way: str) -> None:
    """Two senders of every chunk, eight at a time: no byte lost, none doubled. The second of a pair, where it comes at the
    same time, takes over from the first or is told to try again."""
    data, stride, name = random.Random(way).randbytes(16 * 40_000 + 5), 40_000, "parallel-" + way.replace(" ", "-").replace(",", "")
    chunks = chunks_of(data, stride)

    def send(index: int) -> int:
        return send_chunk(site, name, index, chunks[index], **WAYS[way](index, stride, len(data))).status

    order = random.Random(7).sample([*range(len(chunks))] * 2, 2 * len(chunks))
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(send, order))
    assert set(statuses) <= {200, 400, 409}
    for index in {index for index, status in zip(order, statuses, strict=True) if status != 200}:
        assert send(index) == 200
    assert complete(site, name, len(chunks)).status == 200
    must_be(site, name, data)


def test_parallel_chunks_complete_by_themselves_once(site: Site) -> None:
    """With total, the last byte to arrive completes the file, whichever request brings it."""
    for turn in range(4):
        data, name = random.Random(turn).randbytes(8 * 9000), f"once-{turn}"
        chunks = chunks_of(data, 9000)
        with ThreadPoolExecutor(8) as pool:
            answers = [sent.result() for sent in [
                pool.submit(send_chunk, site, name, index, chunks[index], offset=index * 9000, total=len(data)) for index in range(8)]]
        assert [answer.status for answer in answers] == [200] * 8
        must_be(site, name, data)
        assert site.ask("GET", f"/api/v1/files?space=tutorial&prefix={name}").json()["files"][0]["version"] == 1


def test_parallel_merges_are_one_file(site: Site) -> None:
    data = random.Random(9).randbytes(30_000)
    for index, chunk in enumerate(chunks_of(data, 10_000)):
        send_chunk(site, "merges", index, chunk)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: complete(site, "merges", 3), range(6)))
    assert 200 in {answer.status for answer in answers} <= {200, 409, 410}, answers
    must_be(site, "merges", data)
    assert site.ask("GET", "/api/v1/files?space=tutorial&prefix=merges").json()["files"][0]["version"] == 1


def test_pieces_of_all_sizes(site: Site) -> None:
    """A bare index says nothing of places: each chunk may be as long as it likes, or empty."""
    pieces = [random.Random(size).randbytes(size) for size in (5, 0, 70_000, 1, 1, 0, 4096, 300)]
    for index in random.Random(1).sample(range(8), 8):
        assert send_chunk(site, "sizes", index, pieces[index]).status == 200
    assert complete(site, "sizes", 8).status == 200
    must_be(site, "sizes", b"".join(pieces))


@pytest.mark.parametrize("fields", [{}, {"offset": 0}, {"chunk_size": 10}, {"last": True}], ids=str)
def test_an_empty_file_is_one_empty_chunk(site: Site, fields: dict[str, Any]) -> None:
    name = f"empty-{len(str(fields))}"
    assert send_chunk(site, name, 0, b"", **fields).status == 200
    assert complete(site, name, 1).status == 200
    must_be(site, name, b"")


def test_a_piece_sent_again_replaces_the_earlier_one(site: Site) -> None:
    for index, data in [(0, b"old"), (1, b" end"), (0, b"newer")]:
        assert send_chunk(site, "again", index, data).status == 200
    assert complete(site, "again", 2).status == 200
    must_be(site, "again", b"newer end")


def test_bytes_in_their_place_are_never_overwritten(site: Site) -> None:
    """They were acknowledged. The same again is fine, others are 409."""
    assert send_chunk(site, "fixed", 0, b"good", offset=0, total=8).status == 200
    answer = send_chunk(site, "fixed", 0, b"evil", offset=0, total=8)
    assert (answer.status, answer.json()["code"]) == (409, "bytes_differ")
    assert send_chunk(site, "fixed", 0, b"good", offset=0, total=8).status == 200
    assert send_chunk(site, "fixed", 1, b" end", offset=4).status == 200
    must_be(site, "fixed", b"good end")


@pytest.mark.parametrize("fields", [{}, {"offset": True}], ids=["pieces", "placed"])
def test_missing_chunks_are_listed(site: Site, fields: dict[str, Any]) -> None:
    name = f"missing-{len(fields)}"
    for index in (0, 2, 5):
        send_chunk(site, name, index, b"x" * 10, **({"offset": index * 10} if fields else {}))
    answer = complete(site, name, 8)
    assert (answer.status, answer.json()["missing"]) == (409, [1, 3, 4, 6, 7])
    assert answer.json()["message"]
    for index in (1, 3, 4):
        send_chunk(site, name, index, b"x" * 10, **({"offset": index * 10} if fields else {}))
    answer = complete(site, name, 3)
    assert answer.status == 400, "six came, not three"
    assert complete(site, name, 6).status == 200
    must_be(site, name, b"x" * 60)


def test_gaps_between_placed_chunks_are_listed(site: Site) -> None:
    send_chunk(site, "gaps", 0, b"x" * 10, offset=0)
    send_chunk(site, "gaps", 1, b"x" * 10, offset=15)
    answer = complete(site, "gaps", 2)
    assert (answer.status, answer.json()["missing"]) == (409, [[10, 15]])


@pytest.mark.parametrize("fields", [{}, {"offset": 0}, {"last": True}], ids=["piece", "placed", "fields last"])
@pytest.mark.parametrize("where", ["request", "part"])
def test_a_chunk_with_a_wrong_digest_is_discarded(site: Site, fields: dict[str, Any], where: str) -> None:
    """Nothing of it stays, so the right bytes are welcome after it."""
    name = f"digest-{where}-{len(str(fields))}"
    wrong = {"Content-MD5": "XUFAKrxLKna5cZ2REBfFkg=="}
    if where == "request":
        answer = send_chunk(site, name, 0, b"bye", headers=wrong, **fields)
    else:
        texts = [field("file_id", name), field("index", 0), *([field("offset", 0)] if "offset" in fields else [])]
        chunk = file("chunk", "blob", b"bye", "Content-MD5: XUFAKrxLKna5cZ2REBfFkg==")
        answer = site.form("/chunk-upload", [chunk, *texts] if "last" in fields else [*texts, chunk])
    assert (answer.status, answer.json()["code"]) == (400, "digest_mismatch")
    found = receiving(site, name)
    assert found is None or found["received"] == 0
    assert send_chunk(site, name, 0, b"good", **fields).status == 200
    assert complete(site, name, 1).status == 200
    must_be(site, name, b"good")


def test_a_cut_chunk_in_its_place_is_kept_as_far_as_it_came(site: Site) -> None:
    """The offset told afterwards is the truth, and the rest alone completes the file."""
    data = random.Random(4).randbytes(60_000)
    body = multipart(field("file_id", "cut"), field("index", 0), field("offset", 0), field("total", len(data)), file("chunk", "blob", data))
    with site.server.connect() as connection:
        connection.send(wire.head("POST", "/chunk-upload", site.fields("admin", {"Content-Type": FORM}), body) + body[:40_000])
        connection.end_writing()
        answer = connection.response()
    assert (answer.status, answer.json()["code"]) == (400, "body_cut")
    upload = receiving(site, "cut")
    assert upload and 30_000 < upload["received"] == upload["offset"] < 40_000
    assert upload["missing"] == [[upload["offset"], len(data)]]
    assert send_chunk(site, "cut", 1, data[upload["offset"]:], offset=upload["offset"]).status == 200
    must_be(site, "cut", data)


def test_a_cut_piece_is_not_kept(site: Site) -> None:
    body = multipart(field("file_id", "cut-piece"), field("index", 0), file("chunk", "blob", b"x" * 10_000))
    before = site.kept()
    with site.server.connect() as connection:
        connection.send(wire.head("POST", "/chunk-upload", site.fields("admin", {"Content-Type": FORM}), body) + body[:5000])
        connection.end_writing()
        assert connection.response().status == 400
    site.must_be_as(before)


def test_nothing_past_the_declared_size_is_kept(site: Site) -> None:
    answer = send_chunk(site, "past", 0, b"x" * 20, offset=0, total=10)
    assert (answer.status, answer.json()["limit"]) == (413, 10)
    assert send_chunk(site, "past", 1, b"x", offset=11).status == 413
    upload = receiving(site, "past")
    assert upload and upload["received"] <= 10
    assert send_chunk(site, "past", 0, b"y" * 10, offset=0).status == 200
    must_be(site, "past", b"y" * 10)


def test_a_chunk_is_no_longer_than_its_stride(site: Site) -> None:
    """Else it would lie on its neighbour."""
    assert send_chunk(site, "stride", 0, b"x" * 11, chunk_size=10).status == 413


def test_owners_do_not_meet(site: Site) -> None:
    """The same file_id of two people is two uploads."""
    for who, data in (("ann", b"Ann's"), ("bob", b"Bob's")):
        assert send_chunk(site, "shared-id", 0, data, who=who).status == 200
    assert complete(site, "shared-id", 1, who="ann").status == 200
    assert site.content("/files/tutorial/shared-id") == b"Ann's"
    assert complete(site, "shared-id", 1, who="bob").status == 200
    assert site.content("/files/tutorial/shared-id") == b"Bob's"


def test_a_second_upload_of_one_id_replaces_the_file(site: Site) -> None:
    for data in (b"first", b"second"):
        send_chunk(site, "anew", 0, data)
        assert complete(site, "anew", 1).status == 200
        must_be(site, "anew", data)


def test_a_cancelled_upload_begins_anew(site: Site) -> None:
    send_chunk(site, "cancelled", 0, b"old", offset=0, total=6)
    upload = receiving(site, "cancelled")
    assert upload and site.ask("DELETE", f"/uploads/{upload['id']}").status == 204
    assert receiving(site, "cancelled") is None
    assert send_chunk(site, "cancelled", 0, b"new", offset=0, total=3).status == 200
    must_be(site, "cancelled", b"new")


def test_they_can_be_switched_off(server: ServerFactory) -> None:
    one = server(env={"CARBOY_CLASSIC": "off"})
    assert one.request("GET", "/tasks/" + "0" * 32).status == 404
    for route in ("/upload", "/stream-upload", "/chunk-upload", "/chunk-upload/complete", "/async-upload", "/upload-s3"):
        answer = one.request("POST", route, {"Content-Type": FORM}, multipart(file("file", "a.txt", b"x")))
        assert answer.status == 404
        assert answer.json()["message"]


def test_a_chunk_may_come_again_after_its_upload_completed_by_itself(site: Site) -> None:
    """Its answer may have been lost; the same bytes are received once more, and others are not."""
    data = random.Random(7).randbytes(5000)
    for index in (0, 1, 1, 0):
        answer = send_chunk(site, "again.bin", index, data[index * 2500:][:2500], chunk_size=2500, total=5000)
        assert (answer.status, answer.json()["message"]) == (200, f"Chunk {index} received")
    other = send_chunk(site, "again.bin", 1, b"x" * 2500, chunk_size=2500, total=5000)
    assert (other.status, other.json()["code"]) == (409, "bytes_differ")
    assert complete(site, "again.bin", 2).status == 200
    assert receiving(site, "again.bin") is None
    must_be(site, "again.bin", data)


def test_no_chunks_are_an_empty_file(site: Site) -> None:
    """The tutorial's client splits an empty file into none."""
    assert complete(site, "nothing.bin", 0).status == 200
    must_be(site, "nothing.bin", b"")


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_chunks_of_a_file_that_is_gone_are_a_new_upload(site: Site, how: str) -> None:
    """Nothing is answered for bytes that are only in a file that was deleted or replaced since."""
    data, name = random.Random(8).randbytes(4000), f"gone-{how}.bin"
    assert send_chunk(site, name, 0, data, chunk_size=4000, total=4000).status == 200
    if how == "deleted":
        assert site.ask("DELETE", f"/files/tutorial/{name}").status == 204
    else:
        assert site.ask("PUT", f"/files/tutorial/{name}", body=b"other").status == 200
    assert send_chunk(site, name, 0, data, chunk_size=4000, total=4000).status == 200
    assert complete(site, name, 1).status == 200
    must_be(site, name, data)


def test_completing_a_file_that_was_deleted_is_refused(site: Site) -> None:
    assert send_chunk(site, "deleted.bin", 0, b"abc").status == 200
    assert complete(site, "deleted.bin", 1).status == 200
    assert site.ask("DELETE", "/files/tutorial/deleted.bin").status == 204
    assert complete(site, "deleted.bin", 1).status == 409
