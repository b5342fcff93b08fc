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


@pytest.mark.usefixtures("faults")
def test_without_syncs_a_power_cut_does_lose_what_was_acknowledged(tmp_path: Path) -> None:
    """The harness sees losses where there are some: with ``durability = "relaxed"`` there must be."""
    rounds = crash.run(tmp_path, rounds=1, systems=["ext4"], seconds=1.5, seed=12, kinds=["power"],
                       settings={"CARBOY_DURABILITY": "relaxed"})
    assert rounds[0].counts["files_acknowledged"] > 0
    assert rounds[0].counts["lost"] > 0


def _nothing_lost(folder: Path, systems: list[FileSystem], kinds: list[str]) -> None:
    rounds = crash.run(folder, rounds=len(kinds), systems=systems, seconds=1.5, seed=7, kinds=kinds)
    assert [problem for turn in rounds for problem in turn.problems] == []
    counts = crash.summary(rounds)["counts"]
    assert isinstance(counts, dict)
    assert counts["files_acknowledged"] > 0, "the load got nothing stored, so nothing was tested"
    assert counts["chunks_acknowledged"] > 0
    assert counts["files_that_must_be_there"] > 0
