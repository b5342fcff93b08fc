"""What the widgets have in common: chunks that go straight to their place while the form streams, and forms of whole files.

Fields stand before the file, as the widgets send them. Where they come behind it, the chunk's place is not known yet: it is a piece until
then, and copied.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from werkzeug import Response

from carboy.engine.receive import Digests, Incoming, Target
from carboy.errors import Conflict, InvalidRequest
from carboy.model import Placed, Progress, Span, Upload
from carboy.streams import Source
from carboy.web.call import Call
from carboy.web.multipart_form import Event, FormReader, Part, boundary_of, drained, part_data
from carboy.web.prefer import stored_response
from carboy.web.protocols.widgets.fields import Chunk, others, path_of
from carboy.web.render import json_response, upload_json

_REPEATS = 300.0
"""How long, in seconds, a chunk of a complete upload counts as one whose answer was lost."""
Parse = Callable[[Mapping[str, str], str | None], Chunk | None]


@dataclass(frozen=True, slots=True)
class Widget:
    """A widget by its name, and how it describes a chunk. ``whole``: a form without such fields is a whole file."""

    name: str
    parse: Parse
    whole: bool = False

    def upload_name(self, call: Call, chunk: Chunk) -> str:
        """What the catalog calls the upload: everybody's identifiers are their own, and nobody's are those of an address."""
        owner = "" if call.principal.id else f"{call.address}:"
        return f"{self.name}:{owner}{chunk.identifier}"


def receive(call: Call, space: str, widget: Widget) -> Response:
    """A chunk or a whole file: 200 with what is there so far, 201 (200 where it replaced) with the file once it is one."""
    folder = call.services.files.target(call.principal, space, "")
    boundary = boundary_of(call.environ.get("CONTENT_TYPE", ""))
    with call.body() as source:
        came = _received(call, folder, widget, boundary, source)
    return stored_response(call, came) if isinstance(came, Placed) else came


def _received(call: Call, folder: Target, widget: Widget, boundary: str | None, source: Source) -> Placed | Response:
    """The file, where there is one now; else the answer to a chunk."""
    if boundary is None:
        return _raw(call, folder, widget)
    reader = FormReader(source, boundary, call.services.settings, call.digests())
    events = reader.files()
    part = next((event for event in events if isinstance(event, Part)), None)
    if part is None:
        raise InvalidRequest("the form has no file")
    fields = {**call.query, **reader.fields}
    chunk = widget.parse(fields, part.filename)
    if chunk:
        return _take(call, folder, widget, chunk, fields, _to_the_end(events), part.digests())
    return _whole(call, folder, widget, part, events, reader) if widget.whole else _later(call, folder, widget, part, events, reader)


def has(call: Call, space: str, widget: Widget) -> bool:
    """Whether the chunk that the address describes is there: a test, before it is sent.

    A file that was sent before is sent again, for its content may be another now: that begins anew here, because a chunk that nobody
    asked for first is one whose answer was lost. Of one that was refused though all of it came nothing is there: it would look as if it
    had been taken.
    """
    folder = call.services.files.target(call.principal, space, "")
    chunk = widget.parse(call.query, None)
    if chunk is None:
        raise InvalidRequest("the address describes no chunk")
    target = _target(call, folder, chunk, call.query)
    progress = _named(call, widget, target, chunk)
    if progress is None:
        return False
    if progress.upload.state == "complete" and repeats(call, progress.upload, chunk.total):
        _begin(call, widget, target, chunk)
    if progress.upload.state != "receiving" or progress.upload.size != chunk.total or progress.due:
        return False
    return not chunk.size or any(span.start <= chunk.at and chunk.at + chunk.size <= span.end for span in progress.spans)


def repeats(call: Call, upload: Upload, total: int) -> bool:
    """Whether bytes for this complete upload may be ones whose answer was lost: the file it became is still the same, and it hasn't
    been one for long."""
    if upload.state != "complete" or upload.size != total or time.time() - upload.touched_at > _REPEATS:
        return False
    file = call.services.uploads.file(upload)
    return file is not None and file.blob.key == upload.key


def compare(call: Call, upload: Upload, at: int, data: Iterator[bytes | memoryview]) -> Placed:
    """The same bytes are received once more. Raises BytesDiffer, TooLarge."""
    with call.services.uploads.repeating(upload, at) as pump:
        for piece in data:
            pump.feed(piece)
    file = call.services.uploads.file(upload)
    assert file is not None
    return Placed(file, created=False)


def deliver(call: Call, incoming: list[tuple[Part, Iterator[Event]]] | Iterator[tuple[Part, Iterator[Event]]],
            folder: Target, reader: FormReader) -> list[Placed]:
    """The whole files of a form take their places, all or none; what else it says is their metadata."""
    with call.services.receiver.delivery(call.principal.id, reader.most) as delivery:
        taken: list[Incoming] = []
        for part, events in incoming:
            path = path_of(reader.fields.get("fullPath"), part.filename)
            taken.append(one := delivery.open(replace(folder, path=folder.path + path), digests=part.digests()))
            _feed(one, part_data(events))
        if len({one.target.path for one in taken}) < len(taken) and folder.rules.on_conflict != "rename":
            raise InvalidRequest("two files of the form have the same name")
        for one in taken:
            one.target = replace(one.target, metadata=others(reader.fields))
        placed = delivery.publish()
    for each in placed:
        call.stored(each)
    return placed


def parts(events: Iterator[Event], first: Part | None = None) -> Iterator[tuple[Part, Iterator[Event]]]:
    """The file parts of a form, from ``first`` on."""
    if first:
        yield first, events
    for event in events:
        if isinstance(event, Part):
            yield event, events


def _feed(incoming: Incoming, data: Iterator[bytes]) -> None:
    for piece in data:
        incoming.feed(piece)
    incoming.end()


def _to_the_end(events: Iterator[Event]) -> Iterator[bytes]:
    """The part's bytes; then the rest of the form is read, whose digests are verified there."""
    yield from part_data(events)
    drained(events)


