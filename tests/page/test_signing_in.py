"""Signing in on the page, staying so, and not."""

from __future__ import annotations

import json
from urllib.parse import quote, urlencode

import pytest
from browsing import FIELDS, Browser, put, read
from fixtures_server import ServerFactory, eventually
from fixtures_site import Site


def test_who_only_wants_to_look_is_asked_to_sign_in_and_comes_back(site: Site) -> None:
    browser = Browser(site)
    answer = browser.ask("GET", "/files/main/a%20b/?sort=size")
    assert (answer.status, answer.header("Location")) == (303, "/login?next=%2Ffiles%2Fmain%2Fa%2520b%2F%3Fsort%3Dsize")
    form = browser.page(str(answer.header("Location"))).form("/login")
    answer = browser.send(form, {"token": site.secrets["ann"]})
    assert (answer.status, answer.header("Location")) == (303, "/files/main/a%20b/?sort=size")
    browser.go_on(answer)


def test_the_cookie_is_kept_from_scripts_and_other_sites(site: Site) -> None:
    answer = Browser(site).ask("POST", "/login", FIELDS, urlencode({"token": site.secrets["ann"]}).encode())
    [cookie] = answer.all("Set-Cookie")
    name, *attributes = cookie.split("; ")
    assert name.startswith("carboy=") and {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(attributes) and "Secure" not in attributes
    assert site.secrets["ann"] not in cookie


def test_behind_tls_the_cookie_is_of_this_host_alone(site: Site) -> None:
    """The browser's origin tells that it speaks TLS, to a proxy in front."""
    answer = Browser(site).ask("POST", "/login", {**FIELDS, "Origin": "https://test"}, urlencode({"token": site.secrets["ann"]}).encode())
    [cookie] = answer.all("Set-Cookie")
    assert cookie.startswith("__Host-carboy=") and "; Secure" in cookie and "; Path=/" in cookie and "Domain" not in cookie


def test_a_wrong_token_opens_nothing(site: Site) -> None:
    browser = Browser(site)
    answer = browser.ask("POST", "/login", FIELDS, b"token=wrong")
    assert "opens nothing" in read(answer, 401).text
    assert browser.cookies == {}


@pytest.mark.parametrize("address", ["https://evil.test/", "//evil.test/", "/\\evil.test", "/files/\r\nX: y", "javascript:alert(1)", "/login", "/files/../x\x00"])
def test_nobody_is_sent_elsewhere(site: Site, address: str) -> None:
    answer = Browser(site).ask("POST", "/login", FIELDS, urlencode({"token": site.secrets["ann"], "next": address}).encode())
    assert (answer.status, answer.header("Location")) == (303, "/")
    assert dict(Browser(site).page(f"/login?next={quote(address)}").form("/login").fields)["next"] == ""


def test_a_revoked_token_ends_its_sessions_at_once(site: Site) -> None:
    made = site.ask("POST", "/api/v1/tokens", body=json.dumps({"name": "short", "scopes": ["main:read"]}).encode()).json()
    site.secrets["short"] = made["secret"]
    browser = Browser(site).sign_in("short")
    browser.page("/files/main/")
    assert site.ask("DELETE", f"/api/v1/tokens/{made['id']}").status == 204
    assert browser.ask("GET", "/files/main/").status == 303
    assert browser.ask("GET", "/files/main/", {"Accept": "application/json"}).status == 401


def test_a_session_ends_with_its_time(server: ServerFactory) -> None:
    one = server(env={"CARBOY_SESSION_EXPIRY": "0.3"})
    site = Site(one)
    browser = Browser(site).sign_in("admin")
    eventually(lambda: browser.ask("GET", "/files/main/").status == 303)


@pytest.mark.parametrize("spoil", [lambda text: text[:-2], lambda text: text + "A", lambda text: "A" + text, lambda text: "", lambda text: "~", lambda text: "\xe9"])
def test_an_altered_cookie_is_nobody(site: Site, spoil) -> None:  # type: ignore[no-untyped-def]
    browser = Browser(site).sign_in()
    browser.cookies["carboy"] = spoil(browser.cookies["carboy"])
    assert browser.ask("GET", "/files/main/").status == 303


def test_the_note_of_a_session_is_no_session(site: Site) -> None:
    """What was signed for one purpose proves nothing for another."""
    browser = Browser(site).sign_in()
    id = put(site, "/files/main/purpose.txt")
    browser.send(browser.page(f"/page/files/{id}").form("/delete"))
    browser.cookies["carboy"] = browser.cookies["carboy_note"]
    assert browser.ask("GET", "/files/main/").status == 303


def test_signing_out(site: Site) -> None:
    browser = Browser(site).sign_in()
    answer = browser.send(browser.page("/files/main/").form("/logout"))
    assert (answer.status, answer.header("Location")) == (303, "/login")
    assert browser.cookies == {}
    assert browser.ask("GET", "/files/main/").status == 303


def test_home_leads_to_the_first_space_that_one_may_see(site: Site) -> None:
    assert Browser(site).sign_in("keeper").ask("GET", "/").header("Location") == "/files/shop/"
    assert Browser(site).sign_in("ann").ask("GET", "/").header("Location") == "/files/main/"


def test_a_token_in_the_head_counts_before_the_cookie(site: Site) -> None:
    browser = Browser(site).sign_in("ann")
    wrong = browser.ask("GET", "/api/v1/files", {"Authorization": "Bearer wrong", "Accept": "application/json"})
    assert wrong.status == 401
    put(site, "/files/vault/secret.txt", who="keeper")
    assert browser.ask("GET", "/files/vault/secret.txt", {"Authorization": f"Bearer {site.secrets['keeper']}"}).status == 200


def test_the_page_can_be_switched_off(server: ServerFactory) -> None:
    one = server(env={"CARBOY_PAGE": "false"})
    for target in ("/", "/login", "/page/trash/main"):
        answer = one.request("GET", target, {"Accept": "text/html"})
        assert (answer.status, answer.header("Content-Type")) == (404, "application/problem+json")
    assert one.request("GET", "/files/main/", {"Accept": "text/html"}).json()["files"] == []
