"""What a file goes through in the background, as its page shows it."""

from __future__ import annotations

from typing import Any

import pytest
from browsing import Browser
from fixtures_gates import Gated
from fixtures_server import eventually
from fixtures_site import Site


@pytest.fixture
def browser(gated: Gated) -> Browser:
    return Browser(Site(gated)).sign_in("admin")


def address(file: Any) -> str:
    return f"/page/files/{file['id']}"


def test_a_job_is_seen_under_way_and_done(gated: Gated, browser: Browser) -> None:
    stored = gated.put("gated/seen")
    text = eventually(lambda: "under way: round" in (page := browser.page(address(stored))).text and "%" in page.text and page.text)
    assert "In the background gate under way" in text and "Look again" in text
    gated.open("seen")
    eventually(lambda: "gate done just now" in browser.page(address(stored)).text)
    page = browser.page(address(stored))
    assert "Look again" not in page.text and not [form for form in page.forms if "/jobs/" in form.action]


def test_one_that_failed_says_why_and_is_tried_again(gated: Gated, browser: Browser) -> None:
    gated.open("fails", "die")
    stored = gated.put("gated/fails")
    page = eventually(lambda: "failed" in (page := browser.page(address(stored))).text and page)
    assert "gate failed just now: the gate is shut" in page.text
    gated.open("fails", "fine")
    assert "“gate” is tried again." in browser.go_on(browser.send(page.form("/retry"))).text
    eventually(lambda: "gate done" in browser.page(address(stored)).text)
    refused = browser.send(page.form("/retry"))  # from a page that was left open
    assert refused.status == 409 and "the job is done" in refused.text


def test_one_is_cancelled(gated: Gated, browser: Browser) -> None:
    stored = gated.put("gated/no-more")
    page = browser.page(address(stored))
    assert "“gate” is cancelled." in browser.go_on(browser.send(page.form("/cancel"))).text
    page = browser.page(address(stored))
    assert "gate cancelled just now" in page.text and page.form("/retry")


def test_one_that_waits_names_what_it_waits_for(gated: Gated, browser: Browser) -> None:
    stored = gated.put("gated/waits")
    gated.api("POST", f"/api/v1/files/{stored['id']}/jobs", {"step": "after"})
    assert "after waits for gate" in browser.page(address(stored)).text
    gated.open("waits")
    eventually(lambda: "after done" in browser.page(address(stored)).text)


def test_who_only_reads_is_offered_nothing(gated: Gated) -> None:
    stored = gated.put("gated/reader")
    reader = gated.someone(["gated:read"])
    site = Site(gated)
    site.secrets["reader"] = reader["Authorization"].removeprefix("Bearer ")
    browser = Browser(site).sign_in("reader")
    page = browser.page(address(stored))
    assert "In the background gate" in page.text and not [form for form in page.forms if "/jobs/" in form.action]
    job = gated.api("GET", f"/api/v1/jobs?space=gated&file={stored['id']}")["jobs"][0]["id"]
    refused = browser.ask("POST", f"{address(stored)}/jobs/{job}/cancel", {"Content-Type": "application/x-www-form-urlencoded"}, b"csrf=wrong")
    assert refused.status == 403
    gated.open("reader")


def test_a_file_that_goes_through_nothing_says_nothing(gated: Gated, browser: Browser) -> None:
    assert "In the background" not in browser.page(address(gated.put("main/plain"))).text
