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
    Door("GET", "/api/v1/files?space={space}&sort=size&descending=1", "read", 200),
    Door("GET", "/api/v1/files?space={space}&q=door", "read", 200),
    Door("PATCH", "/api/v1/files/{id}", "write", 200, b'{"tags": []}'),
    Door("POST", "/api/v1/files/{id}/move", "delete,write", 200, b'{"path": "door.txt"}'),
    Door("POST", "/api/v1/files/{id}/copy", "read,write", 200, b'{"path": "copy.txt", "on_conflict": "replace"}'),
    Door("GET", "/api/v1/files/{id}/versions", "read", 200),
    Door("POST", "/api/v1/files/{id}/versions/99/restore", "write", 404),
    Door("GET", "/api/v1/folders?space={space}", "read", 200),
    Door("DELETE", "/api/v1/folders?space={space}&path=nowhere/", "delete", 404),
    Door("POST", "/api/v1/folders/move", "delete,write", 404, b'{"space": "SPACE", "path": "nowhere/", "to": "there/"}'),
    Door("POST", "/api/v1/folders/copy", "read,write", 404, b'{"space": "SPACE", "path": "nowhere/", "to": "there/"}'),
    Door("GET", "/api/v1/trash?space={space}", "read", 200),
    Door("DELETE", "/api/v1/trash?space={space}", "delete", 200),
    Door("POST", "/api/v1/links", "read", 201, b'{"kind": "folder", "space": "SPACE"}'),
    Door("POST", "/api/v1/links", "write", 201, b'{"kind": "inbox", "space": "SPACE"}'),
    Door("POST", "/api/v1/zip", "read", 201, b'{"space": "SPACE", "paths": ["door.txt"]}', {"Accept": "application/json"}),
    Door("GET", "/api/v1/audit?space={space}", "admin", 200),
]
"""A move wants two rights, a copy two others. ``SPACE`` in a body is the space."""


@pytest.fixture(scope="module")
def ids(shared_site: Site) -> dict[str, str]:
    """A file ``door.txt`` in each of two spaces, and where copies of it go."""
    for space in ("main", "vault"):
        shared_site.ask("PUT", f"/files/{space}/copy.txt", body=b"x")
    return {space: str(shared_site.ask("PUT", f"/files/{space}/door.txt", body=b"x").json()["id"]) for space in ("main", "vault")}


def knock(site: Site, door: Door, space: str, ids: dict[str, str], who: str) -> wire.Response:
    target = door.target.format(space=space, id=ids.get(space, "0" * 32))
    body = door.body.replace(b"SPACE", space.encode()) if door.body and not door.headers.get("Content-Type") else door.body
    return site.ask(door.method, target, door.headers, body, who=who)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: f"{door.method} {door.target}")
@pytest.mark.parametrize("who", ["admin", *PEOPLE, "nobody"])
def test_a_door_opens_to_those_who_have_the_right(site: Site, ids: dict[str, str], door: Door, who: str) -> None:
    granted = {"admin": "read,write,delete,admin", "nobody": ""}.get(who) if who in ("admin", "nobody") else next(
        (scope.partition(":")[2] for scope in PEOPLE[who] if scope.startswith("main:")), "")
    expected = door.status if set(door.right.split(",")) <= set(str(granted).split(",")) else 401 if who == "nobody" else 403 if granted else 404
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


# --- what is managed -----------------------------------------------------------------------------------------------


HIDDEN = [
    ("POST", "/api/v1/zip", {"ids": ["ID"]}), ("POST", "/api/v1/links", {"kind": "file", "file_id": "ID"}),
    ("GET", "/api/v1/files/ID/versions", None), ("PATCH", "/api/v1/files/ID", {"tags": ["x"]}),
    ("POST", "/api/v1/files/ID/move", {"path": "mine.txt", "space": "main"}), ("POST", "/api/v1/files/ID/copy", {"path": "mine.txt", "space": "main"}),
    ("DELETE", "/api/v1/files/ID?permanent=1", None), ("GET", "/api/v1/spaces/vault", None), ("GET", "/api/v1/links?space=vault", None),
]
TRASHED = [("POST", "/api/v1/trash/ID/restore", None), ("POST", "/api/v1/trash/ID/restore", {"path": "mine.txt"}), ("DELETE", "/api/v1/trash/ID", None),
           ("GET", "/api/v1/files/ID", None), ("GET", "/api/v1/files/ID/content", None)]


def managed(site: Site, method: str, target: str, body: dict[str, object] | None, id: str, who: str) -> wire.Response:
    data = json.dumps(body).replace("ID", id).encode() if body is not None else None
    return site.ask(method, target.replace("ID", id), {}, data, who=who)


