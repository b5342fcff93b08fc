"""What Carboy adds to an application's addresses: signed downloads, the routes it exposes, and problems for its errors."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Flask, current_app, request
from werkzeug import Response
from werkzeug.exceptions import HTTPException, default_exceptions
from werkzeug.routing import PathConverter

from carboy.errors import CarboyError, NotFound
from carboy.model import File
from carboy.web import http
from carboy.web.forms import RAW, mixed

if TYPE_CHECKING:
    from carboy.web.extension import Carboy

log = logging.getLogger("carboy")

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_PURPOSE, _REST = "download", "carboy_rest"


class InsufficientStorage(HTTPException):
    """507, which Werkzeug has no class for (RFC 4918 section 11.5)."""

    code = 507


_KINDS = {**default_exceptions, 507: InsufficientStorage}


class _Rest(PathConverter):
    """Whatever comes, line breaks too: what is wrong with a path Carboy tells itself."""

    regex = "(?s:.*?)"
    part_isolating = False


def blueprint_of(carboy: Carboy) -> Blueprint:
    """Signed downloads, and where something is exposed everything else below the prefix."""
    blueprint = Blueprint(carboy.name, __name__)

    @blueprint.get("/signed/<token>", endpoint="signed")
    @blueprint.get("/signed/<token>/<path:name>", endpoint="signed")
    def signed(token: str, name: str = "") -> Response:
        """The file that a signed address names; ``name`` is for those who save it."""
        file, download = opened(carboy, token)
        return carboy.send(file, download=download)

    if carboy.expose:
        mounted = _mounted(carboy)
        for rule in ("/", f"/<{_REST}:rest>"):
            blueprint.add_url_rule(rule, "mounted", mounted, methods=_METHODS, provide_automatic_options=False, strict_slashes=False)
    return blueprint


def _mounted(carboy: Carboy) -> Any:
    def mounted(**where: str) -> Response:
        return carboy.embedded.opened.application.respond(below(request.environ, carboy.url_prefix))

    setattr(mounted, RAW, True)
    return mounted


def below(environ: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The environment of a WSGI application mounted under the prefix (PEP 3333)."""
    parts = environ["PATH_INFO"].split("/")
    depth = 1 + len([part for part in prefix.split("/") if part])
    return {**environ, "SCRIPT_NAME": environ.get("SCRIPT_NAME", "") + "/".join(parts[:depth]), "PATH_INFO": "/" + "/".join(parts[depth:])}


# --- signed downloads ---


def signed_token(carboy: Carboy, id: str, expires: float | None, download: bool) -> str:
    """Names the file until ``expires`` seconds from now; it can't be altered."""
    until = None if expires is None else int(carboy.embedded.clock() + expires)
    return carboy.services.signer.sign(_PURPOSE, [id, int(download)], expires_at=until)


def opened(carboy: Carboy, token: str) -> tuple[File, bool]:
    """The file, and whether it is to be saved. Raises BadSignature, LinkExpired, NotFound."""
    id, download = carboy.services.signer.unsign(_PURPOSE, token)
    file = carboy.get(id)
    if not carboy.embedded.lends(file):
        raise NotFound("there is no such file", id=id)
    return file, bool(download)


# --- into the application ---


def install(app: Flask, carboy: Carboy) -> None:
    """Blueprint, request class, error handler; and CSRFProtect leaves the blueprint alone, whichever was there first."""
    app.url_map.converters.setdefault(_REST, _Rest)
    app.request_class = mixed(app.request_class)
    app.register_blueprint(carboy.blueprint, url_prefix=carboy.url_prefix)
    app.context_processor(lambda: {carboy.name: carboy})
    handlers = app.error_handler_spec[None][None]
    if CarboyError not in handlers:
        app.register_error_handler(CarboyError, problem_of)
    _exempt(app, carboy)
    app.before_request(lambda: _exempt(app, carboy))


def _exempt(app: Flask, carboy: Carboy) -> None:
    """Carboy's routes know requests of other sites by themselves, and read their bodies themselves."""
    csrf = app.extensions.get("csrf")
    if csrf is not None and hasattr(csrf, "exempt"):
        csrf.exempt(carboy.blueprint)


def problem_of(error: CarboyError) -> Any:
    """The error as a problem document; where the application handles errors of that status, as one of those."""
    status = http.STATUS[error.code]
    if status >= 500:
        log.log(logging.WARNING if status in (503, 507) else logging.ERROR, "%s: %s: %s", request.method, error.code, error,
                exc_info=error.__cause__)
    kind = _KINDS.get(status)
    if kind is not None:
        exception = kind(description=error.detail if status != 500 else None)
        exception.__cause__ = error
        if current_app._find_error_handler(exception, request.blueprints) is not None:
            return current_app.handle_http_exception(exception)
    return http.problem(error)
