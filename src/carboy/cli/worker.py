"""``carboy worker``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from carboy.cli.common import brokered_of, located, opened


@click.command()
@click.option("--concurrency", type=click.IntRange(1), help="How many jobs run at once [default: one per processor].")
@click.option("--queues", help="The queues whose jobs are taken, with commas between them [default: all].")
@located
def worker(concurrency: int | None, queues: str | None, config: Path | None, data: Path | None) -> None:
    """Run jobs in the background, until SIGTERM or Ctrl-C.

    `carboy serve` does so by itself where there is no broker; `carboy serve --no-worker` leaves it to this command. With a broker this is a
    worker of Celery's. What is under way at the end has the setting graceful_timeout to finish.
    """
    from carboy.web.background import Background
    from carboy.web.server import log_to_stderr

    wanted = [name for name in (queues or "").split(",") if name]
    with opened(config, data) as services:
        log_to_stderr(services.settings)
        brokered = brokered_of(services)
        if brokered:
            sys.exit(brokered.work(wanted, concurrency=concurrency or 0, ready=_ready))
        background = Background(services, workers=concurrency or 0, queues=wanted)
        background.heed_signals()
        _ready()
        background.run()


def _ready() -> None:
    click.echo("Carboy's worker is ready")
