"""``flask carboy …``: the program's commands on an application's own data."""

from __future__ import annotations

import copy
from functools import partial

import click
from flask.cli import ScriptInfo

_LEFT_OUT = frozenset({"serve", "doctor"})
"""What is about the server alone."""
_PLACES = ("config", "data")


def commands_of(name: str) -> click.Group:
    """The group of the Carboy called ``name``. The program is loaded when a command is asked for."""
    return _Commands(name=name, help="Files of this application: upkeep, tokens, import and export.")


class _Commands(click.Group):
    """What the program can do, with the application's settings instead of ``--config`` and ``--data``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._found())

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        command = self._found().get(name)
        return _without_places(command) if command else None

    def invoke(self, ctx: click.Context) -> object:
        from carboy.cli.common import Given
        from carboy.cli.main import failing_clearly
        from carboy.web.brokered import of_application

        app = ctx.ensure_object(ScriptInfo).load_app()
        ctx.with_resource(app.app_context())
        name = self.name or "carboy"
        embedded = app.extensions[name]
        ctx.obj = Given(settings=embedded.settings, services=lambda: embedded.opened.services,
                        brokered=lambda: of_application(app, name))
        ctx.call_on_close(embedded.close)
        with failing_clearly():
            return super().invoke(ctx)

    def _found(self) -> dict[str, click.Command]:
        from carboy.cli.main import main

        found = {name: command for name, command in main.commands.items() if name not in _LEFT_OUT}
        database = found.pop("db", None)
        return {**found, **(database.commands if isinstance(database, click.Group) else {})}


def _without_places(command: click.Command) -> click.Command:
    """The same command, which is not told where its data is."""
    found = copy.copy(command)
    if isinstance(found, click.Group):
        found.commands = {name: _without_places(below) for name, below in found.commands.items()}
        return found
    given = {param.name: None for param in found.params if param.name in _PLACES}
    found.params = [param for param in found.params if param.name not in _PLACES]
    if found.callback is not None and given:
        found.callback = partial(found.callback, **given)
    return found
