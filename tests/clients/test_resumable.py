"""tus-js-client as a client of Resumable Uploads for HTTP: its modes for draft -03 (interop 5) and -05 (interop 6)."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import npm
import pytest
from fixtures_site import Site

SIZE = 700_001
APPENDED = {"ietf-draft-03": 201, "ietf-draft-05": 204}
"""What an append is answered after which more is to come."""


@pytest.fixture(params=list(APPENDED))
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def data(request: pytest.FixtureRequest) -> bytes:
    return random.Random(request.node.name).randbytes(SIZE)


@pytest.fixture
def sent(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "film.bin"
    path.write_bytes(data)
    return path


def upload(site: Site, protocol: str, sent: Path, name: str, *, options: dict[str, Any] | None = None, **given: Any) -> dict[str, Any]:
    """With the script of the tests of tus: the client is the same."""
    headers = {**site.auth("ann"), "Content-Disposition": f'inline; filename="{name}"'}
    made = {"endpoint": f"{site.server.url}/files/main/rufh-js/", "protocol": protocol, "headers": headers, **(options or {})}
    found: dict[str, Any] = npm.run(npm.installed("tus"), "upload.mjs", {"file": str(sent), "options": made, **given})
    return found


def must_be(site: Site, name: str, data: bytes) -> None:
    assert site.content(f"/files/main/rufh-js/{name}") == data


def test_in_one_request(site: Site, protocol: str, sent: Path, data: bytes) -> None:
    told = upload(site, protocol, sent, f"single-{protocol}")
    assert told["requests"] == [["POST", 201], ["PATCH", 201]]
    assert site.ask("GET", f"/api/v1/files/{told['file']}").json()["path"] == f"rufh-js/single-{protocol}"
    must_be(site, f"single-{protocol}", data)


@pytest.mark.parametrize("chunk", [100_000, SIZE, SIZE - 1], ids=["chunks", "all", "all but one"])
def test_in_chunks(site: Site, protocol: str, sent: Path, data: bytes, chunk: int) -> None:
    told = upload(site, protocol, sent, f"chunks-{protocol}-{chunk}", options={"chunkSize": chunk})
    assert told["requests"] == [["POST", 201], *[["PATCH", APPENDED[protocol]]] * (-(-SIZE // chunk) - 1), ["PATCH", 201]]
    must_be(site, f"chunks-{protocol}-{chunk}", data)


def test_an_empty_file(site: Site, protocol: str, sent: Path) -> None:
    sent.write_bytes(b"")
    assert upload(site, protocol, sent, f"empty-{protocol}", buffer=True)["requests"] == [["POST", 201]]
    must_be(site, f"empty-{protocol}", b"")


@pytest.mark.parametrize("chunk", [None, 100_000], ids=["all of it", "its first chunk"])
def test_with_bytes_in_the_creating_request(site: Site, protocol: str, sent: Path, data: bytes, chunk: int | None) -> None:
    name = f"creation-{protocol}-{chunk}"
    options = {"uploadDataDuringCreation": True, **({"chunkSize": chunk} if chunk else {})}
    told = upload(site, protocol, sent, name, options=options)
    assert told.get("error") is None and told["requests"][0] == ["POST", 201]
    must_be(site, name, data)


def test_aborts_and_goes_on(site: Site, protocol: str, sent: Path, data: bytes) -> None:
    """Another process has the address and goes on from where it stands."""
    name = f"resumed-{protocol}"
    stopped = upload(site, protocol, sent, name, options={"chunkSize": 100_000}, stopAt=250_000)
    assert stopped["aborted"] >= 250_000
    told = upload(site, protocol, sent, name, options={"chunkSize": 100_000, "uploadUrl": stopped["url"]})
    assert told.get("error") is None and told["requests"][0] == ["HEAD", 204]
    assert 1 <= len(told["requests"]) - 1 <= 6
    must_be(site, name, data)


def test_aborts_and_ends_the_upload(site: Site, protocol: str, sent: Path) -> None:
    told = upload(site, protocol, sent, f"ended-{protocol}", options={"chunkSize": 100_000}, stopAt=250_000, terminate=True)
    assert told["requests"][-1] == ["DELETE", 204]
    assert site.ask("HEAD", urlsplit(told["url"]).path, who="ann").status == 410
