"""``Carboy(app)``: no I/O, settings from the application alone, several of everything."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from fixtures_flask import PNG, AppFactory, everything, stored_bytes
from fixtures_server import eventually
from flask import Flask, abort, request
from werkzeug.exceptions import HTTPException

import carboy as package
from carboy import Carboy, CarboyError, File, Settings, Space, SpaceSettings, signals
from carboy.errors import ConfigError, NotFound, TooLarge
from carboy.testing import temporary_carboy, temporary_services


class TestOpening:
    def test_making_one_touches_nothing(self, make_app: AppFactory, tmp_path: Path) -> None:
        app = make_app()
        carboy = Carboy(app, expose=["files", "api", "page", "links"])
        carboy.space("images", accept=["image/*"])
        assert list(tmp_path.iterdir()) == []

    def test_it_opens_when_it_is_first_used(self, app: Flask) -> None:
        carboy = Carboy(app)
        with app.app_context():
            carboy.put("main", "a.txt", b"a")
        assert (Path(app.instance_path) / "carboy" / "catalog.sqlite3").is_file()

    def test_outside_any_context_the_application_of_the_constructor_is_meant(self, app: Flask) -> None:
        carboy = Carboy(app)
        assert carboy.put("main", "a.txt", b"a").path == "a.txt"
        with pytest.raises(RuntimeError, match="app_context"):
            Carboy().get("x")

    def test_an_application_without_it_is_told(self, make_app: AppFactory) -> None:
        carboy = Carboy(make_app())
        with make_app().app_context(), pytest.raises(RuntimeError, match="init_app"):
            carboy.get("x")

    def test_threads_that_come_first_together_open_it_once(self, app: Flask) -> None:
        carboy = Carboy(app)
        found: list[Any] = []
        threads = [threading.Thread(target=lambda: found.append(carboy.services)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(services) for services in found}) == 1

    def test_each_process_has_its_own(self, app: Flask) -> None:
        """A server that loads the application before it forks, and whose application used Carboy by then."""
        carboy = Carboy(app)
        carboy.put("main", "parent.txt", b"parent")
        child = os.fork()
        if child == 0:
            try:
                carboy.put("main", "child.txt", b"child" * 100_000)
                os._exit(0 if everything(carboy, "main") == ["child.txt", "parent.txt"] else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        carboy.put("main", "again.txt", b"parent")
        assert everything(carboy, "main") == ["again.txt", "child.txt", "parent.txt"]

    def test_what_was_closed_opens_again(self, app: Flask) -> None:
        carboy = Carboy(app)
        file = carboy.put("main", "a.txt", b"a")
        carboy.close()
        carboy.close()
        assert carboy.get(file.id) == file

    def test_it_sweeps_from_the_first_request_on(self, make_app: AppFactory) -> None:
        app = make_app(CARBOY_SWEEP=True)
        carboy = Carboy(app)
        app.add_url_rule("/", "index", lambda: str(len(everything(carboy, "main"))))

        def sweepers() -> list[threading.Thread]:
            return [thread for thread in threading.enumerate() if thread.name == "sweeper"]

        carboy.put("main", "a.txt", b"a")
        assert sweepers() == [], "a script does not sweep"
        app.test_client().get("/")
        app.test_client().get("/")
        assert len(sweepers()) == 1
        carboy.close()
        assert sweepers() == []

    def test_tests_and_those_who_do_not_want_it_do_not_sweep(self, make_app: AppFactory) -> None:
        for config in ({"TESTING": True}, {"TESTING": False, "CARBOY_SWEEP": False}):
            app = make_app(**config)
            carboy = Carboy(app)
            app.add_url_rule("/", "index", lambda carboy=carboy: str(len(everything(carboy, "main"))))
            app.test_client().get("/")
            assert not [thread for thread in threading.enumerate() if thread.name == "sweeper"]


class TestSettings:
    def test_only_the_applications_configuration_counts(self, make_app: AppFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "carboy.toml").write_text("max_size = 5\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("CARBOY_MAX_SIZE", "7")
        monkeypatch.setenv("CARBOY_DATA", str(tmp_path / "elsewhere"))
        carboy = Carboy(make_app(CARBOY_UPLOAD_EXPIRY=99, CARBOY_MAX_FORM_PARTS="7"))
        settings = carboy.services.settings
        assert (settings.max_size, settings.upload_expiry, settings.max_form_parts) == (2**63 - 1, 99, 7)
        assert settings.data == tmp_path / "instance0" / "carboy"
        assert isinstance(settings, Settings)

    @pytest.mark.parametrize(("key", "value", "told"), [
        ("CARBOY_DATTA", "x", "datta: there is no such setting"), ("CARBOY_MAX_SIZE", "5 MBB", "'5 MBB' is not a size"),
        ("CARBOY_SPACES", {"images": {"acept": ["x"]}}, "spaces.images.acept: there is no such setting"),
        ("CARBOY_SPACES", {"Images": {}}, "is not a space's name"),
    ])
    def test_a_wrong_one_is_named(self, make_app: AppFactory, key: str, value: Any, told: str) -> None:
        with pytest.raises(ConfigError, match=told):
            Carboy(make_app(**{key: value})).services  # noqa: B018

    def test_the_configuration_has_the_last_word_on_a_space(self, make_app: AppFactory) -> None:
        app = make_app(CARBOY_SPACES={"images": {"max_size": "1 kB"}, "more": SpaceSettings(private=True)})
        carboy = Carboy(app)
        images = carboy.space("images", max_size="5 MB", accept=["image/*"])
        assert images == Space("images", SpaceSettings(max_size=5_000_000, accept=("image/*",)))
        spaces = carboy.services.settings.spaces
        assert sorted(spaces) == ["images", "main", "more"]
        assert (spaces["images"].max_size, spaces["images"].accept, spaces["more"].private) == (1000, ("image/*",), True)
        with pytest.raises(TooLarge):
            carboy.put("images", "a.png", PNG + bytes(1000))

    def test_spaces_are_declared_once_and_in_time(self, app: Flask) -> None:
        carboy = Carboy(app)
        carboy.space("images", versions=1)
        carboy.space("images", versions=1)
        with pytest.raises(ConfigError, match="other rules"):
            carboy.space("images", versions=2)
        with pytest.raises(ConfigError, match=r"spaces\.images\.colour"):
            carboy.space("images", colour="red")
        with app.app_context():
            carboy.put("images", "a", b"a")
            with pytest.raises(ConfigError, match="too late"):
                carboy.space("late")

    def test_the_applications_key_signs_and_older_ones_still_prove(self, make_app: AppFactory) -> None:
        app = make_app(SECRET_KEY="old")
        carboy = Carboy(app)

        def address() -> str:
            with app.test_request_context():
                return carboy.url_for(file)

        file = carboy.put("main", "a.txt", b"a")
        old = address()
        carboy.close()
        app.config.update(SECRET_KEY=b"new \xff", SECRET_KEY_FALLBACKS=["old"])
        new = address()
        assert [app.test_client().get(each).status_code for each in (old, new)] == [200, 200]
        carboy.close()
        app.config.update(SECRET_KEY_FALLBACKS=[])
        assert [app.test_client().get(each).status_code for each in (old, new)] == [403, 200]

    def test_without_a_key_the_catalog_keeps_one(self, make_app: AppFactory) -> None:
        app = make_app(SECRET_KEY=None)
        carboy = Carboy(app)
        file = carboy.put("main", "a.txt", b"a")
        with app.test_request_context():
            address = carboy.url_for(file)
        carboy.close()
        assert app.test_client().get(address).data == b"a"

    def test_what_can_not_be_exposed_is_told(self) -> None:
        with pytest.raises(ConfigError, match="not of apy"):
            Carboy(expose=["apy"])
        with pytest.raises(ConfigError):
            Carboy(expose="api")


class TestSeveral:
    def test_one_instance_serves_several_applications(self, make_app: AppFactory) -> None:
        carboy = Carboy()
        carboy.space("images")
        one, two = make_app(), make_app(CARBOY_MAX_SIZE=3)
        for app in (one, two):
            carboy.init_app(app)
        with one.app_context():
            file = carboy.put("images", "a.txt", b"12345")
        with two.app_context():
            assert everything(carboy, "images") == []
            with pytest.raises(NotFound):
                carboy.get(file.id)
            with pytest.raises(TooLarge):
                carboy.put("images", "a.txt", b"12345")
        with one.app_context():
            assert everything(carboy, "images") == ["a.txt"]

    def test_one_application_has_several_instances(self, make_app: AppFactory) -> None:
        app = make_app(ARCHIVE_MAX_SIZE=3, ARCHIVE_DURABILITY="relaxed")
        carboy, archive = Carboy(app), Carboy(app, name="archive", url_prefix="/kept")
        carboy.space("images")

        @app.post("/both")
        @archive.receives("main")
        def both() -> str:
            return request.files["f"].keep().path

        file = carboy.put("main", "a.txt", b"12345")
        with pytest.raises(TooLarge):
            archive.put("main", "a.txt", b"12345")
        kept = archive.put("main", "b.txt", b"1")
        assert len(stored_bytes(app)) == len(stored_bytes(app, "archive")) == 1
        with app.test_request_context():
            here, there = carboy.url_for(file), archive.url_for(kept)
        assert (here.split("/")[1], there.split("/")[1]) == ("carboy", "kept")
        client = app.test_client()
        assert (client.get(here).data, client.get(there).data) == (b"12345", b"1")
        assert client.get(there.replace("/kept/", "/carboy/")).status_code == 404, "another data, the same key"
        with pytest.raises(NotFound):
            archive.services.files.rules("images") or archive.at("images", "x")
        assert app.test_cli_runner().invoke(args=["archive", "token", "list"]).exit_code == 0

    def test_two_of_one_name_are_told(self, app: Flask) -> None:
        Carboy(app)
        with pytest.raises(ConfigError, match="give the second one a name"):
            Carboy(app)


class TestNews:
    def test_callbacks_and_signals_come_after_the_commit_within_the_application(self, app: Flask) -> None:
        carboy = Carboy(app)
        heard: list[tuple[str, Any]] = []

        @carboy.on_stored
        def stored(file: File) -> None:
            assert carboy.get(file.id) == file, "it is there"
            heard.append(("on_stored", file.path))

        def hears(name: str) -> Any:
            def hear(sender: Flask, **facts: Any) -> None:
                assert sender is app
                heard.append((name, facts["file"].path if "file" in facts else facts["files"]))
            getattr(signals, name).connect(hear, app)
            return hear

        kept = [hears(name) for name in ("file_stored", "file_deleted", "file_moved", "file_restored", "file_changed", "folder_moved", "folder_deleted")]
        file = carboy.put("main", "a.txt", b"a")
        carboy.update(file, tags=["x"])
        carboy.move(file, "f/b.txt")
        services = carboy.services
        carboy.copy(file, "f/c.txt")
        services.changes.move_folder(package.Principal(None, "trusted", {"*": frozenset({"admin"})}), "main", "f/", "g/")
        carboy.delete(file)
        carboy.restore(file)
        services.changes.delete_folder(package.Principal(None, "trusted", {"*": frozenset({"admin"})}), "main", "g/")
        assert heard == [("on_stored", "a.txt"), ("file_stored", "a.txt"), ("file_changed", "a.txt"), ("file_moved", "f/b.txt"),
                         ("on_stored", "f/c.txt"), ("file_stored", "f/c.txt"), ("folder_moved", 2), ("file_deleted", "g/b.txt"),
                         ("file_restored", "g/b.txt"), ("folder_deleted", 2)]
        assert kept

    def test_one_that_fails_is_logged_and_harms_nothing(self, app: Flask, caplog: pytest.LogCaptureFixture) -> None:
        heard: list[File] = []

        def fails(file: File) -> None:
            raise RuntimeError("the receiver broke")

        carboy = Carboy(app, on_stored=fails)
        carboy.on_stored(heard.append)
        file = carboy.put("main", "a.txt", b"a")
        assert (heard, "the receiver broke" in caplog.text) == ([file], True)

    def test_other_applications_hear_nothing(self, make_app: AppFactory) -> None:
        carboy = Carboy()
        one, two = make_app(), make_app()
        carboy.init_app(one)
        carboy.init_app(two)
        heard: list[Any] = []

        def hear(sender: Flask, **facts: Any) -> None:
            heard.append(sender)

        signals.file_stored.connect(hear, one)
        for app in (one, two):
            with app.app_context():
                carboy.put("main", "a.txt", b"a")
        assert heard == [one]


class TestErrors:
    def test_a_carboy_error_is_its_problem_in_any_view(self, app: Flask) -> None:
        carboy = Carboy(app)
        app.add_url_rule("/<key>", "one", lambda key: carboy.get(key).path)
        answer = app.test_client().get("/" + "0" * 32)
        assert (answer.status_code, answer.content_type, answer.json["code"]) == (404, "application/problem+json", "not_found")

    def test_the_view_may_catch_it_and_the_application_handle_it(self, app: Flask) -> None:
        app.register_error_handler(CarboyError, lambda error: (f"mine: {error.code}", 418))
        carboy = Carboy(app)

        @app.get("/<id>")
        def one(id: str) -> str:
            try:
                return carboy.get(id).path
            except NotFound:
                abort(410)

        app.add_url_rule("/x/<key>", "two", lambda key: carboy.get(key).path)
        assert app.test_client().get("/" + "0" * 32).status_code == 410
        answer = app.test_client().get("/x/" + "0" * 32)
        assert (answer.status_code, answer.text) == (418, "mine: not_found")

    def test_handlers_of_http_errors_get_it_as_one_whatever_its_status(self, make_app: AppFactory) -> None:
        app = make_app(CARBOY_SPACES={"main": {"quota": "1 B"}})
        carboy = Carboy(app)
        app.register_error_handler(HTTPException, lambda error: (f"{error.name}: {type(error.__cause__).__name__}", error.code))
        app.add_url_rule("/<key>", "one", lambda key: carboy.get(key).path)
        app.add_url_rule("/full", "full", lambda: carboy.put("main", "a.txt", b"ab").path)
        answers = [app.test_client().get(address) for address in ("/" + "0" * 32, "/full")]
        assert [(answer.status_code, answer.text) for answer in answers] == [(404, "Not Found: NotFound"),
                                                                            (507, "Insufficient Storage: QuotaExceeded")]


class TestTesting:
    def test_a_temporary_one_leaves_nothing(self, make_app: AppFactory, tmp_path: Path) -> None:
        app = make_app()
        carboy = Carboy(app)
        before = dict(app.config)
        with temporary_carboy(app, max_size="1 kB") as temporary:
            assert temporary is carboy
            data = temporary.services.settings.data
            file = temporary.put("main", "a.txt", b"a")
            with pytest.raises(TooLarge):
                temporary.put("main", "b.txt", bytes(2000))
            assert temporary.open(file).read() == b"a"
        assert (data.exists(), list(tmp_path.iterdir()), dict(app.config)) == (False, [], before)

    def test_it_brings_an_application_of_its_own(self) -> None:
        with temporary_carboy() as carboy:
            assert carboy.get(carboy.put("main", "a.txt", b"a").id).size == 1

    def test_the_engine_alone(self) -> None:
        with temporary_services() as services:
            assert services.catalog.counts()["files"] == 0


class TestTheName:
    def test_public_names_are_there_and_nothing_is_loaded_before(self) -> None:
        code = "import sys, carboy; print(*sys.modules)"
        loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        assert not {"flask", "werkzeug", "pydantic", "sqlalchemy", "carboy.web"} & set(loaded)
        assert all(getattr(package, name) for name in package.__all__)
        assert set(package.__all__) <= set(dir(package))
        with pytest.raises(AttributeError, match="no attribute 'Karboy'"):
            package.Karboy  # type: ignore[attr-defined]  # noqa: B018


def test_a_file_stays_where_it_is_until_somebody_sweeps(app: Flask) -> None:
    """Waiting on a condition, as everything else here: a sweeper in its thread removes what is expired."""
    app.config.update(CARBOY_SWEEP=True, CARBOY_DELETE_GRACE=0, CARBOY_SWEEP_INTERVAL=0.01)
    carboy = Carboy(app)
    carboy.space("rough", trash=0)
    app.add_url_rule("/", "index", lambda: carboy.delete(carboy.put("rough", "a.txt", b"a")) or "gone")
    assert app.test_client().get("/").text == "gone"
    eventually(lambda: stored_bytes(app) == [])
