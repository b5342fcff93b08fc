"""``carboy serve``."""

from __future__ import annotations

from pathlib import Path

import click

from carboy.cli.common import located, settings_for


@click.command()
@click.option("--host", help="The address to bind [default: 127.0.0.1].")
@click.option("--port", type=int, help="The port to bind; 0 picks a free one [default: 8080].")
@click.option("--workers", type=int, help="Server processes; 0 is one per processor, at most 4 [default: 0].")
@click.option("--threads", type=int, help="Most threads of each process [default: 1024].")
@located
def serve(host: str | None, port: int | None, workers: int | None, threads: int | None, config: Path | None,
          data: Path | None) -> None:
    """Start the server. Prints its address when it accepts connections."""
    settings = settings_for(config, data, host=host, port=port, workers=workers, threads=threads)
    from carboy.web import server

    server.serve(settings)
