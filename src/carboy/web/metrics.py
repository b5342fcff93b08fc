"""``/metrics``: what all processes on this data folder count, for Prometheus."""

from __future__ import annotations

from werkzeug import Response

from carboy.engine.access import authorise_server
from carboy.errors import NotFound
from carboy.web.call import Call, Doc, Route
from carboy.web.exposition import rendered
from carboy.web.figures import gathered
from carboy.web.render import Finished


def get(call: Call) -> Response:
    """Whoever of the processes answers, the numbers are those of all. Raises NotFound where the setting ``metrics`` is off, Unauthenticated
    and Forbidden where it wants a token."""
    settings = call.services.settings
    if settings.metrics == "off":
        raise NotFound("this server shows no metrics")
    if settings.metrics == "token":
        authorise_server(call.principal)
    data, media_type = rendered(gathered(call.services, call.web.looks), call.header("Accept") or "")
    return Finished([data], 200, {"Content-Type": media_type, "Content-Length": str(len(data)), "Cache-Control": "no-store",
                                  "X-Content-Type-Options": "nosniff"})


_TEXTS = {kind: {"schema": {"type": "string"}} for kind in ("text/plain", "application/openmetrics-text")}
ROUTES = (
    Route("/metrics", ("GET",), get, Doc("Numbers for Prometheus", "Operations", answers={200: _TEXTS}, errors=("not_supported",))),
)
