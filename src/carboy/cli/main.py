"""The program ``carboy``. Exit codes: 0 done, 1 it could not be done or something was found, 2 wrong usage or setting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from carboy import __version__
from carboy.cli.common import Given
from carboy.cli.database import db
from carboy.cli.doctor import doctor
from carboy.cli.files import cp, get, ls, mv, put, rm, stat, tag
from carboy.cli.jobs import jobs
from carboy.cli.keeping import backup, export, import_, restore, scrub
from carboy.cli.links import link
from carboy.cli.migrating import migrate
from carboy.cli.records import audit, usage
from carboy.cli.serve import serve
from carboy.cli.tokens import token
from carboy.cli.trash import trash
from carboy.cli.upkeep import fsck, sweep
from carboy.cli.webhooks import webhooks
from carboy.cli.worker import worker
from carboy.errors import CarboyError, ConfigError


class WrongSetting(click.ClickException):
    """Like a flag that is wrong."""

    exit_code = 2


class Program(click.Group):
    """A group whose commands fail in one clear line, never with a traceback, when the fault is not the program's."""

    def invoke(self, ctx: click.Context) -> Any:
        with failing_clearly():
            return super().invoke(ctx)


@contextmanager
def failing_clearly() -> Iterator[None]:
    """Errors of the block become one line and an exit code."""
    try:
        yield
    except ConfigError as error:
        raise WrongSetting(_one_line(error.detail)) from error
    except CarboyError as error:
        raise click.ClickException(_one_line(error.detail)) from error
    except OSError as error:
        raise click.ClickException(_one_line(str(error))) from error


def _one_line(message: str) -> str:
    return " ".join(message.split())


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="carboy", message="carboy %(version)s")
@click.option("--config", type=click.Path(path_type=Path), help="The settings file; carboy.toml here, if not given.")
@click.option("--data", type=click.Path(path_type=Path), help="The folder of the catalog and the stored bytes.")
@click.pass_context
def main(ctx: click.Context, config: Path | None, data: Path | None) -> None:
    """Receives, keeps and returns files of any size.

    Settings come from flags, then CARBOY_* variables, then carboy.toml.
    """
    ctx.obj = Given(config, data)


for _command in (serve, token, sweep, fsck, doctor, db, ls, stat, put, get, mv, cp, rm, tag, trash, link, usage, audit, import_,
                 export, backup, restore, scrub, migrate, worker, webhooks, jobs):
    main.add_command(_command)


if __name__ == "__main__":
    main(prog_name="carboy")
