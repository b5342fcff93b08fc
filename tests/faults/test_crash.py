"""A short run of ``make crash``: the power is cut and the server killed under load, and nothing acknowledged is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import crash
from faults.disk import FileSystem


@pytest.mark.parametrize("fs", ["ext4", "xfs"])
@pytest.mark.usefixtures("faults")
def test_a_power_cut_loses_nothing_that_was_acknowledged(fs: FileSystem, tmp_path: Path) -> None:
    _nothing_lost(tmp_path, [fs], ["power", "power", "power at start"])


@pytest.mark.usefixtures("faults")
def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    _nothing_lost(tmp_path, ["ext4"], ["kill", "kill at call", "kill at call"])


def _nothing_lost(folder: Path, systems: list[FileSystem], kinds: list[str]) -> None:
    rounds = crash.run(folder, rounds=len(kinds), systems=systems, seconds=1.5, seed=7, kinds=kinds)
    assert [problem for turn in rounds for problem in turn.problems] == []
    counts = crash.summary(rounds)["counts"]
    assert isinstance(counts, dict)
    assert counts["files_acknowledged"] > 0, "the load got nothing stored, so nothing was tested"
    assert counts["chunks_acknowledged"] > 0
    assert counts["files_that_must_be_there"] > 0
