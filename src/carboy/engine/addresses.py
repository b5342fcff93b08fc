"""Which network addresses are open to everybody, and connections that go to no others.

A name is resolved once, all that it resolves to is checked, and the connection goes to what was checked: who answers the second question
differently (DNS rebinding) is not asked one. The special addresses are those of IANA's registries for IPv4 and IPv6 (RFC 6890); of
addresses that carry another one inside, that one counts.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from carboy.errors import AddressRefused, Unreachable

Found = tuple[socket.AddressFamily, tuple[Any, ...]]
"""An address of the operating system's: its family, and what ``connect`` takes."""
Resolve = Callable[[str, int], Sequence[Found]]
"""What a name and a port stand for. Raises OSError."""

_NOT_PUBLIC_4 = tuple(IPv4Network(network) for network in (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
    "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"))
_GLOBAL_6 = IPv6Network("2000::/3")
"""All that was ever given out; what else there is, is loopback, link-local, unique local, multicast or reserved."""
_NOT_PUBLIC_6 = tuple(IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "3fff::/20"))
_MAPPED, _NAT64, _SIX_TO_FOUR = IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"), IPv6Network("2002::/16")


def is_public(address: str) -> bool:
    """Whether the IP address, as text, is one of the internet's, so that it says nothing of this machine or its neighbours."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return _is_public_4(ip) if isinstance(ip, IPv4Address) else _is_public_6(ip)


def _is_public_4(ip: IPv4Address) -> bool:
    return not any(ip in network for network in _NOT_PUBLIC_4)


def _is_public_6(ip: IPv6Address) -> bool:
    if ip in _MAPPED or ip in _NAT64:
        return _is_public_4(IPv4Address(int(ip) & 0xFFFFFFFF))
    if ip in _SIX_TO_FOUR:
        return _is_public_4(IPv4Address(int(ip) >> 80 & 0xFFFFFFFF))
    return ip in _GLOBAL_6 and not any(ip in network for network in _NOT_PUBLIC_6)


def resolve(host: str, port: int) -> Sequence[Found]:
    """What the system says."""
    return [(family, place) for family, _, _, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def connect(host: str, port: int, *, until: float, allow_private: bool = False, ask: Resolve = resolve) -> socket.socket:
    """A connection to the first of the host's addresses that takes it, by ``until`` on the monotonic clock.

    Raises AddressRefused where any of them is private, unless that is allowed; Unreachable.
    """
    try:
        found = ask(host, port)
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"{host} can't be resolved: {error}", host=host) from None
    if not allow_private:
        for _, place in found:
            if not is_public(place[0]):
                raise AddressRefused(f"{host} is at {place[0]}, which is no public address", host=host, address=place[0])
    failure: OSError | None = None
    for family, place in found:
        try:
            return _connected(family, place, until)
        except OSError as error:
            failure = error
    raise Unreachable(f"{host} can't be reached: {failure or 'it has no address'}", host=host)


def _connected(family: socket.AddressFamily, place: tuple[Any, ...], until: float) -> socket.socket:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("there was no time left")
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.settimeout(left)
        made.connect(place)
    except BaseException:
        made.close()
        raise
    return made
