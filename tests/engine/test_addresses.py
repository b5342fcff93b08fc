"""Which addresses are public, and connections that go to no others."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from carboy.engine.addresses import Found, connect, is_public
from carboy.errors import AddressRefused, Unreachable

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.1", "192.0.1.1", "198.17.0.1",
          "198.20.0.1", "223.255.255.255", "2606:4700::1111", "2a00:1450:4001:81b::200e", "2620:4f:8000::1", "::ffff:8.8.8.8",
          "64:ff9b::8.8.8.8", "2002:808:808::1"]
PRIVATE = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.0.1", "169.254.0.1",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "3fff::1", "100::1", "5f00::1", "2001:2::1",
    "2001:10::1", "2001:20::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:7f00:1", "::127.0.0.1", "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::8.8.8.8", "2002:7f00:1::1", "2002:a00:1::", "2002:a9fe:a9fe::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:0:808:808::f7f7:f7f7",
    "", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "1.1.1.1 ", "::1%"]


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def soon() -> float:
    return time.monotonic() + 20


def v4(address: str, port: int = 80) -> Found:
    return socket.AF_INET, (address, port)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.1", "localhost", "::1", "::ffff:127.0.0.1", "0"])
def test_ways_to_write_this_machine_are_refused(host: str, listener: socket.socket) -> None:
    with pytest.raises((AddressRefused, Unreachable)) as refused:
        connect(host, listener.getsockname()[1], until=soon())
    if isinstance(refused.value, Unreachable):
        assert "resolved" in refused.value.detail, "nothing was connected to"


def test_a_name_is_refused_if_any_of_its_addresses_is_private() -> None:
    def ask(host: str, port: int) -> list[Found]:
        return [v4("8.8.8.8"), v4("10.0.0.1")]

    with pytest.raises(AddressRefused) as refused:
        connect("app.example", 80, until=soon(), ask=ask)
    assert refused.value.facts == {"host": "app.example", "address": "10.0.0.1"}


def test_it_is_resolved_once_and_connected_to_what_was_resolved(listener: socket.socket) -> None:
    asked = []

    def ask(host: str, port: int) -> list[Found]:
        asked.append((host, port))
        return [v4(*listener.getsockname())]

    with connect("app.example", 443, until=soon(), allow_private=True, ask=ask) as made:
        assert made.getpeername() == listener.getsockname()
    assert asked == [("app.example", 443)]


def test_the_next_address_is_taken_where_one_does_not_answer(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as other:
        closed = other.getsockname()
    with connect("a", port, until=soon(), allow_private=True, ask=lambda *_: [v4(*closed), v4("127.0.0.1", port)]) as made:
        assert made.getpeername()[1] == port
    with pytest.raises(Unreachable):
        connect("a", port, until=soon(), allow_private=True, ask=lambda *_: [v4(*closed)])
    with pytest.raises(Unreachable):
        connect("a", port, until=soon(), allow_private=True, ask=lambda *_: [])


def test_there_is_an_end_to_it(listener: socket.socket) -> None:
    with pytest.raises(Unreachable):
        connect("a", 1, until=time.monotonic() - 1, allow_private=True, ask=lambda *_: [v4(*listener.getsockname())])


def test_what_stands_for_nothing() -> None:
    def ask(host: str, port: int) -> list[Found]:
        raise socket.gaierror(socket.EAI_NONAME, "there is no such name")

    with pytest.raises(Unreachable, match="there is no such name"):
        connect("nowhere.invalid", 80, until=soon(), ask=ask)
    with pytest.raises(Unreachable):
        connect("a" * 64 + ".example", 80, until=soon())
