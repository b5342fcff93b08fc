"""``Carboy(app)``: the Flask extension."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from flask import Flask, current_app, has_app_context, request
from flask import url_for as flask_url_for
from werkzeug.datastructures import Headers

from carboy.bootstrap import Services
from carboy.errors import ConfigError
from carboy.jobs import DEFAULT_QUEUE
from carboy.model import File, Link, LinkKind, Principal
from carboy.processing.step import DEFAULT_RETRIES, Limits, Step, step, step_of
from carboy.web import mounting
from carboy.web.app import GROUPS
from carboy.web.brokered import join_celery
from carboy.web.calls import Named, Owner, Place, Space, id_of, name_of
from carboy.web.commands import commands_of
from carboy.web.embedding import Authenticate, Authorise, Embedded, Hooks, OnStored, check_rules
from carboy.web.forms import Received, Reception
from carboy.web.jobcalls import JobCalls

V = TypeVar("V", bound=Callable[..., Any])
S = TypeVar("S", bound=OnStored)


class Carboy(JobCalls):
    """Receives, keeps and returns the files of a Flask application.

    ``authenticate`` says who makes a request (``lambda: current_user``), ``authorise`` who may do what; both are asked for the routes
    that ``expose`` mounts under ``url_prefix``: names of ``files``, ``api``, ``classic`` and so on. Signed downloads are always there.
    ``on_stored`` is called with each new file. With another ``name`` an application has several: its settings then begin with that name
    (``ARCHIVE_DATA``), its data lies in a folder of that name, its routes below it, and so do its commands.

    Neither this nor :meth:`init_app` touches a disk or a network: everything opens when it is first used, in each process for itself.
    Raises ConfigError.
    """

    def __init__(self, app: Flask | None = None, *, name: str = "carboy", url_prefix: str | None = None, expose: Collection[str] = (),
                 authenticate: Authenticate | None = None, authorise: Authorise | None = None, on_stored: OnStored | None = None,
                 clock: Callable[[], float] = time.time) -> None:
        self.name = name
        self.url_prefix = "/" + (name if url_prefix is None else url_prefix).strip("/")
        self.expose = tuple(expose)
        self._hooks = Hooks(authenticate, authorise, (on_stored,) if on_stored else ())
        self._spaces: dict[str, Mapping[str, Any]] = {}
        self._steps: dict[str, Step] = {}
        self._clock = clock
        self.default_app: Flask | None = None
        """The application that is meant outside any context."""
        self._check_exposed()
        self.blueprint = mounting.blueprint_of(self)
        if app is not None:
            self.default_app = app
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Make the application Carboy's too. An instance may serve several applications; each has data of its own."""
        if self.name in app.extensions:
            raise ConfigError(f"this application has a {self.name!r} already; give the second one a name: Carboy(app, name='archive')")
        app.extensions[self.name] = Embedded(self, app, self.name, lambda: self._spaces, self._steps.values, lambda: self._hooks,
                                              self.expose, self._clock)
        mounting.install(app, self)
        app.cli.add_command(commands_of(self.name))
        join_celery(app, self.name)

    # --- spaces ---

    def space(self, name: str, **rules: Any) -> Space:
        """A space with these rules (``accept=["image/*"], max_size="5 MB"``: see the settings of spaces). What the configuration says
        of the same space counts more, rule by rule. To be called before Carboy is first used. Raises ConfigError."""
        checked = check_rules(name, rules)
        known = self._spaces.get(name)
        if known is not None and known != rules:
            raise ConfigError(f"the space {name!r} has other rules already: {dict(known)}", setting=f"spaces.{name}")
        if known is None and self._is_decided:
            raise ConfigError(f"the space {name!r} comes too late: declare spaces before Carboy is first used", setting=f"spaces.{name}")
        self._spaces[name] = rules
        return Space(name, checked)

    # --- steps ---

    def step(self, name: str, *, accept: Sequence[str] = (), after: Sequence[str] = (), retries: int = DEFAULT_RETRIES, version: str = "1",
             queue: str = DEFAULT_QUEUE, priority: int = 0, timeout: float = 3600.0, backoff: float = 2.0, isolated: bool = False,
             limits: Limits = Limits(), spaces: Sequence[Place] | None = None, max_size: int | None = None) -> Callable[[V], V]:
        """A step of this application's, by the function below it (``@carboy.step("transcode", accept=["video/*"], retries=5)``), which
        stays callable: see :func:`carboy.step`. Each new content of these ``spaces`` goes through it in the background, of all where none
        are given; ``spaces=[]`` leaves that to the spaces' ``steps`` and to :meth:`run`. It runs within the application's context. To be
        entered before Carboy is first used. Raises ConfigError."""
        where = None if spaces is None else [name_of(space) for space in spaces]
        mark = step(name, accept=accept, after=after, retries=retries, version=version, queue=queue, priority=priority, timeout=timeout,
                    backoff=backoff, isolated=isolated, limits=limits, spaces=where, max_size=max_size)

        def enter(function: V) -> V:
            made = step_of(mark(function))
            if self._steps.get(name, made) != made:
                raise ConfigError(f"there is a step {name!r} already", step=name)
            if self._is_decided:
                raise ConfigError(f"the step {name!r} comes too late: enter steps before Carboy is first used", step=name)
            self._steps[name] = made
            return function

        return enter

    # --- forms ---

    def receives(self, space: Place | None = None, /, **fields: Place) -> Callable[[V], V]:
        """Marks a view: the file parts of its form stream into ``space``, or those of each named field into a space of its own
        (``receives(photo=avatars, cv=papers)``), and ``request.files`` holds :class:`Received` ones. Other forms than those with files are
        read as ever. Stands below the route, and below what decides who may come (``login_required``).

        What is refused (too large, of another type, cut short) raises its CarboyError before the view runs, and nothing is kept.
        """
        if space is None and not fields:
            raise ConfigError("say which space receives the files: receives(space), or receives(field=space)")
        names = {field: name_of(each) for field, each in fields.items()}
        return Reception(self, None if space is None else name_of(space), names).mark

    def received(self, field: str) -> Received:
        """The file in this field of the request's form; false where none was chosen. As ``request.files[field]``, with its type: raises
        BadRequest for a form without that field."""
        file = request.files[field]
        if not isinstance(file, Received):
            raise ConfigError("this view receives no files: mark it with @carboy.receives(space)")
        return file

    def all_received(self, field: str | None = None) -> list[Received]:
        """The files of a field that takes several, or of the whole form; without empty inputs."""
        files = request.files.getlist(field) if field is not None else [file for _, file in request.files.items(multi=True)]
        return [file for file in files if isinstance(file, Received) and file]

    def staged(self, id: str) -> Received:
        """What another request received and nobody has kept: its id may travel in a hidden field while a form is filled in again. Ids
        can't be guessed; who knows one may keep it. Raises NotFound."""
        shelved = self.services.staging.get(id)
        return Received(self, None, shelved.file.path, Headers({"Content-Type": shelved.file.media_type}), shelved)

    def keep_all(self, files: Iterable[Received], *, path: Callable[[Received], str | None] = lambda _: None, owner: Owner = None,
                 metadata: Mapping[str, Any] | None = None, tags: Sequence[str] = ()) -> list[File]:
        """Publish several in one transaction, all or none; ``path`` gives each its path. Raises what :meth:`Received.keep` raises."""
        files = list(files)
        who = None if owner is None else str(owner)
        wishes = [file.wish(path(file), who, metadata or {}, tags) for file in files]
        kept = self.services.staging.keep(wishes, self._acting()) if files else []
        for file, one in zip(files, kept, strict=True):
            file.file = one
        return kept

    # --- addresses ---

    def url_for(self, id: Named | Link, *, expires: float | timedelta | None = 3600, download: bool = False, name: str | None = None,
                _external: bool | None = None) -> str:
        """An address that gives the file to whoever has it, for ``expires`` seconds (None: as long as the file is there). Altered it is
        403, expired 410, and 404 once the file is deleted. Nothing is looked up to make it. A link's address is its own. Outside a request
        it has SERVER_NAME."""
        if isinstance(id, Link):
            return self._address_of(id, _external)
        file = id.file if isinstance(id, Received) and id.file else id
        shown = name or (file.name if isinstance(file, File) else None)
        values = {"name": shown} if shown else {}
        token = mounting.signed_token(self, id_of(file), _seconds(expires), download)
        return flask_url_for(f"{self.name}.signed", token=token, _external=_external, **values)

    def link(self, file: Named | None = None, *, space: Place | None = None, folder: str = "", inbox: bool = False, name: str = "",
             expires: float | timedelta | None = None, password: str | None = None, max_uses: int | None = None,
             max_size: int | None = None, max_bytes: int | None = None) -> Link:
        """A link to a file, to what lies in a folder of a space, or (``inbox``) to putting files there and seeing nothing, whose address
        is ``url_for(link)``. It can be revoked, and ends with its file. Needs ``expose=["links"]``. Raises NotFound, InvalidRequest."""
        kind: LinkKind = "file" if file is not None else "inbox" if inbox else "folder"
        seconds = _seconds(expires)
        return self.services.links.create(
            self._acting(), kind=kind, file=self.get(file) if file is not None else None,
            space=None if space is None else name_of(space), folder=folder, name=name, password=password,
            expires_at=None if seconds is None else self.embedded.clock() + seconds, max_uses=max_uses,
            max_size=max_size, max_bytes=max_bytes)

    def revoke(self, link: Link | str) -> None:
        """From now on the link opens nothing. Repeatable. Raises NotFound."""
        self.services.links.revoke(self._acting(), link if isinstance(link, str) else link.id)

    # --- news ---

    def on_stored(self, hear: S) -> S:
        """Have ``hear(file)`` called after each new content was committed, in the request that brought it. What it raises is logged.
        Usable as a decorator."""
        self._hooks = replace(self._hooks, on_stored=(*self._hooks.on_stored, hear))
        return hear

    # --- the application's own ---

    @property
    def services(self) -> Services:
        """The engine, for what has no call here. Opened when first asked for."""
        return self.embedded.opened.services

    @property
    def embedded(self) -> Embedded:
        """What belongs to the current application; outside its context to the one given to the constructor. Raises RuntimeError."""
        app = current_app if has_app_context() else self.default_app
        if app is None:
            raise RuntimeError("Carboy doesn't know which application is meant; use it within app.app_context()")
        found = app.extensions.get(self.name)
        if not isinstance(found, Embedded):
            raise RuntimeError(f"this application has no {self.name!r}; call init_app(app) first")
        return found

    def close(self) -> None:
        """Let go of everything that is open for the application. What is used again opens again."""
        self.embedded.close()

    @property
    def _is_decided(self) -> bool:
        """Whether the application at hand has used it, so that spaces and steps are what they are."""
        app = current_app if has_app_context() else self.default_app
        return app is not None and self.name in app.extensions and self.embedded.is_open

    def _now(self) -> float:
        return self.embedded.clock()

    def _acting(self) -> Principal:
        return self.embedded.acting()

    def _address_of(self, link: Link, external: bool | None) -> str:
        if "links" not in self.expose:
            raise ConfigError("links lead nowhere here: have their routes by Carboy(expose=['links'])")
        return flask_url_for(f"{self.name}.mounted", rest=f"s/{self.services.links.address(link)}", _external=external)

    def _check_exposed(self) -> None:
        known = ("files", *GROUPS)
        if isinstance(self.expose, str) or (wrong := set(self.expose) - set(known)):
            raise ConfigError(f"expose= is a list of {', '.join(known)}, not of {', '.join(sorted(wrong))}")


def _seconds(time: float | timedelta | None) -> float | None:
    return time.total_seconds() if isinstance(time, timedelta) else time
