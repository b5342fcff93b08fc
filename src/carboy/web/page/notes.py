"""What the next page tells of the last action, once: "3 files stored", with a way to undo. It travels in a signed cookie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from werkzeug import Response

from carboy.errors import CarboyError

if TYPE_CHECKING:
    from carboy.web.call import Call

_NAME = "carboy_note"
_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Note:
    """``undo`` is the id of a file that can come back from the trash; ``see`` is an address with more."""

    text: str
    undo: str = ""
    see: str = ""


def leave(call: Call, response: Response, note: Note) -> Response:
    """The response, with the note for the page that comes next."""
    value = call.services.signer.sign("note", [note.text[:1000], note.undo, note.see])
    response.set_cookie(_NAME, value, max_age=_SECONDS, path="/", httponly=True, samesite="Lax")
    return response


def left(call: Call) -> Note | None:
    """The note that waits for this page."""
    value = call.request.cookies.get(_NAME) if "HTTP_COOKIE" in call.environ else None
    if not value:
        return None
    try:
        return Note(*call.services.signer.unsign("note", value))
    except (CarboyError, TypeError):
        return Note("")


def take_away(response: Response) -> None:
    """Once shown it is gone."""
    response.delete_cookie(_NAME, path="/", httponly=True, samesite="Lax")
