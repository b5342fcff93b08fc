"""docs/benchmarks.md and its plots, drawn from the outcomes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.outcome import Outcome
from benchmarks.report import plot, table

_INTRO = """# Benchmarks

Written by `make bench` (`python -m benchmarks`); don't edit it. Raw figures: [results.json]({folder}/results.json).

All servers run on one machine, side by side, and take turns round by round (A B C A B C …): same file, same client, loopback.
What is compared is **CPU seconds of the server per GiB**: user and system time of all its processes, from `/proc/PID/stat`, children
included, until 0.2 s after the answer, since it holds still on a machine that doesn't; wall time is beside it. Page cache and tmpfs are
warmed, and one round that isn't counted goes first. Figures are `median [min–max]`; a ratio is formed in each round, and the
median is of those ratios. Carboy runs with its defaults: each byte checked (CRC-64/NVME), synced and in the catalog before the answer.
No peer syncs or records by default; on tmpfs a sync costs little, so there is a second pass on a disk where it says so.
"""

_COMMANDS = """## Measure it yourself

```
make bench                                              # everything, and this page
python -m benchmarks --quick                            # a few minutes, to see that it works
python -m benchmarks --case raw_put form --rounds 5     # some cases; the others keep their figures on this page
python -m benchmarks --disk DIR                         # and once more with the servers' files on a disk
```

Peers are installed from their registries into `benchmarks/.envs/`; nginx and PostgreSQL are Debian's, the S3 server is the
one of the tests (`make services`). A peer that can't be had is named in the
tables as not measured.
"""


def write(path: Path, folder: Path, machine: Mapping[str, str], results: Sequence[Outcome]) -> None:
    """The page at ``path``, its plots in ``folder`` beside it."""
    parts = [_INTRO.format(folder=folder.name), "Machine: " + "; ".join(f"{name} {value}" for name, value in machine.items()) + ".\n"]
    parts += ["## Targets\n", table.markdown(table.targets(results)), "\n"]
    for result in results:
        parts.append(_section(folder, result))
    parts.append(_COMMANDS)
    path.write_text("\n".join(parts), encoding="utf-8")


def _section(folder: Path, result: Outcome) -> str:
    where = "" if result.storage == "tmpfs" else ", on a disk"
    ours = [number for number, row in enumerate(result.rows, 1) if row.ours]
    lines = [f"## {result.title}{where}\n", result.how + "\n", table.markdown(table.figures(result), ours) + "\n"]
    if result.plot:
        lines.append(f"![{result.title}{where}]({folder.name}/{_draw(folder, result, where)})\n")
    versions = "; ".join(result.notes)
    quick = " (quick: with less data than is said above)" if result.quick else ""
    lines.append(f"{result.rounds} {'rounds' if result.rounds > 1 else 'round'}{quick}, {result.when}." + (f" {versions}." if versions else "") + "\n")
    return "\n".join(lines)


def _draw(folder: Path, result: Outcome, where: str) -> str:
    column = next(column for column in result.columns if column.key == result.plot)
    data = [plot.Bar(row.name.replace("`", ""), row.figures[column.key], row.ours) for row in result.rows]
    name = f"{result.case}{'' if result.storage == 'tmpfs' else '-disk'}.svg"
    (folder / name).write_text(plot.bars(result.title + where, column.heading, data, column.digits), encoding="utf-8")
    return name
