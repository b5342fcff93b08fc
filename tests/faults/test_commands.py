"""What commands bring is on stable storage when they say so, and the checker notices each sync that is taken out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faults import commands, mutants
from faults.mutants import Mutant

NOT_NEEDED = {
    ("engine/manifest.py", "text.flush()"): "no sync: hands the text to the kernel, which the sync after it needs",
    ("engine/trees.py", "text.flush()"): "the same",
    ("engine/backup.py", "vault.sync()", 1): "of pruning: names that went may come back, and are pruned again",
}
"""Lines that look like syncs and that nothing said depends on, with the reason."""

MUTANTS = [mutant for mutant in mutants.every_mutant(commands=True)
           if (mutant.file, mutant.line) not in NOT_NEEDED and (mutant.file, mutant.line, mutant.nth) not in NOT_NEEDED]


@pytest.mark.usefixtures("faults")
def test_every_command_syncs_before_it_says_that_it_is_done(tmp_path: Path) -> None:
    assert {name: found for name, found in commands.every_command(tmp_path).items() if found} == {}


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> dict[Mutant, dict[str, list[str]]]:
    """What the checker says of each mutant."""
    def run(mutant: Mutant) -> dict[str, list[str]]:
        folder = tmp_path_factory.mktemp("mutant")
        return commands.every_command(folder, PYTHONPATH=mutant.write(folder / "src"))

    with ThreadPoolExecutor(3) as threads:
        return dict(zip(MUTANTS, threads.map(run, MUTANTS), strict=True))


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
@pytest.mark.usefixtures("faults")
def test_taking_out_any_one_sync_is_noticed(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    found = request.getfixturevalue("traced")[mutant]
    assert any(found.values()), "the checker has no complaint about commands without this sync"
