"""What goes into a step and comes out of it: typed by its function's annotations, stored as JSON."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError

from carboy.errors import InvalidRequest, StepFailed
from carboy.jobs import Outcome

MAX_RESULT = 256 * 2**10
"""The most bytes of JSON that a result may be; what is larger is to be attached."""


def writable(text: str) -> str:
    """The text as every catalog can keep it: without lone surrogates, as names have that are no UTF-8, and NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def arguments(name: str, run: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that ``run`` takes besides its context, of the types that it says. Raises InvalidRequest that names the wrong one."""
    known = [one for one in list(inspect.signature(run).parameters.values())[1:] if one.kind is not one.VAR_POSITIONAL]
    anything = any(one.kind is one.VAR_KEYWORD for one in known)
    names = {one.name for one in known if one.kind is not one.VAR_KEYWORD}
    unknown = sorted(set(given) - names)
    if unknown and not anything:
        raise InvalidRequest(f"the step {name!r} takes no argument {unknown[0]!r}; it takes {', '.join(sorted(names)) or 'none'}",
                             argument=unknown[0])
    missing = [one.name for one in known if one.name not in given and one.default is one.empty and one.name in names]
    if missing:
        raise InvalidRequest(f"the step {name!r} wants the argument {missing[0]!r}", argument=missing[0])
    hints = get_type_hints(run)
    return {key: _typed(name, key, hints.get(key, Any), value) for key, value in given.items()}


def _typed(step: str, name: str, wanted: Any, value: Any) -> Any:
    try:
        return TypeAdapter(wanted).validate_python(value)
    except ValidationError as error:
        raise InvalidRequest(f"the argument {name!r} of the step {step!r}: {error.errors()[0]['msg']}", argument=name) from None


def kept_arguments(name: str, run: Callable[..., Any], given: Mapping[str, Any], besides: Mapping[str, Any]) -> dict[str, Any]:
    """The ``given`` arguments as JSON, once they were found right; those ``besides`` come when the step is run. Raises InvalidRequest."""
    hints, typed = get_type_hints(run), arguments(name, run, {**besides, **given})
    return {key: _written(name, key, hints.get(key, Any), typed[key]) for key in given}


def _written(step: str, name: str, wanted: Any, value: Any) -> Any:
    try:
        return json.loads(TypeAdapter(wanted).dump_json(value))
    except Exception as error:
        raise InvalidRequest(f"the argument {name!r} of the step {step!r} can't be kept as JSON: {error}", argument=name) from None


def as_json(value: Any) -> dict[str, Any]:
    """A step's result as a JSON object: of a mapping, a dataclass or a model; anything else stands as ``value`` in one. Raises StepFailed
    for what can't be written as JSON, or is too large."""
    if value is None:
        return {}
    if not isinstance(value, (Mapping, BaseModel)) and not (is_dataclass(value) and not isinstance(value, type)):
        value = {"value": value}
    try:
        written = json.dumps(TypeAdapter(type(value)).dump_python(value, mode="json"), allow_nan=False)
    except Exception as error:
        raise StepFailed(f"the step gave what can't be kept as JSON: {error}") from error
    if len(written) > MAX_RESULT:
        raise StepFailed(f"the step's result has {len(written)} bytes of JSON, and {MAX_RESULT} are the most; attach what is large")
    loaded: dict[str, Any] = json.loads(written)
    return loaded


def outcome_as_json(outcome: Outcome) -> dict[str, Any]:
    """For :func:`outcome_of`. Raises StepFailed for what can't be written as JSON."""
    if outcome.derived:
        raise StepFailed("what a step in a process of its own derives is attached, not given back")
    return {"result": as_json(outcome.result), "sha256": outcome.sha256.hex() if outcome.sha256 else None, "media_type": outcome.media_type,
            "quarantine": outcome.quarantine, "same_as": outcome.same_as, "same_in": outcome.same_in, "release": outcome.release}


def outcome_of(written: Any) -> Outcome:
    """Raises StepFailed for what is none."""
    try:
        digest, among = written["sha256"], written["same_in"]
        media_type, quarantine, same_as = (_text(written[name]) for name in ("media_type", "quarantine", "same_as"))
        return Outcome(as_json(dict(written["result"])), (), None if digest is None else bytes.fromhex(digest), media_type, quarantine,
                       same_as, None if among is None else (str(among[0]), _text(among[1])), written["release"] is True)
    except (TypeError, ValueError, LookupError) as error:
        raise StepFailed(f"the step's process gave what is no outcome: {error}") from None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
