"""The WSGI application: finds the handler, and turns what it raises into problems.

``/files/…`` is found by hand: its paths are data that no routing table may fold or rewrite.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from werkzeug import Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import Map, Rule

from carboy.bootstrap import Services
from carboy.errors import CarboyError, InvalidName, NotFound
from carboy.streams import BufferPool
from carboy.web import api, describing, http, idempotency, located, metrics, ops, shared
from carboy.web.call import Call, Handler, Identify, Route, Web
from carboy.web.cors import Cors
from carboy.web.figures import Looks
from carboy.web.listening import places
from carboy.web.logs import escaped
from carboy.web.measured import Traffic
from carboy.web.page import folder, problem, routes
from carboy.web.protocols import classic, direct, raw, resumable, tus, widgets
from carboy.web.proxies import Proxies
from carboy.web.rates import Rates
from carboy.web.reference import Reference
from carboy.web.render import address, mounted_at
from carboy.web.slots import Slots

log = logging.getLogger("carboy")

GROUPS: Mapping[str, tuple[Route, ...]] = {"ops": (*ops.ROUTES, *metrics.ROUTES), "api": api.ROUTES, "classic": classic.ROUTES,
                                           "links": shared.ROUTES, "page": routes.ROUTES, "docs": describing.ROUTES, "tus": tus.ROUTES,
                                           "resumable": resumable.ROUTES, "widgets": widgets.ROUTES, "direct": direct.ROUTES}
"""The routes by the names under which an application may ask for them; ``files`` are the ones of ``/files/…``."""
_GATHERED: tuple[tuple[Route, ...], ...] = (*GROUPS.values(), routes.ASSETS)
_FILES: Mapping[str, Handler] = {"PUT": raw.put, "POST": folder.post, "GET": folder.get, "HEAD": folder.get,
                                 "DELETE": api.delete_at, "OPTIONS": resumable.options_of_files}


_PROTOCOLS: Mapping[str, str] = {"PUT": "raw", "POST": "form"}
_CARRY = frozenset({"api", "classic", "direct", "resumable", "tus"})
_UNLIMITED = ("healthz", "readyz", "static/")
"""What may be asked for however often: it costs nothing, and belongs to what was counted already."""


class Application:
    """Carboy over WSGI. One per process; opens nothing before the first request.

    In an application it answers only the routes of the groups in ``expose``, and ``identify`` says who asks.
    """

    def __init__(self, services: Services, *, expose: Collection[str] = ("files", *GROUPS), identify: Identify | None = None) -> None:
        settings = services.settings
        slots, waiting = Slots(max(1, settings.threads - settings.reserved_threads), settings.uploads_per_client), places(settings)
        self._traffic = Traffic(services.meter, slots, waiting, settings.threads)
        self._web = Web(services, slots, BufferPool(), Rates(settings), self._traffic,
                        Looks(lambda: services.catalog.standing(now=time.time())), waiting, identify=identify,
                        reference=Reference(_described(expose)), page=settings.page and "page" in expose)
        self._proxies = Proxies(settings.trusted_proxies)
        self._cors = Cors(settings.cors_origins)
        self._files, self._resumable = "files" in expose, "resumable" in expose
        served = {name for name in GROUPS if name in expose and (name != "page" or settings.page)}
        groups = [*((name, GROUPS[name]) for name in served), *([("page", routes.ASSETS)] if served & {"page", "links"} else [])]
        self._map = Map([Rule(route.rule, methods=route.methods, endpoint=(name, _protocol(name, route.handler), route.handler))
                         for name, group in groups for route in group], merge_slashes=False, strict_slashes=False)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return self.respond(environ)(environ, start_response)

    def respond(self, environ: dict[str, Any]) -> Response:
        """The answer to the request: a problem where it fails, whatever it fails with."""
        self._proxies.apply(environ)
        if preflight := self._cors.preflight(environ):
            self._traffic.request("cors", "OPTIONS", preflight.status_code)
            return preflight
        call = Call(self._web, environ)
        with mounted_at(str(environ.get("SCRIPT_NAME", ""))):
            response = self._respond(call)
        self._cors.mark(response, call.header("Origin"))
        return response

    def _respond(self, call: Call) -> Response:
        try:
            response = self._answer(call)
        except (CarboyError, HTTPException) as error:
            response = _problem(call, error)
            if response.status_code >= 500 and response.status_code != 501:
                _report(call.method, error, unexpected=response.status_code not in (503, 507))
        except Exception as error:
            log.exception("%s failed", call.method)
            response = _problem(call, error)
        call.close_unless_read()
        response.headers["X-Request-ID"] = call.id
        if call.allowance:
            response.headers.update(call.allowance.headers)
        if call.always:
            response.headers.update(call.always)
        call.environ["carboy.principal"] = call.known_principal
        self._traffic.answered(call, response)
        return response

    def _answer(self, call: Call) -> Response:
        path = http.path_of(call.environ)
        if "\0" in path:
            raise InvalidName("there is no NUL in any address", rule="control_character")
        if self._web.rates.on and not path.startswith(_UNLIMITED):
            call.spend(anonymous=path.startswith("s/"))
        if "HTTP_IDEMPOTENCY_KEY" in call.environ and call.method in idempotency.METHODS:
            return idempotency.once(call, lambda call: self._dispatch(call, path))
        return self._dispatch(call, path)

    def _dispatch(self, call: Call, path: str) -> Response:
        if self._files and path.startswith("files/"):
            return self._file(call, path)
        (call.route, call.protocol, handler), arguments = self._map.bind_to_environ(call.environ).match()
        return handler(call, **arguments)  # type: ignore[no-any-return]

    def _file(self, call: Call, path: str) -> Response:
        handler = _FILES.get(call.method)
        call.route, call.protocol = "files", _PROTOCOLS.get(call.method, "")
        if handler is None:
            raise MethodNotAllowed(["GET", "HEAD", *(["POST"] if path.endswith("/") else ["PUT", "DELETE"])])
        if ("HTTP_UPLOAD_COMPLETE" in call.environ or "HTTP_UPLOAD_INCOMPLETE" in call.environ) and self._begins_upload(call):
            handler, call.protocol = resumable.create, "resumable"
        _, space, *rest = path.split("/", 2)
        if not space:
            raise InvalidName("the address is /files/SPACE/PATH", rule="empty")
        if not rest:
            right = address(f"/files/{quote(space)}/")
            raise NotFound(f"the space's folder is at {right}", right=right)
        return handler(call, space=space, path=rest[0])

    def _begins_upload(self, call: Call) -> bool:
        return self._resumable and call.method in ("PUT", "POST") and resumable.is_meant(call)


def _problem(call: Call, error: Exception) -> Response:
    """A problem; as a page for browsers. A page that can't be made, because the catalog is away, must not hide what went wrong."""
    plain = http.problem(error, call.id)
    if not problem.is_wanted(call):
        return plain
    try:
        return problem.page(call, plain)
    except Exception:
        log.warning("the page of a problem can't be made", exc_info=True)
        return plain


def _protocol(group: str, handler: Handler) -> str:
    """By which bytes come to a route of the group: each widget has a module of its own."""
    if group == "widgets":
        return handler.__module__.rpartition(".")[2]
    return "link" if group == "links" else group if group in _CARRY else ""


def _described(groups: Collection[str]) -> list[Route]:
    """The routes of these groups, in the order in which they are described."""
    every = {"files": located.ROUTES, "api": GROUPS["api"], **GROUPS}
    return [route for name, group in every.items() if name in groups for route in group]


def _report(method: str, error: Exception, *, unexpected: bool) -> None:
    """The operator is told what the client isn't: a full disk is a warning, a failing one an error with its cause."""
    facts = getattr(error, "facts", {})
    log.log(logging.ERROR if unexpected else logging.WARNING, "%s: %s: %s %s", method, getattr(error, "code", ""), error,
            escaped(repr(facts)) if facts else "", exc_info=error.__cause__ if unexpected else None)
