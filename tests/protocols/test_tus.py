"""tus 1.0.0 on the wire: transcripts, every way of cutting a connection, and who goes first."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import wire
from fixtures_server import Server, ServerFactory, eventually
from fixtures_site import Site
from transcript import play, transcripts

BYTES = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
KIB = 1024


@pytest.mark.parametrize("name", transcripts("tus"))
def test_transcript(site: Site, name: str) -> None:
    play(name, site)


@pytest.mark.parametrize("name", transcripts("tus"))
def test_transcript_on_postgresql_with_two_workers(postgres_site: Site, name: str) -> None:
    play(name, postgres_site)


class Client:
    """Speaks tus with one server as one of its people."""

    def __init__(self, url: str, auth: dict[str, str], space: str = "main") -> None:
        self.url = url
        self.auth = auth
        self.space = space

    def ask(self, method: str, target: str, headers: wire.Headers = (), body: bytes | None = None) -> wire.Response:
        more = headers.items() if isinstance(headers, dict) else headers
        return wire.request(self.url, method, target, [*self.auth.items(), ("Tus-Resumable", "1.0.0"), *more], body)

    def create(self, name: str, size: int | None, headers: dict[str, str] | None = None, body: bytes | None = None) -> wire.Response:
        length = {"Upload-Defer-Length": "1"} if size is None else {"Upload-Length": str(size)}
        metadata = f"filename {base64.b64encode(name.encode()).decode()}"
        kind = {} if body is None else {"Content-Type": BYTES["Content-Type"]}
        return self.ask("POST", f"/tus/{self.space}/", {**length, "Upload-Metadata": metadata, **kind, **(headers or {})}, body)

    def begin(self, name: str, size: int | None, headers: dict[str, str] | None = None) -> str:
        """The new upload's address."""
        answer = self.create(name, size, headers)
        assert answer.status == 201, answer
        return answer.header("Location") or ""

    def patch(self, target: str, at: int, data: bytes, headers: dict[str, str] | None = None) -> wire.Response:
        return self.ask("PATCH", target, {"Content-Type": BYTES["Content-Type"], "Upload-Offset": str(at), **(headers or {})}, data)

    def offset(self, target: str) -> int:
        answer = self.ask("HEAD", target)
        assert answer.status == 200, answer
        return int(answer.header("Upload-Offset") or "")

    def finish(self, target: str, data: bytes) -> None:
        """Go on as clients do: ask, send, and ask again where another request was in between."""
        for _ in range(10):
            at = self.offset(target)
            if at == len(data):
                return
            answer = self.patch(target, at, data[at:])
            assert (answer.status, answer.header("Upload-Offset")) in ((204, str(len(data))), (409, None)), answer
        pytest.fail("it never ends")

    def recorded(self, target: str) -> int:
        """What the API tells, which asks nobody to let go."""
        answer = wire.request(self.url, "GET", f"/api/v1/uploads/{target.rpartition('/')[2]}", self.auth)
        return int(answer.json()["offset"])

    def content(self, name: str) -> bytes:
        answer = wire.request(self.url, "GET", f"/files/{self.space}/{name}", self.auth)
        assert answer.status == 200, answer
        return answer.body

    def open(self, target: str, at: int, framing: dict[str, str], headers: dict[str, str] | None = None) -> wire.Connection:
        """A connection on which a PATCH has begun; its body is the test's to send."""
        connection = wire.Connection(self.url)
        connection.send(wire.head("PATCH", target, {**self.auth, **BYTES, "Upload-Offset": str(at), **framing, **(headers or {})}))
        return connection


