"""``carboy doctor`` finds what is wrong, says what to do, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certificates
import proxies
import pytest
from click.testing import CliRunner, Result
from fixtures_server import Server, ServerFactory

from carboy.cli.doctor import catalog, clock, disk, settings
from carboy.cli.main import main
from carboy.testing import temporary_carboy


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without carboy.toml, an environment without CARBOY_ variables."""
    for name in [name for name in os.environ if name.startswith("CARBOY_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A new, empty data folder."""
    made = CliRunner().invoke(main, ["db", "upgrade", "--data", str(tmp_path / "data")])
    assert made.exit_code == 0, made.output
    return tmp_path / "data"


def doctor(*args: str | Path, env: dict[str, str] | None = None) -> Result:
    result = CliRunner().invoke(main, ["doctor", *map(str, args)], env=env)
    assert result.exit_code == int(any(line.startswith("problem ") for line in result.stdout.splitlines())), result.output
    return result


def lines(result: Result, status: str) -> str:
    return "\n".join(line for line in result.stdout.splitlines() if line.startswith(status))


# --- here ----------------------------------------------------------------------------------------------------------


def test_nothing_is_wrong_with_a_new_folder(data: Path) -> None:
    result = doctor("--data", data)
    assert result.exit_code == 0
    assert all(re.match(r"(ok|warning)  +(settings|disk|clock|catalog)  ", line) for line in result.stdout.splitlines())
    assert {line.split()[1] for line in result.stdout.splitlines()} == {"settings", "disk", "clock", "catalog"}
    assert not list(data.glob(".doctor*"))


def test_nothing_is_wrong_before_the_first_start_and_nothing_is_made(elsewhere: Path) -> None:
    assert doctor().exit_code == 0
    assert not (elsewhere / "data").exists()


def test_it_tells_of_jobs_that_nobody_runs_and_of_dead_ones() -> None:
    with temporary_carboy() as carboy:
        jobs = [carboy.run(carboy.put("main", name, b"x"), "digest") for name in ("a", "b")]
        found = carboy.services.catalog
        assert list(catalog.left_lying(found, time.time())) == []
        [late] = catalog.left_lying(found, time.time() + 601)
        assert (late.status, "2 jobs have been waiting" in late.what, "10 minutes" in late.what) == ("warning", True, True)
        [claim] = found.claim_jobs(carboy.services.leases.instance(), now=time.time(), steps=["digest"], id=jobs[0].id)
        found.fail_job(claim, "no", now=time.time(), due_at=None)
        assert [one.what for one in catalog.left_lying(found, time.time())] == ["1 jobs are dead"]


def test_it_says_the_same_as_json(data: Path) -> None:
    told = json.loads(doctor("--data", data, "--json").stdout)
    assert told["ok"] is True
    assert {"status", "check", "what", "advice"} == set(told["checks"][0])
    assert all(check["advice"] for check in told["checks"] if check["status"] != "ok")


def test_it_runs_beside_the_server(live: Server) -> None:
    assert doctor("--data", live.data).exit_code == 0
    assert live.request("PUT", "/files/main/doctor", body=b"x").status in (200, 201)


@pytest.mark.parametrize(("env", "toml", "status", "says"), [
    ({"CARBOY_PROT": "80"}, "", "warning", "CARBOY_PROT is no setting, and passed over: CARBOY_PORT is meant?"),
    ({"CARBOY_SPACES__HOME__MAXSIZE": "1"}, "", "problem", "there is no such setting"),
    ({"CARBOY_DURABILITY": "relaxed"}, "", "warning", "a power cut loses what was acknowledged"),
    ({"CARBOY_HOST": "0.0.0.0"}, "", "warning", "0.0.0.0 is bound without TLS"),
    ({"CARBOY_HOST": "::"}, "", "warning", ":: is bound without TLS"),
    ({}, "[spaces.drop]\npublic = 'write'", "warning", "anybody may write into the space drop"),
    ({"CARBOY_THREADS": "64"}, "", "problem", "reserved_threads is 64 of 64 threads"),
    ({}, "admin_token = 'an example of at least 32 characters'", "warning", "'carboy.toml', which holds a secret: chmod 600 carboy.toml"),
    ({"CARBOY_PORT": "high"}, "", "problem", "port: "),
    ({"CARBOY_TLS_CERT": "missing.pem", "CARBOY_TLS_KEY": "missing.key"}, "", "problem", "tls_cert: cannot read 'missing.pem'"),
])
def test_settings(elsewhere: Path, env: dict[str, str], toml: str, status: str, says: str) -> None:
    elsewhere.joinpath("carboy.toml").write_text(toml)
    elsewhere.joinpath("carboy.toml").chmod(0o644)
    assert says in lines(doctor(env=env), status)


@pytest.mark.parametrize("name", ["CARBOY_SPACES__AVATARS__MAX_SIZE", "CARBOY_PORT", "CARBOY_TOKEN", "OTHER"])
def test_variables_that_are_known(name: str) -> None:
    assert list(settings.unknown_variables({name: "1"})) == []


@pytest.mark.parametrize(("gone", "status"), [(0, "ok"), (80, "warning"), (89.9, "warning"), (90.1, "problem")])
def test_a_certificate_that_ends(tmp_path: Path, gone: float, status: str) -> None:
    """One of 90 days, looked at when so many have gone by."""
    made = certificates.make(tmp_path, days=90)
    assert settings.certificate(str(made.cert), str(made.key), time.time() + gone * 86400).status == status


def test_a_certificate_that_has_ended(tmp_path: Path) -> None:
    made = certificates.expired(tmp_path)
    env = {"CARBOY_TLS_CERT": str(made.cert), "CARBOY_TLS_KEY": str(made.key)}
    assert "has expired" in lines(doctor(env=env), "problem")


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("files.example.org", False)])
def test_what_only_this_machine_reaches(host: str, expected: bool) -> None:
    assert settings.is_loopback(host) is expected


