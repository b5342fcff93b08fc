"""Carboy inside one Flask application: its settings, its services in each process, and who its people are."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask, has_app_context, has_request_context, request

from carboy import signals
from carboy.bootstrap import Services, close, make_ready, open_carboy
from carboy.config import Settings, SpaceSettings, of_application
from carboy.engine.access import actions
from carboy.errors import ConfigError
from carboy.model import NOBODY, TRUSTED, Action, File, Principal
from carboy.processing.step import Step
from carboy.streams import BufferPool
from carboy.web import forgery
from carboy.web.app import Application
from carboy.web.upkeep import Upkeep

if TYPE_CHECKING:
    from carboy.web.extension import Carboy

log = logging.getLogger("carboy")

Authenticate = Callable[[], Any]
"""Who makes this request: None, an id, something with ``get_id()`` (Flask-Login's ``current_user``), or a Principal."""
Authorise = Callable[[Principal, Action, str, File | None], bool | None]
"""Whether the principal may do this in the space, to the file where it is about one; None leaves it to the rules."""
OnStored = Callable[[File], object]


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the application decides, and hears."""

    authenticate: Authenticate | None = None
    authorise: Authorise | None = None
    on_stored: tuple[OnStored, ...] = ()


class Embedded:
    """One Carboy in one application. Opens nothing before it is first used, and then once in each process."""

    def __init__(self, carboy: Carboy, app: Flask, name: str, spaces: Callable[[], Mapping[str, Mapping[str, Any]]],
                 steps: Callable[[], Iterable[Step]], hooks: Callable[[], Hooks], expose: Collection[str],
                 clock: Callable[[], float]) -> None:
        self.carboy = carboy
        self._app = app
        self._name = name
        self._spaces = spaces
        self._steps = steps
        self._hooks = hooks
        self._expose = expose
        self._clock = clock
        self._lock = threading.Lock()
        self._opened: Opened | None = None

    @property
    def opened(self) -> Opened:
        """What this process has. Raises ConfigError, CatalogUnavailable, SchemaMismatch, and storage errors the first time."""
        opened = self._opened
        if opened is None or opened.pid != os.getpid():
            with self._lock:
                opened = self._opened
                if opened is None or opened.pid != os.getpid():
                    opened = self._opened = self._open()
        if has_request_context():
            opened.sweep()
        return opened

    @property
    def is_open(self) -> bool:
        """Whether this process has used it, so that its settings are decided."""
        return self._opened is not None and self._opened.pid == os.getpid()

    def close(self) -> None:
        """Let everything go. What is used again opens again, with the configuration of then."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None and opened.pid == os.getpid():
            opened.close()

    def settings(self) -> Settings:
        """What the application's configuration says. Raises ConfigError."""
        prefix = self._name.upper() + "_"
        given = {key.removeprefix(prefix).lower(): value for key, value in self._app.config.items() if key.startswith(prefix)}
        spaces = {name: dict(rules) for name, rules in self._spaces().items()}
        for name, rules in dict(given.pop("spaces", {})).items():
            spaces[name] = {**spaces.get(name, {}), **_as_dict(rules)}
        if spaces:
            given["spaces"] = spaces
        given.setdefault("data", Path(self._app.instance_path) / self._name)
        given.setdefault("sweep", not self._app.testing)
        return of_application({**_keys(self._app.config), **given})

    def clock(self) -> float:
        return self._clock()

    def _open(self) -> Opened:
        services = open_carboy(self.settings(), clock=self._clock, tell=self._tell, steps=self._steps(), within=self._app.app_context)
        try:
            make_ready(services)
        except BaseException:
            close(services)
            raise
        services.links.still_may = self.still_may
        services.meter.role = "application"
        return Opened(services, Application(services, expose=self._expose, identify=self._identify))

    # --- people ---

    def _identify(self, environ: Mapping[str, Any], proven: Callable[[], Principal]) -> Principal:
        """Whom the application knows, else whom the request itself proves."""
        hooks = self._hooks()
        principal = principal_for(hooks.authenticate() if hooks.authenticate else None)
        if principal.kind == "nobody":
            principal = proven()
        elif environ["REQUEST_METHOD"] not in forgery.SAFE and not _bears_token(environ):
            forgery.must_be_own(environ)  # a cookie may have proved it, which browsers send along for every site
        principal = replace(principal, request=environ.get("carboy.request_id", ""), address=environ.get("REMOTE_ADDR", ""))
        return self.judged(principal)

    def acting(self) -> Principal:
        """Who calls from Python: trusted, and within a request on behalf of whoever the application says makes it."""
        if not has_request_context():
            return TRUSTED
        authenticate = self._hooks().authenticate
        actor = principal_for(authenticate()).id if authenticate else None
        return replace(TRUSTED, actor=actor, address=request.remote_addr or "")

    def judged(self, principal: Principal) -> Principal:
        """The principal, of whose rights the application has its say."""
        authorise = self._hooks().authorise
        if authorise is None:
            return principal

        def judge(action: Action, space: str, file: File | None) -> bool | None:
            with nullcontext() if has_app_context() else self._app.app_context():  # a stream of events goes on after its request
                return authorise(principal, action, space, file)

        return replace(principal, judge=judge)

    def lends(self, file: File) -> bool:
        """Whether the application lets a signed address give this file away: it does unless ``authorise`` says no."""
        principal = self.judged(Principal(None, "link"))
        return principal.judge is None or principal.judge("read", file.space, file) is not False

    def still_may(self, principal: Principal, action: Action, space: str, file: File | None) -> bool:
        """Whether one of the application's users may still do what a link of theirs lends."""
        if self._hooks().authorise is None:
            return True
        return action in actions(self.judged(principal), space, self.opened.services.files.rules(space), file=file)

    # --- news ---

    def _tell(self, event: str, facts: Mapping[str, Any]) -> None:
        with nullcontext() if has_app_context() else self._app.app_context():
            if event == "stored":
                for hear in self._hooks().on_stored:
                    _heard(hear, facts["file"])
            for hear in _SIGNALS[event].receivers_for(self._app):
                _heard(hear, self._app, **facts)


class Opened:
    """The services of one process."""

    def __init__(self, services: Services, application: Application) -> None:
        self.pid = os.getpid()
        self.services = services
        self.application = application
        self._upkeep: Upkeep | None = None

    @cached_property
    def buffers(self) -> BufferPool:
        return BufferPool()

    def sweep(self) -> None:
        """Begin to sweep, once."""
        if self._upkeep is None:
            self._upkeep = Upkeep(self.services)
            self._upkeep.start()

    def close(self) -> None:
        if self._upkeep:
            self._upkeep.stop()
        close(self.services)


_SIGNALS = {"stored": signals.file_stored, "deleted": signals.file_deleted, "moved": signals.file_moved,
            "restored": signals.file_restored, "changed": signals.file_changed, "folder_moved": signals.folder_moved,
            "folder_deleted": signals.folder_deleted}


def principal_for(who: Any) -> Principal:
    """The principal whom ``authenticate=`` names. Raises ConfigError for what names nobody."""
    if isinstance(who, Principal):
        return who
    if hasattr(who, "get_id"):
        who = who.get_id()
    if who is None:
        return NOBODY
    if isinstance(who, bool) or not isinstance(who, (str, int)):
        raise ConfigError(f"authenticate= gave {type(who).__name__}; it gives None, an id, something with get_id(), or a Principal")
    return Principal(str(who), "user")


def check_rules(name: str, rules: Mapping[str, Any]) -> SpaceSettings:
    """The rules of a space. Raises ConfigError that names the wrong one."""
    return of_application({"spaces": {name: dict(rules)}}).spaces[name]


def _as_dict(rules: Any) -> dict[str, Any]:
    return rules.model_dump(exclude_unset=True) if isinstance(rules, SpaceSettings) else dict(rules)


def _keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """The application's own keys sign for Carboy too, through one derived from each; without any, the catalog keeps one."""
    if not config.get("SECRET_KEY"):
        return {}
    return {"secret_key": _derived(config["SECRET_KEY"]),
            "secret_key_fallbacks": tuple(_derived(key) for key in config.get("SECRET_KEY_FALLBACKS") or ())}


def _derived(key: str | bytes) -> str:
    return hmac.digest(key if isinstance(key, bytes) else key.encode(), b"carboy", hashlib.sha256).hex()


def _bears_token(environ: Mapping[str, Any]) -> bool:
    return str(environ.get("HTTP_AUTHORIZATION", "")).lower().startswith("bearer ")


def _heard(hear: Callable[..., object], *args: Any, **facts: Any) -> None:
    try:
        hear(*args, **facts)
    except Exception:
        log.exception("%s failed; what it was told of is kept", getattr(hear, "__qualname__", hear))
