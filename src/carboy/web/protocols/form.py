"""``POST /files/{space}/{folder}/``: a form whose files all take their places, or none does; or a raw body that names
itself by Content-Disposition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import quote

from werkzeug import Response

from carboy.engine.names import clean_folder, clean_name, clean_path
from carboy.engine.receive import Around, Delivery, Incoming, Target, uncounted
from carboy.errors import InvalidRequest, NotFound
from carboy.model import Placed
from carboy.web import http
from carboy.web.call import Call
from carboy.web.disposition import name_in
from carboy.web.multipart_form import Event, FormReader, Part, boundary_of, part_data
from carboy.web.prefer import stored_files
from carboy.web.render import address
from carboy.web.whole import receive

Answer = Callable[[list[Placed]], Response]


def post(call: Call, space: str, path: str, *, answer: Answer | None = None) -> Response:
    """201 with the list of files, or what ``answer`` makes of them. Text fields, wherever they stand, become metadata of every file
    of the form."""
    if path and not path.endswith("/"):
        raise NotFound("a form is posted to a folder, with a slash at the end", right=address(f"/files/{quote(space)}/{quote(path)}/"))
    folder = clean_folder(path)
    target = call.services.files.target(call.principal, space, folder)
    boundary = boundary_of(call.environ.get("CONTENT_TYPE", ""))
    if boundary is None:
        return _raw(call, target)
    placed = receive_form(call, target, boundary)
    for one in placed:
        call.stored(one)
    return answer(placed) if answer else stored_files(call, placed)


def _raw(call: Call, folder: Target) -> Response:
    name = name_in(call.header("Content-Disposition") or "")
    if not name:
        raise InvalidRequest("send a multipart/form-data form, or name the body by Content-Disposition: attachment; filename=…",
                             field="Content-Disposition")
    return receive(call, replace(folder, path=_path(folder, name), condition=http.condition_of(call.request.headers)))


def _path(folder: Target, name: str) -> str:
    """The name's path in the folder; both are short enough, and so must be both together."""
    return clean_path(folder.path + clean_name(name))


def receive_form(call: Call, folder: Target, boundary: str, *, around: Around = uncounted) -> list[Placed]:
    """The files of the request's form take their places in the folder, all or none. ``around`` is held while they are published."""
    with call.body() as source, call.services.receiver.delivery(call.principal.id, source.remaining) as delivery:
        reader = FormReader(source, boundary, call.services.settings, call.digests())
        incoming = [_take(call, delivery, folder, part, events) for part, events in _named(reader)]
        if not incoming:
            raise InvalidRequest("the form has no file; send at least one part with a filename")
        _check_names(incoming, folder)
        for one in incoming:
            one.target = replace(one.target, metadata=reader.fields)
        with around(len(incoming), sum(one.received for one in incoming)):
            return delivery.publish()


def _named(reader: FormReader) -> Iterator[tuple[Part, Iterator[Event]]]:
    """The file parts; an empty file input of a browser (no name, no bytes) is passed over."""
    events = reader.files()
    for event in events:
        if not isinstance(event, Part):
            continue
        if event.filename:
            yield event, events
        elif any(part_data(events)):
            raise InvalidRequest(f"the file in the field {event.name!r} has no name", field=event.name)


def _take(call: Call, delivery: Delivery, folder: Target, part: Part, events: Iterator[Event]) -> Incoming:
    target = replace(folder, path=_path(folder, part.filename or ""))
    incoming = delivery.open(target, digests=part.digests())
    for data in part_data(events):
        incoming.feed(data)
    incoming.end()
    return incoming


def _check_names(incoming: list[Incoming], folder: Target) -> None:
    paths = [one.target.path for one in incoming]
    if len(set(paths)) < len(paths) and folder.rules.on_conflict != "rename":
        twice = next(path for path in paths if paths.count(path) > 1)
        raise InvalidRequest(f"two files of the form are named {twice!r}", path=twice)
