"""Case 38: what a request says of where it comes from is believed from trusted proxies alone."""

from __future__ import annotations

from typing import Any

import pytest
import wire
from fixtures_server import ServerFactory

from carboy.config import load
from carboy.errors import ConfigError
from carboy.web.proxies import Proxies


def client(trusted: list[str], peer: str, told: str | None) -> str:
    environ: dict[str, Any] = {"REMOTE_ADDR": peer} | ({} if told is None else {"HTTP_X_FORWARDED_FOR": told})
    return Proxies(trusted).client(environ)


@pytest.mark.parametrize("trusted, peer, told, known", [
    ([], "127.0.0.1", "203.0.113.9", "127.0.0.1"),
    (["127.0.0.1"], "127.0.0.1", None, "127.0.0.1"),
    (["127.0.0.1"], "127.0.0.1", "203.0.113.9", "203.0.113.9"),
    (["127.0.0.1"], "127.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
    (["127.0.0.1", "10.0.0.0/8"], "127.0.0.1", "198.51.100.1, 203.0.113.9,10.1.2.3", "203.0.113.9"),
    (["10.0.0.0/8"], "203.0.113.9", "198.51.100.1", "203.0.113.9"),
    (["127.0.0.1"], "127.0.0.1", "nonsense", "127.0.0.1"),
    (["127.0.0.1"], "127.0.0.1", "203.0.113.9, nonsense", "127.0.0.1"),
    (["127.0.0.1"], "127.0.0.1", "", "127.0.0.1"),
    (["127.0.0.1"], "127.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
    (["::1"], "::1", "[2001:db8::5]:4711", "2001:db8::5"),
    (["::1"], "::1", "2001:db8::5", "2001:db8::5"),
    (["127.0.0.0/8"], "::ffff:127.0.0.1", "203.0.113.9", "203.0.113.9"),
    (["10.0.0.0/8"], "10.0.0.1", "10.0.0.2, 10.0.0.3", "10.0.0.2"),
    (["127.0.0.1"], "", "203.0.113.9", ""),
])
def test_who_the_client_is(trusted: list[str], peer: str, told: str | None, known: str) -> None:
    assert client(trusted, peer, told) == known


def test_many_addresses_cost_little() -> None:
    assert client(["127.0.0.1"], "127.0.0.1", ",".join(["127.0.0.1"] * 2000)) == "127.0.0.1"


@pytest.mark.parametrize("network", ["proxy", "10.0.0.0/99", "", "*"])
def test_networks_that_are_none(network: str) -> None:
    with pytest.raises(ConfigError, match="trusted_proxies"):
        load(trusted_proxies=[network])


def statuses(url: str, addresses: list[str]) -> list[int]:
    return [wire.request(url, "GET", "/openapi.json", {"X-Forwarded-For": address}).status for address in addresses]


def test_strangers_are_one_whatever_they_say(server: ServerFactory) -> None:
    one = server(env={"CARBOY_RATE_LIMIT": "2/day"})
    assert statuses(one.url, ["203.0.113.1", "203.0.113.2", "203.0.113.3"]) == [200, 200, 429]


def test_behind_a_proxy_each_is_counted_for_itself(server: ServerFactory) -> None:
    one = server(env={"CARBOY_RATE_LIMIT": "2/day", "CARBOY_TRUSTED_PROXIES": '["127.0.0.1"]'})
    assert statuses(one.url, ["203.0.113.1"] * 3 + ["203.0.113.2"]) == [200, 200, 429, 200]
    one.request("PUT", "/files/main/a.txt", {"X-Forwarded-For": "203.0.113.7"}, b"x")
    entry = one.request("GET", "/api/v1/audit?action=file.create", {"X-Forwarded-For": "203.0.113.8"}).json()["entries"][0]
    assert entry["address"] == "203.0.113.7"


def applied(trusted: list[str], peer: str = "127.0.0.1", **told: str) -> tuple[str, str, str, str]:
    """Address, scheme, host and mount after what the fields say."""
    environ: dict[str, Any] = {"REMOTE_ADDR": peer, "wsgi.url_scheme": "http", "HTTP_HOST": "inside", "SCRIPT_NAME": "",
                               **{f"HTTP_{name.upper()}": value for name, value in told.items()}}
    Proxies(trusted).apply(environ)
    return environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], environ["HTTP_HOST"], environ["SCRIPT_NAME"]


UNTOLD = ("127.0.0.1", "http", "inside", "")
LOCAL = ["127.0.0.1", "10.0.0.0/8"]


@pytest.mark.parametrize("trusted, told, known", [
    ([], {"x_forwarded_proto": "https", "x_forwarded_host": "evil", "x_forwarded_prefix": "/x", "forwarded": "for=1.2.3.4"}, UNTOLD),
    (["10.0.0.0/8"], {"x_forwarded_for": "1.2.3.4", "x_forwarded_proto": "https", "x_forwarded_host": "evil"}, UNTOLD),
    (LOCAL, {"x_forwarded_for": "1.2.3.4", "x_forwarded_proto": "https", "x_forwarded_host": "files.example:8443", "x_forwarded_prefix": "/a/b/"},
     ("1.2.3.4", "https", "files.example:8443", "/a/b")),
    (LOCAL, {"x_forwarded_proto": "https"}, ("127.0.0.1", "https", "inside", "")),
    (LOCAL, {"x_forwarded_for": "9.9.9.9, 1.2.3.4, 10.0.0.1", "x_forwarded_proto": "gopher, https, http", "x_forwarded_host": "evil, a.example, b"},
     ("1.2.3.4", "https", "a.example", "")),
    (LOCAL, {"x_forwarded_proto": "gopher", "x_forwarded_host": "a b", "x_forwarded_prefix": "//evil"}, UNTOLD),
    (LOCAL, {"x_forwarded_host": "evil/path", "x_forwarded_prefix": "/a/../b"}, UNTOLD),
    (LOCAL, {"forwarded": 'for="[2001:db8::5]:4711";proto=https;host="a.example:8443"'}, ("2001:db8::5", "https", "a.example:8443", "")),
    (LOCAL, {"forwarded": "for=9.9.9.9;host=evil;proto=ftp, for=1.2.3.4;proto=https;host=a.example,FOR=10.0.0.1"},
     ("1.2.3.4", "https", "a.example", "")),
    (LOCAL, {"forwarded": "for=unknown;proto=https"}, ("127.0.0.1", "https", "inside", "")),
    (LOCAL, {"forwarded": "for=_hidden, for=10.0.0.1"}, ("10.0.0.1", "http", "inside", "")),
    (LOCAL, {"forwarded": 'for="1.2.3.4'}, UNTOLD),
    (LOCAL, {"forwarded": "for=1.2.3.4", "x_forwarded_for": "1.2.3.4"}, ("1.2.3.4", "http", "inside", "")),
    (LOCAL, {"forwarded": "for=9.9.9.9;proto=https;host=evil", "x_forwarded_for": "1.2.3.4"}, UNTOLD),
])
def test_how_it_was_reached(trusted: list[str], told: dict[str, str], known: tuple[str, str, str, str]) -> None:
    assert applied(trusted, **told) == known


def test_sockets_without_an_address() -> None:
    assert applied(["unix"], "", x_forwarded_for="1.2.3.4")[0] == "1.2.3.4"
    assert applied(LOCAL, "", x_forwarded_for="1.2.3.4")[0] == ""
    assert load(trusted_proxies=["unix", "10.0.0.1"]).trusted_proxies == ("unix", "10.0.0.1")


SAID = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "files.example", "X-Forwarded-Prefix": "/carboy", "X-Request-ID": "from-the-proxy.1"}
SIGN_IN = {"Content-Type": "application/x-www-form-urlencoded"}