# --- the disk ------------------------------------------------------------------------------------------------------


def test_a_folder_that_others_may_look_into(data: Path) -> None:
    data.chmod(0o755)
    assert f"chmod 700 {data}" in lines(doctor("--data", data), "warning")


@pytest.mark.parametrize(("mode", "status"), [(0o600, "warning"), (0o644, "problem")])
def test_the_first_token_that_still_lies_there(data: Path, mode: int, status: str) -> None:
    (data / "first-token").write_text("secret")
    (data / "first-token").chmod(mode)
    found = lines(doctor("--data", data), status)
    assert "first token" in found
    assert f"rm {data}/first-token" in found


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a folder away")
def test_a_folder_of_another_user_is_left_alone(data: Path) -> None:
    for path in (data, *data.iterdir()):
        os.chown(path, 12345, 12345)
    before = sorted(data.iterdir())
    found = lines(doctor("--data", data), "problem")
    assert "belongs to user 12345" in found
    assert "is another user's" in found
    assert sorted(data.iterdir()) == before


MOUNTS = """\
overlay / overlay rw,lowerdir=/x 0 0
/dev/sda1 /srv ext4 rw,relatime 0 0
server:/x /srv/net nfs4 rw 0 0
/dev/sdb1 /srv/two\\040words xfs rw,nobarrier 0 0
tmpfs /srv/ram tmpfs rw 0 0
"""


@pytest.mark.parametrize(("path", "kind", "option"), [("/srv/data", "ext4", "relatime"), ("/srv/net/data", "nfs4", "rw"), ("/srv/two words", "xfs", "nobarrier"),
                                                      ("/srv/ram", "tmpfs", "rw"), ("/srvother", "overlay", "rw")])
def test_the_file_system_below_a_folder(path: str, kind: str, option: str) -> None:
    found, options = disk.mounted(Path(path), MOUNTS)
    assert found == kind
    assert option in options


@pytest.mark.parametrize(("free", "inodes", "status"), [(50e9, 1e6, "ok"), (4e9, 1e6, "warning"), (60e6, 1e6, "problem"), (50e9, 10, "problem")])
def test_room(free: float, inodes: float, status: str) -> None:
    assert disk.room(Path("data"), int(free), int(100e9), int(inodes), int(10e6)).status == status


def test_a_disk_without_inodes_of_its_own(data: Path) -> None:
    """btrfs and others count none."""
    assert disk.room(data, int(50e9), int(100e9), 0, 0).status == "ok"


# --- catalog and clock ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "status"), [((3, 40, 1), "warning"), ((3, 44, 6), "ok"), ((3, 45, 0), "warning"), ((3, 50, 7), "ok"), ((3, 51, 2), "warning"),
                                                 ((3, 51, 3), "ok"), ((3, 60, 0), "ok")])
def test_the_wal_reset_bug_is_named(version: tuple[int, ...], status: str) -> None:
    found = catalog.sqlite_version(version)
    assert found.status == status
    assert ("WAL-reset" in found.what) is (status == "warning")


def test_a_damaged_catalog(data: Path) -> None:
    path = data / "catalog.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    raw = bytearray(path.read_bytes())
    raw[8192:8192 + 3000] = os.urandom(3000)
    path.write_bytes(raw)
    assert "restore a backup" in lines(doctor("--data", data), "problem")


def test_a_catalog_of_another_version(data: Path) -> None:
    with sqlite3.connect(data / "catalog.sqlite3") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("DELETE FROM compatibility")
    connection.close()
    assert "made by a newer Carboy: start the newer Carboy" in lines(doctor("--data", data), "problem")


def test_a_check_that_takes_too_long_is_given_up(data: Path) -> None:
    with sqlite3.connect(data / "catalog.sqlite3") as connection:
        connection.execute("CREATE TABLE large AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT i, hex(i) AS h FROM n")
    connection.close()
    assert catalog.sound(data / "catalog.sqlite3").status == "ok"
    assert "may take" in catalog.sound(data / "catalog.sqlite3", patience=-1).what


def test_the_storages_clock(data: Path) -> None:
    assert clock.stamps(data).status == "ok"
    assert clock.stamps(data / "absent").status == "warning"


