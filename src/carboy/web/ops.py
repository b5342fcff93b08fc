"""Whether the server is alive and ready. These alone answer without a principal, and tell nothing else."""

from __future__ import annotations

from werkzeug import Response

from carboy.web import answers
from carboy.web.call import Call, Doc, Route
from carboy.web.render import json_response


def healthz(call: Call) -> Response:
    """The process answers."""
    return json_response({"status": "ok"})


def readyz(call: Call) -> Response:
    """The catalog and the storages answer too. Raises CatalogUnavailable, SchemaMismatch or a storage's error (503, 500)."""
    call.services.catalog.check()
    for storage in call.services.storages.values():
        storage.room()
    return json_response({"status": "ready"})


_TAG = "Operations"
ROUTES = (
    Route("/healthz", ("GET",), healthz, Doc("Whether the process answers", _TAG, answers={200: answers.Health}, open=True)),
    Route("/readyz", ("GET",), readyz, Doc("Whether all answers", _TAG, answers={200: answers.Health}, open=True,
                                           errors=("storage_failed", "schema_mismatch"))),
)