@pytest.fixture
def ann(site: Site) -> Client:
    return Client(site.server.url, site.auth("ann"))


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers: who asks is mostly not the process that writes."""
    server = Server(tmp_path_factory.mktemp("twins") / "data", workers=2)
    yield server.start()
    if server.running:
        server.stop()
    server.must_be_sound()


@pytest.fixture
def both(twins: Server) -> Iterator[Client]:
    since = len(twins.log())
    yield Client(twins.url, twins.auth)
    twins.must_be_sound(since)


def checksum(data: bytes, name: str = "sha1") -> str:
    return f"{name} {base64.b64encode(hashlib.new(name, data).digest()).decode()}"


# --- connections that are cut --------------------------------------------------------------------------------------

DATA = random.Random(4).randbytes(300 * KIB + 7)
CUTS = [0, 1, 2, 4095, 4096, 4097, 16 * KIB - 1, 16 * KIB, 64 * KIB, 64 * KIB + 1, 128 * KIB, 256 * KIB, len(DATA) - 1, len(DATA)]
"""Around the buffers' sizes, the first bytes that tell a type, and both ends."""


@pytest.mark.parametrize("how", ["end", "reset"])
@pytest.mark.parametrize("cut", CUTS)
def test_what_came_before_a_cut_is_kept_and_the_rest_goes_on(ann: Client, cut: int, how: str) -> None:
    name = f"tus-cut-{cut}-{how}"
    target = ann.begin(name, len(DATA))
    connection = ann.open(target, 0, {"Content-Length": str(len(DATA))})
    connection.send(DATA[:cut])
    connection.close() if how == "end" else connection.reset()
    if how == "end":
        eventually(lambda: ann.recorded(target) == cut)  # every byte that was sent before the end
    assert ann.offset(target) <= cut
    ann.finish(target, DATA)
    assert ann.content(name) == DATA


CHUNKED = b"".join(b"%x\r\n" % len(DATA[at:at + 70_000]) + DATA[at:at + 70_000] + b"\r\n" for at in range(0, len(DATA), 70_000)) + b"0\r\n\r\n"


@pytest.mark.parametrize("cut", [0, 1, 5, 6, 7, 8, 40_000, 70_006, 70_007, 70_008, 70_012, 150_000, len(CHUNKED) - 6, len(CHUNKED) - 5, len(CHUNKED) - 4,
                                 len(CHUNKED) - 1, len(CHUNKED)])
def test_chunked_bodies_that_are_cut(ann: Client, cut: int) -> None:
    """In a chunk's size, its bytes, behind them, before the last chunk and within it: the bytes that came are kept."""
    name = f"tus-chunked-{cut}"
    target = ann.begin(name, len(DATA))
    with ann.open(target, 0, {"Transfer-Encoding": "chunked"}) as connection:
        connection.send(CHUNKED[:cut])
    eventually(lambda: ann.recorded(target) >= min(cut - 64, len(DATA)))  # sizes of chunks and their line ends are no bytes
    assert ann.offset(target) <= min(cut, len(DATA))
    ann.finish(target, DATA)
    assert ann.content(name) == DATA


@pytest.mark.parametrize("cut", [0, 1, 4096, 100_000, len(DATA) - 1])
@pytest.mark.parametrize("where", ["before", "behind"])
def test_of_bytes_with_a_checksum_all_are_kept_or_none(ann: Client, cut: int, where: str) -> None:
    name = f"tus-sum-cut-{cut}-{where}"
    target = ann.begin(name, 5 + len(DATA))
    assert ann.patch(target, 0, b"hello").status == 204
    before = {"Content-Length": str(len(DATA)), "Upload-Checksum": checksum(DATA)}
    behind = {"Transfer-Encoding": "chunked", "Trailer": "Upload-Checksum"}
    with ann.open(target, 5, {**(before if where == "before" else behind), "Expect": "100-continue"}) as connection:
        assert connection.interim().status == 100, "it won't come after the next one"
        connection.send(DATA[:cut] if where == "before" else CHUNKED[:cut])
    assert ann.offset(target) == 5
    trailer = CHUNKED[:-2] + f"Upload-Checksum: {checksum(DATA, 'sha256')}\r\n\r\n".encode()
    with ann.open(target, 5, behind) as connection:
        connection.send(trailer)
        answer = connection.response("PATCH")
    assert (answer.status, answer.header("Upload-Offset")) == (204, str(5 + len(DATA)))
    assert ann.content(name) == b"hello" + DATA


