"""What a server says of its routes: to programs as OpenAPI, to people as one page of HTML, its style within, no script, nothing from
elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape
from werkzeug import Response
from werkzeug.utils import cached_property

from carboy.web import openapi

if TYPE_CHECKING:
    from carboy.web.call import Route

Json = Mapping[str, Any]
_CODE = re.compile(r"`([^`]+)`")
_METHODS = ("get", "put", "post", "patch", "delete", "options")


class Reference:
    """What is said of these routes. Made when first asked for, once for each process."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes

    def document(self, root: str) -> Json:
        """The OpenAPI document, for a Carboy that is mounted at ``root``."""
        return {**self._document, "servers": [{"url": root or "/"}]}

    @cached_property
    def _document(self) -> Json:
        return openapi.document(self._routes, "")

    def page(self, root: str) -> Response:
        """The reader."""
        document = self.document(root)
        text = self._templates.get_template("reference.html").render(
            document=document, groups=list(groups(document)), style=Markup(self._style), root=root)  # noqa: S704  it is our own file
        return Response(text, 200, {**_HEADERS, "Content-Security-Policy": self._policy}, content_type="text/html; charset=utf-8")

    @cached_property
    def _style(self) -> str:
        return resources.files("carboy.web").joinpath("templates/reference.css").read_text("utf-8")

    @cached_property
    def _policy(self) -> str:
        digest = base64.b64encode(hashlib.sha256(self._style.encode()).digest()).decode()
        return f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

    @cached_property
    def _templates(self) -> Environment:
        made = Environment(loader=PackageLoader("carboy.web"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
        made.filters |= {"text": text, "type": type_of}
        return made


_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache",
            "Cross-Origin-Opener-Policy": "same-origin"}


@dataclass(frozen=True, slots=True)
class Shown:
    """One method of one address, as the reader shows it."""

    id: str
    method: str
    path: str
    operation: Json

    @property
    def bodies(self) -> Iterator[tuple[str, Json]]:
        """The bodies it takes: media types and schemas."""
        for media_type, content in self.operation.get("requestBody", {}).get("content", {}).items():
            yield media_type, content.get("schema", {})


def groups(document: Json) -> Iterator[tuple[str, list[Shown]]]:
    """The document's operations by tag, in its order."""
    shown = [Shown(operation["operationId"], method.upper(), path, operation) for path, methods in document["paths"].items()
             for method, operation in methods.items() if method in _METHODS]
    for tag in document["tags"]:
        yield tag["name"], [one for one in shown if tag["name"] in one.operation.get("tags", [])]


def text(plain: str) -> Markup:
    """A description: paragraphs, and code between backticks."""
    escaped = _CODE.sub(lambda match: f"<code>{match[1]}</code>", str(escape(plain)))
    return Markup("".join(f"<p>{paragraph}</p>" for paragraph in escaped.split("\n\n")))  # noqa: S704  escaped above


def type_of(schema: Json) -> Markup:
    """A schema in few words, with a link to the model that it names."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return Markup('<a href="#schema-{0}">{0}</a>').format(name)
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return Markup(" | ").join(Markup("<code>{}</code>").format(json.dumps(value)) for value in values)
    if several := schema.get("anyOf") or schema.get("oneOf"):
        return Markup(" | ").join(map(type_of, several))
    if schema.get("type") == "array":
        return Markup("list of {}").format(type_of(schema.get("items", {})))
    return Markup(escape(_plain(schema)))  # noqa: S704  escaped


def _plain(schema: Json) -> str:
    words = [str(schema.get("format") or schema.get("type") or "any")]
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_plain(schema['additionalProperties'])}"
    for name, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<")):
        if name in schema and abs(schema[name]) < 2**31 - 1 and (name, schema[name]) != ("minimum", 0):
            words.append(f"{sign} {schema[name]}")
    for name, what in (("maxLength", "characters"), ("maxItems", "items")):
        if name in schema:
            words.append(f"≤ {schema[name]} {what}")
    return ", ".join(words)
