"""The page's tests have a site of their own: what they put into public and private spaces is in nobody's lists."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fixtures_server import Server
from fixtures_site import CONFIG, Site, _watched


@pytest.fixture(scope="package")
def pages_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("pages")
    (folder / "carboy.toml").write_text(CONFIG)
    server = Server(folder / "data", args=["--config", str(folder / "carboy.toml")])
    yield Site(server.start()).settle()
    if server.running:
        server.stop()
    server.must_be_sound()


@pytest.fixture
def site(request: pytest.FixtureRequest, pages_site: Site) -> Iterator[Site]:
    yield from _watched(request, pages_site)
