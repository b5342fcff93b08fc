"""The part of the catalog that knows webhooks and what they are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from carboy.catalog import hooks
from carboy.catalog.base_hooks import Delivery, DeliveryFilter, Hook, HookDepth, Message
from carboy.catalog.sql_leasing import SqlLeasing


class SqlHooks(SqlLeasing):
    """Each method is one transaction of the database; see :class:`carboy.catalog.base_hooks.Hooks` for what they guarantee."""

    def hook(self, name: str) -> Hook | None:
        return self._database.read(lambda session: hooks.hook(session, name))

    def begin_hook(self, name: str, cursor: str) -> Hook:
        return self._database.write(lambda session: hooks.begin(session, name, cursor))

    def tell_hook(self, hook: Hook, cursor: str, messages: Sequence[Message], *, now: float) -> bool:
        return self._database.write(lambda session: hooks.tell(session, hook, cursor, messages, now))

    def claim_deliveries(self, hook: str, instance: str, *, now: float, limit: int = 1) -> list[Delivery]:
        return self._write_fenced([instance], lambda session: hooks.claim(session, hook, instance, now, limit))

    def deliveries_due(self, hook: str, *, now: float) -> bool:
        return self._database.read(lambda session: hooks.due(session, hook, now))

    def settle_delivery(self, delivery: Delivery, state: Literal["queued", "taken", "dead"], *, now: float, due_at: float = 0.0,
                        answer: str = "") -> bool:
        return self._database.write(lambda session: hooks.settle(session, delivery, state, now, due_at, answer))

    def recover_deliveries(self, *, now: float) -> int:
        return self._database.write(lambda session: hooks.recover(session, now)) if self._database.read(hooks.are_left) else 0

    def sending(self, hook: str) -> int:
        return self._database.read(lambda session: hooks.sending(session, hook))

    def replay_deliveries(self, hook: str, filter: DeliveryFilter = DeliveryFilter(), *, up_to: int, now: float, limit: int = 500) -> int:
        return self._database.write(lambda session: hooks.replay(session, hook, filter, up_to, now, limit))

    def delivery(self, id: str) -> Delivery | None:
        return self._database.read(lambda session: hooks.by_id(session, id))

    def deliveries(self, hook: str, filter: DeliveryFilter = DeliveryFilter(), *, cursor: str | None = None,
                   limit: int = 100) -> tuple[list[Delivery], str | None]:
        return self._database.read(lambda session: hooks.page(session, hook, filter, cursor, limit))

    def hook_depths(self) -> list[HookDepth]:
        return self._database.read(hooks.depths)
