"""``carboy doctor``: looks at the settings, the disk, the catalog, the clock, the storages, and the proxy in front, and says what to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from carboy.cli.common import as_json, located, print_json, settings_for
from carboy.errors import ConfigError

if TYPE_CHECKING:
    from carboy.cli.doctor.finding import Finding


@click.command()
@click.option("--url", help="Also ask the server at this public address, through whatever proxy stands before it.")
@click.option("--token", envvar="CARBOY_TOKEN", help="With --url: a token that may read, write and delete. "
              "Then a file is sent, fetched and deleted.")
@click.option("--space", default="main", show_default=True, help="With --token: the space that the file is sent to.")
@as_json
@located
def doctor(url: str | None, token: str | None, space: str, json_: bool, config: Path | None, data: Path | None) -> None:
    """Look for what is wrong here, and say what to do.

    One line for each check: ok, warning or problem. Exit code 1 where there is a problem.
    """
    findings = []
    for finding in _findings(config, data, url, token, space):
        findings.append(finding)
        if not json_:
            click.echo(finding.line())
    problems = sum(finding.status == "problem" for finding in findings)
    if json_:
        print_json({"ok": not problems, "checks": [dataclasses.asdict(finding) for finding in findings]})
    if problems:
        raise SystemExit(1)


def _findings(config: Path | None, data: Path | None, url: str | None, token: str | None, space: str) -> Iterator[Finding]:
    from carboy.cli.doctor import broker, catalog, clamd, clock, disk, postgres, proxy, redis, settings, storages
    from carboy.cli.doctor.finding import problem

    try:
        given = settings_for(config, data)
        yield from settings.check(given, config)
        yield from disk.check(given)
        yield from clock.check(given)
        yield from catalog.check(given)
        yield from postgres.check(given)
        yield from storages.check(given)
        yield from redis.check(given)
        yield from clamd.check(given)
        yield from broker.check(given)
    except ConfigError as error:
        yield problem("settings", " ".join(error.detail.split()), "set it right; the other checks wait for that")
    if url:
        yield from proxy.check(url, token, space)
