"""The Python calls: put, get, at, open, list, send, delete, restore, move, copy, update, usage."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures_flask import PNG, AppFactory, stored_bytes
from flask import Flask

from carboy import Carboy, File
from carboy.errors import Conflict, InvalidName, InvalidRequest, NotFound, PathConflict, QuotaExceeded, TooLarge, UnsupportedType
from carboy.model import Placement
from carboy.testing import sweep


@pytest.fixture
def carboy(app: Flask) -> Iterator[Carboy]:
    carboy = Carboy(app)
    carboy.space("images", accept=["image/*"], max_size="1 kB")
    carboy.space("once", on_conflict="refuse")
    carboy.space("kept", versions=2)
    carboy.space("rough", trash=0)
    carboy.space("home", private=True)
    carboy.space("tight", quota="10 B", owner_quota="6 B")
    with app.app_context():
        yield carboy


class TestPutting:
    @pytest.mark.parametrize("content", [b"12345", bytearray(b"12345"), memoryview(b"12345"), io.BytesIO(b"12345"), [b"12", b"345"],
                                         (piece for piece in [b"1234", b"", b"5"])])
    def test_bytes_files_and_pieces(self, carboy: Carboy, content: Any) -> None:
        file = carboy.put("main", "a/b.txt", content, owner=7, metadata={"n": 1}, tags=["t"])
        assert (file.path, file.name, file.size, file.owner, file.metadata, file.tags) == ("a/b.txt", "b.txt", 5, "7", {"n": 1}, ("t",))
        with carboy.open(file) as stream:
            assert stream.read() == b"12345"

    def test_a_space_is_itself_or_its_name(self, carboy: Carboy) -> None:
        plain, home = carboy.space("plain"), carboy.space("home", private=True)
        file = carboy.put(plain, "a.txt", b"a")
        assert [file] == list(carboy.list(plain)) == list(carboy.list("plain")) == [carboy.at(plain, "a.txt")]
        assert carboy.usage(plain).files == 1
        assert carboy.copy(file, "b.txt", space=home).space == "home"
        assert carboy.move(file, "c.txt", space=home).space == "home"
        assert carboy.usage(plain).files == 0

    def test_a_file_on_disk_of_any_size(self, carboy: Carboy, tmp_path: Path) -> None:
        (tmp_path / "big").write_bytes(PNG + bytes(5_000_000))
        with (tmp_path / "big").open("rb") as big:
            file = carboy.put("main", "big", big)
        assert (file.size, file.media_type) == (len(PNG) + 5_000_000, "image/png")

    @pytest.mark.parametrize(("space", "path", "content", "error"), [
        ("images", "a.png", b"text", UnsupportedType), ("images", "a.png", PNG + bytes(1000), TooLarge), ("none", "a", b"", NotFound),
        ("main", "../a", b"", InvalidName), ("main", "", b"", InvalidName), ("main", "a", "text", InvalidRequest), ("main", "a", 5, InvalidRequest),
        ("main", "a", io.StringIO("text"), InvalidRequest), ("main", "a", ["text"], InvalidRequest), ("tight", "a", b"12345678901", QuotaExceeded),
    ])
    def test_what_is_refused_leaves_nothing(self, carboy: Carboy, app: Flask, space: str, path: str, content: Any, error: type[Exception]) -> None:
        with pytest.raises(error):
            carboy.put(space, path, content)
        assert stored_bytes(app) == []

    def test_what_fails_while_it_is_read_fails_the_caller(self, carboy: Carboy, app: Flask) -> None:
        def pieces() -> Iterator[bytes]:
            yield b"some"
            raise OSError("the source broke")

        with pytest.raises(OSError, match="the source broke"):
            carboy.put("main", "a", pieces())
        assert stored_bytes(app) == []

    def test_conflicts_are_the_spaces_or_the_calls_affair(self, carboy: Carboy) -> None:
        first = carboy.put("once", "a", b"1")
        with pytest.raises(Conflict):
            carboy.put("once", "a", b"2")
        assert carboy.put("once", "a", b"2", on_conflict="rename").path == "a (1)"
        replaced = carboy.put("once", "a", b"2", on_conflict="replace")
        assert (replaced.id, replaced.version) == (first.id, 2)
        with pytest.raises(PathConflict):
            carboy.put("once", "a/b", b"3")

    def test_quotas_count_each_owner(self, carboy: Carboy) -> None:
        carboy.put("tight", "a", b"12345", owner="ann")
        with pytest.raises(QuotaExceeded):
            carboy.put("tight", "b", b"12", owner="ann")
        carboy.put("tight", "b", b"12345", owner="bob")
        assert (carboy.usage("tight").bytes, carboy.usage("tight", owner="ann").bytes) == (10, 5)


class TestReading:
    def test_get_and_at(self, carboy: Carboy) -> None:
        file = carboy.put("main", "a/b.txt", b"x")
        assert carboy.get(file.id) == carboy.get(file) == carboy.at("main", "a/b.txt") == file
        for missing in ("0" * 32, "nonsense", ""):
            with pytest.raises(NotFound):
                carboy.get(missing)
        with pytest.raises(NotFound):
            carboy.at("main", "a")

    def test_an_open_file_is_buffered_and_seekable(self, carboy: Carboy) -> None:
        data = bytes(range(256)) * 4096
        file = carboy.put("main", "a", data)
        with carboy.open(file) as stream:
            assert (stream.readable(), stream.seekable(), stream.writable()) == (True, True, False)
            stream.seek(-10, io.SEEK_END)
            assert stream.read() == data[-10:]
            assert stream.read() == b""
            stream.seek(300_000)
            assert stream.read(10) == data[300_000:300_010]
            stream.seek(5, io.SEEK_CUR)
            assert stream.tell() == 300_015
            with pytest.raises(ValueError, match="negative"):
                stream.seek(-1)
            stream.seek(2_000_000)
            assert stream.read() == b""

    def test_an_older_version_can_be_opened(self, carboy: Carboy) -> None:
        carboy.put("kept", "a", b"old")
        file = carboy.put("kept", "a", b"new")
        assert carboy.open(file).read() == b"new"
        assert carboy.open(file, version=1).read() == b"old"
        with pytest.raises(NotFound):
            carboy.open(file, version=9)

    def test_a_list_goes_over_all_pages(self, carboy: Carboy) -> None:
        blob = carboy.put("main", "n/0000", b"").blob
        carboy.services.catalog.place([Placement("main", f"n/{n:04}", None, "text/plain", {}, blob) for n in range(2500)], now=1.0)
        assert [file.path for file in carboy.list("main")] == [f"n/{n:04}" for n in range(2500)]
        assert len(list(carboy.list("main", "n/1"))) == 1000
        assert list(carboy.list("main", "%")) == list(carboy.list("main", "x_")) == []
        with pytest.raises(NotFound):
            carboy.list("nowhere")

    def test_private_trees(self, carboy: Carboy) -> None:
        ann, bob = carboy.put("home", "a.txt", b"1", owner="ann"), carboy.put("home", "a.txt", b"2", owner="bob/x")
        assert (ann.path, bob.path) == ("ann/a.txt", "bob=2Fx/a.txt")
        assert list(carboy.list("home", owner="ann")) == [ann]
        assert list(carboy.list("home", owner="bob/x")) == [bob]
        assert list(carboy.list("home")) == [ann, bob]
        assert list(carboy.list("home", "a", owner="nobody")) == []


class TestChanging:
    def test_deleted_files_wait_in_the_trash(self, carboy: Carboy) -> None:
        file = carboy.put("main", "a", b"1")
        carboy.delete(file.id)
        with pytest.raises(NotFound):
            carboy.get(file)
        with pytest.raises(NotFound):
            carboy.delete(file)
        assert carboy.restore(file.id).path == "a"
        carboy.delete(file, permanent=True)
        with pytest.raises(NotFound):
            carboy.restore(file)

    def test_a_space_without_trash_lets_go_at_once(self, carboy: Carboy, app: Flask) -> None:
        carboy.delete(carboy.put("rough", "a", b"1"))
        sweep(carboy)
        assert stored_bytes(app) == []

    def test_move_copy_and_update(self, carboy: Carboy, app: Flask) -> None:
        file = carboy.put("main", "a.txt", b"1")
        moved = carboy.move(file, "f/b.txt", space="kept")
        assert (moved.id, moved.space, moved.path) == (file.id, "kept", "f/b.txt")
        copy = carboy.copy(moved, "c.txt")
        assert (copy.id != file.id, copy.space, carboy.open(copy).read(), len(stored_bytes(app))) == (True, "kept", b"1", 1)
        carboy.update(copy, metadata={"a": 1, "b": 2}, tags=["x"])
        changed = carboy.update(copy, metadata={"a": None})
        assert (changed.metadata, changed.tags) == ({"b": 2}, ("x",))
        with pytest.raises(Conflict):
            carboy.move(copy, "f/b.txt")


class TestSending:
    @pytest.fixture
    def file(self, carboy: Carboy, app: Flask) -> File:
        app.add_url_rule("/f/<key>", "f", lambda key: carboy.send(key))
        app.add_url_rule("/d/<key>", "d", lambda key: carboy.send(key, download=True, name="as \"this\".txt"))
        app.add_url_rule("/n/<key>", "n", lambda key: carboy.send(key, name="other.txt"))
        app.add_url_rule("/v/<key>", "v", lambda key: carboy.send(key, version=1))
        carboy.put("kept", "a.txt", b"older")
        return carboy.put("kept", "a.txt", b"0123456789")

    def test_whole_parts_and_heads(self, file: File, app: Flask) -> None:
        client = app.test_client()
        whole = client.get(f"/f/{file.id}")
        assert (whole.status_code, whole.data, whole.headers["ETag"], whole.mimetype) == (200, b"0123456789", file.etag, "text/plain")
        part = client.get(f"/f/{file.id}", headers={"Range": "bytes=2-4"})
        assert (part.status_code, part.data, part.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
        head = client.head(f"/f/{file.id}")
        assert (head.status_code, head.data, head.headers["Content-Length"]) == (200, b"", "10")
        outside = client.get(f"/f/{file.id}", headers={"Range": "bytes=20-"})
        assert (outside.status_code, outside.headers["Content-Range"]) == (416, "bytes */10")

    def test_conditions(self, file: File, app: Flask) -> None:
        client = app.test_client()
        assert client.get(f"/f/{file.id}", headers={"If-None-Match": file.etag}).status_code == 304
        assert client.get(f"/f/{file.id}", headers={"If-Match": '"x"'}).status_code == 412

    def test_how_browsers_take_it(self, file: File, app: Flask) -> None:
        client = app.test_client()
        shown, saved, named = (client.get(f"/{kind}/{file.id}").headers["Content-Disposition"] for kind in "fdn")
        assert (shown, named) == ('inline; filename="a.txt"', 'inline; filename="other.txt"')
        assert saved == "attachment; filename=\"as _this_.txt\"; filename*=UTF-8''as%20%22this%22.txt"

    def test_what_could_run_is_never_shown(self, file: File, carboy: Carboy, app: Flask) -> None:
        page = carboy.put("main", "a.html", b"<!doctype html><script>alert(1)</script>")
        answer = app.test_client().get(f"/n/{page.id}")
        assert answer.headers["Content-Disposition"].startswith("attachment")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"

    def test_private_answers_are_for_one_person(self, file: File, app: Flask) -> None:
        answer = app.test_client().get(f"/f/{file.id}")
        assert "private" in answer.headers["Cache-Control"]
        assert {"cookie", "authorization"} <= {name.strip().lower() for name in answer.headers["Vary"].split(",")}

    def test_versions_and_what_is_not_there(self, file: File, app: Flask) -> None:
        client = app.test_client()
        assert client.get(f"/v/{file.id}").data == b"older"
        assert client.get("/f/" + "0" * 32).json["code"] == "not_found"  # type: ignore[index]

    def test_the_proxy_in_front_may_send_it(self, make_app: AppFactory) -> None:
        app = make_app(CARBOY_ACCEL="x-accel-redirect")
        carboy = Carboy(app)
        file = carboy.put("main", "a.txt", b"a")
        app.add_url_rule("/f", "f", lambda: carboy.send(file))
        answer = app.test_client().get("/f")
        assert (answer.data, answer.headers["X-Accel-Redirect"]) == (b"", f"/_carboy/{file.blob.key}")
