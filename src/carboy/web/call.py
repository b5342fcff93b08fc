"""One request on its way through Carboy: what handlers get, and what they read the body with."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, quote

from werkzeug import Request, Response
from werkzeug.datastructures import MultiDict
from werkzeug.utils import cached_property  # functools' has one lock for all instances before Python 3.12

from carboy.bootstrap import Services
from carboy.engine.receive import Digests
from carboy.errors import InvalidRequest, PasswordNeeded, TooLarge, Unauthenticated
from carboy.model import Placed, Principal
from carboy.streams import BufferPool, Source
from carboy.web import forgery, http
from carboy.web.answers import Problem
from carboy.web.auth import principal_of
from carboy.web.body import source_of
from carboy.web.figures import Looks
from carboy.web.logs import begin_request, escaped
from carboy.web.measured import NO_ROUTE, Traffic
from carboy.web.page.view import Pages
from carboy.web.rates import Allowance, Rates
from carboy.web.reference import Reference
from carboy.web.session import Session, Sessions
from carboy.web.slots import Slots

log = logging.getLogger("carboy.upload")

_MAX_FIELDS = 64 * 2**10
Identify = Callable[[Mapping[str, Any], Callable[[], Principal]], Principal]
"""Who asks, by the WSGI environment; or whoever the request itself proves, which the second one tells."""


@dataclass(frozen=True, slots=True)
class Web:
    """What all requests of a process share."""

    services: Services
    slots: Slots
    buffers: BufferPool
    rates: Rates
    traffic: Traffic
    looks: Looks
    places: Slots
    """For streams of events and answers that wait."""
    pages: Pages = field(default_factory=Pages)
    reference: Reference = field(default_factory=lambda: Reference(()))
    page: bool = False
    """Whether browsers get the page: HTML where others get JSON."""
    identify: Identify | None = None
    """An application's way to tell who asks; without one, the request itself proves it."""

    @property
    def sessions(self) -> Sessions:
        return Sessions(self.services.signer, self.services.tokens, self.services.settings.session_expiry)


