"""``@carboy.receives``: forms whose files stream into storage."""

from __future__ import annotations

import io
import logging
import os
import shutil
from typing import Any

import pytest
from fixtures_flask import PDF, PNG, AppFactory, a_file, everything, stored_bytes
from flask import Blueprint, Flask, Request, request
from flask.views import MethodView, View
from werkzeug.datastructures import FileStorage

from carboy import Carboy, CarboyError, File, Received
from carboy.errors import BodyCut, Conflict, NotFound, TooLarge, UnsupportedType
from carboy.testing import sweep


def upload(app: Flask, address: str = "/up", **data: Any) -> Any:
    return app.test_client().post(address, data=data)


class Form:
    """An application with one view, which hands what it got to the test."""

    def __init__(self, app: Flask, **options: Any) -> None:
        self.app = app
        self.carboy = Carboy(app, **options)
        self.images = self.carboy.space("images", accept=["image/*"], max_size="100 kB")
        self.papers = self.carboy.space("papers", accept=["application/pdf"], on_conflict="refuse")
        self.files: dict[str, list[Received]] = {}
        self.form: dict[str, list[str]] = {}

        @app.post("/up")
        @self.carboy.receives(self.images)
        def up() -> str:
            self.files = request.files.to_dict(flat=False)  # type: ignore[assignment]
            self.form = request.form.to_dict(flat=False)
            return "ok"

    def receive(self, **data: Any) -> Received:
        """One file, in the field ``photo``."""
        answer = upload(self.app, **(data or {"photo": a_file()}))
        assert answer.status_code == 200, answer.text
        return self.files["photo"][0]


@pytest.fixture
def form(app: Flask) -> Form:
    return Form(app)


class TestWhatAViewGets:
    def test_the_file_is_a_file_storage_with_what_is_known_of_it(self, form: Form) -> None:
        with form.app.app_context():
            photo = form.receive(photo=a_file(PNG, "me.png"))
            assert isinstance(photo, FileStorage)
            assert (photo.name, photo.filename, photo.content_type, photo.mimetype) == ("photo", "me.png", "image/png", "image/png")
            assert (photo.size, photo.content_length, photo.media_type) == (len(PNG), len(PNG), "image/png")
            assert photo.crc == form.carboy.put("main", "same", PNG).blob.crc64nvme
            assert photo and len(photo.id) == 32

    def test_fields_keep_their_order_and_repetitions(self, form: Form) -> None:
        upload(form.app, a=["1", "2"], photo=a_file(), b="ü")
        assert form.form == {"a": ["1", "2"], "b": ["ü"]}

    def test_the_stream_can_be_read_sought_and_iterated(self, form: Form) -> None:
        with form.app.app_context():
            photo = form.receive()
            assert photo.read(4) == PNG[:4]
            assert photo.tell() == 4
            assert photo.seek(-3, os.SEEK_END) == len(PNG) - 3
            assert photo.read() == PNG[-3:]
            photo.seek(0)
            assert b"".join(photo) == PNG
            photo.close()
            assert photo.stream.read() == PNG, "it opens again"
            photo.close()

    def test_it_can_be_saved_elsewhere(self, form: Form, tmp_path: Any) -> None:
        with form.app.app_context():
            photo = form.receive()
            photo.save(tmp_path / "copy.png")
            assert (tmp_path / "copy.png").read_bytes() == PNG
            photo.close()

    def test_a_filename_is_one_clean_segment(self, form: Form) -> None:
        assert form.receive(photo=a_file(PNG, "../../etc/me.png")).filename == "me.png"
        assert form.receive(photo=a_file(PNG, "C:\\photos\\me.png")).filename == "me.png"

    def test_an_empty_input_is_false_as_werkzeug_has_it(self, form: Form) -> None:
        with form.app.app_context():
            photo = form.receive(photo=(io.BytesIO(), ""))
            assert not photo
            assert (photo.filename, photo.size, photo.id, photo.media_type, photo.read()) == ("", 0, "", "", b"")
            with pytest.raises(CarboyError, match="no file was chosen"):
                photo.keep()
            assert stored_bytes(form.app) == []

    def test_an_empty_file_with_a_name_is_a_file(self, app: Flask) -> None:
        carboy = Carboy(app)
        carboy.space("any")

        @app.post("/up")
        @carboy.receives("any")
        def up() -> dict[str, Any]:
            file = carboy.received("f")
            return {"true": bool(file), "size": file.keep().size}

        assert upload(app, f=a_file(b"", "empty.txt")).json == {"true": True, "size": 0}

    def test_what_was_read_as_data_before_is_no_obstacle(self, app: Flask) -> None:
        form = Form(app)
        app.before_request(lambda: request.get_data() and None)
        with app.app_context():
            assert form.receive().size == len(PNG)

    def test_forms_without_files_are_read_as_ever(self, form: Form) -> None:
        assert form.app.test_client().post("/up", data={"a": "1"}).status_code == 200
        assert (form.form, form.files) == ({"a": ["1"]}, {})
        form.app.config["MAX_CONTENT_LENGTH"] = 10
        assert form.app.test_client().post("/up", data={"a": "1" * 100}).status_code == 413

    def test_other_views_are_left_alone(self, form: Form) -> None:
        @form.app.post("/plain")
        def plain() -> str:
            return type(request.files["photo"]).__name__

        assert upload(form.app, "/plain", photo=a_file()).text == "FileStorage"

    def test_many_files_are_received_in_their_order(self, form: Form) -> None:
        upload(form.app, photo=[a_file(PNG + bytes([n]), f"{n}.png") for n in range(20)], other=a_file())
        assert [photo.filename for photo in form.files["photo"]] == [f"{n}.png" for n in range(20)]
        assert len({photo.id for photo in form.files["photo"]}) == 20
        assert len(form.files["other"]) == 1


