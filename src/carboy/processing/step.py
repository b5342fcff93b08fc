"""What a step is, and what it gets: the contract between those who write steps and what runs them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from carboy.config import Settings
from carboy.engine.opening import Content
from carboy.errors import ConfigError
from carboy.jobs import DEFAULT_QUEUE, Job
from carboy.model import Blob, File

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_RETRIES = 3


class Context(Protocol):
    """What a step is given to work on one content. Whatever of it is called raises Cancelled once nothing may come of the job any more:
    it was cancelled, took longer than its timeout, or its content is gone."""

    @property
    def job(self) -> Job: ...

    @property
    def blob(self) -> Blob: ...

    @property
    def file(self) -> File | None:
        """The file that the job was ordered for; None where it is gone meanwhile, or has another content."""

    @property
    def name(self) -> str:
        """The file's name, without folders."""

    @property
    def media_type(self) -> str: ...

    @property
    def results(self) -> Mapping[str, Mapping[str, Any]]:
        """What the steps before gave of the same content, by their names."""

    @property
    def cancelled(self) -> bool:
        """Whether nothing may come of it any more, for those who would rather ask than be interrupted."""

    def stream(self) -> BinaryIO:
        """The content's bytes, buffered and seekable; to be closed. From wherever they are stored."""

    def path(self) -> AbstractContextManager[Path]:
        """A file with the content's bytes, which is the step's own and is removed after the block. Its name ends as the file's does."""

    def progress(self, share: float, phrase: str = "") -> None:
        """How far it is, from 0 to 1, and what is being done. May be called as often as one likes."""

    def attach(self, name: str, content: Content, media_type: str, **facts: Any) -> None:
        """Keep a file derived of the content. It is there once the job is done, and goes with the content. Those that the same step made
        before go. Raises InvalidName, StorageFull."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a step in a process of its own may take; None leaves it to the settings ``step_memory``, ``step_cpu`` and ``step_output``."""

    memory: int | None = None
    """Bytes of address space."""
    cpu: float | None = None
    """Seconds of processor time."""
    output: int | None = None
    """Bytes of the largest file that it may write."""


@dataclass(frozen=True, slots=True)
class Step:
    """One unit of processing on one content. It may run more than once, so what it does beside its result must bear that."""

    name: str
    run: Callable[..., Any]
    """``run(context, **args)`` gives the result: None, a mapping, a dataclass or a pydantic model, kept as JSON; or a whole Outcome."""
    accept: tuple[str, ...] = ()
    """Media types, as ``video/*``; empty takes all."""
    after: tuple[str, ...] = ()
    retries: int = DEFAULT_RETRIES
    version: str = "1"
    """Another one has contents go through it again where they are ordered to."""
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    timeout: float = 3600.0
    """Seconds that one attempt may take."""
    backoff: float = 2.0
    """Seconds until the first retry; each one waits twice as long as the one before, an hour at most, with jitter."""
    isolated: bool = False
    """Whether it runs in a process of its own with ``limits``: for what is heavy, or may come to harm by what it reads."""
    limits: Limits = Limits()
    spaces: tuple[str, ...] | None = ()
    """Where it is ordered by itself for each new content: None is every space. A space's setting ``steps`` orders it as well."""
    max_size: int | None = None
    """Larger contents are left out, in bytes."""
    configure: Callable[[Settings, str], Mapping[str, Any]] | None = None
    """Arguments that come from the settings, for a job of this space, when it is run; no order may give them. Raises ConfigError where the
    step can't work with these settings: that is found at the start."""
    variant: Callable[[Settings, str], str] | None = None
    """A word for how this space's rules have it go, which is part of a job's version; empty for the usual. So what is through by the rules
    of one space goes through it again where others hold."""


def step(name: str, *, accept: Sequence[str] = (), after: Sequence[str] = (), retries: int = DEFAULT_RETRIES, version: str = "1",
         queue: str = DEFAULT_QUEUE, priority: int = 0, timeout: float = 3600.0, backoff: float = 2.0, isolated: bool = False,
         limits: Limits = Limits(), spaces: Sequence[str] | None = None, max_size: int | None = None,
         configure: Callable[[Settings, str], Mapping[str, Any]] | None = None,
         variant: Callable[[Settings, str], str] | None = None) -> Callable[[F], F]:
    """Make a step of a function: ``@step("transcode", accept=["video/*"], after=["digest"], retries=5)``.

    The function stays what it is, so it can be called in tests. Modules that the setting ``step_modules`` names are searched for such
    functions; in an application ``carboy.step(…)`` enters them at once. Without ``spaces`` it is ordered in every space. Raises
    ConfigError for what can't be a step.
    """
    if not name or not name.replace("-", "").replace("_", "").isalnum() or not name.isascii() or len(name) > 63:
        raise ConfigError(f"{name!r} is no step's name: letters, digits, - and _, at most 63")

    def mark(function: F) -> F:
        if not [one for one in inspect.signature(function).parameters.values() if one.kind != one.KEYWORD_ONLY]:
            raise ConfigError(f"the step {name!r} takes no context: write def {function.__name__}(context, …)")
        made = Step(name, function, tuple(accept), tuple(after), retries, version, queue, priority, timeout, backoff, isolated, limits,
                    None if spaces is None else tuple(spaces), max_size, configure, variant)
        function.__carboy_step__ = made  # type: ignore[attr-defined]
        return function

    return mark


def step_of(function: Callable[..., Any]) -> Step:
    """The step that :func:`step` made of it."""
    made: Step = function.__carboy_step__  # type: ignore[attr-defined]
    return made


def place_of(step: Step) -> tuple[str, str]:
    """The module and the name there by which another process finds the step's function. Raises ConfigError where there is none."""
    module, name = getattr(step.run, "__module__", None), getattr(step.run, "__qualname__", None)
    if not module or not name or "<" in name:
        raise ConfigError(f"the step {step.name!r} runs in a process of its own, which finds it by its name: write it at the top of a "
                          "module", step=step.name)
    return module, name


@dataclass(slots=True)
class Steps:
    """The steps that are known, by name."""

    known: dict[str, Step] = field(default_factory=dict)

    def add(self, steps: Iterable[Step]) -> None:
        """Raises ConfigError for a name that another step has, and for one in a process of its own that can't be found there."""
        for one in steps:
            if one.isolated:
                place_of(one)
            if self.known.get(one.name, one) != one:
                raise ConfigError(f"there is a step {one.name!r} already", step=one.name)
            self.known[one.name] = one

    def get(self, name: str) -> Step:
        """Raises ConfigError that names those there are."""
        try:
            return self.known[name]
        except KeyError:
            raise ConfigError(f"there is no step {name!r}; there is {', '.join(sorted(self.known))}", step=name) from None
