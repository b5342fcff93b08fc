"""``/api/v1/files``: files by id, listed, searched, changed, moved, copied, deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from werkzeug import Response

from carboy.engine.names import clean_path
from carboy.errors import InvalidRequest, NotFound
from carboy.model import Filter, Page
from carboy.web import answers, browse, http, schemas
from carboy.web.api.shapes import shown, versions_json
from carboy.web.asking import body, query
from carboy.web.call import Call, Doc, Route
from carboy.web.render import json_response, location, no_content

_FILTERS = ("media_type", "owner", "min_size", "max_size", "modified_from", "modified_to")


def list_files(call: Call) -> Response:
    """A page of a space's files; ``next`` is the cursor of the following page."""
    asked = query(call, schemas.FilesQuery)
    page = _found(call, asked)
    return json_response({"files": [shown(call, file) for file in page.files], "folders": list(page.folders), "next": page.cursor})


def _found(call: Call, asked: schemas.FilesQuery) -> Page:
    filter = Filter(tags=tuple(asked.tag), **{name: getattr(asked, name) for name in _FILTERS})
    where: dict[str, Any] = {"prefix": asked.prefix, "cursor": asked.cursor, "limit": asked.limit}
    words = asked.q.split()
    plain = not words and filter == Filter() and asked.sort == "path" and not asked.descending
    if asked.folders and not plain:
        raise InvalidRequest("folders are listed by path alone: without q, filters and another order", field="folders")
    if plain:
        return call.services.files.page(call.principal, asked.space, folders=asked.folders, **where)
    if words:
        return call.services.finder.search(call.principal, asked.space, words, filter=filter, **where)
    return call.services.finder.listed(call.principal, asked.space, sort=asked.sort, descending=asked.descending, filter=filter, **where)


def get_file(call: Call, id: str) -> Response:
    file = call.services.files.get(call.principal, id)
    return json_response(shown(call, file), headers={"ETag": file.etag})


def update_file(call: Call, id: str) -> Response:
    """Metadata as a merge patch, and tags. The content, its ETag and its time stay."""
    patch = body(call, schemas.FilePatch)
    file = call.services.files.get(call.principal, id, "write")
    changed = call.services.changes.update(call.principal, file, metadata=patch.metadata, tags=patch.tags, etags=_guard(call))
    return json_response(shown(call, changed), headers={"ETag": changed.etag})


def get_content(call: Call, id: str) -> Response:
    query(call, schemas.ContentQuery)
    return browse.send(call, call.services.files.get(call.principal, id))


def move_file(call: Call, id: str) -> Response:
    """The file, with its id, goes to another path, of another space too."""
    to = body(call, schemas.FileMove)
    file = call.services.files.get(call.principal, id, "delete")
    moved = call.services.changes.move(call.principal, file, to.path, space=to.space, on_conflict=to.on_conflict, etags=_guard(call))
    return json_response(shown(call, moved), headers={"ETag": moved.etag, "Content-Location": location(call.services.files, moved)})


def copy_file(call: Call, id: str) -> Response:
    """A file of its own with the same content, of which no byte is copied: 201 for a new path, 200 where it replaced."""
    to = body(call, schemas.FileMove)
    file = call.services.files.get(call.principal, id)
    placed = call.services.changes.copy(call.principal, file, to.path, space=to.space, on_conflict=to.on_conflict)
    headers = {"ETag": placed.file.etag, "Location": location(call.services.files, placed.file)}
    return json_response(shown(call, placed.file), 201 if placed.created else 200, headers)


def list_versions(call: Call, id: str) -> Response:
    """The contents that are kept, the newest first."""
    file = call.services.files.get(call.principal, id)
    return json_response({"versions": versions_json(call, file, call.services.files.versions(file))})


def restore_version(call: Call, id: str, number: str) -> Response:
    """An older content becomes the current one, as a new version."""
    body(call, schemas.Nothing)
    file = call.services.files.get(call.principal, id, "write")
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise NotFound(f"{file.name!r} has no such version", version=number)
    restored = call.services.changes.restore_version(call.principal, file, int(number), etags=_guard(call))
    return json_response(shown(call, restored), headers={"ETag": restored.etag})


def delete_file(call: Call, id: str) -> Response:
    """204: to the trash where the space keeps one, unless it says ``permanent``. ``If-Match`` guards."""
    permanent = query(call, schemas.DeleteQuery).permanent
    file = call.services.files.get(call.principal, id, "delete")
    call.services.changes.delete(call.principal, file, etags=_guard(call), permanent=permanent)
    return no_content()


def delete_at(call: Call, space: str, path: str) -> Response:
    """``DELETE /files/{space}/{path}``: 204, as by id."""
    permanent = query(call, schemas.DeleteQuery).permanent
    file = call.services.files.at(call.principal, space, clean_path(path), "delete")
    call.services.changes.delete(call.principal, file, etags=_guard(call), permanent=permanent)
    return no_content()


def _guard(call: Call) -> tuple[str, ...] | None:
    return http.etags(call.header("If-Match"))


_ONE = "/api/v1/files/<id>"
_TAG = "Files"
_CHANGED: Sequence[str] = ("conflict", "path_conflict", "precondition_failed", "quota_exceeded", "invalid_name")
ROUTES = (
    Route("/api/v1/files", ("GET",), list_files,
          Doc("List and search files", _TAG, query=schemas.FilesQuery, answers={200: answers.FilePage})),
    Route(_ONE, ("GET",), get_file, Doc("One file", _TAG, answers={200: answers.File})),
    Route(_ONE, ("PATCH",), update_file, Doc("Change metadata and tags", _TAG, body=schemas.FilePatch, answers={200: answers.File},
                                             headers=("If-Match",), errors=("precondition_failed",))),
    Route(_ONE, ("DELETE",), delete_file, Doc("Delete a file", _TAG, query=schemas.DeleteQuery, answers={204: None}, headers=("If-Match",),
                                              errors=("precondition_failed",))),
    Route(f"{_ONE}/content", ("GET", "HEAD"), get_content,
          Doc("The bytes of a file", _TAG, query=schemas.ContentQuery, answers={200: "*/*", 206: "*/*", 304: None, 307: None},
              headers=("Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "Want-Repr-Digest"),
              errors=("range_not_satisfiable", "precondition_failed", "bytes_missing", "pending", "quarantined"))),
    Route(f"{_ONE}/move", ("POST",), move_file, Doc("Rename or move a file", _TAG, body=schemas.FileMove, answers={200: answers.File},
                                                    headers=("If-Match",), errors=(*_CHANGED,))),
    Route(f"{_ONE}/copy", ("POST",), copy_file, Doc("Copy a file", _TAG, body=schemas.FileMove,
                                                    answers={200: answers.File, 201: answers.File},
                                                    errors=(*_CHANGED, "pending", "quarantined"))),
    Route(f"{_ONE}/versions", ("GET",), list_versions, Doc("The contents a file has had", _TAG, answers={200: answers.Versions})),
    Route(f"{_ONE}/versions/<number>/restore", ("POST",), restore_version,
          Doc("Make an older content the current one", _TAG, body=schemas.Nothing, answers={200: answers.File}, headers=("If-Match",),
              errors=("precondition_failed", "quota_exceeded", "pending", "quarantined"))),
)