def test_secure_cookies_addresses_and_ids_behind_a_proxy(server: ServerFactory) -> None:
    one = server(env={"CARBOY_TRUSTED_PROXIES": '["127.0.0.1"]'})
    put = one.request("PUT", "/files/main/a.txt", SAID, b"x")
    assert (put.header("Location"), put.header("X-Request-ID")) == ("/carboy/files/main/a.txt", "from-the-proxy.1")
    cookie = wire.request(one.url, "POST", "/login", {**SIGN_IN, **SAID}, f"token={one.token}".encode()).all("Set-Cookie")
    assert any(line.startswith("__Host-carboy=") and "Secure" in line for line in cookie)
    assert one.request("GET", "/files/main/", {"X-Request-ID": "a b\tc"}).header("X-Request-ID") != "a b\tc"


def test_a_stranger_says_it_in_vain(server: ServerFactory) -> None:
    one = server()
    put = one.request("PUT", "/files/main/a.txt", SAID, b"x")
    assert put.header("Location") == "/files/main/a.txt"
    assert put.header("X-Request-ID") != "from-the-proxy.1"
    cookie = wire.request(one.url, "POST", "/login", {**SIGN_IN, **SAID}, f"token={one.token}".encode()).all("Set-Cookie")
    assert any(line.startswith("carboy=") for line in cookie)
