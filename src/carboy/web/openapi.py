"""``/openapi.json``: OpenAPI 3.1, made from the routes and from the very models that validate what they take."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from carboy import __version__
from carboy.web import answers
from carboy.web.http import STATUS

if TYPE_CHECKING:
    from carboy.web.call import Doc, Route

Json = dict[str, Any]

_VARIABLE = re.compile(r"<(?:(\w+)(?:\(([^)]*)\))?:)?(\w+)>")
_REF = "#/components/schemas/{model}"
_ID: Json = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
_VARIABLES: Mapping[str, Json] = {
    "id": _ID,
    "space": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$"},
    "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$"},
    "path": {"type": "string", "minLength": 1},
    "folder": {"type": "string"},
    "number": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
}
HEADERS: Mapping[str, str] = {
    "If-Match": "Only if the content is this one (an entity tag in quotes, or `*`).",
    "If-None-Match": "Only if the content is not this one; with `*` only if there is none.",
    "If-Modified-Since": "Only if it changed after this date.",
    "If-Unmodified-Since": "Only if it has not changed after this date.",
    "Range": "Some of the bytes: `bytes=0-999`.",
    "If-Range": "The range only if the content is still this one, else all.",
    "Want-Repr-Digest": "Ask for the digest: `sha-256=1`.",
    "Repr-Digest": "What the body must hash to (RFC 9530).",
    "Content-Digest": "What the body must hash to (RFC 9530).",
    "Content-MD5": "What the body must hash to.",
    "Tus-Resumable": "The version of tus: `1.0.0`.",
    "Upload-Length": "How many bytes the whole upload has.",
    "Upload-Defer-Length": "`1`: its length is told later.",
    "Upload-Offset": "Where the body's bytes belong.",
    "Upload-Complete": "`?1`: with this body the upload is complete; `?0`: more is to come.",
    "Upload-Draft-Interop-Version": "The version of the draft that the client speaks: 3 to 10.",
    "Content-Range": "Where the part belongs: `bytes 0-999/5000`, or `*` for a size that isn't known yet.",
    "Upload-Metadata": "Keys and values in base64, among them `filename`.",
    "Upload-Concat": "`partial`, or `final;` and the addresses of the parts.",
    "Upload-Checksum": "An algorithm and what the body hashes to, in base64.",
    "X-HTTP-Method-Override": "The method that is meant.",
    "Prefer": "`wait=10`, `respond-async`, `return=minimal` (RFC 7240).",
    "Last-Event-ID": "The id of the last event that came.",
    "Content-Disposition": "The name of a body that is one file (RFC 6266).",
}
"""What the request's fields mean."""

ALWAYS = ("invalid_request", "unauthenticated", "forbidden", "not_found", "rate_limited", "catalog_unavailable", "error")
"""Codes of problems that any route may answer with; those that are open to everybody excepted."""
_OPEN = ("not_found", "rate_limited", "catalog_unavailable", "error")
_WITH_BODY = ("too_large", "body_cut", "too_slow", "busy")

_ABOUT = """Receives, keeps and returns files of any size. What is acknowledged is on stable storage.

Send a token as `Authorization: Bearer TOKEN`. Errors are problems (RFC 9457) with a stable `code`. Times are RFC 3339 in UTC, sizes bytes.
Lists come in pages: `next` is the `cursor` of the following one."""

_SECURITY: Json = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A token, made by `carboy token create` or `POST /api/v1/tokens`."},
    "session": {"type": "apiKey", "in": "cookie", "name": "__Host-carboy",
                "description": "Who signed in on the page. What changes something wants the header `X-CSRF-Token` as well."},
}


def document(routes: Iterable[Route], server: str) -> Json:
    """The OpenAPI document of these routes, those without a ``doc`` left out, at an address that begins with ``server``."""
    described = [(route, route.doc) for route in routes if route.doc]
    paths: Json = {}
    for route, doc in described:
        for method in route.methods:
            paths.setdefault(path_of(route.rule), {})[method.lower()] = _operation(route, doc, method)
    tags = list(dict.fromkeys(doc.tag for _, doc in described if doc.tag))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Carboy", "version": __version__, "summary": "A server for files.", "description": _ABOUT,
                 "license": {"name": "MIT", "identifier": "MIT"}},
        "servers": [{"url": server or "/"}],
        "security": [{"bearer": []}, {"session": []}],
        "tags": [{"name": tag} for tag in tags],
        "paths": paths,
        "components": {"schemas": _schemas(doc for _, doc in described), "securitySchemes": _SECURITY},
    }


def path_of(rule: str) -> str:
    """Werkzeug's rule as OpenAPI writes paths."""
    return _VARIABLE.sub(lambda match: "{" + match[3] + "}", rule)


