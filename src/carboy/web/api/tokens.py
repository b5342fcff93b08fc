"""``/api/v1/tokens``: who may come in. For those alone who administer every space."""

from __future__ import annotations

import time

from werkzeug import Response

from carboy.engine.access import authorise_server
from carboy.engine.tokens import parse_scopes
from carboy.web import answers, schemas
from carboy.web.asking import body
from carboy.web.call import Call, Doc, Route
from carboy.web.render import address, json_response, no_content, token_json


def list_tokens(call: Call) -> Response:
    authorise_server(call.principal)
    return json_response({"tokens": [token_json(token) for token in call.services.tokens.all()]})


def create_token(call: Call) -> Response:
    """``{"name", "scopes": ["main:read,write"], "expires_in": seconds}``: 201 with the secret, which is shown only now."""
    authorise_server(call.principal)
    asked = body(call, schemas.TokenNew)
    expires_at = time.time() + asked.expires_in if asked.expires_in is not None else None
    token, secret = call.services.tokens.create(asked.name, parse_scopes(asked.scopes), expires_at=expires_at,
                                               by=call.services.files.act(call.principal))
    return json_response({**token_json(token), "secret": secret}, 201, {"Location": address(f"/api/v1/tokens/{token.id}")})


def revoke_token(call: Call, id: str) -> Response:
    authorise_server(call.principal)
    call.services.tokens.revoke(id, by=call.services.files.act(call.principal))
    return no_content()


_PATH, _TAG = "/api/v1/tokens", "Tokens"
ROUTES = (
    Route(_PATH, ("GET",), list_tokens, Doc("All tokens", _TAG, answers={200: answers.Tokens})),
    Route(_PATH, ("POST",), create_token, Doc("Make a token", _TAG, body=schemas.TokenNew, answers={201: answers.TokenMade})),
    Route(f"{_PATH}/<id>", ("DELETE",), revoke_token, Doc("Revoke a token", _TAG, answers={204: None})),
)
