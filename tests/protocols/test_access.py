"""Who may see and do what: tokens, scopes, private and public spaces, over every route."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
import wire
from fixtures_server import eventually
from fixtures_site import FORM, PEOPLE, Site, file, multipart
from fixtures_site import field as text
from transcript import play, transcripts


@pytest.mark.parametrize("name", transcripts("access"))
def test_transcript(site: Site, name: str) -> None:
    play(name, site)


# --- tokens --------------------------------------------------------------------------------------------------------


def make(site: Site, *scopes: str, **more: object) -> str:
    """A new token's secret."""
    answer = site.ask("POST", "/api/v1/tokens", body=json.dumps({"name": "made", "scopes": scopes, **more}).encode())
    assert answer.status == 201, answer
    return str(answer.json()["secret"])


def ask(site: Site, secret: str, method: str, target: str, body: bytes | None = None) -> wire.Response:
    return site.ask(method, target, {"Authorization": f"Bearer {secret}"}, body, who="nobody")


def test_a_token_ends_when_it_expires(site: Site) -> None:
    short, long = make(site, "main:read", expires_in=0.2), make(site, "main:read", expires_in=3600)
    eventually(lambda: ask(site, short, "GET", "/files/main/").status == 401)
    assert ask(site, long, "GET", "/files/main/").status == 200


def test_the_list_of_tokens_shows_no_secret(site: Site) -> None:
    secret = make(site, "main:read")
    answer = site.ask("GET", "/api/v1/tokens")
    shown = {one["id"]: one for one in answer.json()["tokens"]}
    assert set(site.ids.values()) <= set(shown)
    assert shown[site.ids["ann"]]["name"] == "ann"
    assert not any("secret" in one for one in shown.values())
    assert secret not in answer.text and site.secrets["ann"] not in answer.text


def test_secrets_are_kept_nowhere(site: Site) -> None:
    """Only their hashes are: not in the catalog, its journal, or any file of the data folder."""
    kept = b"".join(path.read_bytes() for path in site.server.data.glob("catalog*"))
    assert kept
    assert not any(secret.encode() in kept for secret in site.secrets.values())


@pytest.mark.parametrize("header", [
    "Bearer", "Bearer ", "bearer wrong", "Basic eDp5", "Bearer  ", "Token abc", "Bearer a b", "Bearer \xff\xfe", "Bearer " + "x" * 8000, ",",
])
def test_headers_that_prove_nothing(site: Site, header: str) -> None:
    """Never taken for nobody: a mistake is told."""
    answer = site.ask("GET", "/files/shop/", {"Authorization": header}, who="nobody")
    assert (answer.status, answer.json()["code"]) == (401, "unauthenticated")
    assert (answer.header("WWW-Authenticate") or "").startswith("Bearer")


def test_the_scheme_has_no_case(site: Site) -> None:
    assert site.ask("GET", "/files/main/", {"Authorization": f"bEARER {site.secrets['ann']}"}, who="nobody").status == 200


def test_two_proofs_are_none(site: Site) -> None:
    """Which of them would count must not depend on who reads the request."""
    fields = [("Authorization", f"Bearer {site.secrets['ann']}"), ("Authorization", "Bearer wrong")]
    assert site.ask("GET", "/files/main/", fields, who="nobody").status in (400, 401)


# --- every route, every right --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Door:
    """One verb of one route into a space, the right it needs, and what it answers who has it."""

    method: str
    target: str
    right: str
    status: int
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


FILE = multipart(file("file", "door.txt", b"x"))
CHUNK = multipart(text("file_id", "door"), text("index", 0), file("chunk", "x", b"x"))
AS_FORM = {"Content-Type": FORM}
DOORS = [
    Door("PUT", "/files/{space}/door.txt", "write", 200, b"x"),
    Door("POST", "/files/{space}/", "write", 201, FILE, AS_FORM),
    Door("POST", "/files/{space}/", "write", 200, b"x", {"Content-Disposition": "attachment; filename=door.txt"}),
    Door("GET", "/files/{space}/door.txt", "read", 200),
    Door("HEAD", "/files/{space}/door.txt", "read", 200),
    Door("GET", "/files/{space}/", "read", 200),
    Door("GET", "/files/{space}/folder/", "read", 200),
    Door("DELETE", "/files/{space}/gone.txt", "delete", 404),
    Door("GET", "/api/v1/files?space={space}", "read", 200),
    Door("GET", "/api/v1/files/{id}", "read", 200),
    Door("GET", "/api/v1/files/{id}/content", "read", 200),
    Door("HEAD", "/api/v1/files/{id}/content", "read", 200),
    Door("GET", "/api/v1/uploads?space={space}", "write", 200),
]


