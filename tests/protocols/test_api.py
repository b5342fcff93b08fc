"""``/api/v1`` and ``/uploads``: files, uploads under way, and whether the server is ready."""

from __future__ import annotations

import base64
import json
import random
from typing import Any
from urllib.parse import quote

import pytest
from fixtures_site import Site, field, file
from transcript import play, transcripts


@pytest.mark.parametrize("name", transcripts("api"))
def test_transcript(site: Site, name: str) -> None:
    play(name, site)


# --- lists ---------------------------------------------------------------------------------------------------------


def pages(site: Site, query: str, what: str = "files", *, who: str = "admin") -> list[list[dict[str, Any]]]:
    """All pages of a list, cursor by cursor."""
    found, cursor = [], ""
    while len(found) < 1000:
        answer = site.ask("GET", f"/api/v1/{what}?{query}" + (f"&cursor={cursor}" if cursor else ""), who=who)
        assert answer.status == 200, answer
        found.append(answer.json()[what])
        cursor = answer.json()["next"]
        if cursor is None:
            return found
    raise AssertionError("the list has no end")


@pytest.fixture(scope="module")
def forest(shared_site: Site) -> list[str]:
    """The paths of some 200 files, in code point order, with names that sort oddly."""
    order = random.Random(6)
    parts = ["a", "a.b", "a-b", "a b", "B", "é", "z", "日本", "\U0001f600", "%41", "_", "a!", "~", "10", "9"]
    paths = sorted({f"{order.choice(parts)}{order.choice(parts)}/{order.choice(parts)}" if order.random() < .5 else
                    f"{order.choice(parts)}{order.choice(parts)}.txt" for _ in range(260)})
    for folder in sorted({path.rpartition("/")[0] for path in paths}):
        names = [path.rpartition("/")[2] for path in paths if path.rpartition("/")[0] == folder]
        target = "/files/main/forest/" + (folder.encode().hex(" ").replace(" ", "%").join(["%", "/"]) if folder else "")
        assert shared_site.form(target, [file("file", name) for name in names]).status == 201
    return [f"forest/{path}" for path in paths]


@pytest.mark.parametrize("limit", [1, 7, 100, 1000])
def test_pages_hold_every_file_once_in_order(site: Site, forest: list[str], limit: int) -> None:
    found = pages(site, f"prefix=forest/&limit={limit}")
    assert [one["path"] for page in found for one in page] == forest
    assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1)


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_pages_of_folders(site: Site, forest: list[str], limit: int) -> None:
    """What is in a folder is shown as that folder, once."""
    top = [path.removeprefix("forest/") for path in forest]
    shown: list[str] = []
    cursor = ""
    while True:
        page = site.ask("GET", f"/files/main/forest/?limit={limit}" + (f"&cursor={cursor}" if cursor else "")).json()
        shown += [one["path"] for one in page["files"]] + page["folders"]
        assert len(page["files"]) + len(page["folders"]) <= limit
        cursor = page["next"]
        if cursor is None:
            break
    assert sorted(shown) == sorted({f"forest/{path.partition('/')[0]}/" if "/" in path else f"forest/{path}" for path in top})
    assert len(shown) == len(set(shown))


def test_a_list_goes_on_while_files_come_and_go(site: Site) -> None:
    """A cursor is a place, not a count."""
    for name in "bdfhj":
        site.ask("PUT", f"/files/main/moving/{name}", body=b"x")
    first = site.ask("GET", "/api/v1/files?prefix=moving/&limit=2").json()
    assert [one["name"] for one in first["files"]] == ["b", "d"]
    site.ask("DELETE", "/files/main/moving/d")
    for name in "aeg":
        site.ask("PUT", f"/files/main/moving/{name}", body=b"x")
    rest = site.ask("GET", f"/api/v1/files?prefix=moving/&limit=9&cursor={first['next']}").json()
    assert [one["name"] for one in rest["files"]] == ["e", "f", "g", "h", "j"]


def test_a_prefix_is_nfc_as_paths_are(site: Site) -> None:
    site.ask("PUT", "/files/main/nfc/caf%C3%A9.txt", body=b"x")
    assert site.paths("main", "nfc/cafe%CC%81") == ["nfc/café.txt"]


