"""Connections must not cross a fork."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """One value per process, made when first asked for. A child leaves its parent's value alone: closing the copies it
    inherited would end the parent's connections, so they are kept, unused."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: dict[int, T] = {}

    def get(self) -> T:
        value = self._values.get(os.getpid())
        return self._values.setdefault(os.getpid(), self._make()) if value is None else value

    def made(self) -> T | None:
        """This process's value, if there is one already."""
        return self._values.get(os.getpid())
