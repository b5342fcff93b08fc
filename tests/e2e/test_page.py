"""The page in a real browser: Chromium, with scripts and without, wide and on a phone.

Skipped where there is no Chromium or playwright; where CI=true that is a failure.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures_site import Site

CHROMIUM = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
PHONE = {"viewport": {"width": 375, "height": 720}, "is_mobile": True, "has_touch": True}
LIMIT = 30_000
"""Milliseconds that anything may take."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if CHROMIUM is None or sync_playwright is None:
        why = "NOT TESTED: the page in a browser needs chromium and playwright (make services)"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[True, False], ids=["scripts", "no scripts"])
def page(request: pytest.FixtureRequest, chromium: Any, site: Site) -> Iterator[Any]:
    yield from opened(chromium, site, java_script_enabled=request.param)


@pytest.fixture
def phone(chromium: Any, site: Site) -> Iterator[Any]:
    yield from opened(chromium, site, **PHONE)


def opened(chromium: Any, site: Site, **options: Any) -> Iterator[Any]:
    """A fresh browser, in which the page must give no reason to complain."""
    context = chromium.new_context(base_url=site.server.url, **options)
    context.set_default_timeout(LIMIT)
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert [text for text in complaints if "status of 4" not in text] == []


def sign_in(page: Any, site: Site, who: str = "ann") -> None:
    page.goto("/")
    if page.get_by_role("link", name="Sign in").count():
        page.get_by_role("link", name="Sign in").click()
    page.get_by_label("Token").fill(site.secrets[who])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/files/main/")


def rows(page: Any) -> list[str]:
    return [text.strip() for text in page.locator("tbody th").all_inner_texts()]


