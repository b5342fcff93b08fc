"""``carboy doctor`` and what Carboy runs on besides the disk: S3, PostgreSQL, Redis."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fixtures_clamd import ClamdServer
from fixtures_postgres import PostgresServer
from fixtures_s3 import S3Server

from carboy.catalog.postgres_facts import facts
from carboy.cli.doctor import catalog, postgres, settings
from carboy.cli.main import main
from carboy.config import Settings
from carboy.storage.s3_probe import cors, skew


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("CARBOY_", "AWS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def doctor(check: str, env: dict[str, str]) -> list[tuple[str, str]]:
    """Status and text of what it says of this."""
    result = CliRunner().invoke(main, ["doctor"], env=env)
    assert result.exit_code in (0, 1), result.output
    assert not result.exception or isinstance(result.exception, SystemExit), result.exception
    said = [line.split(None, 2) for line in result.stdout.splitlines()]
    return [(status, what) for status, of, what in said if of == check]


def bulk(folder: Path, s3: S3Server, bucket: str, **changes: Any) -> None:
    lines = {"bucket": bucket, "endpoint": s3.endpoint, "region": s3.region, "style": "path", "prefix": "some/", **changes}
    (folder / "carboy.toml").write_text("[storages.bulk]\n" + "".join(f'{name} = "{value}"\n' for name, value in lines.items()))


# --- S3 ------------------------------------------------------------------------------------------------------------


def test_a_real_server_does_all_that_is_asked_of_it(s3_server: S3Server, elsewhere: Path) -> None:
    bucket = s3_server.new_bucket()
    bulk(elsewhere, s3_server, bucket)
    said = doctor("storage", s3_server.env)
    assert [what for status, what in said if status == "problem"] == []
    good = "\n".join(what for status, what in said if status == "ok")
    for told in ("keys are found (in the environment)", f"the bucket '{bucket}' answers", "clock agrees", "an object was written", "a range of it was read",
                 "nothing is overwritten", "wrong ones refused", "a multipart upload was made", "are listed", "addresses for downloads work",
                 "addresses for uploads work", "objects are deleted"):
        assert told in good
    assert ["CORS" in what for status, what in said if status == "warning"] == [True]
    assert (s3_server.keys(bucket), s3_server.multiparts(bucket)) == ([], [])
    assert s3_server.secret_key not in "".join(what for _, what in said)


def test_a_server_for_tests_is_told_from_a_real_one(moto_server: S3Server, elsewhere: Path) -> None:
    bucket = moto_server.new_bucket()
    bulk(elsewhere, moto_server, bucket)
    said = {what: status for status, what in doctor("storage", moto_server.env)}
    assert "problem" not in said.values()
    assert any("forged" in what for what, status in said.items() if status == "warning")
    assert any("no CORS rule" in what for what, status in said.items() if status == "warning")
    rules = [{"AllowedMethods": ["PUT", "GET"], "AllowedOrigins": ["https://app.example"], "AllowedHeaders": ["*"], "ExposeHeaders": ["ETag"]}]
    moto_server.client().put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    assert any(status == "ok" and "from pages of https://app.example" in what for status, what in doctor("storage", moto_server.env))
    assert (moto_server.keys(bucket), moto_server.multiparts(bucket)) == ([], [])


def test_what_is_wrong_with_s3_is_said_and_what_to_do(s3_server: S3Server, elsewhere: Path) -> None:
    bucket = s3_server.new_bucket()
    bulk(elsewhere, s3_server, "nobodys-bucket")
    [problem] = [what for status, what in doctor("storage", s3_server.env) if status == "problem"]
    assert "no bucket 'nobodys-bucket'" in problem and "make the bucket" in problem
    bulk(elsewhere, s3_server, bucket)
    [problem] = [what for status, what in doctor("storage", {**s3_server.env, "AWS_SECRET_ACCESS_KEY": "wrong"}) if status == "problem"]
    assert "see the keys" in problem
    [problem] = [what for status, what in doctor("storage", {**s3_server.env, "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""})
                 if status == "problem"]
    assert "no keys were found: set AWS_ACCESS_KEY_ID" in problem
    bulk(elsewhere, s3_server, bucket, endpoint="http://127.0.0.1:9", deadline="1")
    [problem] = [what for status, what in doctor("storage", s3_server.env) if status == "problem"]
    assert "can't be reached" in problem and "`endpoint`" in problem


@pytest.mark.parametrize(("rule", "status"), [
    ({"AllowedMethods": ["PUT"], "AllowedHeaders": ["*"], "ExposeHeaders": ["ETag"], "AllowedOrigins": ["*"]}, "ok"),
    ({"AllowedMethods": ["PUT"], "AllowedHeaders": ["content-type", "Content-MD5"], "ExposeHeaders": ["etag"]}, "ok"),
    ({"AllowedMethods": ["GET"], "AllowedHeaders": ["*"], "ExposeHeaders": ["ETag"]}, "warning"),
    ({"AllowedMethods": ["PUT"], "AllowedHeaders": ["*"]}, "warning"),
    ({"AllowedMethods": ["PUT"], "ExposeHeaders": ["ETag"]}, "warning")])
def test_which_rules_let_browsers_send(rule: dict[str, Any], status: str) -> None:
    assert (cors([rule]).status, cors([{}, rule]).status, cors([]).status) == (status, status, "warning")


@pytest.mark.parametrize(("seconds", "status"), [(0.0, "ok"), (-59.0, "ok"), (61.0, "warning"), (-100.0, "warning")])
def test_clocks_that_differ(seconds: float, status: str) -> None:
    assert skew(seconds).status == status


def test_contents_in_a_storage_without_settings() -> None:
    assert list(catalog.unnamed({"local": (1, 2)}, {"local"})) == []
    [found] = catalog.unnamed({"local": (1, 2), "old": (3, 4)}, {"local", "bulk"})
    assert (found.status, "3 contents of 4 bytes" in found.what, "storages.old" in found.advice) == ("problem", True, True)


def test_variables_of_storages_are_known() -> None:
    names = {"CARBOY_STORAGES__BULK__BUCKET": "x", "CARBOY_STORAGES__BULK__BUKKET": "x", "CARBOY_SPACES__MAIN__STORAGE": "bulk"}
    assert ["BUKKET" in found.what for found in settings.unknown_variables(names)] == [True]


# --- PostgreSQL ----------------------------------------------------------------------------------------------------


def test_a_database_that_will_do(postgres_server: PostgresServer) -> None:
    env = {"CARBOY_DATABASE": postgres_server.new_database(), "CARBOY_WORKERS": "1"}
    assert any(status == "problem" and "carboy db upgrade" in what for status, what in doctor("catalog", env))
    assert CliRunner().invoke(main, ["db", "upgrade"], env=env).exit_code == 0
    assert [status for status, _ in doctor("catalog", env)] == ["ok"]
    said = doctor("database", env)
    assert any(status == "ok" and what.startswith("PostgreSQL ") for status, what in said)
    assert any("connections are allowed, this machine takes up to 16 (1 processes, 16 each)" in what for _, what in said)
    many = doctor("database", {**env, "CARBOY_WORKERS": "1000"})
    assert any(status == "problem" and "max_connections" in what for status, what in many)


def test_a_database_that_cant_be_reached_is_told_once(elsewhere: Path) -> None:
    env = {"CARBOY_DATABASE": "postgresql://nobody:hushhush@127.0.0.1:9/none"}
    assert doctor("database", env) == []
    [(status, what)] = doctor("catalog", env)
    assert (status, "hushhush" in what) == ("problem", False)


def test_a_database_that_wont_do(postgres_server: PostgresServer) -> None:
    found = facts(postgres_server.new_database())
    assert (found.encoding, found.is_standby, found.connections > 20, abs(found.ahead) < 60) == ("UTF8", False, True, True)
    well = replace(found, fsync=True, full_page_writes=True, synchronous_commit=True)
    given = Settings()
    assert list(postgres.kept(well, given)) == []
    for wrong in ({"fsync": False}, {"full_page_writes": False}, {"synchronous_commit": False}, {"encoding": "SQL_ASCII"}, {"is_standby": True}):
        [one] = postgres.kept(replace(well, **wrong), given)  # type: ignore[arg-type]
        assert one.status == "problem" and one.advice
    assert list(postgres.kept(replace(well, synchronous_commit=False), given.model_copy(update={"durability": "relaxed"}))) == []
    assert postgres.version(replace(found, number=120_009, version="12.9")).status == "problem"
    assert [postgres.connections(97, workers, 16).status for workers in (1, 3, 4, 6, 7)] == ["ok", "ok", "warning", "warning", "problem"]
    assert [postgres.clock(ahead).status for ahead in (0.1, -3.0)] == ["ok", "warning"]


# --- Redis ---------------------------------------------------------------------------------------------------------


def test_where_requests_are_counted(redis_server: Any) -> None:
    assert doctor("rates", {}) == []
    [(status, what)] = doctor("rates", {"CARBOY_RATE_LIMIT_STORAGE": redis_server.url})
    assert (status in ("ok", "warning"), "answers" in what) == (True, True)
    [(status, what)] = doctor("rates", {"CARBOY_RATE_LIMIT_STORAGE": "redis://127.0.0.1:9"})
    assert (status, "see that Redis runs" in what) == ("problem", True)


# --- clamd ---------------------------------------------------------------------------------------------------------


def test_the_virus_scanner(clamd: ClamdServer) -> None:
    assert doctor("clamd", {}) == []
    for address in (clamd.address, f"tcp:127.0.0.1:{clamd.port}"):
        [(status, what)] = doctor("clamd", {"CARBOY_CLAMD": address})
        assert (status, "clamd answers: ClamAV" in what) == ("ok", True)
    clamd.kill()
    [(status, what)] = doctor("clamd", {"CARBOY_CLAMD": clamd.address})
    assert (status, "can't be reached" in what) == ("problem", True)
    assert ("problem", True) in [(status, "is no address" in what) for status, what in doctor("settings", {"CARBOY_CLAMD": "somewhere"})]
