"""``/api/v1``: files, uploads under way, spaces and tokens as JSON."""

from __future__ import annotations

import re
import time
from typing import Any

from werkzeug import Response

from carboy.engine.access import actions, authorise, authorise_server
from carboy.engine.names import clean_path
from carboy.engine.tokens import parse_scopes
from carboy.errors import InvalidRequest, NotFound, TooLarge, Unauthenticated
from carboy.model import Progress
from carboy.web import browse, http
from carboy.web.call import Call, Route
from carboy.web.render import file_json, json_response, no_content, token_json, upload_json

_MAX_JSON = 64 * 2**10
_ID = re.compile("[0-9a-f]{32}")


# --- files ---------------------------------------------------------------------------------------------------------


def list_files(call: Call) -> Response:
    """A page of a space's files by path; ``next`` is the cursor of the following page."""
    return json_response(browse.page(call, call.query.get("space", "main"), call.query.get("prefix", ""),
                                     folders=call.query.get("folders") in ("1", "true")))


def get_file(call: Call, id: str) -> Response:
    return json_response(file_json(call.services.files, call.services.files.get(call.principal, id)))


def get_content(call: Call, id: str) -> Response:
    return browse.send(call, call.services.files.get(call.principal, id))


def delete_file(call: Call, id: str) -> Response:
    """204. ``If-Match`` guards."""
    file = call.services.files.get(call.principal, id, "delete")
    call.services.files.delete(call.principal, file, etags=http.etags(call.header("If-Match")))
    return no_content()


def delete_at(call: Call, space: str, path: str) -> Response:
    """``DELETE /files/{space}/{path}``: 204."""
    file = call.services.files.at(call.principal, space, clean_path(path), "delete")
    call.services.files.delete(call.principal, file, etags=http.etags(call.header("If-Match")))
    return no_content()


# --- uploads -------------------------------------------------------------------------------------------------------


def list_uploads(call: Call) -> Response:
    """Uploads under way: one's own, or with ``admin`` all of the space."""
    space = call.query.get("space", "main")
    rules = call.services.files.rules(space)
    authorise(call.principal, "write", space, rules)
    admin = "admin" in actions(call.principal, space, rules)
    after = call.query.get("cursor")
    if after is not None and not _ID.fullmatch(after):
        raise InvalidRequest("the cursor is none that was given out", cursor=after)
    uploads, cursor = call.services.catalog.uploads(space=space, owner=None if admin else call.principal.id or "", cursor=after,
                                                    limit=browse.limit(call))
    return json_response({"uploads": [upload_json(call.services.files, progress) for progress in uploads], "next": cursor})


def get_upload(call: Call, id: str) -> Response:
    """What came and which spans are missing, so that any client can resume."""
    return json_response(upload_json(call.services.files, _upload(call, id)))


def cancel_upload(call: Call, id: str) -> Response:
    """204; the bytes go. 410 where it was no longer under way."""
    call.services.uploads.cancel(_upload(call, id).upload)
    return no_content()


def _upload(call: Call, id: str) -> Progress:
    """Uploads are private to their creator."""
    if call.principal.kind == "nobody":
        raise Unauthenticated("send a token as 'Authorization: Bearer …'")
    progress = call.services.uploads.progress(id)
    upload = progress.upload
    try:
        authorise(call.principal, "write", upload.space, call.services.files.rules(upload.space), owner=upload.owner, owned=True)
    except NotFound:
        raise NotFound("there is no such upload", upload=id) from None
    return progress


# --- spaces and tokens ---------------------------------------------------------------------------------------------


def list_spaces(call: Call) -> Response:
    """The spaces in which the principal may do something, with their rules."""
    shown = []
    for name, rules in call.services.settings.spaces.items():
        allowed = actions(call.principal, name, rules)
        if allowed:
            shown.append({"name": name, "actions": sorted(allowed), "accept": list(rules.accept),
                          "max_size": min(rules.max_size, call.services.settings.max_size), "on_conflict": rules.on_conflict,
                          "versions": rules.versions, "private": rules.private, "public": rules.public})
    if not shown:
        authorise_server(call.principal)
    return json_response({"spaces": shown})


def list_tokens(call: Call) -> Response:
    authorise_server(call.principal)
    return json_response({"tokens": [token_json(token) for token in call.services.tokens.all()]})


def create_token(call: Call) -> Response:
    """``{"name", "scopes": ["main:read,write"], "expires_in": seconds}``: 201 with the secret, which is shown only now."""
    authorise_server(call.principal)
    body = json_body(call)
    name, scopes, seconds = body.get("name"), body.get("scopes"), body.get("expires_in")
    if not isinstance(name, str) or not 1 <= len(name) <= 200 or not name.isprintable():
        raise InvalidRequest("name is a text of 1 to 200 printable characters", field="name")
    if not isinstance(scopes, list) or not scopes or not all(isinstance(scope, str) for scope in scopes):
        raise InvalidRequest('send {"name": "…", "scopes": ["SPACE:read,write"], "expires_in": seconds}')
    if seconds is not None and (not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 < seconds < 1e10):
        raise InvalidRequest("expires_in is a number of seconds above 0", field="expires_in")
    token, secret = call.services.tokens.create(name, parse_scopes(scopes), expires_at=time.time() + seconds if seconds else None)
    return json_response({**token_json(token), "secret": secret}, 201, {"Location": f"/api/v1/tokens/{token.id}"})


def revoke_token(call: Call, id: str) -> Response:
    authorise_server(call.principal)
    call.services.tokens.revoke(id)
    return no_content()


# --- shared --------------------------------------------------------------------------------------------------------


def json_body(call: Call) -> dict[str, Any]:
    """The body as a JSON object of at most 64 KiB. Raises TooLarge, InvalidRequest."""
    if (call.length or 0) > _MAX_JSON:
        raise TooLarge(f"a JSON body may hold {_MAX_JSON} bytes", limit=_MAX_JSON)
    data = bytearray()
    with call.body() as source:
        for piece in source.lend():
            data += piece
            if len(data) > _MAX_JSON:
                raise TooLarge(f"a JSON body may hold {_MAX_JSON} bytes", limit=_MAX_JSON)
    return http.json_object(bytes(data))


_API = "/api/v1"
ROUTES = (
    Route(f"{_API}/files", ("GET",), list_files),
    Route(f"{_API}/files/<id>", ("GET",), get_file),
    Route(f"{_API}/files/<id>", ("DELETE",), delete_file),
    Route(f"{_API}/files/<id>/content", ("GET", "HEAD"), get_content),
    Route(f"{_API}/uploads", ("GET",), list_uploads),
    Route(f"{_API}/uploads/<id>", ("GET",), get_upload),
    Route(f"{_API}/uploads/<id>", ("DELETE",), cancel_upload),
    Route("/uploads/<id>", ("GET",), get_upload),
    Route("/uploads/<id>", ("DELETE",), cancel_upload),
    Route(f"{_API}/spaces", ("GET",), list_spaces),
    Route(f"{_API}/tokens", ("GET",), list_tokens),
    Route(f"{_API}/tokens", ("POST",), create_token),
    Route(f"{_API}/tokens/<id>", ("DELETE",), revoke_token),
)
