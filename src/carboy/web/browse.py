"""``GET`` and ``HEAD /files/{space}/{path}``: a file's bytes, or with a trailing slash the folder."""

from __future__ import annotations

from werkzeug import Response

from carboy.engine.names import clean_folder, clean_path
from carboy.errors import InvalidRequest
from carboy.model import File
from carboy.web import download
from carboy.web.call import Call
from carboy.web.render import file_json, json_response


def get(call: Call, space: str, path: str) -> Response:
    if not path or path.endswith("/"):
        return folder(call, space, clean_folder(path))
    return send(call, call.services.files.at(call.principal, space, clean_path(path)))


def send(call: Call, file: File) -> Response:
    """The file's bytes; with ``?version=N`` those of an older content."""
    number = call.query.get("version")
    if number is not None and not (number.isascii() and number.isdigit() and len(number) < 10):
        raise InvalidRequest("version is a number", field="version")
    version = call.services.files.version(file, int(number)) if number else None
    storage = call.services.files.storage(call.principal, file, version)
    return download.respond(call.request, file, storage, settings=call.services.settings, version=version)


def folder(call: Call, space: str, prefix: str) -> Response:
    """The files of a folder and the folders in it, a page at a time; ``next`` is the cursor of the following one."""
    return json_response(page(call, space, prefix, folders=True))


def page(call: Call, space: str, prefix: str, *, folders: bool) -> dict[str, object]:
    """A page of files, as ``limit`` and ``cursor`` of the query ask for it."""
    found = call.services.files.page(call.principal, space, prefix=prefix, cursor=call.query.get("cursor"),
                                     limit=limit(call), folders=folders)
    return {"files": [file_json(call.services.files, file) for file in found.files], "folders": list(found.folders),
            "next": found.cursor}


def limit(call: Call) -> int:
    """The query's ``limit``: 1 to 1000, 100 without one. Raises InvalidRequest."""
    text = call.query.get("limit", "100")
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= 1000):
        raise InvalidRequest("limit is a number from 1 to 1000", field="limit")
    return int(text)
