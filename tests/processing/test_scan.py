"""The step ``scan``, on a real clamd that knows the EICAR test string."""

from __future__ import annotations

import io
import socket
import zipfile
from pathlib import Path
from typing import Any

import pytest
from fixtures_clamd import EICAR, SIGNATURE, STREAM_MAX, ClamdServer
from fixtures_server import Server, ServerFactory, eventually

from carboy.errors import ConfigError, Conflict, Pending, Quarantined
from carboy.model import TRUSTED, Principal
from carboy.processing.clamd import Clamd, ClamdAway, Verdict


def scanning(make_workshop: Any, clamd: ClamdServer, **rules: Any) -> Any:
    return make_workshop(clamd=clamd.address, spaces={"main": {"hold": ["scan"], **rules}})


def person(name: str) -> Principal:
    return Principal(name, "token", {"main": frozenset({"read", "write", "delete"})})


def locked_zip() -> bytes:
    """A ZIP whose only entry says that it is encrypted."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("secret.bin", b"x" * 100)
    data = bytearray(made.getvalue())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    return bytes(data)


class TestVerdicts:
    @pytest.mark.parametrize("data", [b"", b"hello", bytes(STREAM_MAX)], ids=["empty", "short", "as much as it takes"])
    def test_what_is_clean_is_given_to_others(self, make_workshop: Any, clamd: ClamdServer, data: bytes) -> None:
        workshop = scanning(make_workshop, clamd)
        file = workshop.put("a", data)
        assert file.blob.held == 1
        workshop.drain()
        assert workshop.job(file, "scan").result == {"verdict": "clean"}
        found = workshop.file("a").blob
        assert (found.held, found.quarantine) == (0, None)

    @pytest.mark.parametrize("data", [EICAR, bytes(700_000) + EICAR], ids=["short", "far in"])
    def test_what_is_infected_is_quarantined(self, make_workshop: Any, clamd: ClamdServer, data: bytes) -> None:
        workshop = scanning(make_workshop, clamd)
        file = workshop.put("a", data)
        workshop.drain()
        job = workshop.job(file, "scan")
        assert job.state == "done" and job.result["verdict"] == "infected" and SIGNATURE in job.result["signature"]
        assert workshop.file("a").blob.quarantine == job.result["signature"]
        with pytest.raises(Quarantined):
            workshop.services.files.check(person("me"), workshop.file("a"))

    @pytest.mark.parametrize("data", [bytes(STREAM_MAX + 1), bytes(4 * STREAM_MAX) + EICAR, locked_zip()],
                             ids=["a byte too large", "far too large", "locked"])
    @pytest.mark.parametrize("rule", ["hold", "pass"])
    def test_what_it_cant_look_at_is_for_the_space_to_decide(self, make_workshop: Any, clamd: ClamdServer, data: bytes, rule: str) -> None:
        workshop = scanning(make_workshop, clamd, unscanned=rule)
        file = workshop.put("a", data)
        workshop.drain()
        job = workshop.job(file, "scan")
        assert job.state == "done" and job.result["verdict"] == "unscanned" and job.result["reason"]
        found = workshop.file("a").blob
        assert (found.held, found.quarantine) == ({"hold": 1, "pass": 0}[rule], None)
        if rule == "hold":
            with pytest.raises(Pending) as error:
                workshop.services.files.check(person("other"), workshop.file("a"))
            assert error.value.facts["steps"] == ["scan"]

    def test_what_was_not_let_through_may_be_tried_again(self, make_workshop: Any, clamd: ClamdServer) -> None:
        """By hand, once clamd takes more, or the space has another rule. Until then it stays where it is."""
        workshop = scanning(make_workshop, clamd)
        file = workshop.put("a", locked_zip())
        workshop.drain()
        other = scanning(make_workshop, clamd, unscanned="pass")
        catalog, job = other.services.catalog, other.job(file, "scan")
        assert job.state == "done" and "let the content through" in job.failure
        assert catalog.retry_job(job.id, now=other.now).state == "queued"
        assert other.file("a").blob.held == 1
        assert other.drain() == 1
        assert (other.file("a").blob.held, other.job(file, "scan").failure) == (0, None)
        with pytest.raises(Conflict):
            catalog.retry_job(job.id, now=other.now)

    @pytest.mark.parametrize("scanned", [False, True], ids=["before the scan", "after it"])
    @pytest.mark.parametrize("way", ["copied", "moved back"])
    def test_each_space_goes_by_its_own_rule(self, make_workshop: Any, clamd: ClamdServer, scanned: bool, way: str) -> None:
        """What one space lets through unscanned isn't through in another, wherever the file came first and is in the end."""
        workshop = make_workshop(clamd=clamd.address, spaces={"lax": {"hold": ["scan"], "unscanned": "pass"}, "strict": {"hold": ["scan"]}})
        changes, first = workshop.services.changes, "lax" if way == "copied" else "strict"
        file = workshop.put("a", locked_zip(), first)
        if scanned:
            workshop.drain()
        copy = changes.copy(TRUSTED, workshop.file("a", first), "b", space="strict").file
        if way == "moved back":
            changes.move(TRUSTED, workshop.file("a", first), "a", space="lax")
        for _ in range(2):
            workshop.drain()
            assert workshop.file("b", "strict").blob.held == 1
            for job in workshop.services.catalog.jobs_of(copy.blob.id):
                if job.failure:
                    workshop.services.catalog.retry_job(job.id, now=workshop.now)
        assert {job.version for job in workshop.services.catalog.jobs_of(file.blob.id)} == {"1", "1-pass"}

    @pytest.mark.parametrize("database", ["sqlite", "postgresql"])
    def test_the_rule_of_where_it_is_now_counts_once_it_is_tried_again(self, make_workshop: Any, clamd: ClamdServer, database: str,
                                                                       request: pytest.FixtureRequest) -> None:
        """There is nothing left that another space would have to let through."""
        more = {"database": request.getfixturevalue("postgres_url")} if database == "postgresql" else {}
        spaces = {"lax": {"hold": ["scan"], "unscanned": "pass"}, "strict": {"hold": ["scan"]}}
        workshop = make_workshop(clamd=clamd.address, spaces=spaces, **more)
        workshop.put("a", locked_zip(), "strict")
        workshop.drain()
        moved = workshop.services.changes.move(TRUSTED, workshop.file("a", "strict"), "a", space="lax")
        workshop.drain()
        assert workshop.file("a", "lax").blob.held == 1
        first, = (job for job in workshop.services.catalog.jobs_of(moved.blob.id) if job.version == "1")
        workshop.services.catalog.retry_job(first.id, now=workshop.now)
        workshop.drain()
        job, = workshop.services.catalog.jobs_of(moved.blob.id)
        assert (job.id, job.version, workshop.file("a", "lax").blob.held) == (first.id, "1-pass", 0)
        copy = workshop.services.changes.copy(TRUSTED, workshop.file("a", "lax"), "a", space="strict").file
        workshop.drain()
        assert copy.blob.held == workshop.file("a", "strict").blob.held == 1

    def test_a_quarantine_stays_while_another_scan_says_so(self, make_workshop: Any, clamd: ClamdServer) -> None:
        workshop = make_workshop(clamd=clamd.address, spaces={"lax": {"hold": ["scan"], "unscanned": "pass"}, "strict": {"hold": ["scan"]}})
        clamd.learn(b"harmless after all")
        file = workshop.put("a", b"harmless after all", "lax")
        workshop.services.changes.copy(TRUSTED, file, "a", space="strict")
        assert workshop.drain() == 2
        clamd.learn()
        for job, quarantined in zip(workshop.services.catalog.jobs_of(file.blob.id), (True, False), strict=True):
            workshop.services.catalog.retry_job(job.id, now=workshop.now)
            workshop.drain()
            found = workshop.file("a", "strict").blob
            assert (found.quarantine is not None, found.held) == (quarantined, int(quarantined))

    @pytest.mark.parametrize("rule", ["steps", "hold"])
    def test_a_signature_that_was_wrong(self, make_workshop: Any, clamd: ClamdServer, rule: str) -> None:
        """Tried again with better signatures, by hand, the job lifts its own quarantine; not where clamd can't look any more."""
        workshop = make_workshop(clamd=clamd.address, spaces={"main": {rule: ["scan"], "unscanned": "pass"}})
        data = b"harmless after all" + bytes(STREAM_MAX - 100)
        clamd.learn(b"harmless after all")
        file = workshop.put("a", data)
        workshop.drain()
        job = workshop.job(file, "scan")
        assert workshop.file("a").blob.quarantine and job.failure
        for most in (STREAM_MAX, 1000):
            clamd.learn(b"harmless after all", most=most)
            workshop.services.catalog.retry_job(job.id, now=workshop.now)
            workshop.drain()
            assert workshop.file("a").blob.quarantine, "it is what it was"
        clamd.learn()
        workshop.services.catalog.retry_job(job.id, now=workshop.now)
        assert workshop.file("a").blob.quarantine, "until it is through"
        workshop.drain()
        found = workshop.file("a").blob
        assert (found.quarantine, found.held, workshop.job(file, "scan").result) == (None, 0, {"verdict": "clean"})

    def test_a_scan_that_holds_nothing_quarantines_all_the_same(self, make_workshop: Any, clamd: ClamdServer) -> None:
        workshop = make_workshop(clamd=clamd.address, spaces={"main": {"steps": ["scan"]}})
        file = workshop.put("a", EICAR)
        assert file.blob.held == 0
        workshop.drain()
        assert workshop.file("a").blob.quarantine


