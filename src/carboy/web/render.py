"""What the API shows of files and uploads: the one shape of each, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from werkzeug import Response

from carboy.engine.availability import status_of
from carboy.engine.files import Files
from carboy.model import File, Progress, Token

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


class Finished(Response):
    """A response whose head is complete as it stands: Werkzeug's last look at it (relative addresses, lengths) is a seventh of
    what storing a small file costs."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(self.status, self.headers.to_wsgi_list())
        return [] if environ["REQUEST_METHOD"] == "HEAD" else cast(list[bytes], self.response)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON that no cache keeps and no browser sniffs."""
    data = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    return Finished([data], status, {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Content-Length": str(len(data)),
                                     "Content-Type": "application/json", **(headers or {})})


def no_content() -> Response:
    """204, of no type: there is nothing that could have one."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


def instant(seconds: float | None) -> str | None:
    """Seconds since 1970 as RFC 3339 in UTC, to the millisecond."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_root: ContextVar[str] = ContextVar("carboy_root", default="")


@contextmanager
def mounted_at(script_name: str) -> Iterator[None]:
    """In the block, addresses begin with where Carboy is mounted (PEP 3333's SCRIPT_NAME)."""
    before = _root.set(quote(script_name.encode("latin-1")))
    try:
        yield
    finally:
        _root.reset(before)


def address(path: str) -> str:
    """An address of Carboy as the client reaches it."""
    return _root.get() + path


def location(files: Files, file: File) -> str:
    """The file's address by its path."""
    return address(f"/files/{quote(file.space)}/{quote(files.shown_path(file))}")


def file_json(files: Files, file: File) -> dict[str, Any]:
    """A file as everybody who may see it sees it."""
    return {
        "id": file.id, "space": file.space, "path": files.shown_path(file), "name": file.name, "size": file.size,
        "media_type": file.media_type, "etag": file.etag, "version": file.version,
        "status": status_of(file.blob), "quarantine": file.blob.quarantine,
        "crc64nvme": f"{file.blob.crc64nvme:016x}", "sha256": file.blob.sha256.hex() if file.blob.sha256 else None,
        "owner": file.owner, "metadata": dict(file.metadata), "tags": list(file.tags), "created_at": instant(file.created_at),
        "modified_at": instant(file.modified_at), "url": location(files, file), "content_url": address(f"/api/v1/files/{file.id}/content"),
        "derived_url": address(f"/api/v1/files/{file.id}/derived"),
    }


def upload_json(files: Files, progress: Progress) -> dict[str, Any]:
    """An upload: what came, what is missing, and the file once it is one."""
    upload = progress.upload
    complete = upload.state == "complete"
    return {
        "id": upload.id, "state": upload.state, "space": upload.space, "path": files.shown(upload.space, upload.path),
        "protocol": upload.protocol,
        "size": upload.size, "received": upload.size if complete else progress.received,
        "offset": upload.size if complete else progress.offset,
        "missing": [] if complete else [list(gap) for gap in progress.missing], "metadata": dict(upload.metadata),
        "created_at": instant(upload.created_at), "expires_at": instant(upload.expires_at), "file_id": upload.file_id,
        "failure": upload.failure,
    }


def token_json(token: Token) -> dict[str, Any]:
    """A token without its secret."""
    return {"id": token.id, "name": token.name, "scopes": {space: sorted(actions) for space, actions in token.scopes.items()},
            "created_at": instant(token.created_at), "expires_at": instant(token.expires_at),
            "revoked_at": instant(token.revoked_at)}