@pytest.fixture(scope="module")
def ids(shared_site: Site) -> dict[str, str]:
    """A file ``door.txt`` in each of two spaces."""
    return {space: str(shared_site.ask("PUT", f"/files/{space}/door.txt", body=b"x").json()["id"]) for space in ("main", "vault")}


def knock(site: Site, door: Door, space: str, ids: dict[str, str], who: str) -> wire.Response:
    target = door.target.format(space=space, id=ids.get(space, "0" * 32))
    return site.ask(door.method, target, door.headers, door.body, who=who)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: f"{door.method} {door.target}")
@pytest.mark.parametrize("who", ["admin", *PEOPLE, "nobody"])
def test_a_door_opens_to_those_who_have_the_right(site: Site, ids: dict[str, str], door: Door, who: str) -> None:
    granted = {"admin": "read,write,delete", "nobody": ""}.get(who) if who in ("admin", "nobody") else next(
        (scope.partition(":")[2] for scope in PEOPLE[who] if scope.startswith("main:")), "")
    expected = door.status if door.right in str(granted).split(",") else 401 if who == "nobody" else 403 if granted else 404
    assert knock(site, door, "main", ids, who).status == expected


@pytest.mark.parametrize("door", DOORS, ids=lambda door: f"{door.method} {door.target}")
@pytest.mark.parametrize("who", ["ann", "reader", "writer", "stranger"])
def test_what_one_may_not_see_is_as_if_it_were_not_there(site: Site, ids: dict[str, str], door: Door, who: str) -> None:
    """404, with the answer that a name gets which doesn't exist; nothing changes."""
    before = site.kept()
    hidden, absent = knock(site, door, "vault", ids, who), knock(site, door, "ghost", ids, who)
    assert hidden.status == absent.status == 404
    known = {"vault": "ghost", ids["vault"]: "0" * 32, hidden.header("X-Request-ID"): absent.header("X-Request-ID")}
    told = hidden.text
    for name, instead in known.items():
        told = told.replace(name, instead)
    assert told == absent.text
    site.must_be_as(before)


@pytest.mark.parametrize("method, target", [
    ("DELETE", "/files/vault/door.txt"), ("DELETE", "/api/v1/files/{id}"), ("DELETE", "/files/main/door.txt"), ("DELETE", "/api/v1/files/{main}"),
])
@pytest.mark.parametrize("who", ["reader", "writer", "stranger", "nobody"])
def test_who_may_not_delete_does_not(site: Site, ids: dict[str, str], method: str, target: str, who: str) -> None:
    before = site.kept()
    answer = site.ask(method, target.format(id=ids["vault"], main=ids["main"]), who=who)
    inside = "main" in target
    assert answer.status == (401 if who == "nobody" else 403 if inside and who != "stranger" else 404)
    site.must_be_as(before)


def test_a_spaces_administrator_does_everything_there_and_nothing_elsewhere(site: Site, ids: dict[str, str]) -> None:
    for door in DOORS:
        assert knock(site, door, "vault", ids, "keeper").status == door.status, door
        assert knock(site, door, "main", ids, "keeper").status == 404, door


@pytest.mark.parametrize("who, status", [("admin", 200), ("ann", 403), ("keeper", 403), ("stranger", 403), ("nobody", 401)])
def test_tokens_are_administered_by_administrators(site: Site, who: str, status: int) -> None:
    assert site.ask("GET", "/api/v1/tokens", who=who).status == status
    assert site.ask("DELETE", f"/api/v1/tokens/{site.ids['bob']}0", who=who).status == {200: 404}.get(status, status)
    if status != 200:
        assert site.ask("POST", "/api/v1/tokens", body=b'{"name": "x", "scopes": ["*:admin"]}', who=who).status == status


def test_nobody_sees_nothing_but_health(site: Site) -> None:
    for target in ("/files/main/", "/files/nowhere/", "/api/v1/files", "/api/v1/uploads", "/api/v1/tokens", "/uploads/x", "/api/v1/files/x"):
        assert site.ask("GET", target, who="nobody").status in (401, 404), target
    assert site.ask("GET", "/healthz", who="nobody").status == 200