def test_a_file_lives(page: Any, site: Site, chromium: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Signed in, put there, seen, fetched, renamed, deleted, brought back, shared, opened by somebody else."""
    folder = f"e2e-{request.node.callspec.id.replace(' ', '-')}"
    for name, text in [("one.txt", "first"), ("two.txt", "second")]:
        (tmp_path / name).write_text(text)
    sign_in(page, site)
    page.get_by_text("New folder").click()
    page.get_by_label("Name of the folder").fill(folder)
    page.get_by_role("button", name="Open it").click()

    page.get_by_label("Add files").set_input_files([tmp_path / "one.txt", tmp_path / "two.txt"])
    page.get_by_role("button", name="Upload").click()
    page.get_by_text("2 files stored.").wait_for()
    assert rows(page) == ["one.txt", "two.txt"]

    with page.expect_download() as download:
        page.get_by_role("link", name="Download one.txt").click()
    assert Path(download.value.path()).read_text() == "first"

    page.get_by_role("link", name="two.txt", exact=True).click()
    page.get_by_label("Path").fill(f"{folder}/zwei.txt")
    page.get_by_role("button", name="Rename or move").click()
    page.get_by_role("heading", name="zwei.txt").wait_for()

    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_text("“zwei.txt” is in the trash.").wait_for()
    assert rows(page) == ["one.txt"]
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("is back").wait_for()
    assert rows(page) == ["one.txt", "zwei.txt"]

    page.get_by_role("link", name="zwei.txt", exact=True).click()
    page.get_by_role("button", name="Make a link").click()
    address = page.locator("#address").inner_text()
    stranger = chromium.new_context()
    assert stranger.request.get(address).text() == "second"
    stranger.close()

    page.get_by_role("button", name="Revoke it").click()
    page.get_by_text("revoked").first.wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Token").wait_for()


def test_a_folder_and_an_inbox_for_others(page: Any, site: Site, chromium: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = f"others-{request.node.callspec.id.replace(' ', '-')}"
    site.ask("PUT", f"/files/main/{folder}/seen.txt", {}, b"seen", who="ann")
    sign_in(page, site)
    page.goto(f"/page/folders/main?folder={folder}/")
    card = page.locator("section", has_text="Share by a link")
    card.get_by_text("Password, number").click()
    card.get_by_label("Password if it needs one").fill("sesame")
    card.get_by_role("button").click()
    shared = page.locator("#address").inner_text()
    page.goto(f"/page/folders/main?folder={folder}/")
    page.get_by_label("What you ask for").fill("Your pictures")
    page.locator("section", has_text="Ask others").get_by_role("button").click()
    inbox = page.locator("#address").inner_text()

    context = chromium.new_context()
    stranger = context.new_page()
    stranger.goto(shared)
    stranger.get_by_label("Password").fill("sesame")
    stranger.get_by_role("button", name="Open").click()
    stranger.get_by_role("link", name="Download seen.txt").wait_for()
    assert rows(stranger) == ["seen.txt"]
    with stranger.expect_download() as download:
        stranger.get_by_role("link", name="Download seen.txt").click()
    assert Path(download.value.path()).read_text() == "seen"

    (tmp_path / "mine.jpg").write_bytes(b"picture")
    stranger.goto(inbox)
    stranger.get_by_role("heading", name="Your pictures").wait_for()
    stranger.get_by_label("Your files").set_input_files([tmp_path / "mine.jpg"])
    stranger.get_by_role("button", name="Send").click()
    stranger.get_by_text("1 file received").wait_for()
    assert "mine.jpg" not in stranger.content()
    context.close()
    assert site.content(f"/files/main/{folder}/mine.jpg") == b"picture"


def test_nothing_is_wider_than_a_phone(phone: Any, site: Site) -> None:
    """Nor smaller than a finger: what is pressed is at least 40 pixels high, or stands in a line of text."""
    long = "a-very-long-name-without-any-space-" * 6
    made = site.ask("PUT", f"/files/main/phone/{long}.txt", {}, b"x", who="ann").json()
    site.ask("PUT", "/files/main/phone/deep/er/file.txt", {}, b"x", who="ann")
    sign_in(phone, site)
    gone = site.ask("PUT", "/files/main/phone/gone.txt", {}, b"x", who="ann").json()
    site.ask("POST", "/api/v1/links", body=json.dumps({"kind": "file", "file_id": made["id"], "expires_in": 1000}).encode(), who="ann")
    site.ask("DELETE", f"/api/v1/files/{gone['id']}", who="ann")
    addresses = ["/files/main/", "/files/main/phone/", f"/page/files/{made['id']}", "/page/folders/main?folder=phone/", "/page/links/main", "/page/trash/main",
                 "/files/main/none.txt", "/files/main/?q=nothing-like-it", "/files/images/"]
    for address in addresses:
        phone.goto(address)
        phone.evaluate("document.querySelectorAll('details, input[type=checkbox]').forEach(one => { one.open = one.checked = true })")
        widths = phone.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert widths[0] <= widths[1] == 375, address
        small = phone.evaluate("""() => [...document.querySelectorAll('main button, main .button, main input, main select, main summary, .act, .tick')]
            .filter(one => one.checkVisibility() && !one.closest('.hidden') && one.type !== 'checkbox' && one.type !== 'hidden')
            .filter(one => one.getBoundingClientRect().height < 40).map(one => one.outerHTML.slice(0, 100))""")
        assert small == [], address


def test_the_keyboard_reaches_everything(page: Any, site: Site) -> None:
    """The first thing is a way past the navigation; and whatever has the focus shows it."""
    site.ask("PUT", "/files/main/keys.txt", {}, b"x", who="ann")
    sign_in(page, site)
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "Skip to the content"
    assert page.locator(":focus").bounding_box()["y"] >= 0
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.locator("main :focus").count() == 1
    page.get_by_label("Search in").focus()
    page.keyboard.type("keys")
    page.keyboard.press("Enter")
    page.get_by_text("Found with").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(chromium: Any, site: Site, scheme: str) -> None:
    """Every text has a contrast of at least 4.5 to what is behind it (WCAG 2.2, 1.4.3)."""
    site.ask("PUT", "/files/main/contrast/a.txt", {}, b"x", who="ann")
    made = site.ask("PUT", "/files/main/contrast/b.txt", {}, b"x", who="ann").json()
    context = chromium.new_context(base_url=site.server.url, color_scheme=scheme)
    page = context.new_page()
    sign_in(page, site)
    for address in ("/files/main/contrast/", f"/page/files/{made['id']}", "/page/folders/main?folder=contrast/", "/page/links/main", "/nothing"):
        page.goto(address)
        faint = page.evaluate(CONTRAST)
        assert faint == [], address
    context.close()


CONTRAST = """() => {
  const part = value => { const x = value / 255; return x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4 };
  const light = ([r, g, b]) => .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
  const rgba = text => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n.length > 3 ? n[3] : 1] };
  const behind = one => { for (let at = one; at; at = at.parentElement) { const c = rgba(getComputedStyle(at).backgroundColor); if (c[3] > .5) return c }
    return [255, 255, 255, 1] };
  const faint = [];
  for (const one of document.querySelectorAll('body *')) {
    const own = [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || !one.checkVisibility() || one.closest('.hidden, .skip, svg, option')) continue;
    const [a, b] = [light(rgba(getComputedStyle(one).color)), light(behind(one))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) faint.push([one.outerHTML.slice(0, 120), ((a + .05) / (b + .05)).toFixed(2)]);
  }
  return faint;
}"""
