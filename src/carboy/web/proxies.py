"""What proxies that are trusted tell of a request: who the client is, and how it reached them. What anybody else says is not believed.

``X-Forwarded-For``, ``-Proto``, ``-Host`` and ``-Prefix``, or ``Forwarded`` (RFC 7239), are read from right to left: each proxy appends
whom it speaks to, so what is left of the first stranger was written by that one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
UNIX = "unix"
"""Whoever comes by a socket of this machine's files has no address."""
_PAIR = re.compile(r'[ \t]*([\w!#$%&\'*+.^`|~-]+)=("(?:[^"\\]|\\.)*"|[^;,"\s]*)[ \t]*([;,]|$)', re.ASCII)
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9a-fA-F:.]{2,45}\])(?::\d{1,5})?", re.ASCII)
_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[\w.~%!$&'()*+,;=:@-]+)+", re.ASCII)
_ID = re.compile(r"[\w.=+/-]{1,128}", re.ASCII)
_PROTO, _FOR, _NAMED = "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST"


@dataclass(frozen=True, slots=True)
class _Hop:
    """What one proxy says of the request that it got."""

    client: str
    scheme: str = ""
    host: str = ""


class Proxies:
    """The networks whose proxies are believed. Raises ValueError for one that is none."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(network, strict=False) for network in networks if network != UNIX]
        self._unix = UNIX in networks

    def client(self, environ: Mapping[str, Any]) -> str:
        """The client's address: the peer's, or where that is a trusted proxy, the one that it names."""
        return self._seen(environ)[0]

    def apply(self, environ: dict[str, Any]) -> None:
        """Have the environment tell of the client what a trusted proxy does: address, scheme, host, where Carboy is mounted, and the id
        that the request has in its log."""
        if not (self._networks or self._unix) or not self._is_trusted(str(environ.get("REMOTE_ADDR", ""))):
            return
        address, scheme, host = self._seen(environ)
        environ["carboy.proxy"], environ["REMOTE_ADDR"] = environ.get("REMOTE_ADDR", ""), address
        if scheme in ("http", "https"):
            environ["wsgi.url_scheme"] = scheme
        if _HOST.fullmatch(host):
            environ["HTTP_HOST"] = host
        prefix = str(environ.get("HTTP_X_FORWARDED_PREFIX", "")).rstrip("/")
        if _PREFIX.fullmatch(prefix):
            environ["SCRIPT_NAME"] = unquote_to_bytes(prefix).decode("latin-1") + str(environ.get("SCRIPT_NAME", ""))
        if _ID.fullmatch(id := str(environ.get("HTTP_X_REQUEST_ID", ""))):
            environ["carboy.given_id"] = id

    def _seen(self, environ: Mapping[str, Any]) -> tuple[str, str, str]:
        """The client's address, scheme and host as far as they are told. Where the two ways of telling name different clients, one of them
        is a stranger's: then neither counts."""
        peer = str(environ.get("REMOTE_ADDR", ""))
        if not (self._networks or self._unix):
            return peer, "", ""
        ours, theirs = environ.get(_FOR), environ.get("HTTP_FORWARDED")
        if theirs is None:
            return self._walk(peer, _by_fields(environ))
        standard = self._walk(peer, _by_standard(str(theirs)))
        if ours is not None and self._walk(peer, _by_fields(environ))[0] != standard[0]:
            return peer, "", ""
        return standard

    def _walk(self, address: str, hops: Sequence[_Hop]) -> tuple[str, str, str]:
        scheme = host = ""
        for hop in reversed(hops):
            if not self._is_trusted(address):
                break
            scheme, host = hop.scheme or scheme, hop.host or host
            parsed = _parsed(hop.client)
            if parsed is None:
                break
            address = str(parsed)
        return address, scheme, host

    def _is_trusted(self, address: str) -> bool:
        if not address:
            return self._unix
        parsed = _parsed(address)
        return parsed is not None and any(parsed in network for network in self._networks if network.version == parsed.version)


def _by_fields(environ: Mapping[str, Any]) -> list[_Hop]:
    """``X-Forwarded-…``: one scheme and host, the last proxy's, or as many as addresses."""
    clients, schemes, hosts = ([one.strip() for one in str(environ.get(name, "")).split(",")] for name in (_FOR, _PROTO, _NAMED))

    def at(values: list[str], place: int) -> str:
        return values[-place] if place <= len(values) else ""

    return [_Hop(clients[-place], at(schemes, place).lower(), at(hosts, place)) for place in range(len(clients), 0, -1)]


def _by_standard(value: str) -> list[_Hop]:
    """``Forwarded``; a malformed one tells nothing."""
    hops: list[dict[str, str]] = [{}]
    at = 0
    while at < len(value):
        pair = _PAIR.match(value, at)
        if not pair:
            return []
        text = re.sub(r"\\(.)", r"\1", pair[2][1:-1]) if pair[2].startswith('"') else pair[2]
        hops[-1][pair[1].lower()] = text
        if pair[3] == ",":
            hops.append({})
        at = pair.end()
    return [_Hop(hop.get("for", ""), hop.get("proto", "").lower(), hop.get("host", "")) for hop in hops]


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
