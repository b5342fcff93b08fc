"""``carboy migrate``: what a space has goes to another storage."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import click

from carboy.cli.common import as_json, located, opened, print_json
from carboy.cli.links import Size
from carboy.heeding import Heed

if TYPE_CHECKING:
    from carboy.bootstrap import Services
    from carboy.engine.trees import Moved

_EVERY = 100


@click.command()
@click.option("--space", required=True, help="The space whose contents are to go.")
@click.option("--to", required=True, metavar="STORAGE", help="The storage that is to have them, by its name in the settings.")
@click.option("--dry-run", is_flag=True, help="Only say what is not there yet.")
@click.option("--rate", type=Size(), metavar="SIZE", help="Read at most this much a second, as 50MB; as fast as it goes, if not given.")
@as_json
@located
def migrate(space: str, to: str, dry_run: bool, rate: int | None, json_: bool, config: Path | None, data: Path | None) -> None:
    """Copy all contents of a space to another storage, prove each, and switch to it, beside a running server.

    Older contents, the trash and staged files included. Run again, it goes on where it ended. Exit code 1 where something was left out, or
    it was stopped.
    """
    told = _Told(json_)
    with opened(config, data) as services, _until_told() as stop:
        for moved in services.migrator.run(space, to, dry_run=dry_run, rate=rate, stop=stop):
            told.tell(moved)
        _summarise(services, space, to, told, dry_run)
    if told.left_out or stop.is_set():
        raise SystemExit(1)


@contextmanager
def _until_told() -> Iterator[Event]:
    """Set by Ctrl-C or SIGTERM: what is on its way is given up, and what was done is told."""
    stop = Event()
    heed = Heed(stop.set)
    before = {one: signal.signal(one, heed) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        heed.end()


class _Told:
    """What was told of so far: a line for every hundred contents, and for each that was left out."""

    def __init__(self, json_: bool) -> None:
        self.json = json_
        self.counts: Counter[str] = Counter()
        self.sizes: Counter[str] = Counter()
        self.left_out: list[dict[str, Any]] = []

    def tell(self, moved: Moved) -> None:
        self.counts[moved.outcome] += 1
        self.sizes[moved.outcome] += moved.size
        if moved.outcome == "left out":
            self.left_out.append({"name": moved.name, "size": moved.size, "reason": moved.reason})
            if not self.json:
                click.echo(f"left out  {moved.name}: {moved.reason}", err=True)
        elif not self.json and self.counts.total() % _EVERY == 0:
            click.echo(f"{moved.outcome}  {self.counts[moved.outcome]} contents, {self.sizes[moved.outcome]} bytes", err=True)


def _summarise(services: Services, space: str, to: str, told: _Told, dry_run: bool) -> None:
    left = services.migrator.left(space, to)
    kept_in = services.settings.spaces[space].storage
    if told.json:
        print_json({**{name.replace(" ", "_"): {"count": told.counts[name], "bytes": told.sizes[name]} for name in sorted(told.counts)},
                    "details": told.left_out, "left": {"blobs": left.blobs, "uploads": left.uploads}, "storage": kept_in})
        return
    for name in sorted(told.counts):
        click.echo(f"{name:<10} {told.counts[name]:>9}  {told.sizes[name]:>16} bytes")
    for line in advice(space, to, left.blobs, left.uploads, kept_in, dry_run=dry_run):
        click.echo(line)


def advice(space: str, to: str, blobs: int, uploads: int, kept_in: str, *, dry_run: bool) -> list[str]:
    """What is left, and what to do next."""
    lines = [] if dry_run else [f"{blobs} contents of {space!r} are still elsewhere: run it again" if blobs
                                else f"nothing of {space!r} is left outside of {to!r}"]
    if uploads:
        lines.append(f"{uploads} uploads under way end where they began: run it again when they have ended")
    if kept_in != to:
        lines.append(f"new files still go to {kept_in!r}: set spaces.{space}.storage = \"{to}\", restart the servers, and run it once more")
    return lines
