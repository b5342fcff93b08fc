"""What several commands share: where the settings come from, how Carboy is opened, durations and output."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from carboy.errors import ConfigError

if TYPE_CHECKING:
    from carboy.bootstrap import Services
    from carboy.config import Settings
    from carboy.web.brokered import Brokered

F = TypeVar("F", bound=Callable[..., Any])
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True, slots=True)
class Given:
    """What was said before the command: ``carboy --data DIR COMMAND``. In an application (``flask carboy COMMAND``) both are its own."""

    config: Path | None = None
    data: Path | None = None
    settings: Callable[[], Settings] | None = None
    services: Callable[[], Services] | None = None
    brokered: Callable[[], Brokered | None] | None = None
    """The application's own Celery."""


def located(command: F) -> F:
    """Let the command take ``--config`` and ``--data`` too, which then win over those before it."""
    path = click.Path(path_type=Path)
    command = click.option("--data", type=path, help="The folder of the catalog and the stored bytes.")(command)
    return click.option("--config", type=path, help="The settings file; carboy.toml here, if not given.")(command)


def as_json(command: F) -> F:
    return click.option("--json", "json_", is_flag=True, help="Print JSON.")(command)


def settings_for(config: Path | None, data: Path | None, **flags: Any) -> Settings:
    """The settings of this invocation. Raises ConfigError."""
    from carboy.config import load

    given = _given()
    if given.settings:
        return given.settings()
    return load(config or given.config, data=data or given.data, **flags)


def _given() -> Given:
    return click.get_current_context().find_object(Given) or Given()


@contextmanager
def opened(config: Path | None, data: Path | None) -> Iterator[Services]:
    """Carboy on the settings' data, which must be there and of this version; closed at the end."""
    from carboy.bootstrap import close, open_carboy

    application = _given().services
    if application:
        yield application()
        return
    settings = settings_for(config, data)
    if not settings.data.is_dir():
        raise ConfigError(f"there is no folder {str(settings.data)!r}; `carboy serve` or `carboy db upgrade` makes it", setting="data")
    services = open_carboy(settings)
    try:
        services.catalog.check()
        yield services
    finally:
        close(services)


def brokered_of(services: Services) -> Brokered | None:
    """The Celery that delivers jobs: the application's own, or that of the settings. Raises ConfigError."""
    from carboy.web.brokered import of_settings

    own = _given().brokered
    found = (own() if own else None) or of_settings(services)
    if found:
        found.attach()
    return found


class Duration(click.ParamType[float]):
    """Seconds, written ``45s``, ``90m``, ``12h``, ``30d`` or ``2w``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"([0-9]+)([smhdw])", value)
        if match is None or int(match[1]) == 0:
            self.fail(f"{value!r} is not a duration; write a number with s, m, h, d or w, as 30d", param, ctx)
        return float(int(match[1]) * _UNITS[match[2]])


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def moment(seconds: float | None) -> str | None:
    """A time as RFC 3339 in UTC, to the second."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
