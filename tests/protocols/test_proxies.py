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