def cursor_of(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


@pytest.mark.parametrize("query", [
    "cursor=x", "cursor=%00", "cursor=%C3%A9", f"cursor={cursor_of(b'%ff' + bytes([255]))}", f"cursor={cursor_of(b'a' + bytes(1))}",
    "prefix=%00", "prefix=%FF", "space=%00", "space=main%00", "limit=", "limit=-1", "limit=1e2", "limit=%D9%A1", "limit=" + "9" * 5000,
])
def test_queries_that_mean_nothing(site: Site, query: str) -> None:
    """Refused, or nothing is found; never an exception."""
    for address in ("/api/v1/files", "/api/v1/uploads", "/files/main/"):
        answer = site.ask("GET", f"{address}?{query}")
        assert answer.status in (200, 400, 404, 414), answer


@pytest.mark.parametrize("id", ["%00", "x", "..", "%2e%2e%2fetc", "0" * 32, "0" * 5000, "%F0%9F%98%80", "%FF", "*", "%25"])
@pytest.mark.parametrize("address", ["/api/v1/files/{}", "/api/v1/files/{}/content", "/api/v1/uploads/{}", "/uploads/{}", "/api/v1/tokens/{}"])
def test_ids_that_are_none(site: Site, address: str, id: str) -> None:
    for method in ("GET", "DELETE"):
        answer = site.ask(method, address.format(id))
        assert answer.status in (400, 404, 405, 414), answer


# --- uploads -------------------------------------------------------------------------------------------------------


def begin(site: Site, name: str, *, who: str = "ann") -> str:
    """An upload of 100 bytes, of which 10 came. Its id."""
    parts = [field("file_id", name), field("index", 1), field("chunk_size", 10), field("total", 100), file("chunk", "x", b"x" * 10)]
    assert site.form("/chunk-upload", parts, who=who).status == 200
    found = pages(site, "space=tutorial&limit=1000", "uploads", who=who)[0]
    return next(str(one["id"]) for one in found if one["path"] == name)


def test_uploads_come_in_pages(site: Site) -> None:
    ids = {begin(site, f"paged-{number}", who="bob") for number in range(7)}
    found = pages(site, "space=tutorial&limit=3", "uploads", who="bob")
    assert [len(page) for page in found] == [3, 3, 1]
    assert {one["id"] for page in found for one in page} == ids
    for id in ids:
        assert site.ask("DELETE", f"/uploads/{id}", who="bob").status == 204
    assert pages(site, "space=tutorial", "uploads", who="bob") == [[]]


def test_missing_spans_shrink_as_chunks_come(site: Site) -> None:
    id = begin(site, "shrinking")
    for index, missing in [(3, [[0, 10], [20, 30], [40, 100]]), (2, [[0, 10], [40, 100]]), (0, [[40, 100]])]:
        site.form("/chunk-upload", [field("file_id", "shrinking"), field("index", index), field("offset", index * 10),
                                    file("chunk", "x", b"x" * 10)], who="ann")
        shown = site.ask("GET", f"/uploads/{id}", who="ann").json()
        assert (shown["missing"], shown["received"]) == (missing, 100 - sum(end - start for start, end in missing))
    assert shown["offset"] == 40
    site.ask("DELETE", f"/uploads/{id}", who="ann")


def test_an_upload_is_cancelled_while_it_comes(site: Site) -> None:
    """Whoever sends is told, and nothing becomes a file."""
    id = begin(site, "cancelled-meanwhile")
    assert site.ask("DELETE", f"/api/v1/uploads/{id}", who="ann").status == 204
    parts = [field("file_id", "cancelled-meanwhile"), field("index", 2), field("total_chunks", 10)]
    assert site.form("/chunk-upload/complete", parts, who="ann").status in (400, 409)
    assert site.ask("GET", "/files/tutorial/cancelled-meanwhile", who="ann").status == 404


# --- JSON ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b"1", b"\xff", b"[" * 60_000, b'{"name": 1e400}', b'{"name": ' + b"9" * 5000 + b"}", b"{}" * 2,
    b'{"name": "x", "scopes": "main:read"}', b'{"name": "x", "scopes": [1]}', b'{"name": "x", "scopes": ["main"]}',
    b'{"name": "", "scopes": ["main:read"]}', b'{"name": {}, "scopes": ["main:read"]}',
    b'{"name": "x", "scopes": ["main:read"], "expires_in": "soon"}', b'{"name": "x", "scopes": ["main:read"], "expires_in": -1}',
    b'{"name": "x", "scopes": ["main:read"], "expires_in": NaN}', b'{"name": "x", "scopes": ["main:read"], "expires_in": Infinity}',
    b'{"name": "x", "scopes": ["main:read"], "expires_in": true}', b'{"name": "x", "scopes": ["main:read"], "expires_in": 1e300}',
    b'{"name": "\\ud800", "scopes": ["main:read"]}', b'{"name": "a\\u0000b", "scopes": ["main:read"]}',
    b'{"name": "x", "scopes": ["\\ud800:read"]}', b'{"name": "x", "scopes": ["ma\\u0000in:read"]}',
], ids=lambda body: body[:40].decode("latin-1"))
def test_bodies_that_make_no_token(site: Site, body: bytes) -> None:
    before = site.kept()
    answer = site.ask("POST", "/api/v1/tokens", {"Content-Type": "application/json"}, body)
    assert (answer.status, answer.header("Content-Type")) == (400, "application/problem+json"), answer
    site.must_be_as(before)


