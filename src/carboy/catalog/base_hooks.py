"""The part of the catalog's contract that is about webhooks: how far each has been told, and what it is still to be told.

Proved by tests/contracts/test_catalog_hooks.py. As in :mod:`carboy.catalog.base`, each changing method is one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

DeliveryState = Literal["waiting", "queued", "sending", "taken", "dead"]
"""``waiting`` for an earlier delivery of the same hook and subject; ``queued``, perhaps for a later time; ``sending``: somebody has claimed
it; ``taken`` by the receiver; ``dead``: given up, and kept with the last answer."""


@dataclass(frozen=True, slots=True)
class Hook:
    """How far the log has become deliveries of this webhook; ``seq`` is the number of the last one."""

    name: str
    cursor: str
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """What a webhook is to be told. Those of one ``subject`` go out one after the other. ``body`` is sent as it stands."""

    id: str
    subject: str
    kind: str
    body: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message on its way to one webhook. ``seq`` is its place among those of the hook; ``since`` is when trying began: when its turn
    came, anew where it was replayed; ``answer`` is what came of the last attempt. ``fence`` grows with each claim."""

    id: str
    hook: str
    subject: str
    seq: int
    kind: str
    body: str
    state: DeliveryState
    attempts: int = 0
    fence: int = 0
    instance: str | None = None
    answer: str | None = None
    created_at: float = 0.0
    since: float = 0.0
    changed_at: float = 0.0
    due_at: float = 0.0


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries: all that is given must hold. ``since`` is when the message was made, at the earliest."""

    id: str | None = None
    subject: str | None = None
    state: DeliveryState | None = None
    since: float | None = None


@dataclass(frozen=True, slots=True)
class HookDepth:
    """How many deliveries of a hook there are in a state, and when the oldest of them got into it."""

    hook: str
    state: DeliveryState
    count: int
    oldest: float


class Hooks(Protocol):
    """Deliveries are made in the transaction that moves the hook on in the log: none is lost, none is made twice."""

    def hook(self, name: str) -> Hook | None: ...

    def begin_hook(self, name: str, cursor: str) -> Hook:
        """It is told what comes after the cursor in the log. Repeatable: one that there is already stays where it is."""

    def tell_hook(self, hook: Hook, cursor: str, messages: Sequence[Message], *, now: float) -> bool:
        """The log up to ``cursor`` has come to these messages, in their order. False, and nothing changes, where the hook isn't at
        ``hook.cursor`` any more: another was quicker."""

    def claim_deliveries(self, hook: str, instance: str, *, now: float, limit: int = 1) -> list[Delivery]:
        """Up to ``limit`` that are due are this instance's to send, those due for longest first; of each subject one at a time. Raises
        StorageFailed if the instance was taken for dead."""

    def deliveries_due(self, hook: str, *, now: float) -> bool:
        """Whether there is one to be claimed."""

    def settle_delivery(self, delivery: Delivery, state: Literal["queued", "taken", "dead"], *, now: float, due_at: float = 0.0,
                        answer: str = "") -> bool:
        """What came of sending a claimed one: taken or given up, and then the next of its subject is queued, ``since`` now; or queued
        again for ``due_at``. False, and nothing changes, where the claim is no more."""

    def recover_deliveries(self, *, now: float) -> int:
        """Those whose instance is gone are queued again, due now; how many. They may have been sent."""

    def sending(self, hook: str) -> int:
        """How many are claimed."""

    def replay_deliveries(self, hook: str, filter: DeliveryFilter = DeliveryFilter(), *, up_to: int, now: float, limit: int = 500) -> int:
        """Up to ``limit`` that are over, and whose ``seq`` is at most ``up_to``, the oldest first, are queued once more under their ids,
        behind what is open; those that are queued for later are due now. How many; none are left when it is 0. Raises NotFound for a
        hook that was never begun."""

    def delivery(self, id: str) -> Delivery | None: ...

    def deliveries(self, hook: str, filter: DeliveryFilter = DeliveryFilter(), *, cursor: str | None = None,
                   limit: int = 100) -> tuple[list[Delivery], str | None]:
        """The last in order first, with the next cursor."""

    def hook_depths(self) -> list[HookDepth]:
        """How many there are of each hook and state."""
