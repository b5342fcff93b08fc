"""What used to be one machine's, with requests that come to another node than the one before: nodes share a database, a bucket, and Redis."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import wire
from catalogs import together
from fixtures_nodes import TOKEN, Nodes, NodesFactory
from fixtures_postgres import PostgresServer
from fixtures_redis import RedisServer
from fixtures_s3 import S3Server
from fixtures_server import eventually

from carboy.bootstrap import Services, close, open_carboy, prepare
from carboy.config import Settings
from carboy.model import key_for, new_id

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer, s3_server: S3Server,
         shared_redis: RedisServer) -> Iterator[Nodes]:
    """Two that all tests of this module share: they use paths of their own."""
    if shared_redis.process is None:
        shared_redis.start()
    some = Nodes(tmp_path_factory.mktemp("across"), 2, postgres_server.new_database(), s3_server, s3_server.new_bucket(),
                 env={"CARBOY_RATE_LIMIT_STORAGE": shared_redis.url, "CARBOY_RATE_LIMIT": "100000/hour", "CARBOY_LOGIN_RATE_LIMIT": "4/hour"})
    yield some.start()
    some.close()
    for node in some:
        node.must_be_sound()


def test_requests_are_counted_at_all_nodes_together(both: Nodes) -> None:
    left = [int(both.next().request("GET", "/files/main/").header("RateLimit-Remaining") or -1) for _ in range(4)]
    assert left == [left[0], left[0] - 1, left[0] - 2, left[0] - 3]


def test_a_token_that_one_node_makes_counts_at_the_other_until_it_is_revoked(both: Nodes) -> None:
    made = both[0].request("POST", "/api/v1/tokens", JSON, json.dumps({"name": "across", "scopes": ["main:read"]}).encode()).json()
    other = {"Authorization": f"Bearer {made['secret']}"}
    assert both[1].request("GET", "/files/main/", other).status == 200
    assert both[0].request("DELETE", f"/api/v1/tokens/{made['id']}").status == 204
    assert both[1].request("GET", "/files/main/", other).status == 401


def cookies(response: wire.Response) -> dict[str, str]:
    return {"Cookie": "; ".join(value.partition(";")[0] for value in response.all("Set-Cookie"))}


def test_who_signed_in_at_one_node_is_signed_in_at_the_other(both: Nodes) -> None:
    form = wire.request(both[0].url, "GET", "/login")
    hidden = dict(re.findall(r'name="(\w+)"[^>]* value="([^"]+)"', form.body.decode()))
    body = "&".join(f"{name}={value}" for name, value in {**hidden, "token": TOKEN}.items()).encode()
    head = {"Content-Type": "application/x-www-form-urlencoded", "Origin": both[1].url, **cookies(form)}
    signed = wire.request(both[1].url, "POST", "/login", head, body)
    assert signed.status in (302, 303), signed.body
    page = wire.request(both[0].url, "GET", "/", {**cookies(signed), "Accept": "text/html"})
    assert page.status in (200, 302, 303)
    assert "/login" not in (page.header("Location") or "")


def test_links_are_good_at_every_node_and_counted_once(both: Nodes) -> None:
    file = both[0].request("PUT", "/files/main/linked.txt", body=b"linked").json()
    asked = {"kind": "file", "file_id": file["id"], "max_uses": 2}
    made = both[0].request("POST", "/api/v1/links", JSON, json.dumps(asked).encode()).json()
    got = [wire.request(both.next().url, "GET", f"{made['url']}?download=1").status for _ in range(3)]
    assert got == [200, 200, 410]


def test_a_zip_asked_of_one_node_is_fetched_in_pieces_from_both(both: Nodes) -> None:
    data = {f"zip/{name}": os.urandom(300_000) for name in "abc"}
    for path, each in data.items():
        both.next().request("PUT", f"/files/main/{path}", body=each)
    made = both[0].request("POST", "/api/v1/zip", {**JSON, "Accept": "application/json"}, json.dumps({"space": "main", "paths": ["zip/"]}).encode())
    address = made.json()["url"]
    at, pieces = 0, []
    while at < 900_000:
        piece = both.next().request("GET", address, {"Range": f"bytes={at}-{at + 249_999}"})
        assert piece.status == 206
        pieces.append(piece.body)
        at += 250_000
    rest = both.next().request("GET", address, {"Range": f"bytes={at}-"})
    with zipfile.ZipFile(io.BytesIO(b"".join([*pieces, rest.body]))) as whole:
        assert {name: whole.read(name) for name in data} == data


def test_a_request_that_comes_again_at_another_node_is_done_once(both: Nodes) -> None:
    head = {"Idempotency-Key": "across-1", "Content-Type": "application/octet-stream"}
    first = both[0].request("POST", "/files/main/once/", {**head, "Content-Disposition": 'attachment; filename="a"'}, b"once")
    again = both[1].request("POST", "/files/main/once/", {**head, "Content-Disposition": 'attachment; filename="a"'}, b"once")
    assert (again.status, again.body) == (first.status, first.body)
    assert again.header("Idempotency-Replayed") == "true"


def test_wrong_tokens_are_counted_at_all_nodes_together(both: Nodes, redis_server: RedisServer) -> None:
    """The last of this module: from then on this address may not try."""
    redis_server.say("FLUSHALL")
    got = [wire.request(both.next().url, "GET", "/files/main/", {"Authorization": "Bearer wrong"}).status for _ in range(6)]
    assert got == [401, 401, 401, 401, 429, 429]


# --- the same database, at the same moment -------------------------------------------------------------------------


def services_of(folder: Path, url: str, **settings: object) -> Services:
    folder.mkdir(exist_ok=True)
    return open_carboy(Settings(data=folder, database=url, **settings))


def test_nodes_that_start_at_once_make_one_first_token(tmp_path: Path, postgres_url: str) -> None:
    nodes = [services_of(tmp_path / str(number), postgres_url, admin_token="a" * 40) for number in range(4)]
    assert together(*(lambda node=node: prepare(node) for node in nodes)) == [None] * 4
    assert [token.name for token in nodes[0].tokens.all()] == ["CARBOY_ADMIN_TOKEN"]
    for node in nodes:
        close(node)


def test_nodes_that_start_at_once_sign_with_one_key(tmp_path: Path, postgres_url: str) -> None:
    nodes = [services_of(tmp_path / str(number), postgres_url) for number in range(4)]
    signed = together(*(lambda node=node: node.signer.sign("test", "x") for node in nodes))
    assert all(isinstance(text, str) and node.signer.unsign("test", text) == "x" for text in signed for node in nodes)
    for node in nodes:
        close(node)


# --- upkeep --------------------------------------------------------------------------------------------------------


def test_one_node_sees_to_the_bucket_and_another_when_it_dies(nodes: NodesFactory) -> None:
    """Bytes that nobody knows are removed by one alone, though all look often."""
    some = nodes(2, settings="sweep_interval = 0.2\norphan_interval = 0.1\n")

    def removed_by() -> list[bool]:
        key = key_for(new_id())
        some.s3.client().put_object(Bucket=some.bucket, Key=key, Body=b"nobody's")
        eventually(lambda: key not in some.s3.keys(some.bucket))
        eventually(lambda: any(f"removed orphaned bytes {key}" in node.log() for node in some))
        return [f"removed orphaned bytes {key}" in node.log() for node in some]

    who = removed_by()
    assert sorted(who) == [False, True]
    assert [removed_by() for _ in range(5)] == [who] * 5
    some[who.index(True)].kill()
    assert removed_by() == [not each for each in who]
