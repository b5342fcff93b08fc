"""``/api/v1/webhooks``: who is told of what happens, and what they were sent. For those alone who administer every space."""

from __future__ import annotations

import json
from typing import Any

from werkzeug import Response

from carboy.catalog.base_hooks import Delivery, DeliveryFilter
from carboy.engine.access import authorise_server
from carboy.processing.webhooks.office import Known
from carboy.web import webhook_shapes as shapes
from carboy.web.asking import body, query
from carboy.web.call import Call, Doc, Route
from carboy.web.render import instant, json_response


def list_webhooks(call: Call) -> Response:
    authorise_server(call.principal)
    return json_response({"webhooks": [_hook(one) for one in call.services.webhooks.all()]})


def list_deliveries(call: Call, name: str) -> Response:
    """A page of what it was told or is to be, the last first."""
    authorise_server(call.principal)
    asked = query(call, shapes.DeliveriesQuery)
    filter = DeliveryFilter(subject=asked.file_id, state=asked.state)
    found, following = call.services.webhooks.deliveries(name, filter, cursor=asked.cursor, limit=asked.limit)
    return json_response({"deliveries": [_delivery(one) for one in found], "next": following})


def replay(call: Call, name: str) -> Response:
    """``{"id", "file_id", "since", "state"}``, at least one of them: what is all that is sent again."""
    authorise_server(call.principal)
    asked = body(call, shapes.Replay)
    return json_response({"replayed": call.services.webhooks.replay(
        name, DeliveryFilter(asked.id, asked.file_id, asked.state, asked.since))})


def _hook(one: Known) -> dict[str, Any]:
    rules = one.rules
    return {"name": one.name, "url": rules.url, "events": list(rules.events), "spaces": list(rules.spaces), "begun": one.begun,
            "deliveries": dict(one.counts)}


def _delivery(one: Delivery) -> dict[str, Any]:
    return {"id": one.id, "type": one.kind, "state": one.state, "attempts": one.attempts, "answer": one.answer,
            "created_at": instant(one.created_at), "changed_at": instant(one.changed_at),
            "due_at": instant(one.due_at) if one.state == "queued" else None, "message": json.loads(one.body)}


_PATH, _TAG = "/api/v1/webhooks", "Webhooks"
ROUTES = (
    Route(_PATH, ("GET",), list_webhooks, Doc("All webhooks", _TAG, answers={200: shapes.Webhooks})),
    Route(f"{_PATH}/<name>/deliveries", ("GET",), list_deliveries,
          Doc("What a webhook was told", _TAG, query=shapes.DeliveriesQuery, answers={200: shapes.Deliveries})),
    Route(f"{_PATH}/<name>/replay", ("POST",), replay,
          Doc("Tell it again", _TAG, body=shapes.Replay, answers={200: shapes.Replayed})),
)
