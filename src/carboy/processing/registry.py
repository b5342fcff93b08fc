"""Which steps there are: those that Carboy brings along, those of the modules that the settings name, an application's."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

from carboy.config import Settings
from carboy.errors import ConfigError
from carboy.processing.step import Step, Steps
from carboy.processing.steps import digest, image, mediatype, preview, processed, scan, thumbnails, video

_OWN: tuple[ModuleType, ...] = (digest, mediatype, scan, image, thumbnails, preview, video, processed)


def known_steps(settings: Settings) -> Steps:
    """Raises ConfigError for a module that can't be loaded, or a name that two steps have."""
    steps = Steps()
    for module in _OWN:
        steps.add(steps_in(module))
    for name in settings.step_modules:
        steps.add(steps_in(_module(name)))
    return steps


def steps_in(module: ModuleType) -> Iterator[Step]:
    """The steps among a module's own functions, in the order in which they stand there."""
    for value in vars(module).values():
        made = getattr(value, "__carboy_step__", None)
        if isinstance(made, Step) and value.__module__ == module.__name__:
            yield made


def _module(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(f"step_modules: the module {name!r} can't be loaded: {error}", setting="step_modules") from None
