"""``/api/v1/bulk``: many operations in one request, each for itself, each with an answer of its own."""

from __future__ import annotations

import json
import logging
from typing import Any

from werkzeug import Response

from carboy.engine.names import clean_path
from carboy.errors import CarboyError, Unauthenticated
from carboy.model import Action, File
from carboy.web import answers, http, operations
from carboy.web.api.shapes import shown
from carboy.web.asking import MAX_BULK, body
from carboy.web.call import Call, Doc, Route
from carboy.web.render import json_response

log = logging.getLogger("carboy")


def bulk(call: Call) -> Response:
    """200 with what came of each, in their order: one that fails stops no other."""
    if call.principal.kind == "nobody":
        raise Unauthenticated("send a token as 'Authorization: Bearer …'")
    asked = body(call, operations.Bulk, MAX_BULK).operations
    results = [{"index": index, **_result(call, operation)} for index, operation in enumerate(asked)]
    failed = sum("problem" in result for result in results)
    return json_response({"results": results, "succeeded": len(results) - failed, "failed": failed})


def _result(call: Call, operation: operations.Operation) -> dict[str, Any]:
    try:
        file = _done(call, operation)
    except CarboyError as error:
        return _problem(call, error)
    except Exception as error:
        log.exception("bulk: %s failed", operation.op)
        return _problem(call, error)
    return {"status": 200, "file": shown(call, file)} if file else {"status": 204}


def _problem(call: Call, error: Exception) -> dict[str, Any]:
    problem = json.loads(http.problem(error, call.id).data)
    return {"status": problem["status"], "problem": problem}


def _done(call: Call, operation: operations.Operation) -> File | None:
    """What came of it: the file, or None where there is none any more."""
    who, changes = call.principal, call.services.changes
    match operation:
        case operations.BulkMove():
            return changes.move(who, _file(call, operation, "delete"), operation.to, space=operation.to_space,
                                on_conflict=operation.on_conflict, etags=_guard(operation))
        case operations.BulkCopy():
            return changes.copy(who, _file(call, operation, "read"), operation.to, space=operation.to_space,
                                on_conflict=operation.on_conflict).file
        case operations.BulkUpdate():
            return changes.update(who, _file(call, operation, "write"), metadata=operation.metadata, tags=operation.tags,
                                  etags=_guard(operation))
        case operations.BulkDelete():
            changes.delete(who, _file(call, operation, "delete"), etags=_guard(operation), permanent=operation.permanent)
        case operations.BulkRestore():
            return changes.restore(who, operation.id, path=operation.path, on_conflict=operation.on_conflict)
        case operations.BulkPurge():
            changes.purge(who, operation.id)
    return None


def _file(call: Call, named: operations.OnFile, action: Action) -> File:
    if named.id is not None:
        return call.services.files.get(call.principal, named.id, action)
    return call.services.files.at(call.principal, named.space or "main", clean_path(named.path or ""), action)


def _guard(operation: operations.Guarded) -> tuple[str, ...] | None:
    return http.etags(operation.if_match, "if_match")


ROUTES = (
    Route("/api/v1/bulk", ("POST",), bulk,
          Doc("Do many things", "Files", body=operations.Bulk, answers={200: answers.Results}, errors=("busy",))),
)
