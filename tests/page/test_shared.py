"""What people do who come by a link."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import wire
from browsing import FIELDS, Browser, names, put, read
from fixtures_server import eventually
from fixtures_site import FORM, Site, file, multipart


def link(site: Site, who: str = "ann", **wishes: Any) -> str:
    """A new link's address."""
    answer = site.ask("POST", "/api/v1/links", body=json.dumps(wishes).encode(), who=who)
    assert answer.status == 201, answer
    return str(answer.json()["url"])


def to_file(site: Site, path: str, data: bytes = b"0123456789", **wishes: Any) -> str:
    return link(site, kind="file", file_id=put(site, f"/files/main/{quote(path)}", data), **wishes)


def come(site: Site, address: str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes | None = None) -> wire.Response:
    """By the link, as nobody in particular."""
    return site.ask(method, address, headers or {}, body, who="nobody")


def code(answer: wire.Response) -> tuple[int, str]:
    return answer.status, answer.json()["code"]


# --- to a file -----------------------------------------------------------------------------------------------------


def test_a_link_to_a_file_downloads_it(site: Site) -> None:
    address = to_file(site, "shared/ä b.txt")
    answer = come(site, address)
    assert (answer.status, answer.body) == (200, b"0123456789")
    assert str(answer.header("Content-Disposition")).startswith("attachment;")
    assert answer.header("Referrer-Policy") == "no-referrer" and answer.header("X-Robots-Tag") == "noindex"
    assert "private" in str(answer.header("Cache-Control"))
    assert come(site, address, "HEAD").header("Content-Length") == "10"
    part = come(site, address, headers={"Range": "bytes=4-6"})
    assert (part.status, part.body) == (206, b"456")
    assert come(site, f"{address}/{quote('ä b.txt')}").body == b"0123456789"
    assert code(come(site, f"{address}/other.txt")) == (404, "not_found")


@pytest.mark.parametrize(("method", "field", "counts"), [
    ("GET", None, 1), ("GET", "bytes=0-", 1), ("GET", "bytes=0-0", 1), ("GET", "bytes=1-", 0), ("GET", "bytes=-3", 0), ("GET", "bytes=-10", 1),
    ("GET", "bytes=5-6,0-1", 1), ("GET", "items=1-", 1), ("HEAD", None, 0), ("GET", "bytes=10-", 0)])
def test_what_begins_at_the_first_byte_is_a_use(site: Site, method: str, field: str | None, counts: int) -> None:
    address = to_file(site, "shared/counted.txt")
    come(site, address, method, {"Range": field} if field else {})
    [one] = [one for one in site.ask("GET", "/api/v1/links?limit=1000", who="ann").json()["links"] if one["url"] == address]
    assert one["uses"] == counts


def test_a_condition_that_holds_is_no_use(site: Site) -> None:
    address = to_file(site, "shared/known.txt", max_uses=1)
    etag = str(come(site, address, "HEAD").header("ETag"))
    assert come(site, address, headers={"If-None-Match": etag}).status == 304
    assert come(site, address).status == 200
    assert code(come(site, address)) == (410, "link_expired")


def test_uses_are_exact_however_many_come_at_once(site: Site) -> None:
    address = to_file(site, "shared/parallel.txt", max_uses=5)
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(come(site, address).status)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] * 5 + [410] * 15


# --- how links end -------------------------------------------------------------------------------------------------


def test_an_altered_address_is_403(site: Site) -> None:
    """Security case 29."""
    address = to_file(site, "shared/altered.txt")
    for wrong in (address[:-1], address + "A", address[:-3] + "abc", "/s/x", "/s/~", "/s/" + address[3:].swapcase()):
        assert code(come(site, wrong)) == (403, "bad_signature"), wrong
    assert "signature" in read(come(site, address[:-1], headers={"Accept": "text/html"}), 403).text


