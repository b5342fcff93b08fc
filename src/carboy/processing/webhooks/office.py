"""Webhooks as the operator sees them: their secrets, what they were sent and answered, sending it again."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from carboy.catalog.base import Catalog
from carboy.catalog.base_hooks import Delivery, DeliveryFilter, DeliveryState
from carboy.config import Settings, WebhookSettings
from carboy.errors import NotFound
from carboy.processing.webhooks import signatures
from carboy.processing.webhooks.messages import message, new_message_id
from carboy.processing.webhooks.posting import Answer, Poster


@dataclass(frozen=True, slots=True)
class Known:
    """A webhook of the settings. ``begun`` says whether anybody has followed the log for it yet."""

    name: str
    rules: WebhookSettings
    begun: bool
    counts: Mapping[DeliveryState, int]


class Webhooks:
    """Of the settings; one that they don't name raises NotFound everywhere."""

    def __init__(self, settings: Settings, catalog: Catalog, poster: Poster, clock: Callable[[], float] = time.time) -> None:
        self._hooks = settings.webhooks
        self._catalog = catalog
        self._poster = poster
        self._clock = clock
        self._keys: dict[str, list[bytes]] = {}

    @property
    def names(self) -> list[str]:
        return sorted(self._hooks)

    def rules(self, name: str) -> WebhookSettings:
        rules = self._hooks.get(name)
        if rules is None:
            raise NotFound(f"there is no webhook {name!r} in the settings", name=name)
        return rules

    def all(self) -> list[Known]:
        """By name."""
        depths = self._catalog.hook_depths()
        return [Known(name, self._hooks[name], self._catalog.hook(name) is not None,
                      {one.state: one.count for one in depths if one.hook == name}) for name in self.names]

    def secret(self, name: str) -> str:
        """The one that its receiver needs: of the settings, or the one that was made here."""
        return signatures.written(self.keys(name)[0])

    def keys(self, name: str) -> list[bytes]:
        """What its messages are signed by: the newest first."""
        rules = self.rules(name)
        if name not in self._keys:
            newest = _key(rules.secret) if rules.secret else self._catalog.secret(
                f"webhook {name}", secrets.token_bytes(signatures.LENGTH))
            self._keys[name] = [newest, *map(_key, rules.old_secrets)]
        return self._keys[name]

    def post(self, name: str, id: str, body: str) -> Answer:
        """Send it this once."""
        rules, now, data = self.rules(name), self._clock(), body.encode()
        return self._poster.post(rules.url, signatures.headers(self.keys(name), id, now, data), data, timeout=rules.timeout,
                                 allow_private=rules.allow_private, now=now)

    def test(self, name: str) -> Answer:
        """Send a message of the type ``webhook.test``, which is kept nowhere."""
        made = message(new_message_id(), "webhook.test", self._clock(), {"webhook": name})
        return self.post(name, made.id, made.body)

    def deliveries(self, name: str, filter: DeliveryFilter, *, cursor: str | None = None,
                   limit: int = 100) -> tuple[list[Delivery], str | None]:
        """The last in order first, with the next cursor."""
        self.rules(name)
        return self._catalog.deliveries(name, filter, cursor=cursor, limit=limit)

    def replay(self, name: str, filter: DeliveryFilter) -> int:
        """Send again what was sent and is kept still, in its order; how many. What is still to be tried later is tried now."""
        self.rules(name)
        hook = self._catalog.hook(name)
        done, now = 0, self._clock()
        while hook and (some := self._catalog.replay_deliveries(name, filter, up_to=hook.seq, now=now)):
            done += some
        return done


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(signatures.PREFIX))
