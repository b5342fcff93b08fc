"""What other sites make a browser send is refused (security case 39)."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

import pytest
import wire
from browsing import FIELDS, Browser, put
from fixtures_site import FORM, Site, file, multipart

FOREIGN = [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.test"}, {"Origin": "null"},
           {"Origin": "http://test:81"}, {"Sec-Fetch-Site": "cross-site", "Origin": "http://test"}]
OWN = [{"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "http://test"}, {"Origin": "https://test"}, {}]


def token(browser: Browser) -> str:
    return dict(browser.page("/files/main/").form("/logout").fields)["csrf"]


def must_be_refused(answer: wire.Response) -> None:
    assert answer.status == 403, answer
    assert "Another site" in answer.text or "another site" in answer.text or "session" in answer.text


@pytest.mark.parametrize("labels", FOREIGN, ids=str)
def test_a_form_of_another_site_is_refused(site: Site, labels: Mapping[str, str]) -> None:
    """Even where it had the right token."""
    browser = Browser(site).sign_in()
    csrf, id = token(browser), put(site, "/files/main/forged.txt")
    browser.labels = labels
    before = site.kept()
    must_be_refused(browser.ask("POST", f"/files/main/?csrf={csrf}", {"Content-Type": FORM}, multipart(file("file", "in.txt", b"x"))))
    must_be_refused(browser.ask("POST", f"/page/files/{id}/delete", FIELDS, urlencode({"csrf": csrf}).encode()))
    must_be_refused(browser.ask("DELETE", "/files/main/forged.txt", {"X-CSRF-Token": csrf}))
    must_be_refused(browser.ask("PUT", "/files/main/in.txt", {"X-CSRF-Token": csrf}, b"x"))
    must_be_refused(browser.ask("POST", "/api/v1/links", {"X-CSRF-Token": csrf}, b"{}"))
    must_be_refused(browser.ask("POST", "/logout", FIELDS, urlencode({"csrf": csrf}).encode()))
    site.must_be_as(before)


@pytest.mark.parametrize("labels", OWN, ids=str)
def test_a_form_of_the_page_is_taken(site: Site, labels: Mapping[str, str]) -> None:
    browser = Browser(site).sign_in()
    csrf = token(browser)
    browser.labels = labels
    answer = browser.ask("POST", f"/files/main/own/?csrf={csrf}", {"Content-Type": FORM}, multipart(file("file", "in.txt", b"x")))
    assert (answer.status, answer.header("Location")) == (303, "/files/main/own/")
    assert browser.ask("DELETE", "/files/main/own/in.txt", {"X-CSRF-Token": csrf}).status == 204


@pytest.mark.parametrize("labels", OWN, ids=str)
def test_without_the_sessions_token_nothing_is_taken(site: Site, labels: Mapping[str, str]) -> None:
    browser, other = Browser(site).sign_in(), Browser(site).sign_in("bob")
    put(site, "/files/main/guarded.txt")
    browser.labels = labels
    for csrf in ("", "x", "x~y", token(other)):
        must_be_refused(browser.ask("POST", f"/files/main/?csrf={csrf}", {"Content-Type": FORM}, multipart(file("file", "in.txt", b"x"))))
        must_be_refused(browser.ask("DELETE", "/files/main/guarded.txt", {"X-CSRF-Token": csrf}))
    must_be_refused(browser.ask("POST", "/logout", FIELDS, b""))
    assert "guarded.txt" in site.paths("main")


@pytest.mark.parametrize("labels", FOREIGN, ids=str)
def test_another_site_signs_nobody_in(site: Site, labels: Mapping[str, str]) -> None:
    browser = Browser(site, labels=labels)
    answer = browser.ask("POST", "/login", FIELDS, urlencode({"token": site.secrets["ann"]}).encode())
    assert answer.status == 403 and browser.cookies == {}


def test_who_bears_a_token_needs_no_other(site: Site) -> None:
    """No browser adds a bearer token by itself."""
    answer = site.ask("PUT", "/files/main/bearer.txt", {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.test"}, b"x", who="ann")
    assert answer.status in (200, 201)


def test_a_refused_form_is_not_read(site: Site) -> None:
    """The connection is closed after the answer: what would follow is the body."""
    browser = Browser(site).sign_in()
    answer = browser.ask("POST", "/files/main/", {"Content-Type": FORM}, multipart(file("file", "in.txt", b"x" * 100_000)))
    must_be_refused(answer)
    assert answer.header("Connection") == "close"