def test_an_expired_link_is_410(site: Site) -> None:
    address = to_file(site, "shared/short.txt", expires_in=0.2)
    eventually(lambda: come(site, address).status == 410)
    answer = come(site, address)
    assert answer.json()["reason"] == "expired"
    assert "expired" in read(come(site, address, headers={"Accept": "text/html"}), 410).text


def test_a_link_follows_its_file_and_not_its_name(site: Site) -> None:
    """Security case 30: deleted and made again under the same name it is another file; moved it is the same."""
    id = put(site, "/files/main/shared/first.txt", b"first")
    address = link(site, kind="file", file_id=id)
    assert site.ask("POST", f"/api/v1/files/{id}/move", body=b'{"path": "shared/second.txt"}', who="ann").status == 200
    assert come(site, address).body == b"first"
    assert site.ask("DELETE", f"/api/v1/files/{id}", who="ann").status == 204
    put(site, "/files/main/shared/second.txt", b"another")
    assert code(come(site, address)) == (404, "not_found")


def test_a_link_ends_with_its_makers_right(site: Site) -> None:
    """Security case 31."""
    made = site.ask("POST", "/api/v1/tokens", body=b'{"name": "maker", "scopes": ["main:read,write"]}').json()
    site.secrets["maker"] = made["secret"]
    put(site, "/files/main/shared/lent.txt")
    address = link(site, "maker", kind="folder", space="main", path="shared/")
    assert come(site, address).status == 200
    site.ask("DELETE", f"/api/v1/tokens/{made['id']}")
    assert code(come(site, address)) == (403, "forbidden")
    assert code(come(site, f"{address}/lent.txt")) == (403, "forbidden")


def test_addresses_of_links_are_in_no_log(site: Site) -> None:
    """Security case 32."""
    address = to_file(site, "shared/unlogged.txt", password="the password")
    since = len(site.server.log())
    come(site, address)
    come(site, address, headers={"Authorization": "Basic " + b64encode(b":the password").decode()})
    come(site, address, "POST", FIELDS, urlencode({"password": "the password"}).encode())
    come(site, address[:-2])
    told = site.server.log()[since:]
    assert address[3:20] not in told and "the password" not in told


# --- to a folder ---------------------------------------------------------------------------------------------------


@pytest.fixture
def trip(site: Site) -> str:
    for path in ("trip/a b.txt", "trip/deep/c.txt", "trip-elsewhere/secret.txt", "outside.txt"):
        put(site, f"/files/main/shared/{quote(path)}", path.encode())
    return link(site, kind="folder", space="main", path="shared/trip/", name="Our trip")


def test_a_link_to_a_folder_shows_it(site: Site, trip: str) -> None:
    browser = Browser(site)
    page = browser.page(trip)
    assert "Our trip" in page.text and names(page) == ["deep", "a b.txt"]
    assert "secret" not in page.html and "shared/" not in page.html
    assert names(browser.page(f"{trip}/")) == names(page)
    assert names(browser.page(f"{trip}/deep/")) == ["c.txt"]
    assert browser.ask("GET", f"{trip}/a%20b.txt").body == b"trip/a b.txt"
    for address in page.links:
        assert browser.ask("GET", address).status == 200


def test_others_get_it_as_json(site: Site, trip: str) -> None:
    answer = come(site, trip)
    told = answer.json()
    assert (told["kind"], told["name"], told["folders"]) == ("folder", "Our trip", ["deep/"])
    [one] = told["files"]
    assert (one["path"], one["size"], set(one) & {"id", "owner", "metadata"}) == ("a b.txt", 12, set())
    assert come(site, one["url"]).body == b"trip/a b.txt"


@pytest.mark.parametrize("path", ["../outside.txt", "..%2foutside.txt", "%2e%2e/outside.txt", "/outside.txt", "../trip-elsewhere/secret.txt", "nothing/", "none.txt"])
def test_a_folders_link_reaches_nothing_else(site: Site, trip: str, path: str) -> None:
    assert come(site, f"{trip}/{path}").status in (400, 404)


