"""The real Dropzone, Resumable.js, Flow.js and FilePond in Chromium, on pages of another origin than Carboy's.

They come from npm, by the lock in tests/clients/widgets. Skipped where there is no Chromium, playwright or npm; where CI=true that is a
failure.
"""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import npm
import pytest
from fixtures_server import Server, eventually

CHROMIUM = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
LIMIT = 30_000
"""Milliseconds that anything may take."""
SIZES = {"empty": 0, "one byte": 1, "one chunk": 10_000, "an exact multiple": 30_000, "a short end": 35_001}
CHUNK = 10_000


def untested(why: str) -> None:
    """Said aloud; a failure where CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if CHROMIUM is None or sync_playwright is None:
        untested("NOT TESTED: the widgets in a browser need chromium and playwright (make services)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(chromium: Any) -> Iterator[str]:
    """A server of pages that use the widgets, as npm has them."""
    folder = npm.installed("widgets")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is told."""


@pytest.fixture(scope="module")
def carboy(tmp_path_factory: pytest.TempPathFactory, pages: str) -> Iterator[Server]:
    """Lets these pages in, and no others. Two processes: nothing may hang on which one answers."""
    folder = tmp_path_factory.mktemp("carboy")
    (folder / "carboy.toml").write_text(f'cors_origins = ["{pages}"]\n[spaces]\nimages = {{ accept = ["image/*"] }}\nsmall = {{ max_size = 10 }}\n'
                                        'twins = { on_conflict = "rename" }\n')
    server = Server(folder / "data", args=["--config", str(folder / "carboy.toml")], workers=2).start()
    yield server
    server.stop()
    server.must_be_sound()


class Page:
    """A page with the widgets, and what it asked of Carboy."""

    def __init__(self, page: Any, carboy: Server) -> None:
        self.page = page
        self.carboy = carboy
        self.asked: list[tuple[str, int]] = []
        page.on("response", lambda answer: self.asked.append((answer.request.method, answer.status)) if carboy.url in answer.url else None)

    def run(self, widget: str, name: str, size: int, space: str = "main", folder: str = "", token: str | None = None, **options: Any) -> Any:
        return self.page.evaluate("([widget, ...rest]) => run[widget](...rest)", [
            widget, f"{self.carboy.url}/widgets/{widget}/{space}", token or self.carboy.token,
            {"name": name, "size": size, "folder": folder}, options])

    def kept(self, path: str, space: str = "main") -> bytes:
        answer = self.carboy.request("GET", f"/files/{space}/{path}")
        assert answer.status == 200, answer
        return answer.body

    def sent(self, method: str) -> list[int]:
        """What requests with this method were answered."""
        return [status for each, status in self.asked if each == method]


@pytest.fixture
def page(chromium: Any, pages: str, carboy: Server) -> Iterator[Page]:
    context = chromium.new_context()
    context.set_default_timeout(LIMIT)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{pages}/page.html")
    yield Page(page, carboy)
    context.close()
    assert complaints == []


def content(size: int) -> bytes:
    """What the page's files hold."""
    return bytes((at * 7 + (at >> 8)) & 255 for at in range(size))


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("options", [
    {}, {"chunking": True, "chunkSize": CHUNK}, {"chunking": True, "forceChunking": True, "chunkSize": CHUNK},
    {"chunking": True, "forceChunking": True, "chunkSize": CHUNK, "parallelChunkUploads": True}], ids=["whole", "chunks", "forced", "parallel"])
def test_dropzone(page: Page, size: int, options: dict[str, Any], request: pytest.FixtureRequest) -> None:
    name = f"dropzone {request.node.callspec.id}.bin"
    told = page.run("dropzone", name, size, **options)
    assert told["ok"], told
    assert page.kept(name.replace(" ", "%20")) == content(size)


def test_dropzone_shows_why_it_was_refused(page: Page) -> None:
    told = page.run("dropzone", "a.png", 100, "images")
    assert (told["ok"], told["status"]) == (False, 415)
    assert "image/*" in told["message"]["error"]
    told = page.run("dropzone", "a.bin", 30_000, token="wrong", chunking=True, chunkSize=CHUNK)
    assert (told["ok"], told["status"]) == (False, 401)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("options", [
    {"simultaneousUploads": 1}, {"simultaneousUploads": 4, "forceChunkSize": True}, {"method": "octet"}, {"testChunks": False}],
    ids=["one by one", "parallel", "octet", "untested"])
