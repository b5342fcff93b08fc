"""``/api/v1/folders``: what is in a space by its folders. A folder is there while a file has it in its path."""

from __future__ import annotations

from werkzeug import Response

from carboy.web import answers, schemas
from carboy.web.api.shapes import folder_json
from carboy.web.asking import body, query
from carboy.web.call import Call, Doc, Route
from carboy.web.render import json_response


def list_folders(call: Call) -> Response:
    """The folders that begin with the prefix, cut at the next slash, with what lies in them at any depth."""
    asked = query(call, schemas.SpaceQuery)
    found, following = call.services.finder.folders(call.principal, asked.space, prefix=asked.prefix, cursor=asked.cursor,
                                                    limit=asked.limit)
    return json_response({"folders": [folder_json(folder) for folder in found], "next": following})


def move_folder(call: Call) -> Response:
    """Every file in it goes along, in one transaction."""
    asked = body(call, schemas.FolderMove)
    count = call.services.changes.move_folder(call.principal, asked.space, asked.path, asked.to, to_space=asked.to_space)
    return json_response({"files": count})


def copy_folder(call: Call) -> Response:
    """Every file in it gets a copy, of which no byte is copied."""
    asked = body(call, schemas.FolderMove)
    count = call.services.changes.copy_folder(call.principal, asked.space, asked.path, asked.to, to_space=asked.to_space)
    return json_response({"files": count}, 201)


def delete_folder(call: Call) -> Response:
    """Every file in it goes to the trash, where the space keeps one, in one transaction."""
    asked = query(call, schemas.FolderQuery)
    count = call.services.changes.delete_folder(call.principal, asked.space, asked.path)
    return json_response({"files": count})


_PATH, _TAG = "/api/v1/folders", "Folders"
_ERRORS = ("conflict", "path_conflict", "quota_exceeded", "invalid_name")
ROUTES = (
    Route(_PATH, ("GET",), list_folders,
          Doc("Folders, with what lies in them", _TAG, query=schemas.SpaceQuery, answers={200: answers.FolderPage})),
    Route(_PATH, ("DELETE",), delete_folder,
          Doc("Delete a folder", _TAG, query=schemas.FolderQuery, answers={200: answers.FolderDone}, errors=("invalid_name",))),
    Route(f"{_PATH}/move", ("POST",), move_folder,
          Doc("Rename or move a folder", _TAG, body=schemas.FolderMove, answers={200: answers.FolderDone}, errors=_ERRORS)),
    Route(f"{_PATH}/copy", ("POST",), copy_folder,
          Doc("Copy a folder", _TAG, body=schemas.FolderMove, answers={201: answers.FolderDone},
              errors=(*_ERRORS, "pending", "quarantined"))),
)
