"""The same server on PostgreSQL, with two processes: which of them answers makes no difference."""

from __future__ import annotations

import base64
import json
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from fixtures_site import Site, field, file
from transcript import play, transcripts


@pytest.mark.parametrize("name", [name for folder in ("files", "form", "classic", "api", "access") for name in transcripts(folder)])
def test_transcript(postgres_site: Site, name: str) -> None:
    """Every transcript, to the letter."""
    play(name, postgres_site)


def test_both_processes_answer(postgres_site: Site) -> None:
    assert len(postgres_site.server.workers()) == 2
    assert postgres_site.ask("GET", "/readyz", who="nobody").json() == {"status": "ready"}


def test_chunks_of_one_file_reach_both(postgres_site: Site) -> None:
    """The last one to arrive completes it, once, wherever it arrives."""
    for turn in range(3):
        data, name = random.Random(turn).randbytes(12 * 50_000), f"both-{turn}"

        def send(index: int, data: bytes = data, name: str = name) -> int:
            parts = [field("file_id", name), field("index", index), field("offset", index * 50_000), field("total", len(data)),
                     file("chunk", "blob", data[index * 50_000:(index + 1) * 50_000])]
            return postgres_site.form("/chunk-upload", parts, who="ann").status

        with ThreadPoolExecutor(12) as pool:
            assert list(pool.map(send, range(12))) == [200] * 12
        assert postgres_site.content(f"/files/tutorial/{name}") == data
        [listed] = postgres_site.ask("GET", f"/api/v1/files?space=tutorial&prefix={name}").json()["files"]
        assert listed["version"] == 1


def test_pieces_are_merged_once(postgres_site: Site) -> None:
    pieces = [random.Random(index).randbytes(20_000) for index in range(8)]

    def send(index: int) -> int:
        return postgres_site.form("/chunk-upload", [field("file_id", "pieces"), field("index", index), file("chunk", "blob", pieces[index])]).status

    def merge(_: int) -> int:
        return postgres_site.form("/chunk-upload/complete", [field("file_id", "pieces"), field("total_chunks", 8)]).status

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(send, range(8))) == [200] * 8
        assert 200 in set(pool.map(merge, range(6))) <= {200, 409, 410}
    assert merge(0) == 200
    assert postgres_site.content("/files/tutorial/pieces") == b"".join(pieces)
    assert postgres_site.ask("GET", "/api/v1/files?space=tutorial&prefix=pieces").json()["files"][0]["version"] == 1


def test_of_many_that_create_one_does(postgres_site: Site) -> None:
    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(lambda number: postgres_site.ask(
            "PUT", "/files/main/postgres/first", {"If-None-Match": "*"}, b"%d" % number).status, range(12)))
    assert sorted(statuses) == [201] + [412] * 11


def test_a_path_is_a_file_or_a_folder_whoever_comes_first(postgres_site: Site) -> None:
    for turn in range(5):
        targets = [f"/files/main/postgres/race{turn}", f"/files/main/postgres/race{turn}/below"] * 2
        with ThreadPoolExecutor(4) as pool:
            statuses = list(pool.map(lambda target: postgres_site.ask("PUT", target, body=b"x").status, targets))
        files, folders = {statuses[0], statuses[2]}, {statuses[1], statuses[3]}
        assert (files, folders) in [({200, 201}, {409}), ({409}, {200, 201})], statuses


def test_a_revoked_token_is_revoked_everywhere(postgres_site: Site) -> None:
    made = postgres_site.ask("POST", "/api/v1/tokens", body=json.dumps({"name": "short", "scopes": ["main:read"]}).encode()).json()
    bearer = {"Authorization": f"Bearer {made['secret']}"}
    assert {postgres_site.ask("GET", "/files/main/", bearer, who="nobody").status for _ in range(10)} == {200}
    assert postgres_site.ask("DELETE", f"/api/v1/tokens/{made['id']}").status == 204
    assert {postgres_site.ask("GET", "/files/main/", bearer, who="nobody").status for _ in range(10)} == {401}


def cursor_of(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize("target", [
    "/api/v1/files?prefix=%00", f"/api/v1/files?cursor={cursor_of(chr(0))}", "/api/v1/files/%00", "/api/v1/uploads/%00", "/uploads/a%00b", "/files/main/%00",
    f"/api/v1/uploads?space=main&cursor={cursor_of(chr(0))}", "/api/v1/uploads?cursor=%00", "/api/v1/files/%F0%9F%98%80", "/api/v1/files?cursor=%00",
    "/api/v1/files?space=%00", "/files/%00/a", "/files/main/?cursor=%00", "/api/v1/files?prefix=%ED%A0%80",
])
def test_what_postgresql_can_not_store_is_refused(postgres_site: Site, target: str) -> None:
    """It takes no NUL in any text."""
    for method in ("GET", "DELETE"):
        answer = postgres_site.ask(method, target)
        assert answer.status in (200, 400, 404, 405), answer


def test_text_that_postgresql_can_not_store_is_refused(postgres_site: Site) -> None:
    for parts in ([field("a", b"\0"), file("file", "a")], [field("a\0b", "x"), file("file", "a")]):
        assert postgres_site.form("/files/main/postgres/", parts).status == 400
    assert postgres_site.form("/chunk-upload", [field("file_id", b"a\0"), field("index", 0), file("chunk", "x")]).status == 400
    for body in (b"file_id=a%00b&total_chunks=1", b'{"file_id": "a\\u0000b", "total_chunks": 1}', b'{"file_id": "\\ud800", "total_chunks": 1}'):
        kind = "application/json" if body[:1] == b"{" else "application/x-www-form-urlencoded"
        assert postgres_site.ask("POST", "/chunk-upload/complete", {"Content-Type": kind}, body).status == 400
    assert postgres_site.form("/files/main/postgres/", [field("emoji", "\U0001f4a9 \uffff"), file("file", "\U0001f4a9")]).status == 201