@pytest.mark.parametrize("size", [5, 3 * 2**20 + 1])
@pytest.mark.parametrize("name", ["sha1", "sha256", "sha512", "md5"])
def test_a_checksum_behind_the_bytes_is_looked_at(ann: Client, name: str, size: int) -> None:
    data = os.urandom(size)
    target = ann.begin(f"tus-behind-{name}-{size}", size)
    for told, status in ((data + b"!", 460), (data, 204)):
        with ann.open(target, 0, {"Transfer-Encoding": "chunked", "Trailer": "Upload-Checksum"}) as connection:
            connection.chunk(data)
            connection.send(f"0\r\nUpload-Checksum: {checksum(told, name)}\r\n\r\n")
            assert connection.response("PATCH").status == status
            assert connection.request("HEAD", target, {**ann.auth, "Tus-Resumable": "1.0.0"}).header("Upload-Offset") == str(size if status == 204 else 0)
    assert ann.content(f"tus-behind-{name}-{size}") == data


@pytest.mark.parametrize("headers", [{}, {"Upload-Concat": "partial"}], ids=["whole", "part"])
@pytest.mark.parametrize("cut", [0, 1, 20_000])
def test_a_creation_that_is_cut_leaves_nothing(site: Site, ann: Client, cut: int, headers: dict[str, str]) -> None:
    """Nobody was told its address."""
    before, size = site.kept(), len(DATA) + 1 + cut
    with wire.Connection(ann.url) as connection:
        more = {**ann.auth, **BYTES, **headers, "Upload-Length": str(size), "Content-Length": str(size)}
        connection.send(wire.head("POST", "/tus/main/", more) + DATA[:cut])
        connection.end_writing()
        assert connection.response("POST").status == 400
    if not headers:
        site.must_be_as(before)
    uploads = site.ask("GET", "/api/v1/uploads?space=main&limit=1000", who="ann").json()["uploads"]
    assert [upload for upload in uploads if upload["size"] == size] == []


def test_more_than_the_length_in_a_chunked_body(ann: Client) -> None:
    """What lies past it is not kept, and neither is the upload harmed."""
    target = ann.begin("tus-past", 10)
    with ann.open(target, 0, {"Transfer-Encoding": "chunked"}) as connection:
        connection.chunk(b"01234")
        connection.chunk(b"56789abc")
        connection.chunk(b"")
        answer = connection.response("PATCH")
        assert (answer.status, answer.json()["limit"]) == (413, 10)
    at = ann.offset(target)
    assert at in (0, 5)
    assert ann.patch(target, at, b"0123456789"[at:]).status == 204
    assert ann.content("tus-past") == b"0123456789"


# --- who goes first ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [0, 1, 5000, 200_000])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_stalled_writer_lets_go_for_who_asks(both: Client, sent: int, framing: str) -> None:
    """Its connection is alive and silent; what it had sent is kept, and whoever asks goes on at once."""
    name = f"tus-stalled-{sent}-{framing}"
    target = both.begin(name, len(DATA))
    framed = {"Content-Length": str(len(DATA))} if framing == "length" else {"Transfer-Encoding": "chunked"}
    with both.open(target, 0, {**framed, "Expect": "100-continue"}) as stalled:
        assert stalled.interim().status == 100, "it writes now"
        if sent:
            stalled.send(DATA[:sent]) if framing == "length" else stalled.chunk(DATA[:sent])
        at = both.offset(target)
        assert at == sent or (sent == 200_000 and 0 < at <= sent), "what had arrived"
        both.finish(target, DATA)
        with suppress(wire.Closed, ConnectionError):
            assert stalled.response("PATCH").status in (400, 409)
    assert both.content(name) == DATA


