"""``/api/v1/files/{id}/derived``: what steps made of a file's content, such as thumbnails. With the rights of the file itself."""

from __future__ import annotations

from werkzeug import Response

from carboy.engine.availability import is_available
from carboy.errors import NotFound
from carboy.jobs import Derived
from carboy.model import Version
from carboy.web import answers, download, schemas
from carboy.web.api.shapes import derived_json
from carboy.web.call import Call, Doc, Route
from carboy.web.render import json_response


def list_derived(call: Call, id: str) -> Response:
    """By step and name; of the current content alone. Empty for whoever isn't given that: what was made of it tells of it."""
    file = call.services.files.get(call.principal, id)
    given = is_available(call.principal, file, call.services.files.rules(file.space))
    made = call.services.catalog.derived(file.blob.id) if given else []
    return json_response({"derived": [derived_json(file.id, one) for one in made]})


def get_derived(call: Call, id: str, step: str, name: str) -> Response:
    """The bytes, for whoever is given those of the file."""
    file = call.services.files.get(call.principal, id)
    call.services.files.check(call.principal, file)
    found = call.services.catalog.derived_named(file.blob.id, step, name)
    if found is None:
        raise NotFound(f"the step {step!r} has made no {name!r} of this file", step=step, name=name)
    return download.respond(call.request, file, call.services.storages[found.blob.storage], settings=call.services.settings,
                            version=_as_content(found), name=found.name)


def _as_content(derived: Derived) -> Version:
    """It goes out as one of the file's contents does."""
    return Version(0, derived.blob, derived.media_type, derived.created_at)


_DERIVED = "/api/v1/files/<id>/derived"
_TAG = "Files"
ROUTES = (
    Route(_DERIVED, ("GET",), list_derived, Doc("What was made of a file", _TAG, answers={200: answers.DerivedFiles})),
    Route(f"{_DERIVED}/<step>/<name>", ("GET", "HEAD"), get_derived,
          Doc("The bytes of what was made of a file", _TAG, query=schemas.DerivedQuery,
              answers={200: "*/*", 206: "*/*", 304: None, 307: None},
              headers=("Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "Want-Repr-Digest"),
              errors=("range_not_satisfiable", "precondition_failed", "bytes_missing", "bytes_damaged", "pending", "quarantined"))),
)
