"""``carboy sweep`` and ``carboy fsck``: upkeep by hand, beside live traffic."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from carboy.cli.common import as_json, located, opened, print_json


@click.command()
@as_json
@located
def sweep(json_: bool, config: Path | None, data: Path | None) -> None:
    """Free what nothing needs any more.

    That is what the server does by itself from time to time: it ends expired uploads, removes the bytes of deleted files
    and those the catalog doesn't know, and drops lapsed reservations.
    """
    with opened(config, data) as services:
        swept = services.sweeper.run()
    counts = dataclasses.asdict(swept)
    if json_:
        print_json(counts)
        return
    for name, count in counts.items():
        click.echo(f"{name.replace('_', ' '):<24} {count}")


@click.command()
@click.option("--deep", is_flag=True, help="Also read every byte again and compare it with its CRC-64/NVME.")
@as_json
@located
def fsck(deep: bool, json_: bool, config: Path | None, data: Path | None) -> None:
    """Compare the catalog and the storage, both ways. Exit code 1 when they disagree."""
    findings = []
    with opened(config, data) as services:
        check = services.fsck
        for finding in check.run(deep=deep):
            findings.append(finding)
            if not json_:
                click.echo(f"{finding.kind}  {finding.storage}:{finding.key}  {finding.detail}")
    if json_:
        print_json({"blobs": check.blobs, "bytes": check.bytes, "deep": deep, "findings": [dataclasses.asdict(each) for each in findings]})
    else:
        click.echo(f"{check.blobs} blobs, {check.bytes} bytes {'read' if deep else 'looked up'}, {len(findings)} findings")
    if findings:
        raise SystemExit(1)
