"""Beside the packages that applications have: Flask-WTF, WTForms, Flask-Login, Flask-SQLAlchemy, Flask-Limiter."""

from __future__ import annotations

import io
from typing import Any

import flask_limiter
import flask_login
import pytest
from fixtures_flask import FETCHED_BY_A_PAGE_OF_ITS_OWN, PNG, AppFactory, a_file, stored_bytes
from flask import Flask, request
from flask_limiter.util import get_remote_address
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import FlaskForm
from flask_wtf.csrf import CSRFProtect, generate_csrf
from flask_wtf.file import FileAllowed, FileField, FileRequired, FileSize, MultipleFileField
from sqlalchemy import ForeignKey, select
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Mapped, mapped_column
from wtforms import FileField as PlainFileField
from wtforms import StringField
from wtforms.validators import InputRequired

from carboy import Carboy, FileId, Received
from carboy.testing import sweep


class TestCsrfProtect:
    def made(self, make_app: AppFactory, *, csrf_first: bool) -> tuple[Flask, Carboy]:
        app = make_app()
        carboy = Carboy(expose=["files"], authenticate=lambda: "ann")
        carboy.space("home", private=True)
        for extension in [CSRFProtect(), carboy] if csrf_first else [carboy, CSRFProtect()]:
            extension.init_app(app)
        app.add_url_rule("/token", "token", generate_csrf)

        @app.post("/up")
        @carboy.receives("main")
        def up() -> str:
            return request.files["f"].keep().name

        app.add_url_rule("/plain", "plain", lambda: "done", methods=["POST"])
        return app, carboy

    @pytest.mark.parametrize("csrf_first", [True, False])
    def test_it_reads_the_form_first_and_protects_the_applications_views(self, make_app: AppFactory, csrf_first: bool) -> None:
        app, carboy = self.made(make_app, csrf_first=csrf_first)
        client = app.test_client()
        token = client.get("/token").text
        assert client.post("/up", data={"csrf_token": token, "f": a_file()}).text == "me.png"
        assert client.post("/up", data={"f": a_file()}, headers={"X-CSRFToken": token}).text == "me.png"
        for address in ("/up", "/plain"):
            answer = client.post(address, data={"f": a_file()})
            assert (answer.status_code, "CSRF" in answer.text) == (400, True)
        with app.app_context():
            assert len(list(carboy.list("main"))) == 2

    @pytest.mark.parametrize("csrf_first", [True, False])
    def test_carboys_own_routes_need_no_form_token(self, make_app: AppFactory, csrf_first: bool) -> None:
        app, _ = self.made(make_app, csrf_first=csrf_first)
        client = app.test_client()
        assert client.put("/carboy/files/home/a", data=b"x", headers=FETCHED_BY_A_PAGE_OF_ITS_OWN).status_code == 201
        assert client.post("/carboy/files/home/", data={"f": a_file()}, headers=FETCHED_BY_A_PAGE_OF_ITS_OWN).status_code == 201
        assert client.put("/carboy/files/home/a", data=b"x", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403

    def test_what_is_refused_while_it_looks_for_the_token_is_a_problem(self, make_app: AppFactory) -> None:
        app, carboy = self.made(make_app, csrf_first=True)
        app.config["CARBOY_MAX_SIZE"] = 10
        answer = app.test_client().post("/up", data={"f": a_file()})
        assert (answer.status_code, answer.json["code"]) == (413, "too_large")  # type: ignore[index]
        with app.app_context():
            sweep(carboy)
        assert stored_bytes(app) == []


class PhotoForm(FlaskForm):
    class Meta:
        csrf = False

    title = StringField(validators=[InputRequired()])
    photo = FileField(validators=[FileRequired(), FileAllowed(["png"]), FileSize(1000, 20)])
    more = MultipleFileField(validators=[FileAllowed(["png"])])
    plain = PlainFileField()


class TestForms:
    @pytest.fixture
    def app(self, app: Flask) -> Flask:
        carboy = Carboy(app)

        @app.post("/up")
        @carboy.receives("main")
        def up() -> dict[str, Any]:
            form = PhotoForm()
            if not form.validate_on_submit():
                return {"errors": form.errors}
            assert isinstance(form.photo.data, Received)
            kept = carboy.keep_all([form.photo.data, *(form.more.data or [])])
            return {"kept": [file.name for file in kept], "title": form.title.data, "plain": getattr(form.plain.data, "filename", form.plain.data)}

        return app

    def test_fields_hold_received_files_which_validators_can_read(self, app: Flask) -> None:
        answer = app.test_client().post("/up", data={"title": "T", "photo": a_file(), "more": [a_file(), a_file(PNG, "b.png")], "plain": a_file()})
        assert answer.json == {"kept": ["me.png", "me.png", "b.png"], "title": "T", "plain": "me.png"}

    def test_empty_inputs_are_none(self, app: Flask) -> None:
        empty = (io.BytesIO(), "")
        answer = app.test_client().post("/up", data={"title": "T", "photo": empty, "more": empty})
        assert answer.json == {"errors": {"photo": ["This field is required."]}}
        answer = app.test_client().post("/up", data={"title": "T", "photo": a_file(), "more": (io.BytesIO(), ""), "plain": (io.BytesIO(), "")})
        assert answer.json["kept"] == ["me.png"]  # type: ignore[index]

    @pytest.mark.parametrize(("data", "name", "told"), [(PNG, "me.gif", "File does not have an approved extension: png"),
                                                        (PNG[:10], "me.png", "File must be between 20 and 1000 bytes."),
                                                        (PNG + bytes(1000), "me.png", "File must be between 20 and 1000 bytes.")])
    def test_what_validators_refuse(self, app: Flask, data: bytes, name: str, told: str) -> None:
        answer = app.test_client().post("/up", data={"title": "T", "photo": a_file(data, name)})
        assert answer.json == {"errors": {"photo": [told]}}


class User(flask_login.UserMixin):  # type: ignore[misc]
    def __init__(self, id: str) -> None:
        self.id = id


class TestLogin:
    """In one line: ``authenticate=lambda: current_user``."""

    @pytest.fixture
    def app(self, app: Flask) -> Flask:
        login = flask_login.LoginManager(app)
        login.user_loader(User)
        carboy = Carboy(app, expose=["files"], authenticate=lambda: flask_login.current_user)
        carboy.space("home", private=True)
        app.add_url_rule("/in/<id>", "in", lambda **who: str(flask_login.login_user(User(who["id"]))))
        app.add_url_rule("/out", "out", lambda: str(flask_login.logout_user()))

        @app.post("/up")
        @flask_login.login_required
        @carboy.receives("home")
        def up() -> str:
            return request.files["f"].keep("a.png", owner=flask_login.current_user.get_id()).path

        return app

    def test_users_are_principals_and_anonymous_ones_nobody(self, app: Flask) -> None:
        client = app.test_client()
        assert client.put("/carboy/files/home/a", data=b"x").status_code == 401
        client.get("/in/ann@example.org")
        assert client.put("/carboy/files/home/a", data=b"x").json["owner"] == "ann@example.org"  # type: ignore[index]
        client.get("/out")
        assert client.get("/carboy/files/home/a").status_code == 401

    def test_who_is_not_signed_in_sends_nothing(self, app: Flask) -> None:
        client = app.test_client()
        assert client.post("/up", data={"f": a_file()}).status_code == 401
        assert stored_bytes(app) == []
        client.get("/in/ann")
        assert client.post("/up", data={"f": a_file()}).text == "ann/a.png"
        assert client.get("/carboy/files/home/a.png").data == PNG, "the view and the route mean the same tree"


class TestColumns:
    @pytest.fixture
    def database(self, make_app: AppFactory) -> Any:
        app = make_app(SQLALCHEMY_DATABASE_URI="sqlite://")
        database = SQLAlchemy(app)
        carboy = Carboy(app)

        class Picture(database.Model):  # type: ignore[name-defined,misc]
            id: Mapped[int] = mapped_column(primary_key=True)
            file_id: Mapped[str | None] = mapped_column(FileId)

        class Album(database.Model):  # type: ignore[name-defined,misc]
            id: Mapped[int] = mapped_column(primary_key=True)
            cover: Mapped[int] = mapped_column(ForeignKey(Picture.id))

        with app.app_context():
            database.create_all()
            yield database, Picture, carboy
            database.session.remove()
            database.engine.dispose()

    def kept(self, database: Any, picture: Any, value: Any) -> str | None:
        one = picture(file_id=value)
        database.session.add(one)
        database.session.commit()
        return database.session.scalar(select(picture.file_id).where(picture.id == one.id))  # type: ignore[no-any-return]

    def test_files_received_ones_and_ids_become_ids(self, database: Any) -> None:
        database, picture, carboy = database
        file = carboy.put("main", "a", b"a")
        with carboy.services.staging.delivery() as delivery:
            delivery.open(carboy.services.staging.target("main", "b")).end()
            received = carboy.staged(carboy.services.staging.stage(delivery)[0].file.id)
        with pytest.raises(StatementError, match="received and not kept"):
            self.kept(database, picture, received)
        database.session.rollback()
        received.keep()
        assert self.kept(database, picture, file) == file.id
        assert self.kept(database, picture, received) == received.id
        assert self.kept(database, picture, file.id) == file.id
        assert self.kept(database, picture, None) is None

    def test_it_compares_with_all_of_these(self, database: Any) -> None:
        database, picture, carboy = database
        file, other = carboy.put("main", "a", b"a"), carboy.put("main", "b", b"b")
        self.kept(database, picture, file)
        assert len(database.session.scalars(select(picture).where(picture.file_id == file)).all()) == 1
        assert len(database.session.scalars(select(picture).where(picture.file_id.in_([file.id, other]))).all()) == 1
        assert len(database.session.scalars(select(picture).where(picture.file_id == other)).all()) == 0

    @pytest.mark.parametrize("wrong", ["", "me.png", "0" * 31, "0" * 33, "G" * 32, 5, b"0" * 32])
    def test_what_is_no_file_is_told(self, database: Any, wrong: Any) -> None:
        database, picture, _ = database
        with pytest.raises(StatementError, match="is not the id of a file"):
            self.kept(database, picture, wrong)
        database.session.rollback()

    def test_its_type_in_the_database(self, database: Any) -> None:
        database, picture, _ = database
        assert str(picture.__table__.c.file_id.type) == "VARCHAR(32)"
        assert picture.__table__.c.file_id.type.python_type is str


class TestLimiter:
    def test_views_and_the_blueprint_can_be_limited(self, app: Flask) -> None:
        limiter = flask_limiter.Limiter(get_remote_address, app=app, storage_uri="memory://")
        carboy = Carboy(app, expose=["files"], authenticate=lambda: "ann")
        carboy.space("home", private=True)
        limiter.limit("2/hour")(carboy.blueprint)

        @app.post("/up")
        @limiter.limit("1/hour")
        @carboy.receives("main")
        def up() -> str:
            return request.files["f"].keep().name

        client = app.test_client()
        assert [client.get("/carboy/files/home/").status_code for _ in range(3)] == [200, 200, 429]
        assert [client.post("/up", data={"f": a_file()}).status_code for _ in range(2)] == [200, 429]
        assert len(stored_bytes(app)) == 1
