"""tus 1.0.0 with its nine extensions, at ``/tus/{space}/``: https://tus.io/protocols/resumable-upload.

Where an upload stands is what the catalog has committed, so an ``Upload-Offset`` that was told is there after a power cut. ``HEAD``
asks whoever still writes to let go first, and a ``PATCH`` takes over from it: nobody waits for a connection that is dead.
"""

from __future__ import annotations

from collections.abc import Mapping

from werkzeug import Response
from werkzeug.exceptions import MethodNotAllowed

from carboy.engine import limits
from carboy.engine.access import actions
from carboy.web.body import trailers
from carboy.web.call import Call, Doc, Handler, Route
from carboy.web.protocols.tus import fields
from carboy.web.protocols.tus.appending import patch
from carboy.web.protocols.tus.common import ALWAYS, SPACE, empty
from carboy.web.protocols.tus.creating import create
from carboy.web.protocols.tus.standing import get, head, terminate

EXTENSIONS = ("creation", "creation-with-upload", "creation-defer-length", "expiration", "checksum", "checksum-trailer", "termination",
              "concatenation", "concatenation-unfinished")


def options(call: Call, space: str = SPACE, id: str = "") -> Response:
    """What is served: versions, extensions, checksums, the largest upload. Asked for without a token too."""
    rules = call.services.files.rules(space)
    known = rules if rules and "write" in actions(call.principal, space, rules) else None
    most = limits.largest(call.services.settings, known) if known else call.services.settings.max_size
    extensions = [name for name in EXTENSIONS if name != "checksum-trailer" or trailers(call.environ) is not None]
    return empty(204, {**ALWAYS, "Tus-Version": fields.VERSION, "Tus-Extension": ",".join(extensions), "Tus-Max-Size": str(most),
                       "Tus-Checksum-Algorithm": ",".join(fields.ALGORITHMS)})


def post(call: Call, space: str = SPACE) -> Response:
    """A new upload, with its first bytes or all of them where there is a body. ``X-HTTP-Method-Override`` says what is meant instead."""
    if fields.is_id(space) and call.services.files.rules(space) is None:
        return post_to_upload(call, id=space)
    return _meant(call, {"POST": create, "OPTIONS": options})(call, space=space)


def post_to_upload(call: Call, id: str, space: str = SPACE) -> Response:
    """What ``X-HTTP-Method-Override`` says: ``PATCH``, ``HEAD`` or ``DELETE``."""
    return _meant(call, {"PATCH": patch, "HEAD": head, "DELETE": terminate, "OPTIONS": options})(call, space=space, id=id)


def _meant(call: Call, methods: Mapping[str, Handler]) -> Handler:
    handler = methods.get((call.header("X-HTTP-Method-Override") or "POST").strip().upper())
    if handler is None:
        raise MethodNotAllowed([*methods])
    return handler


_TAG, _PROBLEM, _VERSION = "tus", "application/problem+json", ("Tus-Resumable",)
_CHECKED = ("Upload-Checksum", "Content-Digest", "Content-MD5")
_FAILING = ("digest_mismatch", "interrupted", "conflict", "path_conflict", "unsupported_type", "precondition_failed", "storage_full",
            "quota_exceeded", "upload_gone", "range_busy", "storage_read_only")
_MADE = (*_VERSION, "Upload-Length", "Upload-Defer-Length", "Upload-Metadata", "Upload-Concat", *_CHECKED)
_METHODS: Mapping[str, tuple[Handler, Doc]] = {
    "OPTIONS": (options, Doc("What is served", _TAG, answers={204: None}, open=True)),
    "POST": (post, Doc("Begin an upload", _TAG, body=fields.BODY, answers={201: None, 460: _PROBLEM}, headers=_MADE,
                       errors=("invalid_name", *_FAILING))),
    "HEAD": (head, Doc("Where an upload stands", _TAG, answers={200: None}, headers=_VERSION, errors=_FAILING)),
    "GET": (get, Doc("The file that an upload became", _TAG, answers={303: None}, errors=("upload_gone",))),
    "PATCH": (patch, Doc("Go on with an upload", _TAG, body=fields.BODY, answers={204: None, 460: _PROBLEM},
                         headers=(*_VERSION, "Upload-Offset", "Upload-Length", *_CHECKED), errors=("offset_mismatch", *_FAILING))),
    "DELETE": (terminate, Doc("End an upload", _TAG, answers={204: None}, headers=_VERSION, errors=_FAILING)),
    "POST, meaning another": (post_to_upload, Doc("What X-HTTP-Method-Override says", _TAG, body=fields.BODY,
                                                  answers={200: None, 204: None, 460: _PROBLEM},
                                                  headers=(*_VERSION, "X-HTTP-Method-Override", "Upload-Offset"),
                                                  errors=("offset_mismatch", *_FAILING))),
}
_RULES = {
    "/tus/": ("OPTIONS", "POST"),
    "/tus/<space>/": ("OPTIONS", "POST"),
    "/tus/<id>": ("HEAD", "GET", "PATCH", "DELETE"),
    "/tus/<space>/<id>": ("OPTIONS", "HEAD", "GET", "PATCH", "DELETE", "POST, meaning another"),
}
ROUTES = tuple(Route(rule, (meant.partition(",")[0],), *_METHODS[meant]) for rule, methods in _RULES.items() for meant in methods)
"""``/tus/`` is the space ``main``. A ``POST`` to ``/tus/{id}`` comes to ``/tus/{space}/``, which knows ids from spaces."""
