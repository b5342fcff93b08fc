"""What the tests of catalogs put into them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from carboy.catalog.base import Catalog
from carboy.errors import CarboyError
from carboy.jobs import Order
from carboy.model import Blob, File, Placement, Span, Upload, key_for, new_id


class AsSaid:
    """A plan: a file's own metadata says what is ordered for it, as ``{"steps": ["digest", ["preview", {"after": ["digest"]}]]}``."""

    def concerns(self, space: str) -> bool:
        return True

    def holds(self, space: str) -> bool:
        return True

    def orders(self, file: File) -> list[Order]:
        return [Order(step) if isinstance(step, str) else an_order(step[0], **step[1]) for step in file.metadata.get("steps", ())]


def an_order(step: str, **changes: Any) -> Order:
    """As it is read from JSON."""
    return replace(Order(step), **{name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()})


def a_blob(size: int = 4, crc: int = 7, **changes: Any) -> Blob:
    id = new_id()
    return replace(Blob(id, "local", key_for(id), size, crc, None, 1.0), **changes)


def at(path: str, **changes: Any) -> Placement:
    blob = changes.pop("blob", None) or a_blob()
    return replace(Placement("main", path, "ann", "text/plain", {}, blob), **changes)


def put(catalog: Catalog, path: str, now: float = 1.0, **changes: Any) -> File:
    return catalog.place([at(path, **changes)], now=now)[0].file


def an_upload(**changes: Any) -> Upload:
    id = new_id()
    return replace(Upload(id, "main", "up.bin", "ann", "tus", "local", key_for(id), created_at=1.0, touched_at=1.0, expires_at=100.0),
                   **changes)


def begin(catalog: Catalog, **changes: Any) -> Upload:
    return catalog.create_upload(an_upload(**changes))


def note(catalog: Catalog, upload: Upload, *spans: Span, now: float = 2.0, **more: Any) -> Any:
    return catalog.record(upload.id, spans, now=now, expires_at=more.pop("expires_at", 100.0), **more)


def of(upload: Upload, **changes: Any) -> Placement:
    """The placement that completes an upload: its bytes where they are."""
    blob = Blob(upload.id, upload.storage, upload.key, upload.size or 0, 7, None, 3.0)
    return replace(Placement(upload.space, upload.path, upload.owner, "text/plain", {}, blob), **changes)


def every_path(catalog: Catalog, limit: int = 100, **asked: Any) -> list[str]:
    """All pages of a listing, files and folders in the order they came, page by page sorted."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = catalog.files("main", cursor=cursor, limit=limit, **asked)
        items = [file.path for file in page.files] + list(page.folders)
        assert len(items) <= limit
        found += sorted(items)
        cursor = page.cursor
        if cursor is None:
            return found


def together(*calls: Callable[[], object]) -> list[object]:
    """Run the calls at the same moment; what they return or raise."""
    ready = threading.Barrier(len(calls))
    outcomes: list[object] = [None] * len(calls)

    def run(number: int, call: Callable[[], object]) -> None:
        ready.wait(60)
        try:
            outcomes[number] = call()
        except CarboyError as error:
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return outcomes
