"""``carboy audit`` and ``carboy usage``: who did what, and what is kept."""

from __future__ import annotations

import dataclasses
import json
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carboy.cli.common import Duration, as_json, located, moment, opened, print_json
from carboy.cli.within import printable

if TYPE_CHECKING:
    from carboy.engine.finding import Account
    from carboy.model import AuditEntry


@click.command()
@click.option("--space", help="Of this space alone.")
@click.option("--principal", help="By this token, user or link alone.")
@click.option("--action", help="Such as file.create or link.revoke.")
@click.option("--file", "file_id", help="About the file with this id.")
@click.option("--since", type=Duration(), metavar="TIME", help="Not older than this, as 12h or 30d.")
@click.option("--limit", type=int, default=100, show_default=True, help="Most entries; 0 for all.")
@click.option("--json", "json_", is_flag=True, help="Print a JSON object in each line.")
@located
def audit(space: str | None, principal: str | None, action: str | None, file_id: str | None, since: float | None, limit: int, json_: bool,
          config: Path | None, data: Path | None) -> None:
    """The audit log, the newest entry first."""
    from carboy.engine.finding import Asked
    from carboy.model import TRUSTED

    asked = Asked(space, principal, action, file_id, time.time() - since if since else None)
    with opened(config, data) as services:
        for entry in islice(services.finder.audit_all(TRUSTED, asked), limit or None):
            click.echo(json.dumps(_entry(entry)) if json_ else _line(entry))


@click.command()
@click.argument("spaces", nargs=-1, metavar="[SPACE]…")
@click.option("--owner", help="What this owner keeps there.")
@as_json
@located
def usage(spaces: tuple[str, ...], owner: str | None, json_: bool, config: Path | None, data: Path | None) -> None:
    """Files and bytes of spaces, with their quotas; of all, if none is named."""
    with opened(config, data) as services:
        told = {space: services.finder.account(space, owner) for space in spaces or services.settings.spaces}
    if json_:
        print_json({space: _account(one) for space, one in told.items()})
        return
    for space, one in told.items():
        quota = f" of {one.quota}" if one.quota is not None else ""
        click.echo(f"{space:<20} {one.usage.files} files, {one.usage.total} bytes{quota}: {one.usage.bytes} current, "
                   f"{one.usage.older} older, {one.usage.trash} in the trash")


def _account(one: Account) -> dict[str, Any]:
    return {**dataclasses.asdict(one.usage), "total": one.usage.total, "quota": one.quota, "free": one.free}


def _entry(entry: AuditEntry) -> dict[str, Any]:
    return {"id": entry.id, "at": moment(entry.at), "action": entry.action, "principal": entry.by.principal, "kind": entry.by.kind,
            "request": entry.by.request, "address": entry.by.address, "space": entry.space, "path": entry.path, "file_id": entry.file_id,
            "facts": dict(entry.facts)}


def _line(entry: AuditEntry) -> str:
    where = f"{entry.space}/{printable(entry.path or '')}" if entry.space else ""
    return f"{moment(entry.at)}  {entry.action:<20} {entry.by.kind} {entry.by.principal or '-'}  {where}"
