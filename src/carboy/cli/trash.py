"""``carboy trash list|restore|purge``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from carboy.cli.common import moment, opened, print_json
from carboy.cli.within import ON_CONFLICT, in_space, path_of, printable, shown, shown_shelved, who


@click.group()
def trash() -> None:
    """What was deleted, until its time is over."""


@trash.command("list")
@in_space
def list_(space: str, owner: str | None, json_: bool, config: Path | None, data: Path | None) -> None:
    """What lies in the trash of a space, last deleted first."""
    found = []
    with opened(config, data) as services:
        me, cursor = who(owner), None
        while True:
            page, cursor = services.changes.trash(me, space, cursor=cursor, limit=1000)
            found += page
            if cursor is None:
                break
    if json_:
        print_json([shown_shelved(one) for one in found])
        return
    for one in found:
        click.echo(f"{one.file.id}  {one.file.size:>14}  {moment(one.since)}  {printable(one.file.path)}")


@trash.command()
@click.argument("id")
@click.option("--to", help="Another path than the one it had.")
@click.option("--on-conflict", type=ON_CONFLICT, default="refuse", show_default=True, help="Where there is a file already.")
@in_space
def restore(id: str, to: str | None, on_conflict: Any, space: str, owner: str | None, json_: bool, config: Path | None,
            data: Path | None) -> None:
    """The file with this ID goes back to where it was."""
    with opened(config, data) as services:
        me = who(owner)
        file = services.changes.restore(me, id, path=to, on_conflict=on_conflict)
        path = path_of(file, me, services)
    if json_:
        print_json(shown(file, path))
    else:
        click.echo(f"restored {file.space}/{printable(path)}")


@trash.command()
@click.argument("ids", nargs=-1, metavar="ID…")
@click.option("--all", "all_", is_flag=True, help="Everything in the trash of the space.")
@in_space
def purge(ids: tuple[str, ...], all_: bool, space: str, owner: str | None, json_: bool, config: Path | None, data: Path | None) -> None:
    """Files in the trash are gone for good: those with these IDs, or all of the space."""
    if bool(ids) == all_:
        raise click.UsageError("give the ids of files, or --all")
    with opened(config, data) as services:
        me = who(owner)
        gone = services.changes.empty_trash(me, space) if all_ else len(ids)
        for id in ids:
            services.changes.purge(me, id)
    if json_:
        print_json({"files": gone})
    else:
        click.echo(f"purged {gone} files")
