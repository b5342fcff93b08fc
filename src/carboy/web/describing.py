"""The routes ``/openapi.json`` and ``/docs``."""

from __future__ import annotations

from werkzeug import Response

from carboy.errors import NotFound
from carboy.web.call import Call, Doc, Route
from carboy.web.reference import Reference
from carboy.web.render import json_response


def get_document(call: Call) -> Response:
    """The description of this server's routes, for programs."""
    return json_response(_reference(call).document(call.root))


def get_page(call: Call) -> Response:
    """The description of this server's routes, for people."""
    return _reference(call).page(call.root)


def _reference(call: Call) -> Reference:
    if not call.services.settings.docs:
        raise NotFound("this server doesn't describe itself")
    return call.web.reference


ROUTES = (
    Route("/openapi.json", ("GET",), get_document,
          Doc("This document, for programs", "Operations", answers={200: "application/json"}, open=True)),
    Route("/docs", ("GET",), get_page, Doc("This document, to be read", "Operations", answers={200: "text/html"}, open=True)),
)
