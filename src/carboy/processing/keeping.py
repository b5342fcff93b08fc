"""Derived files on their way to a storage: durable, and held, until the job that made them is decided."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from carboy.engine.names import clean_name
from carboy.engine.opening import Content, ContentSource
from carboy.jobs import Derived, Job
from carboy.model import Blob, Key
from carboy.storage.base import Storage
from carboy.streams import Pump

MAX_SIZE = 2**40


class Attachments:
    """What one attempt attaches, in the storage of the content that it is made of. A context manager: what wasn't :meth:`kept` in the
    block is removed after it."""

    def __init__(self, job: Job, storage: Storage, clock: Callable[[], float] = time.time) -> None:
        self._job = job
        self._storage = storage
        self._clock = clock
        self._writers = ExitStack()
        self._keys: list[Key] = []
        self._made: dict[str, Derived] = {}
        self._kept = False

    def __enter__(self) -> Attachments:
        return self

    def __exit__(self, *ended: object) -> None:
        self._writers.close()
        for key in () if self._kept else self._keys:
            self._storage.delete(key)

    def add(self, name: str, content: Content, media_type: str, facts: Mapping[str, Any]) -> None:
        """On stable storage when this returns. One of the same name takes the place of the one before. Raises InvalidName, and what the
        storage raises."""
        name = clean_name(name)
        source = ContentSource(content)
        key, writer = self._writers.enter_context(self._storage.stage(source.remaining, MAX_SIZE))
        self._keys.append(key)
        pump = Pump(writer, limit=MAX_SIZE)
        for piece in source.lend():
            pump.feed(piece)
        pump.verify(())
        writer.flush()
        spans, now = pump.spans(), self._clock()
        blob = Blob(key[3:], self._storage.name, key, pump.received, spans[0].crc if spans else 0, None, now)
        self._made[name] = Derived(self._job.blob_id, self._job.step, name, blob, media_type, dict(facts), now)

    def derived(self) -> list[Derived]:
        return list(self._made.values())

    def kept(self) -> None:
        """The catalog knows them, or may: the bytes stay. Those that it doesn't know are swept."""
        self._kept = True