def test_a_json_body_has_a_limit(site: Site) -> None:
    body = json.dumps({"name": "x" * 70_000, "scopes": ["main:read"]}).encode()
    assert site.ask("POST", "/api/v1/tokens", body=body).status == 413
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    assert site.ask("POST", "/api/v1/tokens", {"Transfer-Encoding": "chunked"}, chunks).status == 413


# --- managing ------------------------------------------------------------------------------------------------------


def post(site: Site, target: str, body: Any, *, who: str = "ann") -> Any:
    return site.ask("POST", target, body=json.dumps(body).encode(), who=who)


ODD = ["100%", "100_", "100x", "a*b", "axb", "it's", 'say "hi"', "back\\slash", "[x]", "a;b", "-- x", "% _ *"]
"""Names of which each must be found, moved and deleted by exactly itself."""


def test_no_character_of_a_search_or_prefix_means_anything_else(site: Site) -> None:
    """Case 40."""
    for name in ODD:
        assert site.ask("PUT", f"/files/main/oddly-named/{quote(name)}/file", body=b"x", who="bob").status in (200, 201)
    for name in ODD:
        for query in (f"prefix={quote('oddly-named/' + name + '/')}", f"prefix=oddly-named/&q={quote(name, safe='')}" if " " not in name else None):
            if query:
                found = [one["path"] for one in site.ask("GET", f"/api/v1/files?{query}&limit=1000", who="bob").json()["files"]]
                assert found == [f"oddly-named/{name}/file"], query
        folders = site.ask("GET", f"/api/v1/folders?prefix={quote('oddly-named/' + name)}", who="bob").json()["folders"]
        assert [one["path"] for one in folders] == [f"oddly-named/{name}/"]
    left = set(ODD)
    for name in ODD:
        answer = site.ask("DELETE", f"/api/v1/folders?path={quote('oddly-named/' + name + '/')}", who="bob")
        assert (answer.status, answer.json()) == (200, {"files": 1})
        left.discard(name)
        assert {path.split("/")[1] for path in site.paths("main", "oddly-named/", who="bob")} == left


def test_folders_of_many_files_come_in_pages(site: Site) -> None:
    names = [f"f{number:02}" for number in range(25)]
    for name in names:
        site.ask("PUT", f"/files/main/wide/{name}/x", body=b"xy", who="bob")
    found = pages(site, "prefix=wide/&limit=10", "folders", who="bob")
    assert [len(page) for page in found] == [10, 10, 5]
    assert [one["path"] for page in found for one in page] == [f"wide/{name}/" for name in names]
    assert all((one["files"], one["bytes"]) == (1, 2) for page in found for one in page)


@pytest.mark.parametrize("sort", ["path", "modified", "size"])
@pytest.mark.parametrize("descending", ["0", "1"])
def test_lists_in_every_order_show_each_file_once(site: Site, sort: str, descending: str) -> None:
    for number in range(9):
        if site.ask("HEAD", f"/files/main/sorted/{number}", who="bob").status == 404:
            site.ask("PUT", f"/files/main/sorted/{number}", body=b"x" * (number * 7 % 5), who="bob")
    found = pages(site, f"prefix=sorted/&limit=2&sort={sort}&descending={descending}", "files", who="bob")
    shown = [one for page in found for one in page]
    assert sorted(one["path"] for one in shown) == [f"sorted/{number}" for number in range(9)]
    keys = [one[{"path": "path", "modified": "modified_at", "size": "size"}[sort]] for one in shown]
    assert keys == sorted(keys, reverse=descending == "1")


