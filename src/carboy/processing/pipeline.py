"""Which steps a content goes through: the one place that decides, whatever brought it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from carboy.config import Settings
from carboy.errors import ConfigError, InvalidRequest
from carboy.jobs import Order
from carboy.model import File
from carboy.processing.step import Step, Steps
from carboy.processing.values import kept_arguments


class Pipeline:
    """See :class:`carboy.jobs.Plan`. Steps may be added until it is first asked. Raises ConfigError where a space names a step that isn't
    there."""

    def __init__(self, settings: Settings, steps: Steps) -> None:
        self._settings = settings
        self._steps = steps

    @cached_property
    def _by_space(self) -> Mapping[str, tuple[Step, ...]]:
        return {name: self._of(name) for name in self._settings.spaces}

    def _of(self, space: str) -> tuple[Step, ...]:
        rules = self._settings.spaces[space]
        named = {step: self._steps.get(step) for step in (*rules.steps, *rules.hold)}
        if rules.dedup:
            named["digest"] = self._steps.get("digest")
        own = {name: step for name, step in self._steps.known.items() if step.spaces is None or space in step.spaces}
        return tuple({**named, **own}.values())

    def check(self) -> None:
        """Raises ConfigError for what the settings name and isn't there."""
        for space, steps in self._by_space.items():
            for step in steps:
                if step.configure:
                    step.configure(self._settings, space)
            known = {step.name for step in steps}
            for name in set(self._settings.spaces[space].hold) - known:
                raise ConfigError(f"spaces.{space}.hold: there is no step {name!r}", setting=f"spaces.{space}.hold")
        for name in self._settings.job_queues:
            self._steps.get(name)
        for step in self._steps.known.values():
            for space in set(step.spaces or ()) - set(self._settings.spaces):
                raise ConfigError(f"the step {step.name!r} is for the space {space!r}, which isn't there; there is "
                                  f"{', '.join(sorted(self._settings.spaces))}", step=step.name)

    def concerns(self, space: str) -> bool:
        return bool(self._by_space.get(space))

    def holds(self, space: str) -> bool:
        rules = self._settings.spaces.get(space)
        return bool(rules and rules.hold)

    def orders(self, file: File) -> Sequence[Order]:
        steps = self._by_space.get(file.space)
        return [self.order(step, file.space) for step in steps if takes(step, file)] if steps else ()

    def order(self, step: Step, space: str, args: Mapping[str, Any] | None = None) -> Order:
        """An order for the step. Raises InvalidRequest for arguments that are no JSON."""
        rules = self._settings.spaces.get(space)
        variant = step.variant(self._settings, space) if step.variant else ""
        return Order(step.name, "-".join(filter(None, (version_of(step, args or {}), variant))), args or {}, step.after,
                     self._settings.job_queues.get(step.name, step.queue), step.priority, bool(rules and step.name in rules.hold))

    def asked(self, name: str, file: File, args: Mapping[str, Any]) -> Order:
        """An order that somebody gives by hand. Raises InvalidRequest for a step that isn't there or doesn't take the file, and for
        arguments that it doesn't take."""
        step = self._steps.known.get(name)
        if step is None:
            raise InvalidRequest(f"there is no step {name!r}; there is {', '.join(sorted(self._steps.known))}", step=name)
        if not takes(step, file):
            raise InvalidRequest(f"the step {name!r} isn't for {file.name!r}, which is {file.media_type} of {file.size} bytes", step=name,
                                 accepted=list(step.accept), max_size=step.max_size)
        configured = step.configure(self._settings, file.space) if step.configure else {}
        if fixed := sorted(set(args) & set(configured)):
            raise InvalidRequest(f"the argument {fixed[0]!r} of the step {name!r} is for the settings to say", argument=fixed[0])
        return self.order(step, file.space, kept_arguments(name, step.run, args, configured))

    def named(self, name: str) -> Step:
        return self._steps.get(name)


def takes(step: Step, file: File) -> bool:
    """Whether the step is for this file."""
    if step.max_size is not None and file.size > step.max_size:
        return False
    return not step.accept or any(_matches(file.media_type, accepted) for accepted in step.accept)


def _matches(media_type: str, accepted: str) -> bool:
    return media_type == accepted or (accepted.endswith("/*") and media_type.startswith(accepted[:-1])) or accepted == "*/*"


def version_of(step: Step, args: Mapping[str, Any]) -> str:
    """The step's version, with a fingerprint of the arguments: other arguments are another job."""
    if not args:
        return step.version
    try:
        written = json.dumps(args, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"the arguments of the step {step.name!r} are no JSON: {error}") from None
    return f"{step.version}-{hashlib.sha256(written.encode()).hexdigest()[:16]}"