class TestAway:
    def test_a_file_stays_pending_until_clamd_is_back(self, make_workshop: Any, clamd: ClamdServer) -> None:
        workshop = scanning(make_workshop, clamd)
        clamd.kill()
        file = workshop.put("a", b"hello")
        for _ in range(5):
            assert workshop.drain() == 1
            job = workshop.job(file, "scan")
            assert job.state == "queued" and "can't be reached" in job.failure
            assert workshop.now < job.due_at <= workshop.now + 900
            workshop.later(900)
        assert workshop.file("a").blob.held == 1
        clamd.start()
        workshop.drain()
        assert workshop.job(file, "scan").result == {"verdict": "clean"}
        assert workshop.file("a").blob.held == 0

    def test_killed_in_the_middle(self, clamd: ClamdServer) -> None:
        class Killing(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                clamd.kill()
                return super().read(size)

        with pytest.raises(ClamdAway):
            Clamd(clamd.address).scan(Killing(bytes(STREAM_MAX)), patience=30, meanwhile=lambda sent: None)

    def test_one_that_says_nothing(self, clamd: ClamdServer) -> None:
        clamd.hang()
        asked: list[int] = []
        with pytest.raises(ClamdAway, match="too long"):
            Clamd(clamd.address).scan(io.BytesIO(b"hello"), patience=1.0, meanwhile=asked.append)
        assert set(asked) == {5}, "so that whoever waits can be told to stop"
        clamd.go_on()
        assert Clamd(clamd.address).scan(io.BytesIO(b"hello"), patience=30, meanwhile=asked.append) == Verdict("clean")

    def test_whoever_waits_can_stop(self, clamd: ClamdServer) -> None:
        def stop(sent: int) -> None:
            raise InterruptedError

        clamd.hang()
        with pytest.raises((InterruptedError, ClamdAway)):
            Clamd(clamd.address).scan(io.BytesIO(b"hello"), patience=60, meanwhile=stop)

    def test_over_tcp(self, clamd: ClamdServer) -> None:
        there = Clamd(f"tcp:127.0.0.1:{clamd.port}")
        there.check()
        assert "ClamAV" in there.version()
        assert there.scan(io.BytesIO(EICAR), patience=30, meanwhile=lambda sent: None).kind == "infected"
        for _ in range(20):
            large = io.BytesIO(bytes(STREAM_MAX * 2))
            assert there.scan(large, patience=30, meanwhile=lambda sent: None).kind == "unscanned", "the answer outruns the reset"
        clamd.kill()
        with pytest.raises(ClamdAway):
            there.version()


class TestSettings:
    @pytest.mark.parametrize("rule", ["steps", "hold"])
    def test_a_scan_wants_a_clamd(self, make_workshop: Any, rule: str) -> None:
        with pytest.raises(ConfigError, match=r"(?s)scan.*clamd"):
            make_workshop(spaces={"main": {rule: ["scan"]}})

    @pytest.mark.parametrize("address", ["localhost", "tcp:localhost", "tcp::3310", "tcp:localhost:0", "tcp:localhost:x", "unix:",
                                         "http://localhost:3310"])
    def test_what_is_no_address(self, make_workshop: Any, address: str) -> None:
        with pytest.raises(ConfigError, match="is no address"):
            make_workshop(clamd=address, spaces={"main": {"hold": ["scan"]}})


# --- with a server and its worker ---


@pytest.fixture
def guarded(server: ServerFactory, clamd: ClamdServer, tmp_path: Path) -> Server:
    (tmp_path / "carboy.toml").write_text(f"""
clamd = "{clamd.address}"
[spaces]
main = {{ hold = ["scan"] }}
open = {{ steps = ["scan"] }}
""")
    return server(args=["--config", str(tmp_path / "carboy.toml")])


def status(server: Server, path: str) -> str:
    listed = server.request("GET", f"/api/v1/files?space={path.partition('/')[0]}&prefix={path.partition('/')[2]}").json()["files"]
    return str(listed[0]["status"]) if listed else "none"


def test_infected_in_the_parts_of_a_tus_upload(guarded: Server) -> None:
    """Each part is harmless; together they are not."""
    parts = []
    for piece in (EICAR[:30], EICAR[30:]):
        made = guarded.request("POST", "/tus/main/", {"Tus-Resumable": "1.0.0", "Upload-Concat": "partial", "Upload-Length": str(len(piece)),
                                                      "Content-Type": "application/offset+octet-stream"}, piece)
        assert made.status == 201, made
        parts.append(made.header("Location") or "")
    final = guarded.request("POST", "/tus/main/", {"Tus-Resumable": "1.0.0", "Upload-Concat": f"final;{' '.join(parts)}",
                                                   "Upload-Metadata": "filename ZWljYXI="})
    assert final.status == 201, final
    eventually(lambda: status(guarded, "main/eicar") == "quarantined")
    answer = guarded.request("GET", "/files/main/eicar")
    assert answer.status == 403 and answer.json()["code"] == "quarantined" and SIGNATURE in answer.json()["reason"]


def test_infected_while_somebody_downloads_it(guarded: Server, clamd: ClamdServer) -> None:
    """Who has begun gets it to the end; nobody begins any more."""
    clamd.hang()
    data = EICAR + bytes(STREAM_MAX - len(EICAR))
    assert guarded.request("PUT", "/files/open/a", {}, data).status == 201
    with guarded.connect() as early:
        early.send(f"GET /files/open/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {guarded.token}\r\n\r\n".encode())
        assert early.socket.recv(1, socket.MSG_PEEK), "it has begun"
        clamd.go_on()
        eventually(lambda: status(guarded, "open/a") == "quarantined")
        assert guarded.request("GET", "/files/open/a", {"Range": "bytes=5-9"}).status == 403
        answer = early.response("GET")
        assert answer.status == 200 and answer.body == data
    assert guarded.request("DELETE", "/files/open/a").status == 204
