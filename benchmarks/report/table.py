"""Figures and targets as rows of text, for the terminal and the page alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.outcome import Outcome, Row, Series, Target


def figures(result: Outcome) -> list[list[str]]:
    """A heading row, then one row for each contender; the missing are told in their place."""
    ratio = _ratio_key(result)
    ratios = [f"{result.rows[0].name} / it"] if ratio else []
    heading = ["server", *(column.heading for column in result.columns), *ratios, "what it does"]
    rows = [_row(result, row, ratio) for row in result.rows]
    lost = [[name, *["—"] * (len(heading) - 2), f"NOT MEASURED: {why}"] for name, why in result.missing.items()]
    return [heading, *rows, *lost]


def _ratio_key(result: Outcome) -> str:
    return result.columns[0].key if len(result.rows) > 1 and len(result.rows[0].figures[result.columns[0].key].values) > 1 else ""


def _row(result: Outcome, row: Row, ratio: str) -> list[str]:
    cells = [spread(row.figures[column.key], column.digits) if column.key in row.figures else "" for column in result.columns]
    if ratio:
        cells.append("" if row is result.rows[0] else spread(result.rows[0].figures[ratio].over(row.figures[ratio]), 2))
    return [row.name, *cells, row.what]


def spread(series: Series, digits: int) -> str:
    """``median [min–max]``."""
    if len(series.values) == 1:
        return f"{series.median:,.{digits}f}"
    return f"{series.median:,.{digits}f} [{series.low:,.{digits}f}–{series.high:,.{digits}f}]"


def targets(results: Iterable[Outcome]) -> list[list[str]]:
    """A heading row, then one row for each target."""
    heading = ["case", "must", "aim", "measured", "verdict", "note"]
    return [heading, *(_target(target) for result in results for target in result.targets)]


def _target(target: Target) -> list[str]:
    sign, unit = "≥" if target.at_least else "≤", "" if target.unit == "×" else f" {target.unit}"
    aim = f"{sign} {target.aim:g}{unit}" if target.aim is not None else ""
    digits = 2 if target.limit < 10 else 1
    return [target.text, f"{sign} {target.limit:g}{unit}", aim, spread(target.values, digits) + unit, target.verdict, target.note]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def markdown(rows: Sequence[Sequence[str]], bold: Iterable[int] = ()) -> str:
    """A Markdown table without its empty columns; rows numbered in ``bold`` (from 1) are bold."""
    full = [column for column in range(len(rows[0])) if any(row[column] for row in rows[1:])]
    strong = set(bold)
    lines = [[f"**{row[column]}**" if number in strong and row[column] else row[column] for column in full]
             for number, row in enumerate(rows)]
    lines.insert(1, ["---"] * len(full))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
