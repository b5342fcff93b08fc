"""``@carboy.receives``: the file parts of a view's form stream into storage, whoever reads the form first."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from flask import Request, current_app, has_app_context, request
from werkzeug.datastructures import FileStorage, Headers, ImmutableMultiDict
from werkzeug.http import parse_options_header

from carboy.config import Settings
from carboy.engine.names import clean_name
from carboy.engine.opening import ContentSource, open_blob
from carboy.engine.receive import Delivery, Incoming
from carboy.engine.staging import Wish
from carboy.errors import BodyCut, CarboyError, Conflict, InvalidRequest, TooSlow
from carboy.model import Blob, File, Shelved
from carboy.streams import Source
from carboy.web import http
from carboy.web.body import source_of
from carboy.web.measured import count_form
from carboy.web.multipart_form import Event, FormReader, Part, boundary_of, part_data

if TYPE_CHECKING:
    from carboy.web.extension import Carboy

V = TypeVar("V", bound=Callable[..., Any])
_MARK, _RECEIVED, _FAILURE = "_carboy_reception", "_carboy_received", "_carboy_failure"
RAW = "_carboy_raw"
"""Marks a view that reads its body itself."""
_MAX_BOUNDARY = 100
"""Characters of a form's boundary: Werkzeug's test client makes some that are longer than RFC 2046 has them."""
_DRAINED, _DRAINING = 16 * 2**20, 10.0
"""How many bytes of a refused body, and for how many seconds, are read on, so that its client gets to read the answer."""


class Received(FileStorage):
    """A file that came with a form: on stable storage, seen by nobody, and swept after ``staged_expiry`` seconds unless it is kept.

    It is Werkzeug's FileStorage, so validators and ``save()`` work; ``stream`` is opened when first used. ``filename`` is one clean
    segment, without folders; ``content_type`` is what the client said, ``media_type`` what the bytes are. An empty file input is false, as
    Werkzeug has it.
    """

    def __init__(self, carboy: Carboy, field: str | None, filename: str, headers: Headers, staged: Shelved | None) -> None:
        self.name = field
        self.filename = filename
        self.headers = headers
        self.file: File | None = None
        """The file it became; None until it is kept."""
        self._carboy = carboy
        self._staged = staged
        self._discarded = False
        self._stream: BinaryIO | None = None
        self._parsed_content_type = parse_options_header(headers.get("Content-Type", ""))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)  # a look for what isn't there opens no file
        return getattr(self.stream, name)

    @property
    def id(self) -> str:
        """Names it until it is kept, in another request too (``carboy.staged(id)``); then the file's. ``""`` for an empty input."""
        file = self.file or (self._staged.file if self._staged else None)
        return file.id if file else ""

    @property
    def size(self) -> int:
        """In bytes."""
        return self._blob.size if self._blob else 0

    @property
    def crc(self) -> int:
        """The CRC-64/NVME of the bytes."""
        return self._blob.crc64nvme if self._blob else 0

    @property
    def media_type(self) -> str:
        """As detected from the bytes."""
        return self._staged.file.media_type if self._staged else ""

    @property
    def content_length(self) -> int:
        return self.size

    @property
    def stream(self) -> BinaryIO:  # type: ignore[override]
        """The bytes as a seekable file. Raises NotFound once it is discarded, BytesMissing."""
        if self._stream is None:
            self._stream = self._open()
        return self._stream

    def keep(self, path: str | None = None, *, owner: str | int | None = None, metadata: Mapping[str, Any] | None = None,
             tags: Sequence[str] = ()) -> File:
        """Publish it: it becomes a file of its space, in one transaction, at ``path`` (``{id}/{filename}`` where none is given).

        Raises InvalidRequest for an empty input, NotFound when it is staged no more, Conflict where the space refuses to replace or
        this was kept already, PathConflict, QuotaExceeded, InvalidName.
        """
        return self._carboy.keep_all([self], path=lambda _: path, owner=owner, metadata=metadata, tags=tags)[0]

    def discard(self) -> None:
        """Forget it now rather than later. What was kept stays. Repeatable."""
        if self._staged is not None and self.file is None:
            self._discarded = True
            self._carboy.services.staging.discard(self._staged.file.id)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def wish(self, path: str | None, owner: str | None, metadata: Mapping[str, Any], tags: Sequence[str]) -> Wish:
        """What keeping it means. Raises InvalidRequest, Conflict."""
        if self._staged is None:
            raise InvalidRequest(f"no file was chosen in the field {self.name!r}", field=self.name)
        if self.file is not None:
            raise Conflict("this was kept already", id=self.file.id)
        return Wish(self._staged, path, owner, metadata, tags)

    @property
    def _blob(self) -> Blob | None:
        return self._staged.file.blob if self._staged else None

    def _open(self) -> BinaryIO:
        if self._blob is None:
            return BytesIO()
        services = self._carboy.services
        if self._discarded:
            services.staging.get(self.id)
        return open_blob(self._blob, services.storages[self._blob.storage])


class ReceivingRequest(Request):
    """Mixed into an application's request class: the forms of marked views are parsed by Carboy."""

    def _load_form_data(self) -> None:
        if "form" in self.__dict__:
            return
        view = current_app.view_functions.get(self.endpoint or "") if has_app_context() else None
        reception = reception_of(view, self.method)
        if getattr(view, RAW, False):
            self.__dict__.update(form=ImmutableMultiDict(), files=ImmutableMultiDict())
        elif reception is None or not reception.load(self):
            super()._load_form_data()


