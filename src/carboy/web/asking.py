"""What a request asks for, read by the models of :mod:`carboy.web.schemas`."""

from __future__ import annotations

from typing import Any, TypeVar, get_origin

from pydantic import BaseModel, ValidationError

from carboy.errors import InvalidRequest, TooLarge
from carboy.web import http
from carboy.web.call import Call
from carboy.web.schemas import Body

MAX_JSON = 64 * 2**10
MAX_BULK = 4 * 2**20
"""Bytes of a JSON body that lists many things."""

M = TypeVar("M", bound=BaseModel)
B = TypeVar("B", bound=Body)


def body(call: Call, model: type[B], most: int = MAX_JSON) -> B:
    """The body as the model has it. Raises InvalidRequest, TooLarge past ``most`` bytes."""
    data = _read(call, most)
    return _checked(model, {} if model.optional and not data else http.json_object(data))


def query(call: Call, model: type[M]) -> M:
    """The query as the model has it; of a name that takes one value the first counts. Raises InvalidRequest."""
    given: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        values = call.request.args.getlist(name)
        if values:
            given[name] = values if get_origin(field.annotation) is list else values[0]
    return _checked(model, given)


def _read(call: Call, most: int) -> bytes:
    if (call.length or 0) > most:
        raise TooLarge(f"a JSON body may hold {most} bytes here", limit=most)
    data = bytearray()
    with call.body() as source:
        for piece in source.lend():
            data += piece
            if len(data) > most:
                raise TooLarge(f"a JSON body may hold {most} bytes here", limit=most)
    return bytes(data)


def _checked(model: type[M], given: dict[str, Any]) -> M:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        raise InvalidRequest(f"there is no member {where!r} here", field=where)
    what = first["msg"].removeprefix("Value error, ")
    raise InvalidRequest(f"{where}: {what}" if where else what, **({"field": where} if where else {}))
