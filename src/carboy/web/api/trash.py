"""``/api/v1/trash``: deleted files, until their time is up."""

from __future__ import annotations

from werkzeug import Response

from carboy.web import answers, schemas
from carboy.web.api.shapes import shown, trashed_json
from carboy.web.asking import body, query
from carboy.web.call import Call, Doc, Route
from carboy.web.render import json_response, location, no_content


def list_trash(call: Call) -> Response:
    """What of a space is in the trash, last deleted first."""
    asked = query(call, schemas.SpaceQuery)
    found, following = call.services.changes.trash(call.principal, asked.space, prefix=asked.prefix, cursor=asked.cursor,
                                                   limit=asked.limit)
    return json_response({"trash": [trashed_json(call, shelved) for shelved in found], "next": following})


def restore(call: Call, id: str) -> Response:
    """The file is back where it was, or at ``path``, with its versions, tags and links."""
    asked = body(call, schemas.Restore)
    file = call.services.changes.restore(call.principal, id, path=asked.path, on_conflict=asked.on_conflict)
    return json_response(shown(call, file), headers={"ETag": file.etag, "Content-Location": location(call.services.files, file)})


def purge(call: Call, id: str) -> Response:
    """204: it is gone for good."""
    call.services.changes.purge(call.principal, id)
    return no_content()


def empty(call: Call) -> Response:
    """All that lies in the trash of a space is gone for good."""
    asked = query(call, schemas.TrashQuery)
    return json_response({"files": call.services.changes.empty_trash(call.principal, asked.space)})


_PATH, _TAG = "/api/v1/trash", "Trash"
ROUTES = (
    Route(_PATH, ("GET",), list_trash, Doc("What is in the trash", _TAG, query=schemas.SpaceQuery, answers={200: answers.TrashPage})),
    Route(_PATH, ("DELETE",), empty, Doc("Empty the trash", _TAG, query=schemas.TrashQuery, answers={200: answers.Purged})),
    Route(f"{_PATH}/<id>", ("DELETE",), purge, Doc("Remove a file from the trash", _TAG, answers={204: None})),
    Route(f"{_PATH}/<id>/restore", ("POST",), restore,
          Doc("Have a file back", _TAG, body=schemas.Restore, answers={200: answers.File},
              errors=("conflict", "path_conflict", "quota_exceeded", "invalid_name"))),
)