@pytest.mark.parametrize("method, target, body", HIDDEN, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("who", ["ann", "stranger"])
def test_a_file_that_one_may_not_see_is_managed_by_nobody_else(site: Site, ids: dict[str, str], method: str, target: str,
                                                               body: dict[str, object] | None, who: str) -> None:
    before = site.kept()
    assert managed(site, method, target, body, ids["vault"], who).status == 404
    site.must_be_as(before)


@pytest.mark.parametrize("method, target, body", TRASHED, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("who", ["ann", "stranger"])
def test_nor_is_one_in_the_trash(site: Site, method: str, target: str, body: dict[str, object] | None, who: str) -> None:
    id = site.ask("PUT", "/files/vault/thrown.txt", body=b"x", who="keeper").json()["id"]
    assert site.ask("DELETE", f"/api/v1/files/{id}", who="keeper").status == 204
    before = site.kept()
    assert managed(site, method, target, body, id, who).status == 404
    site.must_be_as(before)
    assert site.ask("DELETE", f"/api/v1/trash/{id}", who="keeper").status == 204


def test_many_at_once_are_refused_one_by_one(site: Site, ids: dict[str, str]) -> None:
    """What one may not see is 404 there, too, and the rest goes on."""
    operations = [{"op": "delete", "id": ids["vault"]}, {"op": "move", "id": ids["vault"], "to": "x", "to_space": "main"},
                  {"op": "delete", "space": "vault", "path": "door.txt"}, {"op": "purge", "id": ids["vault"]},
                  {"op": "update", "id": ids["main"], "tags": ["seen"]}]
    answer = site.ask("POST", "/api/v1/bulk", body=json.dumps({"operations": operations}).encode(), who="ann")
    assert [result["status"] for result in answer.json()["results"]] == [404, 404, 404, 404, 200]
    assert site.ask("GET", "/files/vault/door.txt", who="keeper").status == 200
    assert site.ask("POST", "/api/v1/bulk", body=json.dumps({"operations": operations}).encode(), who="nobody").status == 401


def test_a_zip_is_for_whoever_asked_for_it(site: Site) -> None:
    made = site.ask("POST", "/api/v1/zip", {"Accept": "application/json"}, b'{"paths": ["door.txt"]}', who="ann").json()
    assert [site.ask("GET", made["url"], who=who).status for who in ("ann", "bob", "admin", "nobody")] == [200, 404, 404, 401]


def test_a_link_is_its_makers_and_the_administrators(site: Site) -> None:
    link = site.ask("POST", "/api/v1/links", body=b'{"kind": "folder", "space": "main"}', who="ann").json()
    target = f"/api/v1/links/{link['id']}"
    assert [site.ask("GET", target, who=who).status for who in ("ann", "admin", "bob", "nobody")] == [200, 200, 404, 401]
    assert [site.ask("DELETE", target, who=who).status for who in ("bob", "stranger", "nobody", "ann")] == [404, 404, 401, 204]
    assert link["id"] in {one["id"] for one in site.ask("GET", "/api/v1/links?space=main&limit=1000").json()["links"]}
    assert link["id"] not in {one["id"] for one in site.ask("GET", "/api/v1/links?space=main&limit=1000", who="bob").json()["links"]}


def test_others_trees_of_a_private_space_stay_theirs(site: Site) -> None:
    site.ask("DELETE", "/api/v1/trash?space=home", who="bob")
    id = site.ask("PUT", "/files/home/own/diary.txt", body=b"x", who="ann").json()["id"]
    for method, target, body in [*HIDDEN[:7], ("GET", "/api/v1/files/ID/content", None)]:
        assert managed(site, method, target, body, id, "bob").status == 404, target
    assert "own/" in {one["path"] for one in site.ask("GET", "/api/v1/folders?space=home", who="ann").json()["folders"]}
    assert site.ask("GET", "/api/v1/folders?space=home&prefix=own", who="bob").json()["folders"] == []
    assert site.ask("GET", "/api/v1/files?space=home&q=diary&limit=1000", who="bob").json()["files"] == []
    assert site.ask("DELETE", f"/api/v1/files/{id}", who="ann").status == 204
    assert id in {one["file"]["id"] for one in site.ask("GET", "/api/v1/trash?space=home", who="ann").json()["trash"]}
    assert id not in {one["file"]["id"] for one in site.ask("GET", "/api/v1/trash?space=home", who="bob").json()["trash"]}
    assert site.ask("POST", f"/api/v1/trash/{id}/restore", who="bob").status == 404
    assert site.ask("DELETE", "/api/v1/trash?space=home", who="bob").json() == {"files": 0}
    restored = site.ask("POST", f"/api/v1/trash/{id}/restore", who="ann").json()
    assert (restored["path"], restored["id"]) == ("own/diary.txt", id)


def test_the_log_of_a_space_is_its_administrators(site: Site) -> None:
    assert [site.ask("GET", "/api/v1/audit?space=vault", who=who).status for who in ("keeper", "admin", "ann", "nobody")] == [200, 200, 404, 401]
    assert [site.ask("GET", "/api/v1/audit", who=who).status for who in ("admin", "keeper", "ann", "nobody")] == [200, 403, 403, 401]
    assert {one["space"] for one in site.ask("GET", "/api/v1/audit?space=vault", who="keeper").json()["entries"]} <= {"vault"}


@pytest.mark.parametrize("member", ["owner", "sha256", "scanned", "id", "etag", "created_at", "version", "damaged_at"])
def test_what_the_server_says_of_a_file_no_client_says(site: Site, ids: dict[str, str], member: str) -> None:
    """Case 37."""
    before = site.ask("GET", f"/api/v1/files/{ids['main']}", who="ann").json()
    answer = site.ask("PATCH", f"/api/v1/files/{ids['main']}", body=json.dumps({member: "x"}).encode(), who="ann")
    assert (answer.status, answer.json()["field"]) == (400, member)
    assert site.ask("GET", f"/api/v1/files/{ids['main']}", who="ann").json() == before
