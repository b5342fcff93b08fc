"""Backups of a server that is at work: nothing that was acknowledged before they began is missing, and all of it is right."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import backups, mutants
from faults.journal import Content, Journal
from faults.mutants import Mutant


@pytest.mark.parametrize("flags", [(), ("--copy", "--prune")])
def test_a_backup_under_load_has_all_that_was_acknowledged(tmp_path: Path, flags: tuple[str, ...]) -> None:
    outcome = backups.run(tmp_path, size=8 * backups.MIB, seed=5, backups=(flags, flags), clients=4)
    assert outcome.problems == []
    assert outcome.counts["answers_during_backups"] > 0, "nothing went on meanwhile, so nothing was tested"
    assert outcome.counts["files_that_must_be_there"] > 10
    assert outcome.counts["chunks_acknowledged"] > 0
    assert outcome.counts["deletes_acknowledged"] > 0


def test_a_sweeper_that_nobody_holds_off_makes_backups_lose_bytes(tmp_path: Path) -> None:
    """The harness sees losses where there are some."""
    [line] = [line.strip() for line in (mutants.SOURCE / "engine/holding.py").read_text().splitlines() if "yield _taken(" in line]
    changed = Mutant("engine/holding.py", line, "yield True", 0).write(tmp_path / "src")
    outcome = backups.run(tmp_path, size=8 * backups.MIB, seed=5, backups=[("--copy",)] * 3, clients=4, PYTHONPATH=changed)
    assert any("are missing" in problem for problem in outcome.problems)


def test_what_a_backup_may_hold() -> None:
    """Acknowledged before it began: that and nothing else. Meanwhile: both. After it ended: not yet."""
    journal = Journal()

    def change(path: str, content: Content | None) -> None:
        journal.settle(journal.begin({path: content}), "yes")

    first, second, third = (Content(seed, 100) for seed in (1, 2, 3))
    change("kept", first)
    change("replaced", first)
    change("gone", first)
    began = backups.moment(journal)
    change("replaced", second)
    change("gone", None)
    ended = journal.tick()
    change("kept", third)
    change("later", third)
    assert backups.as_saved(journal, began, ended).allowed() == {"kept": {first}, "replaced": {first, second}, "gone": {first, None}}
