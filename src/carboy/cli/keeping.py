"""``carboy import|export|backup|restore|scrub``: coming, leaving, and keeping what is here."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carboy.cli.common import as_json, located, opened, print_json, settings_for
from carboy.cli.links import Size
from carboy.cli.within import ON_CONFLICT, printable

if TYPE_CHECKING:
    from carboy.engine.trees import Moved

_FOLDER = click.Path(path_type=Path)


@click.command("import")
@click.argument("folder", type=_FOLDER)
@click.option("--space", default="main", show_default=True, help="The space that takes them.")
@click.option("--to", default="", metavar="FOLDER/", help="A folder in the space.")
@click.option("--owner", help="Whose they are.")
@click.option("--on-conflict", type=ON_CONFLICT, default="refuse", show_default=True, help="Where there is a file with another content.")
@click.option("--link", is_flag=True, help="By hard link, where that can be: takes no room, and changing the original damages the file.")
@click.option("--described", type=_FOLDER, metavar="FILE", help="The carboy-export.jsonl of an export: metadata, tags, owners come too.")
@as_json
@located
def import_(folder: Path, space: str, to: str, owner: str | None, on_conflict: Any, link: bool, described: Path | None, json_: bool,
            config: Path | None, data: Path | None) -> None:
    """Store every file below FOLDER. Run again, it goes on where it ended. Exit code 1 where something was left out."""
    with opened(config, data) as services:
        _report(services.importer.run(folder, space, to=to, owner=owner, on_conflict=on_conflict, link=link, described=described), json_)


@click.command()
@click.argument("folder", type=_FOLDER)
@click.option("--space", help="This space alone; else each goes into a folder of its name.")
@click.option("--prefix", default="", help="Only files whose paths start with this.")
@click.option("--versions", is_flag=True, help="Older contents too, into .carboy-versions.")
@click.option("--link", is_flag=True, help="By hard link, where that can be: takes no room; changing such a file damages what is stored.")
@click.option("--into", is_flag=True, help="FOLDER may hold something, which stays as it is: an export that was cut short goes on.")
@as_json
@located
def export(folder: Path, space: str | None, prefix: str, versions: bool, link: bool, into: bool, json_: bool, config: Path | None,
           data: Path | None) -> None:
    """Write all files below FOLDER, and what is known of them into carboy-export.jsonl. Exit code 1 where something was left out."""
    with opened(config, data) as services:
        _report(services.exporter.run(folder, space=space, prefix=prefix, versions=versions, link=link, into=into), json_)


@click.command()
@click.argument("dest", type=_FOLDER)
@click.option("--copy", is_flag=True, help="Copy bytes, instead of making hard links where DEST is on the same file system.")
@click.option("--prune", is_flag=True, help="Remove what only earlier backups into DEST needed.")
@as_json
@located
def backup(dest: Path, copy: bool, prune: bool, json_: bool, config: Path | None, data: Path | None) -> None:
    """Copy everything into DEST, beside a running server; run again, only what is new. Exit code 1 where bytes are missing or damaged."""
    with opened(config, data) as services:
        _report(services.backup.run(dest, copy=copy, prune=prune), json_)


@click.command()
@click.argument("backup", type=_FOLDER, required=False)
@click.option("--snapshot", type=_FOLDER, metavar="FILE", help="Instead: the catalog alone becomes what it was at this snapshot of it.")
@as_json
@located
def restore(backup: Path | None, snapshot: Path | None, json_: bool, config: Path | None, data: Path | None) -> None:
    """Fill a new data folder with the content of BACKUP, and compare every byte. Exit code 1 where some are missing or damaged in it."""
    from carboy.bootstrap import close, open_carboy

    if (backup is None) == (snapshot is None):
        raise click.UsageError("give a backup, or --snapshot FILE")
    services = open_carboy(settings_for(config, data))
    try:
        if backup is not None:
            _report(services.restore.run(backup), json_)
        elif snapshot is not None:
            aside = services.restore.from_snapshot(snapshot)
            if json_:
                print_json({"snapshot": str(snapshot), "former": str(aside)})
            else:
                click.echo(f"the catalog is as it was; the one before is {aside}; now run `carboy fsck`")
    finally:
        close(services)


@click.command()
@click.option("--rate", type=Size(), metavar="SIZE", help="Read at most this much a second, as 50MB; as fast as it goes, if not given.")
@click.option("--repair", type=_FOLDER, metavar="FROM", help="Take the right bytes from this backup, or data folder.")
@as_json
@located
def scrub(rate: int | None, repair: Path | None, json_: bool, config: Path | None, data: Path | None) -> None:
    """Read all stored bytes again and put under quarantine what is not what was received. Goes on where the last run was cut short.

    Exit code 1 where something is missing or damaged.
    """
    from carboy.engine.scrub import BAD

    found = []
    with opened(config, data) as services:
        for finding in services.scrubber.run(rate=rate, repair=repair):
            found.append(finding)
            if not json_:
                click.echo(f"{finding.kind}  {finding.storage}:{finding.key}  {finding.detail}")
        blobs, size = services.scrubber.blobs, services.scrubber.bytes
    if json_:
        print_json({"blobs": blobs, "bytes": size, "findings": [dataclasses.asdict(one) for one in found]})
    else:
        click.echo(f"{blobs} blobs, {size} bytes read, {len(found)} findings")
    if any(one.kind in BAD for one in found):
        raise SystemExit(1)


def _report(told: Iterable[Moved], json_: bool) -> None:
    """Progress on a terminal, what was left out, a summary. Exits with 1 where something was left out."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    left_out, elsewhere = [], []
    progress = sys.stderr.isatty() and not json_
    for moved in told:
        if moved.outcome == "elsewhere":
            elsewhere.append({"storage": moved.name, "bytes": moved.size, "reason": moved.reason})
            continue
        counts[moved.outcome] += 1
        sizes[moved.outcome] += moved.size
        if moved.outcome == "left out":
            left_out.append({"name": printable(moved.name), "size": moved.size, "reason": moved.reason})
            if not json_:
                click.echo(f"left out  {printable(moved.name)}: {moved.reason}", err=True)
        if progress and counts.total() % 100 == 0:
            click.echo(f"\r{counts.total()} files, {sizes.total()} bytes", err=True, nl=False)
    if progress:
        click.echo("\r\x1b[K", err=True, nl=False)
    _summarise(counts, sizes, left_out, elsewhere, json_)
    if left_out:
        raise SystemExit(1)


def _summarise(counts: Counter[str], sizes: Counter[str], left_out: list[dict[str, Any]], elsewhere: list[dict[str, Any]],
               json_: bool) -> None:
    if json_:
        print_json({**{name.replace(" ", "_"): {"count": counts[name], "bytes": sizes[name]} for name in sorted(counts)},
                    **({"elsewhere": elsewhere} if elsewhere else {}), "details": left_out})
        return
    for name in sorted(counts):
        click.echo(f"{name:<10} {counts[name]:>9}  {sizes[name]:>16} bytes")
    for one in elsewhere:
        click.echo(f"elsewhere  {one['reason']} ({one['bytes']} bytes)")
    if not counts and not elsewhere:
        click.echo("there is nothing")