def _operation(route: Route, doc: Doc, method: str) -> Json:
    operation: Json = {"operationId": f"{method.lower()}_{_identifier(route.rule)}", "summary": doc.summary}
    if doc.tag:
        operation["tags"] = [doc.tag]
    if text := (route.handler.__doc__ or "").strip():
        operation["description"] = re.sub(r"\n +", "\n", text).replace("``", "`")
    if parameters := [*_variables(route.rule), *_queries(doc), *_fields(doc)]:
        operation["parameters"] = parameters
    if doc.body is not None:
        operation["requestBody"] = {"required": _required(doc.body), "content": _content(doc.body)}
    if doc.open:
        operation["security"] = []
    return {**operation, "responses": _responses(doc, method)}


def _identifier(rule: str) -> str:
    return re.sub(r"\W+", "_", path_of(rule).replace("/api/v1", "/api")).strip("_")


# --- what it takes -------------------------------------------------------------------------------------------------


def _variables(rule: str) -> list[Json]:
    return [{"name": name, "in": "path", "required": True, "schema": dict(_VARIABLES.get(name, {"type": "string"}))}
            for _, _, name in _VARIABLE.findall(rule)]


def _queries(doc: Doc) -> list[Json]:
    if doc.query is None:
        return []
    schema = doc.query.model_json_schema()
    return [_query(name, dict(known), name in schema.get("required", [])) for name, known in schema.get("properties", {}).items()]


def _query(name: str, schema: Json, required: bool) -> Json:
    about = schema.pop("description", "")
    schema.pop("title", None)
    if "anyOf" in schema:
        schema |= next(one for one in schema.pop("anyOf") if one.get("type") != "null")
    if schema.get("default", "") is None:
        del schema["default"]
    if isinstance(schema.get("default"), bool):  # as a query writes it
        schema["default"] = str(schema["default"]).lower()
    return {"name": name, "in": "query", "required": required, **({"description": about} if about else {}), "schema": schema}


def _fields(doc: Doc) -> list[Json]:
    return [{"name": name, "in": "header", "required": False, "description": HEADERS[name], "schema": {"type": "string"}}
            for name in doc.headers]


def _required(body: Any) -> bool:
    return not getattr(body, "optional", False)


# --- what it answers -----------------------------------------------------------------------------------------------


def _responses(doc: Doc, method: str) -> Json:
    responses: Json = {}
    for status, answer in doc.answers.items():
        responses[str(status)] = {"description": _described(status, answer)}
        if answer is not None and method != "HEAD":
            responses[str(status)]["content"] = _content(answer)
    for status, codes in sorted(_problems(doc).items()):
        responses[str(status)] = {"description": ", ".join(f"`{code}`" for code in codes)}
        if method != "HEAD":
            responses[str(status)]["content"] = {doc.problem_type: _named(doc.problem)}
    return responses


def _problems(doc: Doc) -> dict[int, list[str]]:
    codes = [*(_OPEN if doc.open else ALWAYS), *doc.errors, *(_WITH_BODY if doc.body is not None else ())]
    if doc.query is not None and doc.open:
        codes.append("invalid_request")
    found: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        found.setdefault(STATUS[code], []).append(code)
    return found


_STATUSES = {201: "It is there now.", 202: "It is there, and goes through its steps.",
             204: "Done.", 206: "Some of the bytes.", 303: "Look there.", 304: "You have it already.",
             307: "The storage has the bytes."}


def _described(status: int, answer: Any) -> str:
    if _is_model(answer):
        return str((answer.__doc__ or "").strip())
    return _STATUSES.get(status, "The bytes.")


def _content(what: Any) -> Json:
    if isinstance(what, str):
        return {what: {}}
    if isinstance(what, Mapping):
        return {media_type: _named(content) if _is_model(content) else content for media_type, content in what.items()}
    return {"application/json": _named(what)}


def _named(model: type[BaseModel]) -> Json:
    return {"schema": {"$ref": _REF.format(model=model.__name__)}}


# --- models --------------------------------------------------------------------------------------------------------


def _schemas(docs: Iterable[Doc]) -> Json:
    used: dict[str, type[BaseModel]] = {}
    for doc in docs:
        for what in (doc.body, doc.problem, *doc.answers.values()):
            for model in what.values() if isinstance(what, Mapping) else (what,):
                if isinstance(model, type) and issubclass(model, BaseModel):
                    used[model.__name__] = model
    used["Problem"] = answers.Problem
    wanted: Sequence[tuple[type[BaseModel], JsonSchemaMode]] = [(used[name], "validation") for name in sorted(used)]
    _, schema = models_json_schema(wanted, ref_template=_REF)
    return {name: _untitled(model) for name, model in schema["$defs"].items()}


def _untitled(schema: Any) -> Any:
    """Without the titles that repeat the names."""
    if isinstance(schema, dict):
        return {name: _untitled(value) for name, value in schema.items() if name != "title" or not isinstance(value, str)}
    return [_untitled(value) for value in schema] if isinstance(schema, list) else schema


def _is_model(what: Any) -> bool:
    return isinstance(what, type) and issubclass(what, BaseModel)