@pytest.mark.parametrize("query, names", [
    ("min_size=2", ["b", "c"]), ("max_size=1", ["a"]), ("media_type=text/*", ["a", "b", "c"]), ("media_type=image/*", []), ("tag=red", ["a", "b"]),
    ("tag=red&tag=blue", ["b"]), ("modified_from=2000-01-01T00:00:00Z", ["a", "b", "c"]), ("modified_to=2000-01-01T00:00:00%2B02:00", []),
    ("owner=nobody", []), ("q=b&tag=red", ["b"]), ("sort=size&descending=1&min_size=2", ["c", "b"]),
])
def test_filters(site: Site, query: str, names: list[str]) -> None:
    for name, size, tags in (("a", 1, ["red"]), ("b", 2, ["blue", "red"]), ("c", 3, [])):
        made = site.ask("PUT", f"/files/main/filtered/{name}.txt", body=b"x" * size, who="bob").json()
        site.ask("PATCH", f"/api/v1/files/{made['id']}", body=json.dumps({"tags": tags}).encode(), who="bob")
    answer = site.ask("GET", f"/api/v1/files?prefix=filtered/&{query}", who="bob")
    found = [one["name"].removesuffix(".txt") for one in answer.json()["files"]]
    assert (found if "sort" in query else sorted(found)) == names


@pytest.mark.parametrize("query", [
    "sort=colour", "descending=maybe", "min_size=-1", "min_size=1e3", "max_size=99999999999999999999", "modified_from=yesterday",
    "modified_from=2026-01-01", "modified_from=2026-01-01T00:00:00", "tag=", "tag=" + "x" * 101, "limit=1001", "q=" + "x" * 1001, "owner=%00",
    "media_type=a%0Ab", "folders=2",
])
def test_queries_that_are_refused(site: Site, query: str) -> None:
    answer = site.ask("GET", f"/api/v1/files?{query}", who="bob")
    assert (answer.status, answer.json()["code"]) == (400, "invalid_request"), answer
    assert answer.json()["field"].partition(".")[0] == query.partition("=")[0]


@pytest.mark.parametrize("body", [
    b"", b"[]", b"null", b'{"path": 1}', b'{"path": null}', b'{"path": ""}', b'{"path": "x", "on_conflict": "hope"}', b'{"path": "x", "more": 1}',
    b'{"path": "x", "path2": "y"}', b'{"path": "a\\u0000b"}', b'{"path": "/x"}', b'{"path": "x/"}', b'{"path": "\\ud800"}', b'{"space": 5, "path": "x"}',
], ids=lambda body: body[:40].decode())
def test_moves_that_are_refused(site: Site, body: bytes) -> None:
    made = site.ask("PUT", "/files/main/unmoved.txt", body=b"x", who="bob").json()
    before = site.kept()
    for verb in ("move", "copy"):
        answer = site.ask("POST", f"/api/v1/files/{made['id']}/{verb}", body=body, who="bob")
        assert (answer.status, answer.header("Content-Type")) == (400, "application/problem+json"), answer
    site.must_be_as(before)


@pytest.mark.parametrize("body", [
    b'{"metadata": []}', b'{"metadata": "x"}', b'{"metadata": {"": 1}}', b'{"metadata": {"a": NaN}}', b'{"metadata": {"a": 1e999}}', b'{"tags": "x"}',
    b'{"tags": [""]}', b'{"tags": [" x"]}', b'{"tags": [null]}', json.dumps({"tags": [str(number) for number in range(51)]}).encode(),
    json.dumps({"metadata": {"k" * 201: 1}}).encode(), b'{"metadata": {"a": ' + b"[" * 2000 + b"]" * 2000 + b"}}",
], ids=lambda body: body[:30].decode())
def test_descriptions_that_are_refused(site: Site, body: bytes) -> None:
    made = site.ask("PUT", "/files/main/undescribed.txt", body=b"x", who="bob").json()
    answer = site.ask("PATCH", f"/api/v1/files/{made['id']}", body=body, who="bob")
    assert (answer.status, answer.header("Content-Type")) == (400, "application/problem+json"), answer
    assert site.ask("GET", f"/api/v1/files/{made['id']}", who="bob").json() == made