def test_downloads_of_a_folder_are_counted_together(site: Site) -> None:
    for name in ("a", "b", "c"):
        put(site, f"/files/main/shared/count/{name}")
    address = link(site, kind="folder", space="main", path="shared/count/", max_uses=2)
    assert [come(site, f"{address}/{name}").status for name in ("a", "b", "c")] == [200, 200, 410]


@pytest.mark.parametrize(("method", "status"), [("PUT", 404), ("POST", 404), ("DELETE", 405), ("PATCH", 405)])
def test_a_folders_link_takes_nothing(site: Site, trip: str, method: str, status: int) -> None:
    before = site.kept()
    headers = {"Content-Type": FORM} if method == "POST" else {}
    answer = come(site, trip if method == "POST" else f"{trip}/new.txt", method, headers, multipart(file("file", "new.txt", b"x")))
    assert answer.status == status
    site.must_be_as(before)


# --- inboxes -------------------------------------------------------------------------------------------------------


def inbox(site: Site, folder: str, **wishes: Any) -> str:
    return link(site, kind="inbox", space="main", path=f"shared/{folder}/", **wishes)


def test_an_inbox_takes_files_and_shows_none(site: Site) -> None:
    put(site, "/files/main/shared/inbox/mine.txt", b"mine")
    address = inbox(site, "inbox", name="Photos, please")
    browser = Browser(site)
    page = browser.page(address)
    assert "Photos, please" in page.text and "mine.txt" not in page.html
    answer = browser.ask("POST", page.form("/s/").action, {"Content-Type": FORM}, multipart(file("file", "a.txt", b"a"), file("file", "b.txt", b"bb")))
    page = browser.go_on(answer)
    assert "2 files received, 3 bytes. Thank you." in page.text and "a.txt" not in page.html
    assert site.content("/files/main/shared/inbox/a.txt") == b"a"
    owner = site.ask("GET", "/api/v1/files?prefix=shared/inbox/a").json()["files"][0]["owner"]
    assert owner == site.ids["ann"]
    for path in ("a.txt", "mine.txt", "x/"):
        assert come(site, f"{address}/{path}").status == 404
    assert set(come(site, address).json()) == {"kind", "name", "max_size", "max_bytes", "max_uses"}


def test_an_inbox_by_curl(site: Site) -> None:
    """``curl -T a.txt ADDRESS/``, and ``curl -F file=@a.txt ADDRESS``."""
    address = inbox(site, "curl")
    answer = come(site, f"{address}/a%20b.txt", "PUT", {}, b"put")
    assert answer.status == 201 and answer.header("Location") is None
    assert [(one["name"], one["size"]) for one in answer.json()["files"]] == [("a b.txt", 3)]
    answer = come(site, address, "POST", {"Content-Type": FORM}, multipart(file("file", "c.txt", b"form")))
    assert answer.status == 201 and answer.json()["files"][0]["name"] == "c.txt"
    assert site.paths("main", "shared/curl/") == ["shared/curl/a b.txt", "shared/curl/c.txt"]
    assert come(site, f"{address}/", "PUT", {}, b"x").status == 405


def test_an_inbox_replaces_nothing(site: Site) -> None:
    put(site, "/files/main/shared/keep/a.txt", b"mine")
    address = inbox(site, "keep")
    assert come(site, f"{address}/a.txt", "PUT", {}, b"theirs").status == 201
    assert site.content("/files/main/shared/keep/a.txt") == b"mine"
    assert site.content(f"/files/main/shared/keep/{quote('a (1).txt')}") == b"theirs"


@pytest.mark.parametrize("path", ["../out.txt", "..%2fout.txt", "%2e%2e/out.txt", "/out.txt", "a/../../out.txt"])
def test_an_inbox_reaches_no_other_folder(site: Site, path: str) -> None:
    address = inbox(site, "caged")
    before = site.kept()
    assert come(site, f"{address}/{path}", "PUT", {}, b"x").status in (400, 404)
    site.must_be_as(before)


