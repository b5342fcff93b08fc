"""An empty catalog of each kind."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from catalogs import AsSaid

from carboy.catalog.base import Catalog
from carboy.catalog.sql import open_catalog


@pytest.fixture(scope="session")
def empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalog") / "empty.sqlite3"
    catalog = open_catalog(f"sqlite:///{path}")
    catalog.migrate()
    catalog.close()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path, empty_sqlite: Path) -> Iterator[Catalog]:
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    else:
        url = f"sqlite:///{shutil.copy(empty_sqlite, tmp_path / 'catalog.sqlite3')}"
    catalog = open_catalog(url, plan=AsSaid())
    yield catalog
    catalog.close()
