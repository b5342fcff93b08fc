"""Steps in processes of their own. (The process comes with the next commit; until then they run in the worker's own.)"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carboy.processing.context import Attempt
from carboy.processing.step import Step


class Isolation:
    """See :class:`carboy.processing.running.Isolated`."""

    def __call__(self, step: Step, attempt: Attempt, args: Mapping[str, Any]) -> Any:
        return step.run(attempt, **args)

    def close(self) -> None:
        """End what was started. Repeatable."""
