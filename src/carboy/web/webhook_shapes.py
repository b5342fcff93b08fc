"""What ``/api/v1/webhooks`` takes and answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from carboy.web.answers import Answer, Cursor, Time
from carboy.web.fields import Id, Instant
from carboy.web.schemas import Body, PageQuery

State = Literal["waiting", "queued", "sending", "taken", "dead"]
MessageId = Annotated[str, Field(pattern="^msg_[0-9a-f]{32}$")]


class DeliveriesQuery(PageQuery):
    """Which deliveries."""

    state: Annotated[State | None, Field(description="Those in this state.")] = None
    file_id: Annotated[Id | None, Field(description="Those about this file.")] = None


class Replay(Body):
    """What is sent again: all that is given must hold, and something must be given."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [
        {"required": [name], "properties": {name: {"type": "string"}}} for name in ("id", "file_id", "since", "state")]})

    id: Annotated[MessageId | None, Field(description="The message with this id.")] = None
    file_id: Annotated[Id | None, Field(description="Those about this file.")] = None
    since: Annotated[Instant | None, Field(description="Those that were made then or later.")] = None
    state: Annotated[Literal["queued", "taken", "dead"] | None, Field(description="Those in this state.")] = None

    @model_validator(mode="after")
    def _some(self) -> Replay:
        if not self.model_dump(exclude_none=True):
            raise ValueError("say what is to be sent again: id, file_id, since or state")
        return self


class Webhook(Answer):
    """A webhook of the settings. ``begun`` says whether the log is followed for it; ``deliveries`` are counts by state."""

    name: str
    url: str
    events: list[str]
    spaces: list[str]
    begun: bool
    deliveries: dict[State, int]


class Webhooks(Answer):
    """All webhooks."""

    webhooks: list[Webhook]


class Delivery(Answer):
    """A message on its way to a webhook, or there."""

    id: str
    type: str
    state: State
    attempts: int
    answer: str | None
    created_at: Time
    changed_at: Time
    due_at: Time | None
    message: dict[str, Any]


class Deliveries(Answer):
    """A page of deliveries, the last first."""

    deliveries: list[Delivery]
    next: Cursor


class Replayed(Answer):
    """How many are sent again."""

    replayed: int