@pytest.mark.parametrize("widget", ["resumablejs", "flowjs"])
def test_numbered_chunks(page: Page, widget: str, size: int, options: dict[str, Any], request: pytest.FixtureRequest) -> None:
    name = f"{request.node.callspec.id}.bin"
    told = page.run(widget, name, size, chunkSize=CHUNK, **options)
    assert told["ok"], told
    assert page.kept(name.replace(" ", "%20")) == content(size)
    assert set(page.sent("GET")) <= {204}
    assert set(page.sent("POST")) <= {200, 201}


@pytest.mark.parametrize("widget", ["resumablejs", "flowjs"])
def test_folders_are_kept(page: Page, widget: str) -> None:
    assert page.run(widget, "a.bin", 25_000, folder=f"{widget}/deep", chunkSize=CHUNK)["ok"]
    assert page.kept(f"{widget}/deep/a.bin") == content(25_000)


@pytest.mark.parametrize("widget", ["resumablejs", "flowjs"])
def test_what_is_there_is_not_sent_again(page: Page, widget: str) -> None:
    """A page that was closed: the same file chosen again."""
    page.page.evaluate("() => { window.send = XMLHttpRequest.prototype.send; let left = 2; XMLHttpRequest.prototype.send = function(body) "
                       "{ if (body && left-- <= 0) return; return window.send.call(this, body); }; }")
    page.page.evaluate("([widget, ...rest]) => { run[widget](...rest); }", [
        widget, f"{page.carboy.url}/widgets/{widget}/main", page.carboy.token, {"name": f"again-{widget}.bin", "size": 50_000},
        {"chunkSize": CHUNK, "simultaneousUploads": 1, "forceChunkSize": True}])
    page.page.wait_for_function("() => performance.getEntriesByType('resource').filter(e => e.name.includes('/widgets/')).length >= 4")
    page.page.reload()
    before = len(page.asked)
    assert page.run(widget, f"again-{widget}.bin", 50_000, chunkSize=CHUNK, simultaneousUploads=1, forceChunkSize=True)["ok"]
    asked = page.asked[before:]
    assert asked.count(("GET", 200)) == 2
    assert sum(method == "POST" for method, _ in asked) == 3
    assert page.kept(f"again-{widget}.bin") == content(50_000)


def test_resumablejs_does_not_try_a_hundred_times(page: Page) -> None:
    """Too large, the wrong type: told once."""
    for space, chunk in (("small", 10_000), ("images", 10_000), ("nowhere", 10_000)):
        told = page.run("resumablejs", "a.bin", 30_000, space, chunkSize=chunk, simultaneousUploads=1)
        assert not told["ok"] and told["retries"] == 0, (space, told)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("options", [{}, {"chunkUploads": True, "chunkSize": CHUNK}, {"chunkUploads": True, "chunkForce": True, "chunkSize": CHUNK}],
                         ids=["whole", "chunks", "forced"])
def test_filepond(page: Page, size: int, options: dict[str, Any], request: pytest.FixtureRequest) -> None:
    name = f"filepond ü {request.node.callspec.id}.bin"
    told = page.run("filepond", name, size, **options)
    assert told["ok"], told
    quoted = "".join(char if char.isascii() and char != " " else "".join(f"%{byte:02X}" for byte in char.encode()) for char in name)
    assert page.kept(quoted) == content(size)
    for kind in ("local", "limbo"):
        back = page.page.evaluate("(all) => run.load(...all)", [f"{page.carboy.url}/widgets/filepond/main", page.carboy.token, told["id"], kind])
        assert back == {"ok": True, "name": name, "size": size}
    assert page.page.evaluate("() => run.revert()")
    eventually(lambda: page.carboy.request("GET", f"/files/main/{quoted}").status == 404)  # FilePond tells before the answer has come


def test_another_origin_is_let_in_nowhere(chromium: Any, pages: str, carboy: Server) -> None:
    """The same pages under another name are another origin."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"http://localhost:{urlsplit(pages).port}/page.html")
    told = page.evaluate("(all) => run.dropzone(...all)", [f"{carboy.url}/widgets/dropzone/main", carboy.token,
                                                           {"name": "foreign.bin", "size": 10}, {}])
    context.close()
    assert (told["ok"], told["status"]) == (False, 0)
    assert carboy.request("GET", "/files/main/foreign.bin").status == 404
