"""``/api/v1/audit``: who did what. For administrators."""

from __future__ import annotations

import json
from collections.abc import Iterator

from werkzeug import Response

from carboy.engine.finding import Asked
from carboy.model import AuditEntry
from carboy.web import answers, schemas
from carboy.web.api.shapes import entry_json
from carboy.web.asking import query
from carboy.web.call import Call, Doc, Route
from carboy.web.download import set_idle_limit
from carboy.web.render import json_response

_LINES = 100


def list_entries(call: Call) -> Response:
    """A page of the log, the newest first, or all of it, an object a line."""
    query_ = query(call, schemas.AuditQuery)
    asked = Asked(query_.space, query_.principal, query_.action, query_.file_id, query_.since, query_.until)
    if query_.format == "ndjson":
        set_idle_limit(call.environ, call.services.settings.send_idle)
        lines = _lines(call.services.finder.audit_all(call.principal, asked))
        return Response(lines, 200, {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
                                     "Content-Disposition": 'attachment; filename="audit.ndjson"'}, content_type="application/x-ndjson")
    found = call.services.finder.audit(call.principal, asked, before=query_.cursor, limit=query_.limit)
    following = str(found[-1].id) if len(found) == query_.limit else None
    return json_response({"entries": [entry_json(entry) for entry in found], "next": following})


def _lines(entries: Iterator[AuditEntry]) -> Iterator[bytes]:
    """Some lines at a time: each piece is a write to the client."""
    gathered: list[str] = []
    for entry in entries:
        gathered.append(json.dumps(entry_json(entry), ensure_ascii=False) + "\n")
        if len(gathered) >= _LINES:
            yield "".join(gathered).encode("utf-8", "replace")
            gathered.clear()
    yield "".join(gathered).encode("utf-8", "replace")


ROUTES = (
    Route("/api/v1/audit", ("GET",), list_entries,
          Doc("Who did what", "Audit", query=schemas.AuditQuery,
              answers={200: {"application/json": answers.EntryPage, "application/x-ndjson": {}}})),
)
