"""Results on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.outcome import Outcome
from benchmarks.report import table


def show(result: Outcome) -> None:
    """One case, as soon as it is done."""
    print(f"\n{table.aligned(table.figures(result))}\n", flush=True)
    if result.targets:
        print(table.aligned(table.targets([result])), flush=True)


def show_targets(results: Sequence[Outcome]) -> None:
    """All targets, and loudly what could not be measured."""
    rows = table.targets(results)
    if len(rows) > 1:
        print(f"\n== Targets\n{table.aligned(rows)}")
    for name, why in {name: why for result in results for name, why in result.missing.items()}.items():
        print(f"!! NOT MEASURED: {name}: {why}")
