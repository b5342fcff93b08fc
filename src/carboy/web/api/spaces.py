"""``/api/v1/spaces``: the spaces, their rules, and how much is kept in them and may be."""

from __future__ import annotations

from typing import Any

from werkzeug import Response

from carboy.config import SpaceSettings
from carboy.engine.access import actions, authorise_server
from carboy.errors import NotFound, Unauthenticated
from carboy.web import answers
from carboy.web.api.shapes import account_json
from carboy.web.call import Call, Doc, Route
from carboy.web.render import json_response


def list_spaces(call: Call) -> Response:
    """The spaces in which the principal may do something."""
    found = [_shown(call, name, rules) for name, rules in call.services.settings.spaces.items() if actions(call.principal, name, rules)]
    if not found:
        authorise_server(call.principal)
    return json_response({"spaces": found})


def get_space(call: Call, name: str) -> Response:
    rules = call.services.settings.spaces.get(name)
    if rules is None or not actions(call.principal, name, rules):
        if call.principal.kind == "nobody":
            raise Unauthenticated("send a token as 'Authorization: Bearer …'")
        raise NotFound(f"there is no space {name!r}", space=name)
    return json_response(_shown(call, name, rules))


def _shown(call: Call, name: str, rules: SpaceSettings) -> dict[str, Any]:
    whole, own = call.services.finder.accounts(call.principal, name)
    return {"name": name, "actions": sorted(actions(call.principal, name, rules)), "accept": list(rules.accept),
            "max_size": min(rules.max_size, call.services.settings.max_size), "on_conflict": rules.on_conflict,
            "versions": rules.versions, "trash": rules.trash, "private": rules.private, "public": rules.public,
            "usage": account_json(whole), "own": account_json(own)}


ROUTES = (
    Route("/api/v1/spaces", ("GET",), list_spaces, Doc("The spaces", "Spaces", answers={200: answers.Spaces})),
    Route("/api/v1/spaces/<name>", ("GET",), get_space, Doc("One space", "Spaces", answers={200: answers.Space})),
)