def _raw(call: Call, folder: Target, widget: Widget) -> Placed | Response:
    """The body is the chunk, and the address describes it: the widgets' method ``octet``."""
    chunk = widget.parse(call.query, None)
    if chunk is None:
        raise InvalidRequest("send multipart/form-data, or describe the chunk in the address")
    return _take(call, folder, widget, chunk, call.query, call.source.give(), call.digests())


def _whole(call: Call, folder: Target, widget: Widget, part: Part, events: Iterator[Event], reader: FormReader) -> Placed:
    """Whole files, as many as there are."""

    def checked() -> Iterator[tuple[Part, Iterator[Event]]]:
        yield from parts(events, part)
        if widget.parse(reader.fields, part.filename):
            raise InvalidRequest("the fields of a chunk must come before its file")

    placed = deliver(call, checked(), folder, reader)
    return placed[0]


def _later(call: Call, folder: Target, widget: Widget, part: Part, events: Iterator[Event], reader: FormReader) -> Placed | Response:
    """Which chunk it is comes behind it."""
    size = 0
    with call.services.uploads.piece(folder.rules, part.digests()) as piece:
        for data in _to_the_end(events):
            piece.feed(data)
            size += len(data)
        piece.verify()
        fields = {**call.query, **reader.fields}
        chunk = widget.parse(fields, part.filename)
        if chunk is None:
            raise InvalidRequest("the form describes no chunk")
        again = call.services.storages[folder.rules.storage].read(piece.key, Span(0, size))
        return _take(call, folder, widget, chunk, fields, iter(again), ())


def _take(call: Call, folder: Target, widget: Widget, chunk: Chunk, fields: Mapping[str, str], data: Iterator[bytes],
          digests: Digests) -> Placed | Response:
    target = _target(call, folder, chunk, fields)
    if chunk.count <= 1 and chunk.size == chunk.total and folder.rules.on_conflict == "replace":
        return _at_once(call, target, chunk, data, digests)
    before = _named(call, widget, target, chunk)
    if before and repeats(call, before.upload, chunk.total):
        return compare(call, before.upload, chunk.at, data)
    receiving = before and before.upload.state == "receiving"
    progress = before if before and receiving else _begin(call, widget, target, chunk)
    upload = progress.upload
    if upload.size != chunk.total or upload.path != target.path:
        raise Conflict("another file is being sent with this identifier", declared=upload.size, size=chunk.total)
    if upload.state == "complete":
        return compare(call, upload, chunk.at, data)
    return _write(call, upload, chunk, data, digests)


def _at_once(call: Call, target: Target, chunk: Chunk, data: Iterator[bytes], digests: Digests) -> Placed:
    """The only chunk is the file: one transaction, and nothing to go on with."""
    call.services.receiver.precheck(target, chunk.total)
    with call.services.receiver.delivery(call.principal.id) as delivery:
        incoming = delivery.open(target, size=chunk.total, digests=digests)
        _feed(incoming, data)
        _check_size(incoming.received, chunk)
        placed = delivery.publish()[0]
    call.stored(placed)
    return placed


def _write(call: Call, upload: Upload, chunk: Chunk, data: Iterator[bytes], digests: Digests) -> Placed | Response:
    with call.services.uploads.writing(upload, chunk.at, chunk.size, call.source, limit=chunk.size, digests=digests,
                                       whole=bool(call.digests())) as writing:
        for piece in data:
            writing.feed(piece)
        _check_size(writing.received, chunk)
        writing.end()
    if writing.placed is None:
        return json_response(upload_json(call.services.files, writing.progress))
    call.stored(writing.placed)
    return writing.placed


def _check_size(received: int, chunk: Chunk) -> None:
    if received != chunk.size:
        raise InvalidRequest(f"the chunk has {received} bytes, {chunk.size} were announced", received=received, announced=chunk.size)


def _target(call: Call, folder: Target, chunk: Chunk, fields: Mapping[str, str]) -> Target:
    return replace(folder, path=folder.path + chunk.path, metadata=others(fields))


def _named(call: Call, widget: Widget, target: Target, chunk: Chunk) -> Progress | None:
    return call.services.uploads.named(target.space, target.owner, widget.upload_name(call, chunk))


def _begin(call: Call, widget: Widget, target: Target, chunk: Chunk) -> Progress:
    return call.services.uploads.begin(target, protocol=widget.name, name=widget.upload_name(call, chunk), size=chunk.total)