def mixed(request_class: type[Request]) -> type[Request]:
    """The request class with Carboy in it."""
    if issubclass(request_class, ReceivingRequest):
        return request_class
    return type(request_class.__name__, (ReceivingRequest, request_class), {"__module__": request_class.__module__})


def reception_of(view: Any, method: str) -> Reception | None:
    """What a view function, or the method of its class, was marked with."""
    found = getattr(view, _MARK, None)
    if found is None and (kind := getattr(view, "view_class", None)):
        found = getattr(getattr(kind, method.lower(), getattr(kind, "dispatch_request", None)), _MARK, None)
    return found


@dataclass(frozen=True, slots=True)
class Reception:
    """Which space the files of a view's form go to: those of the named ``fields``, and all others to ``space``."""

    carboy: Carboy
    space: str | None
    fields: Mapping[str, str]

    def mark(self, view: V) -> V:
        """The view, before which the form has been received."""

        @functools.wraps(view)
        def receiving(*args: Any, **kwargs: Any) -> Any:
            self.ensure(request)
            return current_app.ensure_sync(view)(*args, **kwargs)

        setattr(receiving, _MARK, self)
        return cast(V, receiving)

    def ensure(self, request: Request) -> None:
        """The form is received when this returns. Raises what receiving raises."""
        known = request.__dict__
        if "form" not in known and not self.load(request):
            request._load_form_data()
        if _RECEIVED not in known and boundary_of(request.environ.get("CONTENT_TYPE", ""), _MAX_BOUNDARY):
            raise RuntimeError("the form was read before Carboy could: set app.request_class before Carboy's init_app()")

    def load(self, request: Request) -> bool:
        """Receive the request's form, and give the request its ``form`` and ``files``; False where it has no such form.

        Raises what receiving raises, each time it is asked; then nothing was kept.
        """
        known = request.__dict__
        if failure := known.get(_FAILURE):
            raise failure
        boundary = boundary_of(request.environ.get("CONTENT_TYPE", ""), _MAX_BOUNDARY)
        if boundary is None:
            return False
        try:
            form, files = self._receive(request, boundary)
        except CarboyError as error:
            known[_FAILURE] = error
            raise
        known.update({"stream": BytesIO(), "form": form, "files": files, _RECEIVED: True})
        return True

    def _receive(self, request: Request, boundary: str) -> tuple[ImmutableMultiDict[str, str], ImmutableMultiDict[str, FileStorage]]:
        opened = self.carboy.embedded.opened
        settings = opened.services.settings
        source = self._source(request, settings)
        digests = http.expected_digests({name.lower(): value for name, value in request.headers.items()})
        reader = FormReader(source, boundary, settings, digests)
        try:
            with opened.services.staging.delivery(reader.most) as delivery:
                parts = list(self._parts(reader.files(), delivery))
                staged = iter(opened.services.staging.stage(delivery) if any(incoming for _, _, incoming in parts) else ())
        except CarboyError as error:
            count_form(opened.services.meter, source, [], http.STATUS[error.code])
            if not isinstance(error, (BodyCut, TooSlow)):
                _drain(source)
            raise
        count_form(opened.services.meter, source, [incoming.received for _, _, incoming in parts if incoming], 200)
        files = [(part.name, Received(self.carboy, part.name, name, _headers(part), next(staged) if incoming else None))
                 for part, name, incoming in parts]
        return ImmutableMultiDict(reader.pairs), ImmutableMultiDict(files)

    def _source(self, request: Request, settings: Settings) -> Source:
        cached = getattr(request, "_cached_data", None)
        if cached is not None:  # somebody has asked for request.data before
            return ContentSource(cached)
        return source_of(request.environ, http.content_length(request.environ), settings, self.carboy.embedded.opened.buffers)

    def _parts(self, events: Iterator[Event], delivery: Delivery) -> Iterator[tuple[Part, str, Incoming | None]]:
        """Each file part, its clean name, and its file; none for the empty file input of a browser (no name, no bytes)."""
        for part in events:
            if not isinstance(part, Part):
                continue
            if not part.filename:
                if any(part_data(events)):
                    raise InvalidRequest(f"the file in the field {part.name!r} has no name", field=part.name)
                yield part, "", None
                continue
            name = clean_name(part.filename)
            incoming = delivery.open(self.carboy.services.staging.target(self._space_of(part.name), name), digests=part.digests())
            for data in part_data(events):
                incoming.feed(data)
            incoming.end()
            yield part, name, incoming

    def _space_of(self, field: str) -> str:
        space = self.fields.get(field, self.space)
        if space is None:
            raise InvalidRequest(f"no file is taken in the field {field!r}; files come in {', '.join(self.fields)}", field=field)
        return space


def _headers(part: Part) -> Headers:
    return Headers(list(part.segment.headerlist))


def _drain(source: Source) -> None:
    """Read on for a while: a server that closes while its client still sends takes the answer away from it."""
    if source.ended == "open":
        read, until = 0, time.monotonic() + _DRAINING
        for piece in source.lend():
            read += len(piece)
            if read > _DRAINED or time.monotonic() > until:
                return
