"""An application whose catalog is in PostgreSQL."""

from __future__ import annotations

from fixtures_flask import AppFactory, a_file
from fixtures_postgres import PostgresServer
from flask import request

from carboy import Carboy


def test_its_schema_is_upgraded_by_command_alone(make_app: AppFactory, postgres_server: PostgresServer) -> None:
    app = make_app(CARBOY_DATABASE=postgres_server.new_database())
    carboy = Carboy(app)

    @app.post("/up")
    @carboy.receives("main")
    def up() -> dict[str, str]:
        file = request.files["f"].keep("a.txt", owner=7)
        return {"url": carboy.url_for(file), "found": next(carboy.list("main")).path}

    client = app.test_client()
    assert client.post("/up", data={"f": a_file()}).json["code"] == "schema_mismatch"  # type: ignore[index]
    assert app.test_cli_runner().invoke(args=["carboy", "sweep"]).exit_code == 1
    upgraded = app.test_cli_runner().invoke(args=["carboy", "upgrade"])
    assert upgraded.exit_code == 0, upgraded.output
    answer = client.post("/up", data={"f": a_file(b"text", "a.txt")}).json
    assert answer and answer["found"] == "a.txt"
    assert client.get(answer["url"]).data == b"text"
    assert carboy.usage("main", owner=7).files == 1
