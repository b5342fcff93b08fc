"""``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header): a creating request that is sent again is answered as the first time.

A request is the same where its method, target, principal and the fields that describe its body are. Only what went well is kept, for 24
hours: what failed created nothing and may be tried again.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping

from werkzeug import Response

from carboy.catalog.base import Catalog
from carboy.errors import InvalidRequest, KeyReused, RequestUnderWay
from carboy.web.call import Call
from carboy.web.render import Finished

METHODS = frozenset({"POST", "PUT"})
KEPT = 24 * 3600.0
"""Seconds that an answer is kept."""
_CLAIM, _EXTEND = 300.0, 60.0
_LONGEST_KEY, _LARGEST = 255, 256 * 2**10
_SECRET = ("/api/v1/tokens", "/login")
"""What answers with a secret that is kept nowhere else, and not here."""
_FIELDS = ("Content-Digest", "Repr-Digest", "Content-MD5", "Upload-Length", "Upload-Metadata", "Upload-Concat",
           "Upload-Complete", "Upload-Name", "X-HTTP-Method-Override", "Content-Disposition")
_NOT_KEPT = frozenset({"x-request-id", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "set-cookie", "date", "connection"})


def once(call: Call, answer: Callable[[Call], Response]) -> Response:
    """The answer to a request with an Idempotency-Key: the first time ``answer``'s. Raises KeyReused for another request with its key,
    RequestUnderWay where the first is not answered yet, InvalidRequest."""
    key, catalog = _key(call), call.services.catalog
    who = f"{call.principal.kind} {call.principal.id}" if call.principal.id else f"address {call.address}"
    fingerprint = _fingerprint(call)
    now = time.time()
    known = catalog.claim_answer(who, key, fingerprint, now=now, expires_at=now + _CLAIM)
    if known is None:
        return _first(call, answer, who, key)
    first, kept = known
    if first != fingerprint:
        raise KeyReused("this Idempotency-Key belongs to another request; take a new one for each", field="Idempotency-Key")
    if kept is None:
        raise RequestUnderWay("the first request with this Idempotency-Key is not answered yet")
    return _again(kept)


def _first(call: Call, answer: Callable[[Call], Response], who: str, key: str) -> Response:
    catalog = call.services.catalog
    claim = _Claim(catalog, who, key)
    text = None
    try:
        response = answer(call)
        text = _as_text(response, call.always)
    finally:
        claim.end()
        if text is None:
            catalog.drop_answer(who, key)
    if text is not None:
        catalog.keep_answer(who, key, text, expires_at=time.time() + KEPT)
    return response


class _Claim:
    """Stays good while the request goes on, and lapses soon where the process dies."""

    def __init__(self, catalog: Catalog, who: str, key: str) -> None:
        self._catalog, self._who, self._key = catalog, who, key
        self._lock = threading.Lock()
        self._ended = False
        self._start()

    def end(self) -> None:
        with self._lock:
            self._ended = True
            self._timer.cancel()

    def _start(self) -> None:
        self._timer = threading.Timer(_EXTEND, self._extend)
        self._timer.daemon = True
        self._timer.start()

    def _extend(self) -> None:
        with self._lock:
            if not self._ended:
                self._catalog.keep_answer(self._who, self._key, None, expires_at=time.time() + _CLAIM)
                self._start()


def _key(call: Call) -> str:
    key = (call.header("Idempotency-Key") or "").strip()
    if not 1 <= len(key) <= _LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise InvalidRequest(f"Idempotency-Key must be 1 to {_LONGEST_KEY} printable ASCII characters", field="Idempotency-Key")
    if call.environ.get("PATH_INFO", "").startswith(_SECRET):
        raise InvalidRequest("what this answers is told once and never kept; send no Idempotency-Key here", field="Idempotency-Key")
    return key


def _fingerprint(call: Call) -> bytes:
    """Of everything that says what the request is, but its bytes: they need not come again."""
    told = [call.method, call.environ.get("SCRIPT_NAME", ""), call.environ.get("PATH_INFO", ""), call.environ.get("QUERY_STRING", ""),
            call.environ.get("CONTENT_TYPE", "").partition(";")[0].lower(), call.environ.get("CONTENT_LENGTH", ""),
            *(call.header(name) for name in _FIELDS)]
    return hashlib.sha256(json.dumps(told).encode()).digest()


def _as_text(response: Response, always: Mapping[str, str]) -> str | None:
    """As the catalog keeps it; None for what is not kept."""
    if response.status_code >= 400 or response.is_streamed or response.direct_passthrough:
        return None
    body = response.get_data()
    if len(body) > _LARGEST:
        return None
    headers = [(name, value) for name, value in [*response.headers, *always.items()] if name.lower() not in _NOT_KEPT]
    return json.dumps({"status": response.status_code, "headers": headers, "body": b64encode(body).decode()})


def _again(text: str) -> Response:
    kept = json.loads(text)
    response = Finished([b64decode(kept["body"])], kept["status"])
    response.headers.clear()
    response.headers.extend([(name, value) for name, value in kept["headers"]])
    response.headers["Idempotency-Replayed"] = "true"
    return response
