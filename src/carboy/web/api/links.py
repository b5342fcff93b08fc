"""``/api/v1/links``: ways in for those who have their address. What is behind the addresses, ``/s/…``, is elsewhere."""

from __future__ import annotations

import time
from typing import Any

from werkzeug import Response

from carboy.engine.names import clean_folder
from carboy.model import Link
from carboy.web import answers, schemas
from carboy.web.api.shapes import link_json
from carboy.web.asking import body, query
from carboy.web.call import Call, Doc, Route
from carboy.web.render import address, json_response, no_content


def list_links(call: Call) -> Response:
    """One's own links; with ``space``, and ``admin`` there, all of the space."""
    asked = query(call, schemas.LinksQuery)
    found, following = call.services.links.list(call.principal, space=asked.space, file_id=asked.file_id, cursor=asked.cursor,
                                                limit=asked.limit)
    return json_response({"links": [_shown(call, link) for link in found], "next": following})


def create_link(call: Call) -> Response:
    """201 with the address. One needs the right that the link lends: to read, or for an inbox to write."""
    asked = body(call, schemas.LinkNew)
    what: dict[str, Any] = {"space": asked.space, "folder": clean_folder(asked.path)}
    if asked.file_id is not None:
        what = {"file": call.services.files.get(call.principal, asked.file_id)}
    expires_at = time.time() + asked.expires_in if asked.expires_in is not None else None
    link = call.services.links.create(call.principal, kind=asked.kind, name=asked.name, password=asked.password, expires_at=expires_at,
                                      max_uses=asked.max_uses, max_size=asked.max_size, max_bytes=asked.max_bytes, **what)
    return json_response(_shown(call, link), 201, {"Location": address(f"/api/v1/links/{link.id}")})


def get_link(call: Call, id: str) -> Response:
    return json_response(_shown(call, call.services.links.get(call.principal, id)))


def revoke_link(call: Call, id: str) -> Response:
    """204: from now on it leads nowhere."""
    call.services.links.revoke(call.principal, id)
    return no_content()


def _shown(call: Call, link: Link) -> dict[str, Any]:
    return link_json(call.services.files, link, address(f"/s/{call.services.links.address(link)}"))


_PATH, _TAG = "/api/v1/links", "Links"
ROUTES = (
    Route(_PATH, ("GET",), list_links, Doc("Links", _TAG, query=schemas.LinksQuery, answers={200: answers.LinkPage})),
    Route(_PATH, ("POST",), create_link,
          Doc("Make a link", _TAG, body=schemas.LinkNew, answers={201: answers.Link}, errors=("invalid_name",))),
    Route(f"{_PATH}/<id>", ("GET",), get_link, Doc("One link", _TAG, answers={200: answers.Link})),
    Route(f"{_PATH}/<id>", ("DELETE",), revoke_link, Doc("Revoke a link", _TAG, answers={204: None})),
)