# --- the proxy in front --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("doctor") / "data").start()
    yield server
    server.stop()
    server.must_be_sound()


def asked(url: str, one: Server | None = None) -> Result:
    return doctor("--url", url, *(("--token", one.token) if one else ()))


@pytest.mark.parametrize("kind", ["nothing", "nginx", "caddy"])
def test_what_deploy_ships_is_well(one: Server, tmp_path: Path, kind: str) -> None:
    if kind == "nothing":
        check(asked(one.url), asked(one.url, one))
    else:
        with (proxies.nginx if kind == "nginx" else proxies.caddy)(one, tmp_path / "run") as url:
            check(asked(url), asked(url, one))
    assert one.request("GET", "/api/v1/files?space=main").json()["files"] == []
    assert one.request("GET", "/api/v1/uploads?space=main").json()["uploads"] == []


def check(without: Result, with_token: Result) -> None:
    for result in (without, with_token):
        assert result.exit_code == 0, result.stdout
        assert lines(result, "ok").count("reach Carboy while they come") == 2
        assert "no limit to the size" in result.stdout
    assert "before the rest was sent" in with_token.stdout
    assert "a download comes back whole" in with_token.stdout


MISTAKES: list[tuple[str, str, str]] = [
    ("proxy_request_buffering off;", "", "bodies with a length are buffered: nothing reached Carboy while half of one was withheld: in nginx: "
                                         "proxy_request_buffering off; proxy_http_version 1.1; client_max_body_size 0;"),
    ("proxy_http_version 1.1;", "", "bodies in chunks are buffered"),
    ("client_max_body_size 0;", "client_max_body_size 5m;", "lets bodies of 2 MiB through, but not larger ones"),
    ("client_max_body_size 0;", "", "lets bodies of 1 MiB through, but not larger ones"),
    ("client_max_body_size 0;", "client_max_body_size 500k;", "it refuses bodies of 1 MiB"),
    ("gzip off;", "gzip on; gzip_types *; gzip_min_length 0;", "compresses downloads"),
    ("gzip off;", "proxy_hide_header ETag;", "downloads lose or change etag"),
    ("gzip off;", "proxy_set_header Range '';", "a part of a file is not what was asked for"),
    ("proxy_pass http://carboy;", "return 301 https://elsewhere.example$request_uri;", "leads on to https://elsewhere.example/healthz"),
    ("proxy_pass http://carboy;", "return 200 'hello';", "/healthz is not answered by Carboy"),
]


@pytest.mark.parametrize(("line", "instead", "says"), MISTAKES)
def test_a_mistake_in_nginxs_configuration_is_named(one: Server, tmp_path: Path, line: str, instead: str, says: str) -> None:
    with proxies.nginx(one, tmp_path / "run", lambda site: proxies.replaced(site, {line: instead})) as url:
        assert says in lines(asked(url, one if "gzip" in line else None), "problem")


def test_x_accel_redirect_without_its_lines_is_named(server: ServerFactory, tmp_path: Path) -> None:
    one = server(env={"CARBOY_ACCEL": "x-accel-redirect"})
    with proxies.nginx(one, tmp_path / "right") as url:
        assert asked(url, one).exit_code == 0
    wrong = {"add_header ETag $upstream_http_etag;": "", "etag off;": "etag on;"}
    with proxies.nginx(one, tmp_path / "wrong", lambda site: proxies.replaced(site, wrong)) as url:
        assert "downloads lose or change etag" in lines(asked(url, one), "problem")


def test_a_server_that_does_not_run_behind_its_proxy(server: ServerFactory, tmp_path: Path) -> None:
    one = server()
    with proxies.nginx(one, tmp_path / "run") as url:
        one.stop()
        assert "answers 502" in lines(asked(url), "problem")


def test_an_address_where_nobody_listens() -> None:
    assert "Connection refused" in lines(asked(f"http://127.0.0.1:{proxies.free_port()}"), "problem")


def test_a_certificate_that_nobody_trusts(server: ServerFactory, tmp_path: Path) -> None:
    one = server(args=certificates.make(tmp_path).args)
    assert "its certificate is not trusted (self-signed certificate)" in lines(asked(one.url), "problem")


def test_a_certificate_that_is_trusted(server: ServerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = certificates.make(tmp_path)
    one = server(args=made.args)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.cert))
    assert asked(one.url, one).exit_code == 0


@pytest.mark.parametrize("url", ["files.example.org", "ftp://files.example.org", "https://"])
def test_what_is_no_address(url: str) -> None:
    result: Any = CliRunner().invoke(main, ["doctor", "--url", url])
    assert result.exit_code == 2
    assert "is no address" in result.stderr


def test_a_token_that_may_not_write(one: Server) -> None:
    made = CliRunner().invoke(main, ["token", "create", "--name", "r", "--scope", "main:read", "--data", str(one.data)])
    found = lines(doctor("--url", one.url, "--token", made.stdout.strip()), "problem")
    assert "a file of 3 MiB was refused (403 forbidden): give a token" in found