class TestStaged:
    def test_nobody_finds_it_and_it_is_swept_when_its_time_is_up(self, make_app: AppFactory) -> None:
        now = [1_000_000.0]
        form = Form(make_app(), clock=lambda: now[0])
        with form.app.app_context():
            photo = form.receive()
            assert everything(form.carboy, "images") == []
            with pytest.raises(NotFound):
                form.carboy.get(photo.id)
            now[0] += 23 * 3600
            sweep(form.carboy)
            assert len(stored_bytes(form.app)) == 1
            now[0] += 2 * 3600
            sweep(form.carboy)
            now[0] += 1
            sweep(form.carboy)
            assert stored_bytes(form.app) == []
            with pytest.raises(NotFound):
                photo.keep()

    def test_it_is_no_news_until_it_is_kept(self, app: Flask) -> None:
        heard: list[File] = []
        form = Form(app, on_stored=heard.append)
        with app.app_context():
            photo = form.receive()
            assert heard == []
            kept = photo.keep()
            assert heard == [kept]

    def test_discarding_is_at_once_and_repeatable(self, form: Form) -> None:
        with form.app.app_context():
            photo = form.receive()
            photo.discard()
            photo.discard()
            with pytest.raises(NotFound):
                photo.keep()
            with pytest.raises(NotFound):
                photo.read()
            sweep(form.carboy)
            assert stored_bytes(form.app) == []

    def test_another_request_may_keep_it_by_its_id(self, form: Form) -> None:
        with form.app.app_context():
            id = form.receive().id
            again = form.carboy.staged(id)
            assert (again.id, again.filename, again.size, again.read()) == (id, "me.png", len(PNG), PNG)
            again.close()
            assert again.keep(owner=7).owner == "7"
            with pytest.raises(NotFound):
                form.carboy.staged(id)


