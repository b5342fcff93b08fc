"""Real clients of tus against the real server: tus-js-client, tuspy, Uppy in Chromium, and curl as docs/tus.md has it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import npm
import pytest
import wire
from fixtures_site import Site
from tusclient import client as tuspy
from tusclient.exceptions import TusUploadFailed
from tusclient.storage.filestorage import FileStorage

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
"""tuspy opens the file for each request and leaves it open."""
SIZE = 700_001


@pytest.fixture
def data(request: pytest.FixtureRequest) -> bytes:
    return random.Random(request.node.name).randbytes(SIZE)


@pytest.fixture
def sent(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "film.bin"
    path.write_bytes(data)
    return path


def must_be(site: Site, path: str, data: bytes) -> None:
    assert hashlib.sha256(site.content(f"/files/main/{path}")).digest() == hashlib.sha256(data).digest()


# --- tus-js-client -------------------------------------------------------------------------------------------------


class Js:
    """tus-js-client in Node."""

    def __init__(self, site: Site) -> None:
        self.folder = npm.installed("tus")
        self.site = site

    def upload(self, sent: Path, name: str, *, options: dict[str, Any] | None = None, **given: Any) -> dict[str, Any]:
        made = {"endpoint": f"{self.site.server.url}/tus/main/", "headers": self.site.auth("ann"), "metadata": {"filename": name},
                **(options or {})}
        found: dict[str, Any] = npm.run(self.folder, "upload.mjs", {"file": str(sent), "options": made, **given})
        return found


@pytest.fixture
def js(site: Site) -> Js:
    return Js(site)


def test_js_in_one_request(site: Site, js: Js, sent: Path, data: bytes) -> None:
    told = js.upload(sent, "js-single")
    assert told["requests"] == [["POST", 201], ["PATCH", 204]]
    assert site.ask("GET", f"/api/v1/files/{told['file']}").json()["path"] == "js-single"
    must_be(site, "js-single", data)


def test_js_an_empty_file(site: Site, js: Js, sent: Path) -> None:
    sent.write_bytes(b"")
    assert js.upload(sent, "js-empty", buffer=True)["requests"] == [["POST", 201]]
    must_be(site, "js-empty", b"")


@pytest.mark.parametrize("chunk", [100_000, SIZE, SIZE - 1, 70_000], ids=["chunks", "all", "all but one", "many"])
def test_js_in_chunks(site: Site, js: Js, sent: Path, data: bytes, chunk: int) -> None:
    told = js.upload(sent, f"js-chunks-{chunk}", options={"chunkSize": chunk})
    assert told["requests"] == [["POST", 201], *[["PATCH", 204]] * -(-SIZE // chunk)]
    must_be(site, f"js-chunks-{chunk}", data)


def test_js_with_a_length_told_at_the_end(site: Site, js: Js, sent: Path, data: bytes) -> None:
    """Of a stream that is no multiple of the chunks: at the end of such a one tus-js-client 4.3.1 waits in Node for more, for ever."""
    told = js.upload(sent, "js-deferred", stream=True, options={"uploadLengthDeferred": True, "chunkSize": 100_000})
    assert told.get("error") is None and told["file"]
    must_be(site, "js-deferred", data)


@pytest.mark.parametrize("parts", [2, 4, 7])
def test_js_in_parallel(site: Site, js: Js, sent: Path, data: bytes, parts: int) -> None:
    told = js.upload(sent, f"js-parallel-{parts}", buffer=True, options={"parallelUploads": parts, "chunkSize": 100_000})
    assert told.get("error") is None and told["file"]
    assert told["requests"].count(["POST", 201]) == parts + 1
    must_be(site, f"js-parallel-{parts}", data)


@pytest.mark.parametrize("chunk", [None, 100_000], ids=["all of it", "its first chunk"])
def test_js_with_bytes_in_the_creating_request(site: Site, js: Js, sent: Path, data: bytes, chunk: int | None) -> None:
    options = {"uploadDataDuringCreation": True, **({"chunkSize": chunk} if chunk else {})}
    told = js.upload(sent, f"js-creation-{chunk}", options=options)
    assert told["requests"] == [["POST", 201], *([["PATCH", 204]] * 7 if chunk else [])]
    must_be(site, f"js-creation-{chunk}", data)


def test_js_with_another_verb_on_the_wire(site: Site, js: Js, sent: Path, data: bytes) -> None:
    told = js.upload(sent, "js-override", options={"overridePatchMethod": True, "chunkSize": 300_000})
    assert told["requests"] == [["POST", 201], *[["POST", 204]] * 3]
    must_be(site, "js-override", data)


def test_js_aborts_and_goes_on(site: Site, js: Js, sent: Path, data: bytes, tmp_path: Path) -> None:
    """Another process finds the address in its storage and goes on from where it stands."""
    options, urls = {"chunkSize": 100_000}, str(tmp_path / "urls.json")
    stopped = js.upload(sent, "js-resumed", options=options, urls=urls, stopAt=250_000)
    assert stopped["aborted"] >= 250_000
    told = js.upload(sent, "js-resumed", options=options, urls=urls, findBefore=True)
    assert told["requests"][0] == ["HEAD", 200]
    assert 1 <= told["requests"].count(["PATCH", 204]) <= 6
    assert told["url"] == stopped["url"]
    must_be(site, "js-resumed", data)


def test_js_aborts_parts_and_goes_on(site: Site, js: Js, sent: Path, data: bytes, tmp_path: Path) -> None:
    options, urls = {"chunkSize": 50_000, "parallelUploads": 3}, str(tmp_path / "urls.json")
    assert js.upload(sent, "js-parts", options=options, urls=urls, stopAt=300_000)["aborted"] >= 300_000
    told = js.upload(sent, "js-parts", options=options, urls=urls, findBefore=True)
    assert told.get("error") is None and told["file"]
    assert told["requests"].count(["HEAD", 200]) == 3
    must_be(site, "js-parts", data)


def test_js_aborts_and_ends_the_upload(site: Site, js: Js, sent: Path) -> None:
    told = js.upload(sent, "js-terminated", options={"chunkSize": 100_000}, stopAt=250_000, terminate=True)
    assert told["requests"][-1] == ["DELETE", 204]
    gone = site.ask("HEAD", wire.urlsplit(told["url"]).path, {"Tus-Resumable": "1.0.0"}, who="ann")
    assert gone.status == 410


def test_js_goes_on_after_the_server_was_away_for_a_moment(site: Site, js: Js, sent: Path, data: bytes) -> None:
    """Its retries ask where the upload stands first."""
    told = js.upload(sent, "js-retry", options={"chunkSize": 50_000, "retryDelays": [0, 50, 100]})
    assert told.get("error") is None
    must_be(site, "js-retry", data)


def test_js_is_told_what_is_wrong(site: Site, js: Js, sent: Path) -> None:
    told = js.upload(sent, "js-nobody", options={"headers": {}})
    assert told["requests"] == [["POST", 401]]
    assert "unauthenticated" in told["error"]


# --- tuspy ---------------------------------------------------------------------------------------------------------


def py(site: Site, space: str = "main") -> tuspy.TusClient:
    return tuspy.TusClient(f"{site.server.url}/tus/{space}/", headers=site.auth("ann"))


@pytest.mark.parametrize("chunk", [SIZE, 100_000, 250_000], ids=["one request", "chunks", "large chunks"])
@pytest.mark.parametrize("checked", [False, True], ids=["", "checksums"])
def test_tuspy(site: Site, sent: Path, data: bytes, chunk: int, checked: bool) -> None:
    name = f"py-{chunk}-{checked}"
    py(site).uploader(str(sent), chunk_size=chunk, metadata={"filename": name}, upload_checksum=checked).upload()
    must_be(site, name, data)


def test_tuspy_with_an_empty_file(site: Site, sent: Path) -> None:
    sent.write_bytes(b"")
    py(site).uploader(str(sent), metadata={"filename": "py-empty"}).upload()
    must_be(site, "py-empty", b"")


def test_tuspy_goes_on_with_an_address_it_kept(site: Site, sent: Path, data: bytes, tmp_path: Path) -> None:
    for stop in (300_000, None):
        storage = FileStorage(str(tmp_path / "urls.json"))
        uploader = py(site).uploader(str(sent), chunk_size=100_000, metadata={"filename": "py-resumed"}, store_url=True, url_storage=storage,
                                     upload_checksum=True)
        assert uploader.offset == (0 if stop else 300_000)
        uploader.upload(stop_at=stop)
        storage.close()
    must_be(site, "py-resumed", data)


def test_tuspys_wrong_checksum_is_refused_and_nothing_of_it_kept(site: Site, sent: Path, data: bytes) -> None:
    uploader = py(site).uploader(str(sent), chunk_size=100_000, metadata={"filename": "py-wrong"}, upload_checksum=True)
    uploader.upload(stop_at=100_000)
    sent.write_bytes(data[:100_000] + bytes(100_000) + data[200_000:])
    right = uploader.get_headers
    uploader.get_headers = lambda: {**right(), "Content-MD5": "XUFAKrxLKna5cZ2REBfFkg=="}
    with pytest.raises(TusUploadFailed) as caught:
        uploader.upload_chunk()
    assert caught.value.status_code == 460
    uploader.get_headers = right
    sent.write_bytes(data)
    assert uploader.get_offset() == 100_000
    uploader.upload()
    must_be(site, "py-wrong", data)


def test_tuspys_that_send_at_once(site: Site, tmp_path: Path) -> None:
    def send(number: int) -> None:
        path = tmp_path / f"{number}"
        path.write_bytes(bytes([number]) * 50_000)
        py(site).uploader(str(path), chunk_size=9_000, metadata={"filename": f"py-many-{number}"}, upload_checksum=True).upload()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(send, range(24)))
    for number in range(24):
        must_be(site, f"py-many-{number}", bytes([number]) * 50_000)


# --- Uppy ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, made = npm.installed("tus"), tmp_path_factory.mktemp("uppy") / "uppy.js"
    subprocess.run(["node_modules/.bin/esbuild", "uppy.js", "--bundle", f"--outfile={made}", "--log-level=error"], cwd=folder, check=True)
    return made.read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        why = "NOT TESTED: Uppy needs chromium and playwright (make services)"
        pytest.fail(why) if os.environ.get("CI") == "true" else pytest.skip(why)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_uppy_in_a_browser(site: Site, bundle: str, browser: Any) -> None:
    """Several files at once, in chunks, one in a folder, one empty."""
    page = browser.new_page(base_url=site.server.url)
    page.route("**/uppy-page", lambda route: route.fulfill(content_type="text/html", body=f"<!doctype html><script>{bundle}</script>"))
    page.goto("/uppy-page")
    files = [{"name": f"uppy-{number}.txt", "text": f"{number}" * 60_000 * number} for number in range(1, 5)]
    files += [{"name": "uppy-empty.txt", "text": ""}, {"name": "uppy-deep.txt", "text": "deep", "folder": "uppy/é"}]
    told = page.evaluate("([endpoint, headers, files]) => window.sendFiles(endpoint, headers, files)", ["/tus/main/", site.auth("ann"), files])
    assert told["failed"] == []
    assert {name for name, _ in told["successful"]} == {file["name"] for file in files}
    for file in files:
        path = f"uppy/%C3%A9/{file['name']}" if "folder" in file else file["name"]
        must_be(site, path, str(file["text"]).encode())
    address = dict(told["successful"])["uppy-1.txt"]
    assert site.ask("GET", wire.urlsplit(address).path).header("Location") == "/files/main/uppy-1.txt"
    page.close()


# --- as docs/tus.md has it -----------------------------------------------------------------------------------------


@pytest.fixture
def film(sent: Path, data: bytes, site: Site) -> Iterator[Path]:
    """A folder with the film of the examples, which is a file of the same bytes afterwards."""
    sent.rename(sent.with_name("film.mkv"))
    yield sent.parent
    must_be(site, "film.mkv", data)
    site.ask("DELETE", "/files/main/film.mkv")


def example(language: str, site: Site) -> str:
    text = (Path(__file__).parents[2] / "docs" / "tus.md").read_text()
    [found] = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(found).replace("http://127.0.0.1:8080", site.server.url)


def run(command: list[str], folder: Path, site: Site) -> str:
    env = {**os.environ, "TOKEN": site.secrets["ann"]}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_for_curl(site: Site, film: Path) -> None:
    assert re.search(rf"upload-offset: {SIZE}\b", run(["bash", "-euo", "pipefail", "-c", example("sh", site)], film, site), re.IGNORECASE)


def test_the_example_for_tuspy(site: Site, film: Path) -> None:
    assert run([sys.executable, "-c", example("python", site)], film, site).startswith(site.server.url)


def test_the_example_for_tus_js_client(site: Site, film: Path) -> None:
    folder = npm.installed("tus")
    program = example("js", site).replace("'film.mkv')", f"{json.dumps(str(film / 'film.mkv'))})")
    assert run(["node", "--input-type=module", "-e", program], folder, site).startswith(site.server.url)


def test_the_example_for_uppy(site: Site, film: Path, browser: Any) -> None:
    program = f"const TOKEN = {json.dumps(site.secrets['ann'])}\n" + example("javascript", site)
    made = subprocess.run(["node_modules/.bin/esbuild", "--bundle", "--log-level=error"], cwd=npm.installed("tus"), input=program, text=True,
                          check=True, capture_output=True).stdout
    page = browser.new_page(base_url=site.server.url)
    body = f"<!doctype html><input type=file multiple><script>{made}</script>"
    page.route("**/uppy-example", lambda route: route.fulfill(content_type="text/html", body=body))
    page.goto("/uppy-example")
    with page.expect_console_message(lambda message: "/tus/main/" in message.text):
        page.set_input_files("input", str(film / "film.mkv"))
    page.close()
