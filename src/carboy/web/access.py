"""The access log: one line for each request, after its answer has been sent. Only where the setting ``access_log`` says so."""

from __future__ import annotations

import logging
import time
from typing import Any

from carboy.web.logs import escaped, shown_path

log = logging.getLogger("carboy.access")


def log_request(worker: Any, request: Any, environ: dict[str, Any], response: Any) -> None:
    """gunicorn's ``post_request`` hook: method, path, status, the length of the answer's body, seconds, principal, client."""
    if response is None or "carboy.began" not in environ:
        return
    status = response.status_code
    path = shown_path(environ["PATH_INFO"].encode("latin-1").decode(errors="replace"))
    seconds = round(time.perf_counter() - environ["carboy.began"], 6)
    facts = {"method": environ["REQUEST_METHOD"], "path": path, "status": status, "size": length_of(response), "seconds": seconds,
             "principal": environ.get("carboy.principal") or None, "client": environ.get("REMOTE_ADDR") or None}
    log.info("%s %s %s, %d bytes, %.3f s, %s, %s", facts["method"], path, status, facts["size"], seconds, facts["principal"] or "-",
             facts["client"] or "-", extra={"facts": facts})


def log_refusal(client: str, status: int | None) -> None:
    """A request that was refused before it was understood."""
    log.info("- - %s, %s", status, escaped(client), extra={"facts": {"status": status, "client": client}})


def length_of(response: Any) -> int:
    """How many bytes of an answer's body were sent. What sendfile sent isn't counted by gunicorn; then the declared length tells."""
    if response.req.method == "HEAD" or response.status_code in (204, 304):
        return 0
    return int(response.sent or response.response_length or 0)
