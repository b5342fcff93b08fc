"""Settings that don't exist, and those that are unsafe."""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from carboy.cli.doctor.finding import Finding, ok, problem, warning
from carboy.config import S3StorageSettings, Settings, SpaceSettings
from carboy.errors import ConfigError
from carboy.web.tls import context_of

_PREFIX = "CARBOY_"
_NOT_SETTINGS = {"CARBOY_TOKEN"}
"""Read by commands: clients' tokens are no setting of the server."""
_SOON = 21 * 86400


def check(settings: Settings, config: Path | None) -> Iterator[Finding]:
    """Raises ConfigError for a certificate that can't be used."""
    worries = [*unknown_variables(os.environ), *_unsafe(settings), *_secrets_in_file(config or Path("carboy.toml"))]
    yield from worries or [ok("settings", "all are known and none is unsafe")]
    if settings.tls_cert:
        context_of(settings.tls_cert, settings.tls_key)
        yield certificate(settings.tls_cert, settings.tls_key)


def unknown_variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that look like settings: the server passes them over."""
    known = {_PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(environ):
        if name.startswith(_PREFIX) and name not in known | _NOT_SETTINGS and not _is_nested(name):
            near = difflib.get_close_matches(name, known, 1)
            yield warning("settings", f"{name} is no setting, and passed over", f"{near[0]} is meant?" if near else "see docs/settings.md")


def _is_nested(name: str) -> bool:
    """Whether it is a setting of a space or of a storage."""
    for group, fields in (("SPACES", SpaceSettings.model_fields), ("STORAGES", S3StorageSettings.model_fields)):
        match = re.fullmatch(rf"CARBOY_{group}__[A-Z0-9][A-Z0-9_-]*?__(\w+)", name)
        if match is not None and match[1].lower().partition("__")[0] in fields:
            return True
    return False


def _unsafe(settings: Settings) -> Iterator[Finding]:
    if settings.durability == "relaxed":
        yield warning("settings", "durability is relaxed", "a power cut loses what was acknowledged; set durability = \"full\"")
    if not settings.tls_cert and not is_loopback(settings.host):
        yield warning("settings", f"{settings.host} is bound without TLS, so tokens and files may cross the network readable",
                      "bind 127.0.0.1 behind a proxy that speaks TLS, or set tls_cert and tls_key")
    for name, space in settings.spaces.items():
        if space.public == "write":
            yield warning("settings", f"anybody may write into the space {name}", "set public = \"read\" or \"\" unless that is meant")
    if settings.reserved_threads >= settings.threads:
        yield problem("settings", f"reserved_threads is {settings.reserved_threads} of {settings.threads} threads",
                      "only one body at a time is taken; set threads higher")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _secrets_in_file(config: Path) -> Iterator[Finding]:
    """A file with a password in it that others on this machine may read."""
    if not config.is_file() or not config.stat().st_mode & 0o044:
        return
    if re.search(r"^\s*(admin_token\s*=|database\s*=.*://[^/\s]*:[^/\s]*@)", config.read_text(errors="replace"), re.MULTILINE):
        yield warning("settings", f"others on this machine may read {str(config)!r}, which holds a secret", f"chmod 600 {config}")


def certificate(cert: str, key: str, now: float | None = None) -> Finding:
    """How long the certificate is good for. It is shown to a client within this process."""
    now = time.time() if now is None else now
    until = _not_after(cert, key)
    if until is None or until <= now:
        return problem("settings", f"the certificate {cert!r} has expired or is not valid yet", "renew it, then send the server SIGHUP")
    days = int((until - now) / 86400)
    if until - now < _SOON:
        return warning("settings", f"the certificate {cert!r} expires in {days} days", "renew it, then send the server SIGHUP")
    return ok("settings", f"the certificate {cert!r} is good for {days} days")


def _not_after(cert: str, key: str) -> float | None:
    """The end of its validity, in seconds since 1970; None where a client would refuse its dates now."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    trusting.load_verify_locations(cert)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client, server = trusting.wrap_bio(back, there), context_of(cert, key).wrap_bio(there, back, server_side=True)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError:
            return None
    shown = client.getpeercert() or {}
    try:
        return ssl.cert_time_to_seconds(str(shown["notAfter"]))
    except (KeyError, ValueError) as error:
        raise ConfigError(f"tls_cert: {cert!r} says no date", setting="tls_cert") from error
