"""Who the client is behind proxies that are trusted to tell (``X-Forwarded-For``). What anybody else says of itself is not believed."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Proxies:
    """The networks whose proxies are believed. Raises ValueError for one that is none."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(network, strict=False) for network in networks]

    def client(self, environ: Mapping[str, Any]) -> str:
        """The peer's address; where that is a trusted proxy, the last one in ``X-Forwarded-For`` that isn't: each proxy appends whom it
        speaks to, so what is left of that was written by a stranger."""
        peer = str(environ.get("REMOTE_ADDR", ""))
        told = str(environ.get("HTTP_X_FORWARDED_FOR", "")).split(",") if self._networks else []
        while told and self._is_trusted(peer):
            address = _parsed(told.pop())
            if address is None:
                break
            peer = str(address)
        return peer

    def _is_trusted(self, address: str) -> bool:
        parsed = _parsed(address)
        return parsed is not None and any(parsed in network for network in self._networks if network.version == parsed.version)


def _parsed(text: str) -> _Address | None:
    """An address, as proxies write it: with brackets and a port, or without."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    return parsed.ipv4_mapped or parsed if isinstance(parsed, ipaddress.IPv6Address) else parsed