class TestKeeping:
    def test_its_path_is_its_id_and_name_so_that_equal_names_never_meet(self, form: Form) -> None:
        with form.app.app_context():
            first, second = form.receive().keep(), form.receive().keep()
            assert first.path == f"{first.id}/me.png"
            assert everything(form.carboy, "images") == sorted([first.path, second.path])

    def test_what_is_said_of_it_is_kept_with_it(self, form: Form) -> None:
        with form.app.app_context():
            photo = form.receive()
            file = photo.keep("faces/ann.png", owner="ann", metadata={"width": 3}, tags=["face"])
            assert form.carboy.get(file.id) == file == photo.file
            assert (file.path, file.owner, file.metadata, file.tags) == ("faces/ann.png", "ann", {"width": 3}, ("face",))
            assert photo.id == file.id
            assert photo.read() == PNG
            photo.close()

    def test_twice_is_a_mistake(self, form: Form) -> None:
        with form.app.app_context():
            photo = form.receive()
            photo.keep()
            with pytest.raises(Conflict, match="kept already"):
                photo.keep()
            photo.discard()
            assert len(everything(form.carboy, "images")) == 1, "what is kept stays"

    def test_a_path_that_has_a_file_follows_the_spaces_rule(self, app: Flask) -> None:
        form = Form(app)
        form.carboy.space("replacing", on_conflict="replace")
        form.carboy.space("renaming", on_conflict="rename")
        form.carboy.space("refusing", on_conflict="refuse")

        with app.app_context():
            spaces = ("replacing", "renaming", "refusing")
            for space in spaces:
                app.add_url_rule(f"/to/{space}", space, form.carboy.receives(space)(lambda: request.files["f"].keep("a.png").path),
                                 methods=["POST"])
            kept = {space: [upload(app, f"/to/{space}", f=a_file()).text for _ in range(2)] for space in spaces}
            assert kept["replacing"] == ["a.png", "a.png"]
            assert kept["renaming"] == ["a.png", "a (1).png"]
            assert "conflict" in kept["refusing"][1]
            assert [len(everything(form.carboy, space)) for space in kept] == [1, 2, 1]

    def test_all_or_none(self, form: Form) -> None:
        with form.app.app_context():
            upload(form.app, photo=[a_file(PNG, "a.png"), a_file(PNG, "b.png")])
            one, two = form.files["photo"]
            with pytest.raises(CarboyError):
                form.carboy.keep_all([one, two], path=lambda each: "x" if each is one else "x/y")
            assert everything(form.carboy, "images") == []
            files = form.carboy.keep_all([one, two], path=lambda each: f"set/{each.filename}", owner="ann")
            assert [file.path for file in files] == ["set/a.png", "set/b.png"]
            assert [one.file, two.file] == files
            assert form.carboy.keep_all([]) == []

    @pytest.mark.parametrize("owner", ["42", 42, "a/b", "..", ".", "%2e%2e", "auth0|x@y", "é" * 200, "nobody", ""])
    def test_in_a_private_space_any_owner_has_a_tree_of_its_own(self, app: Flask, owner: Any) -> None:
        form = Form(app)
        form.carboy.space("home", private=True)
        app.add_url_rule("/home", "home", form.carboy.receives("home")(lambda: request.files["f"].keep("a.png", owner=owner).id),
                         methods=["POST"])
        with app.app_context():
            id = upload(app, "/home", f=a_file()).text
            form.carboy.put("home", "a.png", b"nobody's")
            form.carboy.put("home", "a.png", b"another's", owner="another")
            file = form.carboy.get(id)
            assert (file.owner, file.path.count("/")) == (str(owner), 1)
            assert form.carboy.at("home", "a.png", owner=owner) == file
            assert [each.id for each in form.carboy.list("home", owner=owner)] == [id]
            assert len(everything(form.carboy, "home")) == 3


