"""The storages in S3: whether they do all that Carboy asks of them."""

from __future__ import annotations

from collections.abc import Iterator

from carboy.cli.doctor.finding import Finding
from carboy.config import Settings
from carboy.storage.s3_probe import Probe


def check(settings: Settings) -> Iterator[Finding]:
    """What is written for that is removed again."""
    for name, storage in settings.storages.items():
        yield from (Finding(one.status, "storage", f"{name}: {one.what}", one.advice) for one in Probe(storage).run())
