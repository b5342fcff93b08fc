"""Case 28: quotas hold exactly, however many uploads come at once, and are told before bytes come where their number is known."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import wire
from fixtures_server import Server, eventually
from fixtures_site import Site, field, file

MANY = 50
SIZE = 10_000
FIT = 7
CONFIG = f"""
classic = "tutorial"
sweep_interval = 0.2
delete_grace = 0

[spaces.tutorial]
quota = {FIT * SIZE + SIZE // 2}
[spaces.shared]
quota = {FIT * SIZE + SIZE // 2}
[spaces.each]
owner_quota = {FIT * SIZE}
[spaces.kept]
quota = {4 * SIZE}
versions = 2
[spaces.bin]
quota = {2 * SIZE}
"""


@pytest.fixture(scope="module", params=["small", "reserved"])
def quotas(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two processes. ``reserved``: every declared size is promised room first."""
    folder = tmp_path_factory.mktemp("quotas")
    (folder / "carboy.toml").write_text(CONFIG)
    env = {"CARBOY_DURABILITY": "relaxed", **({"CARBOY_RESERVE_FROM": "1 KiB"} if request.param == "reserved" else {})}
    server = Server(folder / "data", args=["--config", str(folder / "carboy.toml")], env=env, workers=2)
    yield Site(server.start())
    if server.running:
        server.stop()
    server.must_be_sound()


Send = Callable[[Site, str, int], wire.Response]


def by_put(site: Site, space: str, number: int) -> wire.Response:
    return site.ask("PUT", f"/files/{space}/put/{number}.bin", body=os.urandom(SIZE))


def by_chunked_put(site: Site, space: str, number: int) -> wire.Response:
    """Nobody knows how much comes."""
    data = os.urandom(SIZE)
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
    return site.ask("PUT", f"/files/{space}/chunked/{number}.bin", {"Transfer-Encoding": "chunked"}, body)


def by_form(site: Site, space: str, number: int) -> wire.Response:
    return site.form(f"/files/{space}/form/", [file("file", f"{number}.bin", os.urandom(SIZE))])


def by_chunks(site: Site, space: str, number: int) -> wire.Response:
    """In two chunks of a declared total; the first refusal is the answer."""
    for index in range(2):
        parts = [field("file_id", f"c{number}"), field("index", index), field("chunk_size", SIZE // 2), field("total", SIZE),
                 file("chunk", "x", os.urandom(SIZE // 2))]
        answer = site.form("/chunk-upload", parts)
        if answer.status != 200:
            return answer
    return answer


def account(site: Site, space: str, which: str = "usage") -> dict[str, Any]:
    found: dict[str, Any] = site.ask("GET", f"/api/v1/spaces/{space}").json()[which]
    return found


def empty(site: Site, space: str) -> None:
    """Uploads first: all of their bytes came, so they would become files as soon as there is room."""
    for one in site.ask("GET", f"/api/v1/uploads?space={space}&limit=1000").json()["uploads"]:
        site.ask("DELETE", f"/api/v1/uploads/{one['id']}")
    for one in site.ask("GET", f"/api/v1/files?space={space}&limit=1000").json()["files"]:
        assert site.ask("DELETE", f"/api/v1/files/{one['id']}?permanent=1").status == 204
    assert account(site, space)["used"] == 0


@pytest.mark.parametrize("space, send", [("shared", by_put), ("shared", by_chunked_put), ("shared", by_form), ("tutorial", by_chunks)],
                         ids=["put", "chunked put", "form", "chunks"])
def test_of_fifty_at_once_exactly_those_that_fit_are_kept(quotas: Site, space: str, send: Send) -> None:
    with ThreadPoolExecutor(MANY) as pool:
        answers = list(pool.map(lambda number: send(quotas, space, number), range(MANY)))
    statuses = Counter(answer.status for answer in answers)
    refused = [answer for answer in answers if answer.status == 507]
    assert statuses[200] + statuses[201] == FIT, statuses
    assert len(refused) == MANY - FIT, statuses
    assert {answer.json()["code"] for answer in refused} == {"quota_exceeded"}
    told = refused[0].json()
    assert (told["scope"], told["limit"]) == ("space", FIT * SIZE + SIZE // 2)
    kept = account(quotas, space)
    assert (kept["files"], kept["used"], kept["free"]) == (FIT, FIT * SIZE, SIZE // 2)
    assert len(quotas.paths(space)) == FIT
    empty(quotas, space)
    eventually(lambda: not quotas.blobs())


def test_an_owner_has_a_quota_of_its_own(quotas: Site) -> None:
    made = quotas.ask("POST", "/api/v1/tokens", body=json.dumps({"name": "other", "scopes": ["each:read,write,delete"]}).encode()).json()
    quotas.secrets["other"] = made["secret"]

    def put(number: int) -> int:
        who = "admin" if number % 2 else "other"
        return quotas.ask("PUT", f"/files/each/{who}-{number}.bin", body=os.urandom(SIZE), who=who).status

    with ThreadPoolExecutor(MANY) as pool:
        statuses = Counter(pool.map(put, range(MANY)))
    assert statuses == {201: 2 * FIT, 507: MANY - 2 * FIT}
    assert {account(quotas, "each", "own")["used"], account(quotas, "each")["used"]} == {FIT * SIZE, 2 * FIT * SIZE}
    empty(quotas, "each")


def test_it_is_told_before_the_body(quotas: Site) -> None:
    """A client that waits for 100 Continue sends nothing."""
    with quotas.server.connect() as connection:
        connection.send(wire.head("PUT", "/files/shared/huge.bin", [*quotas.auth().items(), ("Content-Length", str(FIT * SIZE * 2)),
                                                                   ("Expect", "100-continue")]))
        answer = connection.response("PUT")
    assert (answer.status, answer.interim) == (507, ())
    assert answer.json() | {"scope": "space", "used": 0, "size": FIT * SIZE * 2} == answer.json()


def test_an_endless_body_is_cut_at_the_quota(quotas: Site) -> None:
    pieces = (b"10000\r\n" + bytes(65536) + b"\r\n" for _ in range(10_000))
    answer = quotas.pour("PUT", "/files/shared/endless.bin", {"Transfer-Encoding": "chunked"}, pieces)
    assert (answer.status, answer.json()["code"]) == (507, "quota_exceeded")
    eventually(lambda: not quotas.blobs())


def test_replacing_counts_what_it_frees(quotas: Site) -> None:
    name = "/files/bin/one.bin"
    assert quotas.ask("PUT", name, body=os.urandom(2 * SIZE)).status == 201
    assert quotas.ask("PUT", name, body=os.urandom(2 * SIZE)).status == 200
    assert quotas.ask("PUT", name, body=os.urandom(2 * SIZE + 1)).status == 507
    assert quotas.ask("PUT", name, body=b"").status == 200
    assert account(quotas, "bin")["used"] == 0
    empty(quotas, "bin")


def test_older_versions_count(quotas: Site) -> None:
    name = "/files/kept/one.bin"
    statuses = [quotas.ask("PUT", name, body=os.urandom(SIZE)).status for _ in range(5)]
    assert statuses == [201, 200, 200, 200, 200]
    kept = account(quotas, "kept")
    assert (kept["bytes"], kept["older"], kept["used"], kept["free"]) == (SIZE, 2 * SIZE, 3 * SIZE, SIZE)
    assert quotas.ask("PUT", name, body=os.urandom(2 * SIZE)).status == 200, "the oldest version makes way"
    assert quotas.ask("PUT", name, body=os.urandom(3 * SIZE)).status == 507
    empty(quotas, "kept")


def test_the_trash_counts_until_it_is_emptied(quotas: Site) -> None:
    for number in range(2):
        assert quotas.ask("PUT", f"/files/bin/{number}.bin", body=os.urandom(SIZE)).status == 201
    assert quotas.ask("DELETE", "/files/bin/0.bin").status == 204
    refused = quotas.ask("PUT", "/files/bin/2.bin", body=os.urandom(SIZE))
    assert (refused.status, refused.json()["in_trash"]) == (507, SIZE)
    assert quotas.ask("DELETE", "/api/v1/trash?space=bin").json() == {"files": 1}
    assert quotas.ask("PUT", "/files/bin/2.bin", body=os.urandom(SIZE)).status == 201
    empty(quotas, "bin")


def test_copies_and_moves_count(quotas: Site) -> None:
    made = quotas.ask("PUT", "/files/bin/a.bin", body=os.urandom(SIZE + 1)).json()
    copied = quotas.ask("POST", f"/api/v1/files/{made['id']}/copy", body=b'{"path": "b.bin"}')
    assert (copied.status, copied.json()["code"]) == (507, "quota_exceeded")
    other = quotas.ask("PUT", "/files/main/c.bin", body=os.urandom(SIZE)).json()
    moved = quotas.ask("POST", f"/api/v1/files/{other['id']}/move", body=b'{"space": "bin", "path": "c.bin"}')
    assert (moved.status, moved.json()["code"]) == (507, "quota_exceeded")
    assert quotas.ask("GET", "/files/main/c.bin").status == 200
    quotas.ask("DELETE", f"/api/v1/files/{other['id']}?permanent=1")
    empty(quotas, "bin")


def test_fifty_moves_at_once_into_a_quota(quotas: Site, tmp_path: Path) -> None:
    ids = [quotas.ask("PUT", f"/files/main/move/{number}", body=os.urandom(SIZE)).json()["id"] for number in range(MANY)]

    def move(id: str) -> int:
        return quotas.ask("POST", f"/api/v1/files/{id}/move", body=json.dumps({"space": "shared", "path": id}).encode()).status

    with ThreadPoolExecutor(MANY) as pool:
        assert Counter(pool.map(move, ids)) == {200: FIT, 507: MANY - FIT}
    assert account(quotas, "shared")["used"] == FIT * SIZE
    empty(quotas, "shared")
    empty(quotas, "main")
