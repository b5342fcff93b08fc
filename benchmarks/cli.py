"""The command line: which cases, how many rounds, where to, and what is written."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import shutil
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from benchmarks import lab as labs
from benchmarks import outcome
from benchmarks.cases import CASES, Case
from benchmarks.lab import GIB, MIB, Lab
from benchmarks.outcome import Outcome
from benchmarks.report import console, page
from benchmarks.report.machine import describe

PAGE = Path("docs/benchmarks.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked. 0 if every case ran, whatever the figures; 1 if one failed."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="carboy-bench-", dir="/dev/shm") as memory:
        results, failed = _run_all(options, Path(memory))
    console.show_targets(results)
    out = options.out or (None if options.quick else PAGE)
    if out and results:
        _write(out, results)
    for name in failed:
        print(f"FAILED: {name}", file=sys.stderr)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Carboy beside its peers.")
    parser.add_argument("--quick", action="store_true", help="smaller and fewer, to see that everything works; writes no page by itself")
    parser.add_argument("--case", nargs="+", choices=[case.name for case in CASES], metavar="NAME",
                        help="only these: " + ", ".join(case.name for case in CASES))
    parser.add_argument("--rounds", type=int, help="counted rounds of each case (5; quick: 2)")
    parser.add_argument("--only-ours", action="store_true", help="leave the peers out")
    parser.add_argument("--disk", type=Path, metavar="DIR", help="a second pass with the servers' files in this folder, on a real disk")
    parser.add_argument("--out", type=Path, metavar="PAGE", help=f"the page to write ({PAGE}); plots and raw data go beside it")
    return parser


def _run_all(options: argparse.Namespace, memory: Path) -> tuple[list[Outcome], list[str]]:
    """All outcomes, and the names of what failed."""
    size = 256 * MIB if options.quick else GIB
    print(f"Warming the memory and making a payload of {size // MIB} MiB …", flush=True)
    labs.warm(memory, 4 * size)
    first = Lab(memory, labs.make_payload(memory / "payload.bin", size), size, options.rounds or (2 if options.quick else 5), options.quick,
                options.only_ours, "tmpfs", _say)
    chosen = [case for case in CASES if not options.case or case.name in options.case]
    plan = [(case, first) for case in chosen]
    if options.disk:
        folder = Path(tempfile.mkdtemp(prefix="carboy-bench-", dir=options.disk))
        plan += [(case, dataclasses.replace(first, folder=folder, storage="disk")) for case in chosen if case.on_disk]
    try:
        done = [(f"{case.name} on {lab.storage}", _run(case, lab)) for case, lab in plan]
    finally:
        if options.disk:
            shutil.rmtree(folder, ignore_errors=True)
    return [result for _, result in done if result], [name for name, result in done if not result]


def _run(case: Case, lab: Lab) -> Outcome | None:
    print(f"\n== {case.title} ({lab.storage})", flush=True)
    try:
        result = case.run(lab)
    except Exception:
        traceback.print_exc()
        return None
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    targets = result.targets if lab.storage == "tmpfs" else ()  # they are about the software, not about a disk
    result = dataclasses.replace(result, storage=lab.storage, when=now, rounds=lab.rounds, quick=lab.quick, targets=targets)
    console.show(result)
    return result


def _write(out: Path, results: list[Outcome]) -> None:
    """Page, plots and raw data. Cases that did not run this time keep what was written of them before."""
    folder = out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    raw = folder / "results.json"
    kept = {key: outcome.load(data) for key, data in json.loads(raw.read_text())["cases"].items()} if raw.is_file() else {}
    merged = kept | {result.key: result for result in results}
    ordered = sorted(merged.values(), key=lambda result: (result.storage != "tmpfs", [case.name for case in CASES].index(result.case)))
    machine = describe()
    cases = {result.key: dataclasses.asdict(result) for result in ordered}
    raw.write_text(json.dumps({"machine": machine, "cases": cases}, indent=1, ensure_ascii=False) + "\n")
    page.write(out, folder, machine, ordered)
    print(f"\nWritten: {out}, {folder}/")


def _say(words: str) -> None:
    print(words, flush=True)