class Call:
    """One request. Everything is found out when first asked for, so a cheap request stays cheap."""

    def __init__(self, web: Web, environ: dict[str, Any]) -> None:
        self.web = web
        self.services = web.services
        self.environ = environ
        self.method: str = environ["REQUEST_METHOD"]
        self.id = environ["carboy.request_id"] = begin_request(environ.get("carboy.given_id"))
        self.began: float = environ.get("carboy.began") or time.perf_counter()
        self.stored_at: float | None = None
        self.route = NO_ROUTE
        """The group of routes that answers, once it is known."""
        self.protocol = ""
        """By which bytes come, if any do: ``tus``."""
        self.allowance: Allowance | None = None
        self.always: Mapping[str, str] = {}
        """Header fields of whatever is answered, a problem too."""

    @cached_property
    def request(self) -> Request:
        return Request(self.environ, populate_request=False)

    @cached_property
    def principal(self) -> Principal:
        """Whom the application says, else the bearer of a token, else who signed in with this browser, else nobody.

        Raises Unauthenticated for a token that proves nothing, Forbidden for a change that another site had the browser ask for.
        """
        return self.web.identify(self.environ, self._proven) if self.web.identify else self._proven()

    def _proven(self) -> Principal:
        if self.header("Authorization") is None and self.session is not None:
            self._must_be_own(self.session.id)
            found = self.session.principal
        else:
            found = self._bearer()
        return replace(found, request=self.id, address=self.address)

    def _bearer(self) -> Principal:
        """Tokens that prove nothing are counted; one that is right is good however many weren't."""
        try:
            return principal_of(self.environ, self.services.tokens)
        except Unauthenticated:
            self.web.rates.failed(self.address)
            raise

    @contextmanager
    def guessing(self) -> Iterator[None]:
        """In the block something is proved that could be guessed. Raises RateLimited where too much failed from this address."""
        self.web.rates.may_try(self.address)
        try:
            yield
        except (Unauthenticated, PasswordNeeded):
            self.web.rates.failed(self.address)
            raise

    def spend(self, *, anonymous: bool = False) -> None:
        """Count this request for who asks; ``anonymous``: for the address. Raises RateLimited."""
        principal: str | None = None
        try:
            principal = None if anonymous else self.principal.id
        finally:
            self.allowance = self.web.rates.spend(principal, self.address)

    @property
    def address(self) -> str:
        """The client's, as the server has it; "" where that tells none."""
        return str(self.environ.get("REMOTE_ADDR", ""))

    @cached_property
    def session(self) -> Session | None:
        """Who signed in with this browser."""
        return self.web.sessions.of(self.environ) if "HTTP_COOKIE" in self.environ else None

    @property
    def root(self) -> str:
        """Where Carboy is mounted: what goes before every address; mostly nothing."""
        return quote(str(self.environ.get("SCRIPT_NAME", "")).encode("latin-1"))

    @cached_property
    def is_browser(self) -> bool:
        """Whether a page is wanted rather than JSON: text/html is named, and wanted no less."""
        accept = self.request.accept_mimetypes
        return "text/html" in accept.values() and accept["text/html"] >= accept["application/json"]

    @property
    def wants_page(self) -> bool:
        """Whether this is to be answered by the page."""
        return self.web.page and self.is_browser

    @cached_property
    def fields(self) -> MultiDict[str, str]:
        """The fields of a small form (``application/x-www-form-urlencoded``); none where the body is anything else. Raises
        InvalidRequest, TooLarge."""
        if not self.environ.get("CONTENT_TYPE", "").lower().startswith("application/x-www-form-urlencoded"):
            return MultiDict()
        data = bytearray()
        with self.web.slots.hold([f"address {self.environ.get('REMOTE_ADDR', '')}"]):
            for piece in self.source.lend():
                data += piece
                if len(data) > _MAX_FIELDS:
                    raise TooLarge(f"a form without files may hold {_MAX_FIELDS} bytes", limit=_MAX_FIELDS)
        try:
            return MultiDict(parse_qsl(data.decode(), keep_blank_values=True, errors="strict", max_num_fields=2000))
        except ValueError:
            raise InvalidRequest("the form's fields are not UTF-8, or too many") from None

    def _must_be_own(self, session: str) -> None:
        if self.method in forgery.SAFE:
            return
        forgery.must_be_own(self.environ)
        token = self.query.get("csrf") or self.header("X-CSRF-Token") or self.fields.get("csrf")
        forgery.must_carry(self.services.signer, session, token)

    @property
    def known_principal(self) -> str | None:
        """The id of who asks, where that has been found out."""
        principal: Principal | None = self.__dict__.get("principal")
        return principal.id if principal else None

    @cached_property
    def length(self) -> int | None:
        """The body's declared length. Raises InvalidRequest, TooLarge."""
        return http.content_length(self.environ)

    @cached_property
    def source(self) -> Source:
        """The body, read nowhere else."""
        return source_of(self.environ, self.length, self.services.settings, self.web.buffers)

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.args

    def header(self, name: str) -> str | None:
        """A field of the request's head by its name."""
        value: str | None = self.environ.get("HTTP_" + name.upper().replace("-", "_"))
        return value

    @contextmanager
    def body(self) -> Iterator[Source]:
        """The body, while a slot for it is held. Raises Busy."""
        clients = [f"address {self.environ.get('REMOTE_ADDR', '')}"]
        if self.principal.id:
            clients.append(f"principal {self.principal.id}")
        with self.web.slots.hold(clients):
            source = self.source
            self.web.traffic.begins(self)
            try:
                yield source
            finally:
                self.web.traffic.ends(self)

    def digests(self) -> Digests:
        """What the body must hash to: Content-Digest, Repr-Digest (RFC 9530) and Content-MD5. Raises InvalidRequest."""
        return http.expected_digests({name: value for name in ("content-digest", "repr-digest", "content-md5")
                                      if (value := self.header(name))})

    def close_unless_read(self) -> None:
        """Have the connection closed after the answer where some of the body has not been read: where the next request
        begins would be found only by reading the rest."""
        source = self.__dict__.get("source")
        unread = source.ended != "complete" if source else self.has_body
        close: Callable[[], None] | None = self.environ.get("carboy.close")
        if unread and close:
            close()

    def stored(self, placed: Placed) -> None:
        """The one log line of an upload."""
        file = placed.file
        self.stored_at = time.perf_counter()
        self.web.traffic.stored(self)
        log.info("stored %s/%s", file.space, escaped(file.path),
                 extra={"facts": {"file": file.id, "space": file.space, "path": file.path, "size": file.size,
                                  "version": file.version, "principal": self.principal.id}})

    @property
    def has_body(self) -> bool:
        """Whether a body comes, which may turn out to be empty."""
        return self.environ.get("CONTENT_LENGTH") not in (None, "", "0") or "HTTP_TRANSFER_ENCODING" in self.environ


Handler = Callable[..., Response]


@dataclass(frozen=True, slots=True)
class Doc:
    """What ``/openapi.json`` tells of a route.

    ``query`` and ``body`` are the models (carboy.web.schemas) that validate; a ``body`` or an answer that is a text is a media type,
    and a mapping is by media types as OpenAPI writes content. ``headers`` are the request's that matter here, ``errors`` the codes of
    problems beside those that any route may give, and ``problem`` their shape.
    """

    summary: str
    tag: str = ""
    query: type[Any] | None = None
    body: type[Any] | str | Mapping[str, Any] | None = None
    answers: Mapping[int, type[Any] | str | Mapping[str, Any] | None] = field(default_factory=lambda: {200: None})
    headers: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    problem: type[Any] = Problem
    problem_type: str = "application/problem+json"
    open: bool = False
    """Whether it answers without a principal, whatever the space."""


@dataclass(frozen=True, slots=True)
class Route:
    """A rule in Werkzeug's syntax, its methods, and what answers: ``handler(call, **arguments)``."""

    rule: str
    methods: tuple[str, ...]
    handler: Handler
    doc: Doc | None = None
