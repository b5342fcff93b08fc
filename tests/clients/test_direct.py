"""Uppy's AWS S3 plugin in Chromium, versions 5 and 6, as npm has them, against the real server and moto (which has CORS of buckets)."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import npm
import pytest
from fixtures_s3 import S3Server
from fixtures_server import Server

LIMIT = 60_000
"""Milliseconds."""
MIB = 2**20
VERSIONS = {5: "direct5", 6: "direct"}


@pytest.fixture(scope="module", params=VERSIONS, ids=lambda version: f"Uppy {version}")
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def bundle(version: int, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, made = npm.installed(VERSIONS[version]), tmp_path_factory.mktemp("uppy") / "page.js"
    subprocess.run(["node_modules/.bin/esbuild", "page.js", "--bundle", f"--outfile={made}", "--log-level=error"], cwd=folder, check=True)
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


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is told."""


@pytest.fixture(scope="module")
def pages(bundle: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the page, of another origin than Carboy and S3."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "page.js").write_text(bundle)
    (folder / "page.html").write_text('<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><script src="page.js"></script>')
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def carboy(tmp_path_factory: pytest.TempPathFactory, moto_server: S3Server, pages: str) -> Iterator[Server]:
    """It lets these pages in, and its bucket does as docs/direct.md has it."""
    folder, bucket = tmp_path_factory.mktemp("carboy"), moto_server.new_bucket()
    (folder / "carboy.toml").write_text(f'cors_origins = ["{pages}"]\n'
                                        f'[storages.bulk]\nbucket = "{bucket}"\nendpoint = "{moto_server.endpoint}"\nregion = "{moto_server.region}"\n'
                                        'style = "path"\n[spaces]\nmain = { storage = "bulk" }\nimages = { storage = "bulk", accept = ["image/*"] }\n')
    server = Server(folder / "data", args=["--config", str(folder / "carboy.toml")], env=moto_server.env).start()
    moto_server.client().put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [
        {"AllowedOrigins": [pages], "AllowedMethods": ["PUT"], "AllowedHeaders": ["*"], "ExposeHeaders": ["ETag"]}]})
    yield server
    server.stop()
    server.must_be_sound()


@pytest.fixture
def page(browser: Any, carboy: Server, pages: str) -> Iterator[Any]:
    context = browser.new_context()
    context.set_default_timeout(LIMIT)
    page = context.new_page()
    page.on("console", lambda message: print("the page says:", message.text))
    page.goto(f"{pages}/page.html")
    yield page
    context.close()


def send(page: Any, carboy: Server, files: list[dict[str, Any]], space: str = "main", single: bool = False) -> Any:
    return page.evaluate("([endpoint, token, files, single]) => sendFiles(endpoint, token, files, single)",
                         [f"{carboy.url}/direct/{space}", carboy.token, files, single])


def made(size: int) -> bytes:
    return bytes((at * 7 + (at >> 8)) & 255 for at in range(size))


def test_in_parts(page: Any, carboy: Server, version: int) -> None:
    files = [{"name": f"{version}-long.bin", "size": 11 * MIB}, {"name": f"{version}-short.bin", "size": 70_000},
             {"name": f"{version}-deep.bin", "size": 1, "folder": "a folder/é"}]
    told = send(page, carboy, files)
    assert told["failed"] == []
    assert sorted(one[0] for one in told["successful"]) == sorted(file["name"] for file in files)
    for file in files:
        path = f"a%20folder/%C3%A9/{file['name']}" if "folder" in file else file["name"]
        answer = carboy.request("GET", f"/files/main/{path}")
        assert (answer.status, answer.body == made(file["size"])) == (200, True), file
        assert {name: url for name, url, _ in told["successful"]}[file["name"]] == f"/files/main/{path}"
    shown = carboy.request("GET", f"/api/v1/files?space=main&prefix={version}-long").json()["files"][0]
    assert shown["metadata"]["album"] == "summer"


def test_what_is_refused_fails(page: Any, carboy: Server, version: int) -> None:
    told = send(page, carboy, [{"name": f"{version}.png", "size": 1000}], space="images")
    assert told["successful"] == [] and [name for name, _ in told["failed"]] == [f"{version}.png"]
    assert carboy.request("GET", f"/files/images/{version}.png").status == 404


def test_a_single_put(page: Any, carboy: Server, version: int) -> None:
    """By Uppy 5. What 6 sends in its place is a form, which is no part: as the page says, it has to be told to send parts."""
    name = f"{version}-single.bin"
    told = send(page, carboy, [{"name": name, "size": 3000}], single=True)
    if version == 6:
        assert (told["successful"], [name for name, _ in told["failed"]]) == ([], [name])
        assert carboy.request("GET", f"/files/main/{name}").status == 404
        return
    assert told["failed"] == []
    (_, _, key), = told["successful"]
    answer = carboy.request("POST", f"/direct/main/{key}/complete")
    assert answer.status in (200, 201), "200 where the sweeper has been quicker"
    assert carboy.request("GET", f"/files/main/{name}").body == made(3000)