def test_a_thousand_operations_in_one_request(site: Site) -> None:
    made = site.ask("PUT", "/files/main/copied/0", body=b"x", who="bob").json()
    operations = [{"op": "copy", "id": made["id"], "to": f"copied/{number}"} for number in range(1, 1001)]
    answer = post(site, "/api/v1/bulk", {"operations": operations}, who="bob")
    assert (answer.status, answer.json()["succeeded"], answer.json()["failed"]) == (200, 1000, 0)
    assert post(site, "/api/v1/bulk", {"operations": [*operations, operations[0]]}, who="bob").status == 400
    assert site.ask("DELETE", "/api/v1/folders?path=copied/", who="bob").json() == {"files": 1001}


# --- the audit log -------------------------------------------------------------------------------------------------


def test_the_log_says_who_did_what(site: Site) -> None:
    file = site.ask("PUT", "/files/kept/logged.txt", body=b"one", who="ann").json()
    site.ask("PUT", "/files/kept/logged.txt", body=b"two", who="bob")
    post(site, f"/api/v1/files/{file['id']}/move", {"path": "moved.txt"}, who="bob")
    site.ask("PATCH", f"/api/v1/files/{file['id']}", body=b'{"tags": ["x"]}', who="ann")
    link = post(site, "/api/v1/links", {"kind": "file", "file_id": file["id"]}).json()
    site.ask("DELETE", f"/api/v1/links/{link['id']}", who="ann")
    site.ask("DELETE", f"/api/v1/files/{file['id']}", who="ann")
    site.ask("DELETE", f"/api/v1/trash/{file['id']}", who="ann")
    entries = site.ask("GET", f"/api/v1/audit?space=kept&file_id={file['id']}&limit=1000").json()["entries"]
    done = [(entry["action"], entry["principal"]) for entry in reversed(entries)]
    ann, bob = site.ids["ann"], site.ids["bob"]
    assert [one for one in done if not one[0].startswith("link.")] == [
        ("file.create", ann), ("file.replace", bob), ("file.move", bob), ("file.update", ann), ("file.trash", ann), ("file.purge", ann)]
    assert {entry["kind"] for entry in entries} == {"token"} and {entry["address"] for entry in entries} == {"127.0.0.1"}
    assert all(entry["request"] for entry in entries)


def test_the_log_comes_in_pages_and_whole(site: Site) -> None:
    for number in range(7):
        site.ask("PUT", f"/files/twins/paged/{number}", body=b"x", who="bob")
    query = f"space=twins&principal={site.ids['bob']}&action=file.create"
    found, cursor = [], ""
    while True:
        page = site.ask("GET", f"/api/v1/audit?{query}&limit=3{cursor}").json()
        found += page["entries"]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    paths = [entry["path"] for entry in found]
    assert paths[:7] == [f"paged/{number}" for number in range(6, -1, -1)] and len(paths) == len({entry["id"] for entry in found})
    whole = site.ask("GET", f"/api/v1/audit?{query}&format=ndjson")
    assert whole.header("Content-Type") == "application/x-ndjson"
    assert [json.loads(line) for line in whole.text.splitlines()] == found


def test_tokens_are_in_the_log_without_their_secrets(site: Site) -> None:
    made = post(site, "/api/v1/tokens", {"name": "logged", "scopes": ["main:read"]}, who="admin").json()
    site.ask("DELETE", f"/api/v1/tokens/{made['id']}")
    answer = site.ask("GET", "/api/v1/audit?limit=1000")
    actions = {entry["action"] for entry in answer.json()["entries"] if made["id"] in json.dumps(entry)}
    assert {"token.create", "token.revoke"} <= actions
    assert made["secret"] not in answer.text


@pytest.mark.parametrize("query", ["cursor=x", "limit=0", "since=today", "format=xml", "file_id=x", "cursor=-1"])
def test_questions_to_the_log_that_are_refused(site: Site, query: str) -> None:
    assert site.ask("GET", f"/api/v1/audit?{query}").status == 400
