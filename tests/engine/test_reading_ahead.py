"""Files in S3 read as Python files: one answer of the server while they are read on, and little fetched where they are looked into."""

from __future__ import annotations

import io
import os
import random
import zipfile
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import pytest
from fixtures_stores import EngineOver, Stores

from carboy.engine.opening import open_blob
from carboy.engine.zips import Archive
from carboy.model import Key, Principal, Span
from carboy.storage.base import Storage

DATA = random.Random("reading").randbytes(30 * 2**20 + 5)
ME = Principal("me", "token", {"*": frozenset({"admin"})})


@dataclass
class Counted:
    """A real storage, and what was asked of it."""

    storage: Storage
    asked: list[Span] = field(default_factory=list)
    open: int = 0
    taken: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage, name)

    def read(self, key: Key, span: Span | None = None) -> Iterator[bytes]:
        assert span
        self.asked.append(span)
        return self._counted(self.storage.read(key, span))

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        assert isinstance(pieces, Generator)
        self.open += 1
        try:
            for piece in pieces:
                self.taken += len(piece)
                yield piece
        finally:
            pieces.close()
            self.open -= 1


@pytest.fixture
def engine(stores: EngineOver) -> Stores:
    engine = stores()
    engine.add("data", DATA, "one")
    return engine


def opened(engine: Stores) -> tuple[BinaryIO, Counted]:
    file = engine.file("data", "one")
    assert file
    counted = Counted(engine.services.storages["one"])
    return open_blob(file.blob, counted), counted


def test_reading_on_takes_few_requests(engine: Stores) -> None:
    content, counted = opened(engine)
    with content:
        assert b"".join(iter(lambda: content.read(65_536), b"")) == DATA
    assert (len(counted.asked), counted.open) == (4, 0)
    assert counted.taken == len(DATA), "nothing comes twice"


def test_looking_here_and_there_fetches_little(engine: Stores) -> None:
    content, counted = opened(engine)
    with content:
        for place in (len(DATA) - 22, 5, 20_000_000, 7_777_777):
            content.seek(place)
            assert content.read(10) == DATA[place:place + 10]
    assert counted.taken <= 4 * 2**20
    assert counted.open == 0


def test_any_order_gives_the_right_bytes(engine: Stores) -> None:
    content, counted = opened(engine)
    chance = random.Random("order")
    with content:
        at = 0
        for _ in range(300):
            if chance.random() < 0.3:
                at = content.seek(max(0, min(len(DATA), at + chance.choice([-3, 0, 1, 70_000, -200_000, 3_000_000, -9_000_000]))))
            size = chance.choice([1, 100, 128 * 2**10, 200_000, 1_500_000])
            got = content.read(size)
            assert got == DATA[at:at + size]
            at += len(got)
        content.seek(0, os.SEEK_END)
        assert content.read(5) == b""
    assert counted.open == 0


def test_a_zip_inside_is_listed_without_reading_all_of_it(stores: EngineOver) -> None:
    engine, buffer = stores(), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("first", b"x" * 10_000_000)
        made.writestr("second", b"hello")
    engine.add("data", buffer.getvalue(), "one")
    content, counted = opened(engine)
    with content, zipfile.ZipFile(content) as found:
        assert found.read("second") == b"hello"
    assert counted.taken < 2**22


def archive(engine: Stores, counted: Counted) -> Archive:
    zips = engine.services.zips
    zips._storages = {"one": counted}  # type: ignore[dict-item]
    return zips.open(ME, zips.create(ME, "one", paths=[""]).id)


def test_who_leaves_in_the_midst_of_a_zip_lets_the_storage_go(engine: Stores) -> None:
    counted = Counted(engine.services.storages["one"])
    pieces = archive(engine, counted).pieces()
    assert isinstance(pieces, Generator)
    with closing(pieces):
        next(pieces)
        assert counted.open == 1
    assert counted.open == 0


def test_a_zip_goes_on_though_a_content_has_gone_to_another_storage(stores: EngineOver) -> None:
    engine = stores()
    for name in "abc":
        engine.add(name, name.encode() * 200_000, "one")
    zips = engine.services.zips
    pieces = zips.open(ME, zips.create(ME, "one", paths=[""]).id).pieces()
    first = next(pieces)
    assert len(list(engine.services.migrator.run("one", "local"))) == 3
    engine.swept()
    with zipfile.ZipFile(io.BytesIO(first + b"".join(pieces))) as found:
        assert {name[-1]: found.read(name) for name in found.namelist()} == {name: name.encode() * 200_000 for name in "abc"}