class TestWhatIsRefused:
    """The error comes before the view runs, as a problem, and nothing stays."""

    def refused(self, form: Form, code: str, status: int, **data: Any) -> dict[str, Any]:
        form.files = {}
        answer = upload(form.app, **data)
        assert (answer.status_code, answer.json["code"]) == (status, code), answer.text
        assert (answer.content_type, form.files) == ("application/problem+json", {})
        assert stored_bytes(form.app) == []
        return dict(answer.json)

    def test_another_type(self, form: Form) -> None:
        self.refused(form, "unsupported_type", 415, photo=a_file(b"<html>", "me.png"))

    def test_a_later_file_takes_the_earlier_ones_with_it(self, form: Form) -> None:
        self.refused(form, "unsupported_type", 415, photo=a_file(), other=a_file(b"text", "t.txt"))

    def test_too_large_is_the_spaces_limit_and_not_flasks(self, form: Form) -> None:
        form.app.config["MAX_CONTENT_LENGTH"] = 1000
        form.app.config["MAX_FORM_MEMORY_SIZE"] = 10
        assert upload(form.app, photo=a_file(PNG + bytes(50_000)), text="x" * 1000).status_code == 200
        with form.app.app_context():
            form.files["photo"][0].discard()
            sweep(form.carboy)
        assert self.refused(form, "too_large", 413, photo=a_file(PNG + bytes(200_000)))["limit"] == 100_000

    def test_too_many_parts_and_too_long_fields(self, make_app: AppFactory) -> None:
        form = Form(make_app(CARBOY_MAX_FORM_PARTS=3, CARBOY_MAX_FIELD_SIZE=100))
        self.refused(form, "too_large", 413, photo=a_file(), a="1", b="2", c="3")
        self.refused(form, "too_large", 413, photo=a_file(), a="1" * 101)

    @pytest.mark.parametrize("name", ["a\x7f.png", "x" * 300 + ".png", ".."])
    def test_a_name_that_can_not_be(self, form: Form, name: str) -> None:
        self.refused(form, "invalid_name", 400, photo=a_file(PNG, name))

    def test_a_body_that_is_cut(self, form: Form) -> None:
        body = b'--b\r\nContent-Disposition: form-data; name="photo"; filename="a.png"\r\n\r\n' + PNG
        answer = form.app.test_client().post("/up", data=body, content_type="multipart/form-data; boundary=b",
                                             environ_overrides={"CONTENT_LENGTH": str(len(body) + 1000)})
        assert (answer.status_code, answer.json["code"], form.files) == (400, "body_cut", {})
        assert stored_bytes(form.app) == []

    def test_what_is_no_form(self, form: Form) -> None:
        for body, kind in [(b"hello", "multipart/form-data; boundary=b"), (b"x", "multipart/form-data"), (b"x", "multipart/form-data; boundary=")]:
            answer = form.app.test_client().post("/up", data=body, content_type=kind)
            assert (answer.status_code, answer.json["code"]) == (400, "invalid_request"), kind

    def test_a_digest_that_does_not_fit(self, form: Form) -> None:
        body = b'--b\r\nContent-Disposition: form-data; name="photo"; filename="a.png"\r\nContent-MD5: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n' + PNG + b"\r\n--b--\r\n"
        answer = form.app.test_client().post("/up", data=body, content_type="multipart/form-data; boundary=b")
        assert (answer.status_code, answer.json["code"], stored_bytes(form.app)) == (400, "digest_mismatch", [])

    def test_the_application_may_handle_it(self, form: Form) -> None:
        form.app.register_error_handler(TooLarge, lambda error: (f"at most {error.facts['limit']}", 413))
        assert upload(form.app, photo=a_file(PNG + bytes(200_000))).text == "at most 100000"

    def test_a_handler_of_the_status_is_asked_too(self, form: Form) -> None:
        form.app.register_error_handler(415, lambda error: (f"no: {error.description}", 415))
        assert upload(form.app, photo=a_file(b"text", "a.txt")).text.startswith("no: 'a.txt' is text/plain")

    def test_the_error_is_raised_above_the_view_and_stays_the_same(self, app: Flask) -> None:
        carboy = Carboy(app)
        carboy.space("images", accept=["image/*"])
        seen: list[BaseException] = []

        def watched(view: Any) -> Any:
            def watch() -> Any:
                for _ in range(2):
                    try:
                        view()
                    except CarboyError as error:
                        seen.append(error)
                return "seen"
            return watch

        app.add_url_rule("/up", "up", watched(carboy.receives("images")(lambda: "never")), methods=["POST"])
        assert upload(app, photo=a_file(b"text", "a.txt")).text == "seen"
        assert [type(error) for error in seen] == [UnsupportedType, UnsupportedType]
        assert seen[0] is seen[1]

    def test_a_storage_that_fails_is_told_to_the_operator_alone(self, form: Form, caplog: pytest.LogCaptureFixture) -> None:
        with form.app.app_context():
            form.carboy.services.storages["local"].close()
        shutil.rmtree(f"{form.app.instance_path}/carboy/blobs")
        with caplog.at_level(logging.ERROR, "carboy"):
            answer = upload(form.app, photo=a_file())
        assert answer.status_code == 500
        assert "blobs" not in answer.text
        assert "storage_failed" in caplog.text