def test_the_limits_of_an_inbox(site: Site) -> None:
    address = inbox(site, "limits", max_size=100, max_uses=3, max_bytes=150)
    before = site.kept()
    assert come(site, f"{address}/a.bin", "PUT", {}, b"x" * 101).status == 413
    form = multipart(file("file", "a.bin", b"x" * 90), file("file", "b.bin", b"x" * 90))
    assert code(come(site, address, "POST", {"Content-Type": FORM}, form)) == (410, "link_expired")
    form = multipart(*(file("file", f"{number}.bin", b"x") for number in range(4)))
    assert code(come(site, address, "POST", {"Content-Type": FORM}, form)) == (410, "link_expired")
    site.must_be_as(before)
    for number in range(3):
        assert come(site, f"{address}/{number}.bin", "PUT", {}, b"x" * 10).status == 201
    assert come(site, f"{address}/more.bin", "PUT", {}, b"x").status == 410


def test_what_was_not_kept_is_not_counted(site: Site) -> None:
    """A body that is cut, or not what was announced, leaves the inbox as it was."""
    address = inbox(site, "uncounted", max_uses=1)
    wrong = come(site, f"{address}/a.bin", "PUT", {"Content-MD5": b64encode(b"\0" * 16).decode()}, b"x")
    assert code(wrong) == (400, "digest_mismatch")
    assert come(site, f"{address}/a.bin", "PUT", {}, b"x").status == 201


def test_a_refused_form_says_so_on_the_inboxs_page(site: Site) -> None:
    address = inbox(site, "refused", max_size=10)
    answer = Browser(site).ask("POST", address, {"Content-Type": FORM}, multipart(file("file", "large.bin", b"x" * 50)))
    page = read(answer, 413)
    assert "Too large" in page.text and page.form("/s/")


def test_who_has_signed_in_can_use_an_inbox_too(site: Site) -> None:
    """The session proves nothing there, so no proof of it is asked for."""
    address = inbox(site, "signed-in")
    browser = Browser(site).sign_in("bob")
    assert browser.ask("POST", address, {"Content-Type": FORM}, multipart(file("file", "a.txt", b"x"))).status == 303


# --- passwords -----------------------------------------------------------------------------------------------------


def test_a_password_by_the_form_is_asked_for_once(site: Site) -> None:
    address, other = to_file(site, "shared/locked.txt", password="open sesame"), to_file(site, "shared/locked2.txt", password="open sesame")
    browser = Browser(site)
    form = read(browser.ask("GET", address), 403).form("")
    form.action = address
    assert "not it" in read(browser.send(form, {"password": "wrong"}), 403).text
    assert browser.cookies == {}
    answer = browser.send(form, {"password": "open sesame"})
    assert (answer.status, answer.header("Location")) == (303, address)
    [cookie] = answer.all("Set-Cookie")
    assert f"Path={address}" in cookie and "HttpOnly" in cookie and "sesame" not in cookie
    assert browser.ask("GET", address).body == b"0123456789"
    assert browser.ask("GET", other).status == 403, "one link's password opens no other"


def test_a_password_by_http_basic(site: Site) -> None:
    address = to_file(site, "shared/basic.txt", password="grüß gott")
    assert code(come(site, address)) == (403, "password_needed")
    right = "Basic " + b64encode("anyone:grüß gott".encode()).decode()
    assert come(site, address, headers={"Authorization": right}).status == 200
    assert code(come(site, address, headers={"Authorization": "Basic " + b64encode(b"x:y").decode()})) == (403, "password_needed")
    assert come(site, address, headers={"Authorization": "Basic !!!"}).status == 400


def test_a_locked_inbox_takes_nothing_without_its_password(site: Site) -> None:
    address = inbox(site, "locked", password="pw")
    before = site.kept()
    assert code(come(site, f"{address}/a.txt", "PUT", {}, b"x")) == (403, "password_needed")
    site.must_be_as(before)
    assert come(site, f"{address}/a.txt", "PUT", {"Authorization": "Basic " + b64encode(b":pw").decode()}, b"x").status == 201