def test_a_patch_takes_over_without_asking_before(both: Client) -> None:
    target = both.begin("tus-taken", len(DATA))
    with both.open(target, 0, {"Content-Length": str(len(DATA)), "Expect": "100-continue"}) as stalled:
        assert stalled.interim().status == 100
        assert both.patch(target, 0, DATA).status == 204
        with suppress(wire.Closed, ConnectionError):
            assert stalled.response("PATCH").status in (400, 409)
    assert both.content("tus-taken") == DATA


def test_who_is_wrong_about_the_offset_stops_nobody(both: Client) -> None:
    target = both.begin("tus-undisturbed", 10)
    assert both.patch(target, 0, b"01234").status == 204
    with both.open(target, 5, {"Content-Length": "5", "Expect": "100-continue"}) as writer:
        assert writer.interim().status == 100
        assert [both.patch(target, at, b"x").status for at in (0, 4)] == [409, 409]
        writer.send(b"56789")
        assert writer.response("PATCH").status == 204
    assert both.content("tus-undisturbed") == b"0123456789"


def test_a_writer_is_ended_with_its_upload(both: Client) -> None:
    target = both.begin("tus-terminated", 10)
    with both.open(target, 0, {"Content-Length": "10", "Expect": "100-continue"}) as writer:
        assert writer.interim().status == 100
        writer.send(b"01234")
        assert both.ask("DELETE", target).status == 204
        with suppress(wire.Closed, ConnectionError):
            assert writer.response("PATCH").status in (400, 409, 410)
    assert both.ask("HEAD", target).status == 410


@pytest.mark.parametrize("turn", range(5))
def test_many_patches_at_once_make_one_right_file(both: Client, turn: int) -> None:
    """Each sends what it believes to be missing, sometimes cut; whatever wins, bytes and offsets agree."""
    name, rng = f"tus-rush-{turn}", random.Random(turn)
    target = both.begin(name, len(DATA))

    def rush(seed: int) -> None:
        mine = random.Random(seed)
        for _ in range(200):
            answer = both.ask("HEAD", target)
            at = int(answer.header("Upload-Offset") or 0)
            if at == len(DATA):
                return
            end = min(len(DATA), at + mine.randrange(1, 120_000))
            if mine.random() < 0.3:
                with both.open(target, at, {"Content-Length": str(end - at)}) as connection, suppress(ConnectionError):
                    connection.send(DATA[at:at + mine.randrange(0, end - at + 1)])
                continue
            with suppress(wire.Closed, ConnectionError):
                answer = both.patch(target, at, DATA[at:end])
                assert answer.status in (204, 400, 409), answer
                if answer.status == 204:
                    assert int(answer.header("Upload-Offset") or 0) == end

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(rush, rng.sample(range(1000), 4)))
    assert both.offset(target) == len(DATA)
    assert both.content(name) == DATA


def test_parts_at_once_and_their_whole(both: Client) -> None:
    """The whole is begun first, and told of while its parts come."""
    stride = 50_001
    pieces = [DATA[at:at + stride] for at in range(0, len(DATA), stride)]
    parts = [both.begin("part", len(piece), {"Upload-Concat": "partial"}) for piece in pieces]
    metadata = f"filename {base64.b64encode(b'tus-parallel').decode()}"
    answer = both.ask("POST", "/tus/main/", {"Upload-Concat": f"final;{' '.join(parts)}", "Upload-Metadata": metadata})
    assert answer.status == 201
    whole = answer.header("Location") or ""
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            told = both.ask("HEAD", whole)
            assert told.status == 200, told
            assert told.header("Upload-Length") == str(len(DATA))

    with ThreadPoolExecutor(len(parts) + 1) as threads:
        watching = threads.submit(watch)
        answers = list(threads.map(lambda number: both.patch(parts[number], 0, pieces[number]), range(len(parts))))
        done.set()
        watching.result()
    assert [answer.status for answer in answers] == [204] * len(parts)
    assert both.offset(whole) == len(DATA)
    assert both.content("tus-parallel") == DATA


