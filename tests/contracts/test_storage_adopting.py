"""The contract of :class:`carboy.storage.base.Adopts`: files of the machine become blobs, and blobs are replaced whole."""

from __future__ import annotations

import fcntl
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from carboy.errors import StorageFull
from carboy.model import Key, key_for, new_id
from carboy.storage.local import LocalStorage


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[LocalStorage]:
    one = LocalStorage(tmp_path / "blobs")
    one.prepare()
    yield one
    one.close()


@contextmanager
def opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY)
    try:
        yield file
    finally:
        os.close(file)


@pytest.fixture
def original(tmp_path: Path) -> Path:
    path = tmp_path / "original"
    path.write_bytes(b"original bytes" * 1000)
    return path


def content(storage: LocalStorage, key: Key) -> bytes:
    return b"".join(storage.read(key))


def blob(tmp_path: Path, key: Key) -> Path:
    return tmp_path / "blobs" / key


@pytest.mark.parametrize("link", [False, True])
def test_an_adopted_file_has_the_bytes_of_the_one_that_is_open(storage: LocalStorage, original: Path, tmp_path: Path, link: bool) -> None:
    """Whatever has its name by then."""
    with opened(original) as file:
        original.rename(tmp_path / "elsewhere")
        original.write_bytes(b"another")
        with storage.adopt(file, link=link) as (key, writer, linked):
            writer.flush()
    assert linked is link
    assert content(storage, key) == b"original bytes" * 1000
    assert os.path.samefile(blob(tmp_path, key), tmp_path / "elsewhere") is link


@pytest.mark.parametrize("link", [False, True])
def test_nobody_removes_it_before_it_is_let_go(storage: LocalStorage, original: Path, link: bool) -> None:
    with opened(original) as file, storage.adopt(file, link=link) as (key, writer, _):
        assert not storage.delete(key)
        writer.flush()
    assert storage.delete(key)
    assert original.exists()


def test_what_somebody_has_locked_is_copied(storage: LocalStorage, original: Path) -> None:
    """Its owner is writing to it."""
    held = os.open(original, os.O_RDWR)
    fcntl.fcntl(held, fcntl.F_OFD_SETLK, struct.pack("@hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
    try:
        with opened(original) as file, storage.adopt(file, link=True) as (key, _, linked):
            pass
    finally:
        os.close(held)
    assert not linked
    assert content(storage, key) == original.read_bytes()
    assert list(storage.keys()) == [key], "no link of the attempt remains"


def test_what_has_no_name_any_more_is_copied(storage: LocalStorage, original: Path) -> None:
    with opened(original) as file:
        original.unlink()
        with storage.adopt(file, link=True) as (key, _, linked):
            pass
    assert not linked
    assert len(content(storage, key)) == 14_000


def test_nothing_remains_where_there_is_no_room(storage: LocalStorage, original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statvfs = os.statvfs
    monkeypatch.setattr(os, "statvfs", lambda fd: os.statvfs_result((*statvfs(fd)[:3], 0, 0, *statvfs(fd)[5:])))
    with opened(original) as file:
        with pytest.raises(StorageFull), storage.adopt(file):
            pass
        with pytest.raises(StorageFull):
            storage.put(key_for(new_id()), file)
    assert list(storage.keys()) == []


def test_a_file_is_adopted_while_others_remove_all_they_can(storage: LocalStorage, original: Path, tmp_path: Path) -> None:
    ended = threading.Event()

    def remove() -> None:
        while not ended.is_set():
            for key in list(storage.keys()):
                storage.delete(key)

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        with opened(original) as file:
            for _ in range(200):
                with storage.adopt(file, link=True) as (key, _, _):
                    assert blob(tmp_path, key).exists()
                storage.delete(key)
    finally:
        ended.set()
        remover.join()


# --- put -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_put_gives_a_key_these_bytes(storage: LocalStorage, original: Path, tmp_path: Path, link: bool, there: bool) -> None:
    key = key_for(new_id())
    if there:
        blob(tmp_path, key).write_bytes(b"wrong")
    with opened(original) as file:
        assert storage.put(key, file, link=link) is link
        assert storage.put(key, file, link=link) is link
    storage.sync()
    assert content(storage, key) == original.read_bytes()
    assert os.listdir(blob(tmp_path, key).parent) == [key[3:]], "no other name remains"


def test_who_reads_meanwhile_reads_on(storage: LocalStorage, original: Path, tmp_path: Path) -> None:
    key = key_for(new_id())
    blob(tmp_path, key).write_bytes(b"before")
    with storage.open(key) as reader, opened(original) as file:
        storage.put(key, file)
        assert reader.read() == b"before"
    assert content(storage, key) == original.read_bytes()


def test_a_link_that_was_replaced_leaves_its_other_name_alone(storage: LocalStorage, original: Path, tmp_path: Path) -> None:
    with opened(original) as file, storage.adopt(file, link=True) as (key, _, _):
        pass
    (tmp_path / "right").write_bytes(b"right")
    with opened(tmp_path / "right") as file:
        storage.put(key, file)
    assert content(storage, key) == b"right"
    assert original.read_bytes() == b"original bytes" * 1000


def test_a_leftover_of_a_crash_is_no_key_and_no_hindrance(storage: LocalStorage, original: Path, tmp_path: Path) -> None:
    key = key_for(new_id())
    (blob(tmp_path, key).parent / f".{key[3:]}.new").write_bytes(b"half")
    assert list(storage.keys()) == []
    with opened(original) as file:
        storage.put(key, file)
    assert content(storage, key) == original.read_bytes()
