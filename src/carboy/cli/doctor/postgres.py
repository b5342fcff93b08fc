"""PostgreSQL: whether it keeps what it says, and has room for all connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from carboy.catalog.postgres_facts import PER_PROCESS, Facts, facts
from carboy.cli.doctor.finding import Finding, ok, problem, warning
from carboy.config import Settings
from carboy.errors import CatalogUnavailable
from carboy.web.server import processes

OLDEST = 130_000
_SKEW = 2.0


def check(settings: Settings) -> Iterator[Finding]:
    """Says nothing with SQLite, nor where the server can't be asked, which the catalog's check says."""
    if not settings.database.startswith("postgresql"):
        return
    with suppress(CatalogUnavailable):
        found = facts(settings.database)
        yield version(found)
        yield from kept(found, settings)
        yield connections(found.connections, processes(settings), min(settings.threads, PER_PROCESS))
        yield clock(found.ahead)


def version(found: Facts) -> Finding:
    if found.number < OLDEST:
        return problem("database", f"PostgreSQL {found.version} is too old", "use 13 or newer")
    return ok("database", f"PostgreSQL {found.version} answers")


def kept(found: Facts, settings: Settings) -> Iterator[Finding]:
    """Whether what is committed stays, and is text as Carboy writes it."""
    if found.is_standby:
        yield problem("database", "it is a standby, which takes no changes", "give the address of the primary server")
    if not found.fsync or not found.full_page_writes:
        yield problem("database", "fsync or full_page_writes is off", "a power cut then damages the catalog: switch both on")
    if not found.synchronous_commit and settings.durability == "full":
        yield problem("database", "synchronous_commit is off", "a crash then loses what was acknowledged: switch it on")
    if found.encoding != "UTF8":
        yield problem("database", f"its encoding is {found.encoding}", "make the database with ENCODING 'UTF8'")


def connections(allowed: int, workers: int, each: int) -> Finding:
    """``workers`` processes take up to ``each``."""
    wanted = workers * each
    told = f"{allowed} connections are allowed, this machine takes up to {wanted} ({workers} processes, {each} each)"
    if wanted > allowed:
        return problem("database", told, "raise max_connections (or the limit of the user or the database), or set workers lower")
    if 2 * wanted > allowed:
        return warning("database", told, "there is no room for a second machine, or new processes beside old ones; raise max_connections")
    return ok("database", f"{told}: enough for {allowed // wanted} machines")


def clock(ahead: float) -> Finding:
    if abs(ahead) > _SKEW:
        return warning("database", f"its clock is {ahead:+.0f} s off this machine's", "let both be set by a time service")
    return ok("database", "its clock agrees")