def test_a_download_holds_nobody_up(both: Client) -> None:
    answer = both.create("tus-slow-get", len(DATA), body=DATA)
    with wire.Connection(both.url) as reader:
        reader.send(wire.head("GET", "/files/main/tus-slow-get", both.auth))
        reader.socket.recv(1)
        assert both.offset(answer.header("Location") or "") == len(DATA)
        assert both.ask("DELETE", answer.header("Location") or "").status == 204


def test_offsets_survive_a_kill(server: ServerFactory) -> None:
    """What a 204 or a HEAD told is there after SIGKILL, with its bytes."""
    one = server()
    client = Client(one.url, one.auth)
    target = client.begin("killed", len(DATA))
    assert client.patch(target, 0, DATA[:100_000]).status == 204
    with client.open(target, 100_000, {"Content-Length": str(len(DATA) - 100_000)}) as stalled:
        stalled.send(DATA[100_000:150_000])
        told = eventually(lambda: (at := client.offset(target)) > 100_000 and at)
        one.kill()
    one.start()
    client = Client(one.url, one.auth)
    at = client.offset(target)
    assert at >= told
    assert client.patch(target, at, DATA[at:]).status == 204
    assert client.content("killed") == DATA


# --- spaces --------------------------------------------------------------------------------------------------------


def test_in_a_private_space_names_never_meet(site: Site) -> None:
    for who in ("ann", "bob"):
        client = Client(site.server.url, site.auth(who), "home")
        answer = client.create("tus-mine", 3, body=who.encode())
        assert (answer.status, client.content("tus-mine")) == (201, who.encode())
        assert client.ask("GET", answer.header("Location") or "").header("Location") == "/files/home/tus-mine"


def test_nobody_may_use_a_space_that_is_open_for_writing(site: Site) -> None:
    client = Client(site.server.url, {}, "inbox")
    target = client.begin("tus-left", 6)
    assert client.patch(target, 0, b"abc").status == 204
    assert (client.offset(target), client.patch(target, 3, b"def").status) == (3, 204)
    assert site.content("/files/inbox/tus-left") == b"abcdef"


@pytest.mark.parametrize("space, status, again", [("twins", 201, 201), ("once", 201, 409), ("kept", 201, 201)])
def test_what_the_space_says_of_names_that_are_taken(site: Site, space: str, status: int, again: int) -> None:
    client = Client(site.server.url, site.auth("ann"), space)
    answers = [client.create("tus-taken", 1, body=body) for body in (b"1", b"2")]
    assert [answer.status for answer in answers] == [status, again]


def test_a_type_that_is_not_accepted(site: Site) -> None:
    """Told at the first bytes or at the last ones, and HEAD never says that all is well."""
    client = Client(site.server.url, site.auth("ann"), "images")
    assert client.create("tus.png", 5, body=b"hello").status == 415
    target = client.begin("tus.png", 5)
    assert client.patch(target, 0, b"hello").status == 415
    assert client.ask("HEAD", target).status == 415
    assert client.patch(target, 5, b"").status == 415
    assert client.ask("DELETE", target).status == 204



def test_deleting_needs_the_right_to(site: Site) -> None:
    """What one has sent one may end; the file is the space's."""
    client = Client(site.server.url, site.auth("writer"))
    answer = client.create("tus-kept", 1, body=b"x")
    target = answer.header("Location") or ""
    assert client.ask("DELETE", target).status == 403
    assert site.content("/files/main/tus-kept") == b"x"
    site.ask("PUT", "/files/main/tus-kept", body=b"another")
    assert Client(site.server.url, site.auth()).ask("DELETE", target).status == 410
    assert site.content("/files/main/tus-kept") == b"another"
