"""How often somebody may ask: the strings and strategies of ``limits``, which is what flask-limiter runs on.

Requests are counted for each principal, else for each address; proofs that fail (tokens, passwords) for each address. Where counting itself
fails, requests pass, and for a while none is counted: a limit protects the service and must not be what ends it or holds it up.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import time
from dataclasses import dataclass

from limits import RateLimitItem, parse_many
from limits.errors import ConfigurationError
from limits.storage import Storage, storage_from_string
from limits.strategies import FixedWindowRateLimiter

from carboy.config import Settings
from carboy.errors import ConfigError, RateLimited
from carboy.web.ratestore import SharedStorage

log = logging.getLogger("carboy")

_FILE = "rates"
_QUIET = 60.0
_PAUSE = 5.0
"""Nobody waits for counters again for so long after they failed."""
_PATIENCE = 0.5
"""What a Redis that says nothing may cost a request, each time; its address may say otherwise (``?socket_timeout=``)."""
_NETWORK = 64
"""Bits of an IPv6 address that one client has; the others are its own to choose."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of the limit that ends first: requests, and seconds until it begins anew."""

    limit: int
    remaining: int
    reset: int

    @property
    def headers(self) -> dict[str, str]:
        return {"RateLimit-Limit": str(self.limit), "RateLimit-Remaining": str(self.remaining), "RateLimit-Reset": str(self.reset)}


class Rates:
    """The limits of the settings. Raises ConfigError for settings that can't be; opens nothing before the first request."""

    def __init__(self, settings: Settings) -> None:
        self._requests = _parsed(settings.rate_limit, "rate_limit")
        self._proofs = _parsed(settings.login_rate_limit, "login_rate_limit")
        self._limiter = FixedWindowRateLimiter(_storage(settings))
        self._told = self._resumes = -_QUIET

    @property
    def on(self) -> bool:
        """Whether requests are counted."""
        return bool(self._requests)

    def spend(self, principal: str | None, address: str) -> Allowance | None:
        """Count a request, and what is left after it. Raises RateLimited."""
        who = f"principal {principal}" if principal else f"address {network(address)}"
        return self._spend(self._requests, "requests", who, "too many requests; wait a little")

    def may_try(self, address: str) -> None:
        """Before something is proved that could be guessed. Raises RateLimited where too much failed from there."""
        if self._pauses:
            return None
        try:
            left = [self._left(item, network(address)) for item in self._proofs]
        except Exception as error:
            return self._pause(error)
        for allowance in left:
            if allowance.remaining <= 0:
                raise _limited("too many wrong passwords or tokens came from your address; wait a little", allowance)
        return None

    def failed(self, address: str) -> None:
        """Count a proof that failed. Raises RateLimited beyond the limit."""
        self._spend(self._proofs, "proofs", network(address), "too many wrong passwords or tokens came from your address; wait a little")

    def _left(self, item: RateLimitItem, who: str) -> Allowance:
        return _allowance(self._limiter, item, "proofs", who)

    def _spend(self, items: list[RateLimitItem], what: str, who: str, detail: str) -> Allowance | None:
        if self._pauses:
            return None
        try:
            passed = [self._limiter.hit(item, what, who) for item in items]
            left = [_allowance(self._limiter, item, what, who) for item in items]
        except Exception as error:
            self._pause(error)
            return None
        for allowance, is_within in zip(left, passed, strict=True):
            if not is_within:
                raise _limited(detail, allowance)
        return min(left, key=lambda allowance: allowance.remaining, default=None)

    @property
    def _pauses(self) -> bool:
        return time.monotonic() < self._resumes

    def _pause(self, error: Exception) -> None:
        """Told once a minute."""
        now = time.monotonic()
        self._resumes = now + _PAUSE
        if now - self._told >= _QUIET:
            self._told = now
            log.warning("requests can't be counted, so none is refused: %s", error)


def reach(settings: Settings) -> bool:
    """Whether the place where requests are counted answers. Raises ConfigError for one that can't be."""
    storage = _storage(settings)
    try:
        return storage.check() and storage.check()  # the first one connects
    except Exception:
        return False


def _allowance(limiter: FixedWindowRateLimiter, item: RateLimitItem, *who: str) -> Allowance:
    stats = limiter.get_window_stats(item, *who)
    return Allowance(item.amount, max(0, stats.remaining), max(0, math.ceil(stats.reset_time - time.time())))


def _limited(detail: str, allowance: Allowance) -> RateLimited:
    return RateLimited(detail, limit=allowance.limit, retry_after=max(1, allowance.reset))


def network(address: str) -> str:
    """Whom an address stands for: of IPv6, its network."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, _NETWORK), strict=False))
    return address


def _parsed(text: str, setting: str) -> list[RateLimitItem]:
    try:
        return parse_many(text) if text else []
    except ValueError:
        raise ConfigError(f"{setting}: {text!r} is no rate; write such as 600/minute, or several with ; between them",
                          setting=setting) from None


def _storage(settings: Settings) -> Storage:
    if not settings.rate_limit_storage:
        return SharedStorage(path=settings.data.absolute() / _FILE)
    try:
        storage = storage_from_string(settings.rate_limit_storage, **_patience(settings.rate_limit_storage))
    except (ConfigurationError, ValueError) as error:
        raise ConfigError(f"rate_limit_storage: {error}", setting="rate_limit_storage") from None
    assert isinstance(storage, Storage)
    return storage


def _patience(address: str) -> dict[str, float]:
    """What a counter beyond the network is opened with."""
    is_redis = address.partition(":")[0].partition("+")[0] in ("redis", "rediss", "valkey", "valkeys")
    return {"socket_timeout": _PATIENCE, "socket_connect_timeout": _PATIENCE} if is_redis else {}
