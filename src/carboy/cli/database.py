"""``carboy db upgrade``."""

from __future__ import annotations

from pathlib import Path

import click

from carboy.cli.common import located, settings_for


@click.group()
def db() -> None:
    """The catalog's database."""


@db.command()
@located
def upgrade(config: Path | None, data: Path | None) -> None:
    """Bring the catalog's schema up to this version of Carboy. SQLite is copied first; the server does it by itself."""
    from carboy.bootstrap import close, open_carboy

    settings = settings_for(config, data)
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    services = open_carboy(settings)
    try:
        services.catalog.migrate()
        for storage in services.storages.values():
            storage.prepare()
    finally:
        close(services)
    click.echo("the catalog is up to date")
