"""``expose=``: the server's routes inside an application, for the application's people."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from fixtures_flask import FETCHED_BY_A_PAGE_OF_ITS_OWN, PNG, AppFactory
from flask import Flask, request, session
from flask.testing import FlaskClient

from carboy import Carboy, File, Principal
from carboy.errors import ConfigError
from carboy.model import Action

JSON = {"Content-Type": "application/json"}
OTHERS = [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}]
OWN = [FETCHED_BY_A_PAGE_OF_ITS_OWN, {"Sec-Fetch-Site": "none"}, {"Origin": "http://localhost"}, {}]


def signed_in(app: Flask, who: str) -> FlaskClient:
    client = app.test_client()
    with client.session_transaction() as kept:
        kept["user"] = who
    return client


def by_session() -> Any:
    return session.get("user")


@pytest.fixture
def app(make_app: AppFactory) -> Flask:
    app = make_app()
    carboy = Carboy(app, expose=["files", "api"], authenticate=by_session)
    carboy.space("home", private=True)
    carboy.space("shop", public="read")
    return app


class TestMounting:
    def test_nothing_is_there_unless_it_is_asked_for(self, make_app: AppFactory) -> None:
        app = make_app()
        Carboy(app)
        paths = {rule.rule for rule in app.url_map.iter_rules()}
        assert {path for path in paths if path.startswith("/carboy")} == {"/carboy/signed/<token>", "/carboy/signed/<token>/<path:name>"}

    def test_only_what_is_asked_for_is_there(self, make_app: AppFactory) -> None:
        app = make_app()
        Carboy(app, expose=["api"])
        client = app.test_client()
        assert client.get("/carboy/api/v1/spaces").status_code == 401
        for address in ("/carboy/files/main/a", "/carboy/upload", "/carboy/healthz", "/carboy/login", "/carboy/", "/carboy/docs"):
            assert client.get(address).status_code == 404, address

    def test_addresses_carry_the_prefix(self, make_app: AppFactory) -> None:
        app = make_app()
        carboy = Carboy(app, expose=["files", "api"], url_prefix="/my/files", authenticate=by_session)
        carboy.space("home", private=True)
        client = signed_in(app, "ann")
        put = client.put("/my/files/files/home/a%2520b/ä.txt", data=b"x", base_url="http://localhost/root/")
        assert (put.status_code, put.headers["Location"]) == (201, "/root/my/files/files/home/a%2520b/%C3%A4.txt")
        assert put.json["url"] == put.headers["Location"]
        assert put.json["content_url"] == f"/root/my/files/api/v1/files/{put.json['id']}/content"
        assert client.get(put.json["content_url"].removeprefix("/root")).data == b"x"
        assert client.get("/my/files/files/home/a%2520b/%C3%A4.txt").data == b"x"

    def test_it_may_be_mounted_at_the_root(self, make_app: AppFactory) -> None:
        app = make_app()
        app.add_url_rule("/mine", "mine", lambda: "the application's own")
        carboy = Carboy(app, expose=["files"], url_prefix="/", authenticate=by_session)
        carboy.space("home", private=True)
        client = signed_in(app, "ann")
        put = client.put("/files/home/a.txt", data=b"x")
        assert (put.status_code, put.headers["Location"]) == (201, "/files/home/a.txt")
        assert client.get("/mine").text == "the application's own"
        with app.test_request_context():
            assert client.get(carboy.url_for(put.json["id"])).data == b"x"

    def test_paths_are_data_that_no_rule_rewrites(self, app: Flask) -> None:
        client = signed_in(app, "ann")
        for path in ("a//b", "a/../b", "a/./b", "%2e%2e/b", "a%00b", "a%0d%0ab"):
            answer = client.put(f"/carboy/files/home/{path}", data=b"x")
            assert (answer.status_code, answer.json["code"]) == (400, "invalid_name"), path
        assert client.get("/carboy/files/home").json["right"] == "/carboy/files/home/"  # type: ignore[index]

    def test_other_methods_and_addresses_are_problems(self, app: Flask) -> None:
        client = signed_in(app, "ann")
        assert client.patch("/carboy/files/home/a").json["status"] == 405  # type: ignore[index]
        assert client.get("/carboy/nowhere").json["status"] == 404  # type: ignore[index]

    def test_forms_are_left_to_carboy_whatever_the_application_looks_at(self, app: Flask) -> None:
        app.before_request(lambda: request.form.get("csrf_token") and None)
        answer = signed_in(app, "ann").post("/carboy/files/home/", data={"f": (io.BytesIO(PNG), "a.png"), "title": "x"})
        assert (answer.status_code, answer.json["files"][0]["metadata"]) == (201, {"title": "x"})


class TestPeople:
    def test_tokens_work_without_any_hook(self, make_app: AppFactory) -> None:
        app = make_app()
        carboy = Carboy(app, expose=["files"])
        _, secret = carboy.services.tokens.create("t", {"main": frozenset({"read", "write"})})
        client, bearer = app.test_client(), {"Authorization": f"Bearer {secret}"}
        assert client.put("/carboy/files/main/a.txt", data=b"x").status_code == 401
        assert client.put("/carboy/files/main/a.txt", data=b"x", headers={**bearer, **OTHERS[0]}).status_code == 201, "no site can send a token"
        assert client.delete("/carboy/files/main/a.txt", headers=bearer).status_code == 403
        assert client.get("/carboy/files/main/a.txt", headers={"Authorization": "Bearer wrong"}).status_code == 401

    def test_each_user_has_their_own_tree_of_a_private_space(self, app: Flask) -> None:
        ann, bob, nobody = signed_in(app, "ann"), signed_in(app, "bob"), app.test_client()
        made = ann.put("/carboy/files/home/a.txt", data=b"ann's").json
        assert made["owner"] == "ann"  # type: ignore[index]
        assert ann.get("/carboy/files/home/a.txt").data == b"ann's"
        for client, status in ((bob, 404), (nobody, 401)):
            assert client.get("/carboy/files/home/a.txt").status_code == status
            assert client.get(made["content_url"]).status_code == status  # type: ignore[index]
            assert client.delete(f"/carboy/api/v1/files/{made['id']}").status_code == status  # type: ignore[index]
        assert [file["path"] for file in ann.get("/carboy/api/v1/files?space=home").json["files"]] == ["a.txt"]  # type: ignore[index]
        assert bob.get("/carboy/api/v1/files?space=home").json["files"] == []  # type: ignore[index]

    def test_of_other_spaces_they_see_what_anybody_does(self, app: Flask) -> None:
        app.extensions["carboy"].carboy.put("shop", "a.txt", b"for all")
        ann = signed_in(app, "ann")
        assert ann.get("/carboy/files/shop/a.txt").data == b"for all"
        assert ann.put("/carboy/files/shop/b.txt", data=b"x").status_code == 403
        assert ann.put("/carboy/files/main/b.txt", data=b"x").status_code == 404
        assert ann.get("/carboy/api/v1/tokens").status_code == 403

    @pytest.mark.parametrize(("who", "seen"), [(None, None), ("7", "7"), (7, "7"), ("", "")])
    def test_ids_of_any_kind(self, make_app: AppFactory, who: Any, seen: str | None) -> None:
        app = make_app()
        carboy = Carboy(app, expose=["files"], authenticate=lambda: who)
        carboy.space("home", private=True)
        answer = app.test_client().put("/carboy/files/home/a", data=b"x")
        assert answer.json.get("owner") == seen  # type: ignore[union-attr]
        assert answer.status_code == (401 if seen is None else 201)

    def test_objects_and_principals(self, make_app: AppFactory) -> None:
        class User:
            def get_id(self) -> str:
                return "u1"

        for who, status in ((User(), 404), (Principal("p", "user", {"main": frozenset({"write"})}), 201)):
            app = make_app()
            Carboy(app, expose=["files"], authenticate=lambda who=who: who)
            assert app.test_client().put("/carboy/files/main/a", data=b"x").status_code == status

    def test_an_answer_that_names_nobody_is_told_to_the_developer(self, make_app: AppFactory, caplog: pytest.LogCaptureFixture) -> None:
        app = make_app()
        Carboy(app, expose=["files"], authenticate=object)
        answer = app.test_client().get("/carboy/files/main/a")
        assert (answer.status_code, "it gives None" in answer.text) == (500, False)
        assert "it gives None, an id" in caplog.text

    def test_the_audit_log_knows_who_and_from_where(self, app: Flask) -> None:
        signed_in(app, "ann").put("/carboy/files/home/a.txt", data=b"x", environ_overrides={"REMOTE_ADDR": "192.0.2.7"})
        entry = app.extensions["carboy"].carboy.services.catalog.audit(action="file.create")[0]
        assert (entry.by.principal, entry.by.kind, entry.by.address, bool(entry.by.request)) == ("ann", "user", "192.0.2.7", True)


class TestJudging:
    """``authorise=`` is asked first; where it says None the rules hold."""

    @pytest.fixture
    def asked(self) -> list[tuple[str | None, str, str, str | None]]:
        return []

    @pytest.fixture
    def app(self, make_app: AppFactory, asked: list[Any]) -> Flask:
        def authorise(principal: Principal, action: Action, space: str, file: File | None) -> bool | None:
            asked.append((principal.id, action, space, file.path if file else None))
            if space == "team":
                return principal.id in ("ann", "bob") and (file is None or not file.path.startswith("locked") or action == "read")
            return False if file and file.path.endswith("hidden") else None

        app = make_app()
        carboy = Carboy(app, expose=["files", "api"], authenticate=by_session, authorise=authorise)
        carboy.space("team")
        carboy.space("home", private=True)
        carboy.space("shop", public="read")
        return app

    def test_yes_is_yes(self, app: Flask) -> None:
        ann, bob = signed_in(app, "ann"), signed_in(app, "bob")
        made = ann.put("/carboy/files/team/a.txt", data=b"x")
        assert made.status_code == 201
        assert bob.get("/carboy/files/team/a.txt").data == b"x"
        assert bob.get(made.json["content_url"]).data == b"x"
        assert bob.delete("/carboy/files/team/a.txt").status_code == 204

    def test_no_is_no(self, app: Flask) -> None:
        app.extensions["carboy"].carboy.put("team", "locked", b"x")
        app.extensions["carboy"].carboy.put("shop", "hidden", b"x")
        ann, carl = signed_in(app, "ann"), signed_in(app, "carl")
        assert ann.get("/carboy/files/team/locked").status_code == 200
        assert ann.delete("/carboy/files/team/locked").status_code == 403
        for address in ("/carboy/files/team/locked", "/carboy/files/team/", "/carboy/api/v1/files?space=team", "/carboy/files/shop/hidden"):
            assert carl.get(address).status_code in (403, 404), address
        assert carl.put("/carboy/files/team/x", data=b"x").status_code == 404

    def test_none_leaves_it_to_the_rules(self, app: Flask) -> None:
        ann = signed_in(app, "ann")
        assert ann.put("/carboy/files/home/a.txt", data=b"x").status_code == 201
        assert ann.put("/carboy/files/shop/a.txt", data=b"x").status_code == 403
        assert app.test_client().get("/carboy/files/shop/").status_code == 200

    def test_it_is_asked_about_the_file_where_there_is_one(self, app: Flask, asked: list[Any]) -> None:
        app.extensions["carboy"].carboy.put("team", "a.txt", b"x")
        assert asked == [], "Python calls are trusted"
        signed_in(app, "ann").get("/carboy/files/team/a.txt")
        assert asked == [("ann", "read", "team", "a.txt")]


class TestOtherSites:
    """What a cookie proves must not be had by another site (security case 39)."""

    def change(self, app: Flask, headers: dict[str, str]) -> list[int]:
        client = signed_in(app, "ann")
        return [client.put("/carboy/files/home/a.txt", data=b"x", headers=headers).status_code,
                client.post("/carboy/files/home/", data={"f": (io.BytesIO(b"x"), "b.txt")}, headers=headers).status_code,
                client.delete("/carboy/files/home/a.txt", headers=headers).status_code]

    @pytest.mark.parametrize("headers", OTHERS, ids=str)
    def test_changes_are_refused(self, app: Flask, headers: dict[str, str]) -> None:
        assert self.change(app, headers) == [403, 403, 403]
        assert list(app.extensions["carboy"].carboy.list("home")) == []

    @pytest.mark.parametrize("headers", [{**OTHERS[0], "Authorization": "Basic YTpi"}, {**OTHERS[2], "Authorization": ""}], ids=str)
    def test_what_browsers_send_by_themselves_proves_nothing(self, app: Flask, headers: dict[str, str]) -> None:
        assert set(self.change(app, headers)) <= {401, 403}

    @pytest.mark.parametrize("headers", OWN, ids=str)
    def test_the_applications_own_pages_and_programs_may(self, app: Flask, headers: dict[str, str]) -> None:
        assert self.change(app, headers) == [201, 201, 204]

    @pytest.mark.parametrize("headers", OTHERS, ids=str)
    def test_reading_is_the_browsers_affair(self, app: Flask, headers: dict[str, str]) -> None:
        signed_in(app, "ann").put("/carboy/files/home/a.txt", data=b"x")
        answer = signed_in(app, "ann").get("/carboy/files/home/a.txt", headers=headers)
        assert (answer.status_code, answer.headers["Cross-Origin-Resource-Policy"]) == (200, "same-origin")
        assert "private" in answer.headers["Cache-Control"]
        assert "Cookie" in answer.headers["Vary"]


class TestThePageAndLinks:
    """What is for browsers works for the application's people, who have signed in there."""

    @pytest.fixture
    def carboy(self, make_app: AppFactory) -> Carboy:
        carboy = Carboy(make_app(), expose=["files", "api", "page", "links", "docs"], authenticate=by_session)
        carboy.space("home", private=True)
        return carboy

    def client(self, carboy: Carboy, who: str) -> FlaskClient:
        assert carboy.default_app
        return signed_in(carboy.default_app, who)

    def test_folders_are_pages_whose_forms_work(self, carboy: Carboy) -> None:
        ann, browser = self.client(carboy, "ann"), {"Accept": "text/html", **FETCHED_BY_A_PAGE_OF_ITS_OWN}
        sent = ann.post("/carboy/files/home/", data={"f": (io.BytesIO(b"x"), "a.txt")}, headers=browser)
        assert (sent.status_code, sent.headers["Location"]) == (303, "/carboy/files/home/")
        page = ann.get("/carboy/files/home/", headers=browser).text
        assert ">a.txt<" in page or "a.txt" in page
        inside = re.findall(r'(?:href|src|action)="(/[^"]*)"', page)
        assert inside and all(address.startswith("/carboy/") for address in inside)
        for address in {each for each in inside if "/static/" in each}:
            assert ann.get(address).status_code == 200, address
        foreign = ann.post("/carboy/files/home/", data={"f": (io.BytesIO(b"x"), "b.txt")}, headers={"Accept": "text/html", **OTHERS[0]})
        assert foreign.status_code == 403

    def test_the_api_is_described_below_the_prefix(self, carboy: Carboy) -> None:
        ann = self.client(carboy, "ann")
        assert ann.get("/carboy/openapi.json").json["servers"] == [{"url": "/carboy"}]  # type: ignore[index]
        assert ann.get("/carboy/docs").status_code == 200

    def test_links_made_in_python(self, carboy: Carboy) -> None:
        app = carboy.default_app
        assert app
        file = carboy.put("main", "a.txt", b"0123")
        with app.test_request_context():
            link = carboy.link(file, max_uses=1, name="for Bob", expires=60)
            address = carboy.url_for(link)
            box = carboy.url_for(carboy.link(space="main", folder="in", inbox=True))
        client = app.test_client()
        assert address.startswith("/carboy/s/")
        assert client.get(address).data == b"0123"
        assert client.get(address).status_code == 410
        assert client.put(f"{box}/new.txt", data=b"x").status_code == 201
        assert carboy.at("main", "in/new.txt").size == 1
        with app.test_request_context():
            again = carboy.link(file)
            carboy.revoke(again)
            assert client.get(carboy.url_for(again)).status_code == 410

    def test_without_their_routes_links_lead_nowhere(self, make_app: AppFactory) -> None:
        app = make_app()
        carboy = Carboy(app)
        link = carboy.link(carboy.put("main", "a.txt", b"a"))
        with app.test_request_context(), pytest.raises(ConfigError, match="expose"):
            carboy.url_for(link)

    def test_a_users_link_ends_with_their_right(self, make_app: AppFactory) -> None:
        allowed = {"ann"}
        app = make_app()
        carboy = Carboy(app, expose=["files", "api", "links"], authenticate=by_session,
                        authorise=lambda who, action, space, file: False if file and file.path == "closed" else who.id in allowed or None)
        ann = signed_in(app, "ann")
        made = ann.put("/carboy/files/main/a.txt", data=b"x").json
        link = ann.post("/carboy/api/v1/links", json={"kind": "file", "file_id": made["id"]}).json  # type: ignore[index]
        assert app.test_client().get(link["url"]).data == b"x"  # type: ignore[index]
        carboy.move(made["id"], "closed")  # type: ignore[index]
        assert app.test_client().get(link["url"]).status_code == 403, "the judge knows the file"  # type: ignore[index]
        carboy.move(made["id"], "open")  # type: ignore[index]
        assert app.test_client().get(link["url"]).status_code == 200  # type: ignore[index]
        allowed.clear()
        assert app.test_client().get(link["url"]).status_code == 403  # type: ignore[index]


def test_the_audit_log_knows_for_whom_a_view_called(make_app: AppFactory) -> None:
    app = make_app()
    carboy = Carboy(app, authenticate=by_session)

    @app.post("/up")
    @carboy.receives("main")
    def up() -> str:
        file = request.files["f"].keep("a.txt")
        carboy.delete(file)
        return "ok"

    signed_in(app, "ann").post("/up", data={"f": (io.BytesIO(b"x"), "a.txt")}, environ_overrides={"REMOTE_ADDR": "192.0.2.7"})
    entries = [entry for entry in carboy.services.catalog.audit() if entry.action in ("file.create", "file.trash")]
    assert [(entry.by.principal, entry.by.kind, entry.by.address) for entry in entries] == [("ann", "trusted", "192.0.2.7")] * 2
    carboy.put("main", "b.txt", b"x")
    assert carboy.services.catalog.audit(limit=1)[0].by.principal is None