class TestWhereItMayStand:
    def test_per_field(self, app: Flask) -> None:
        form = Form(app)

        @app.post("/both")
        @form.carboy.receives(photo=form.images, cv=form.papers)
        def both() -> dict[str, str]:
            return {field: file.keep().space for field, file in request.files.items() if file}

        assert upload(app, "/both", photo=a_file(), cv=a_file(PDF, "cv.pdf")).json == {"photo": "images", "cv": "papers"}
        assert upload(app, "/both", photo=a_file(PDF, "cv.pdf")).status_code == 415
        answer = upload(app, "/both", other=a_file())
        assert (answer.status_code, answer.json["field"]) == (400, "other")
        assert upload(app, "/both", other=(io.BytesIO(), "")).json == {}, "an empty input harms nobody"

    def test_a_default_beside_named_fields(self, app: Flask) -> None:
        form = Form(app)

        @app.post("/some")
        @form.carboy.receives(form.images, **{"cv[]": form.papers})
        def some() -> dict[str, str]:
            return {field: file.keep().space for field, file in request.files.items()}

        assert upload(app, "/some", **{"cv[]": a_file(PDF, "cv.pdf"), "x": a_file()}).json == {"cv[]": "papers", "x": "images"}

    def test_blueprints_and_other_decorators(self, app: Flask) -> None:
        import functools

        form = Form(app)
        blueprint = Blueprint("shop", __name__, url_prefix="/shop")

        def noted(view: Any) -> Any:
            @functools.wraps(view)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                assert isinstance(request.files["photo"], Received), "read above the mark"
                return view(*args, **kwargs)
            return wrapper

        @blueprint.post("/<int:item>")
        @noted
        @form.carboy.receives(form.images)
        def up(item: int) -> str:
            return f"{item} {request.files['photo'].keep().space}"

        app.register_blueprint(blueprint)
        assert upload(app, "/shop/3", photo=a_file()).text == "3 images"

    def test_class_based_views(self, app: Flask) -> None:
        form = Form(app)

        class Whole(View):
            methods = ("POST",)
            decorators = (form.carboy.receives(form.images),)

            def dispatch_request(self) -> str:
                return str(request.files["photo"].keep().space)

        class Single(MethodView):
            def get(self) -> str:
                return "get"

            @form.carboy.receives(form.images)
            def post(self) -> str:
                return str(request.files["photo"].keep().space)

            def put(self) -> str:
                return type(request.files["photo"]).__name__

        @app.before_request
        def reads_first() -> None:
            request.form.get("csrf_token")

        app.add_url_rule("/whole", view_func=Whole.as_view("whole"))
        app.add_url_rule("/single", view_func=Single.as_view("single"))
        assert upload(app, "/whole", photo=a_file()).text == "images"
        assert upload(app, "/single", photo=a_file()).text == "images"
        assert app.test_client().put("/single", data={"photo": a_file()}).text == "FileStorage"

    def test_a_request_class_of_the_applications_own(self, app: Flask) -> None:
        class Mine(Request):
            @property
            def shop(self) -> str:
                return "mine"

        app.request_class = Mine
        form = Form(app)

        @app.post("/mine")
        @form.carboy.receives(form.images)
        def mine() -> str:
            return f"{request.shop} {type(request.files['photo']).__name__}"  # type: ignore[attr-defined]

        assert upload(app, "/mine", photo=a_file()).text == "mine Received"

    def test_one_that_comes_too_late_is_told(self, form: Form) -> None:
        early: list[object] = []
        form.app.before_request(lambda: request.form.get("x") if early else None)
        form.app.request_class = Request
        assert upload(form.app, photo=a_file()).status_code == 200, "the view reads the form itself"
        early.append(True)
        with pytest.raises(RuntimeError, match="before Carboy's init_app"):
            upload(form.app, photo=a_file())

    def test_async_views(self, form: Form) -> None:
        @form.app.post("/async")
        @form.carboy.receives(form.images)
        async def waiting() -> str:
            return str(request.files["photo"].keep().space)

        assert upload(form.app, "/async", photo=a_file()).text == "images"

    def test_an_unknown_space_is_told(self, form: Form) -> None:
        form.app.add_url_rule("/lost", "lost", form.carboy.receives("lost")(lambda: "never"), methods=["POST"])
        assert upload(form.app, "/lost", photo=a_file()).status_code == 404

    def test_no_space_at_all_is_a_mistake(self, form: Form) -> None:
        with pytest.raises(CarboyError, match="say which space"):
            form.carboy.receives()

    def test_typed_access(self, form: Form) -> None:
        @form.app.post("/typed")
        @form.carboy.receives(form.images)
        def typed() -> dict[str, Any]:
            return {"one": form.carboy.received("photo").filename, "all": len(form.carboy.all_received()),
                    "some": len(form.carboy.all_received("photo"))}

        assert upload(form.app, "/typed", photo=[a_file(), a_file()], x=a_file(), e=(io.BytesIO(), "")).json == {"one": "me.png", "all": 3, "some": 2}
        assert upload(form.app, "/typed", x=a_file()).status_code == 400, "as request.files[…] answers"


def test_an_interrupted_form_is_said_to_be_cut() -> None:
    """The class of the error is what views may catch."""
    assert issubclass(BodyCut, CarboyError)
