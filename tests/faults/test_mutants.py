"""The proof of the proof: whoever breaks an ordering rule of capture is caught by a test."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.mutants import MUTANTS, Mutant, copy_tree, passes, plant


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, nothing broken in it."""
    folder = tmp_path_factory.mktemp("mutants") / "tree"
    copy_tree(folder)
    return folder


def test_every_mutant_of_the_ordering_rules_is_killed_and_the_sources_as_they_are_pass(tree: Path) -> None:
    killers = tuple(dict.fromkeys(killer for mutant in MUTANTS for killer in mutant.killers))

    def survives(mutant: Mutant | None) -> bool:
        if mutant is None:
            return passes(killers, tree)
        folder = tree.parent / f"mutant{MUTANTS.index(mutant)}"
        shutil.copytree(tree, folder, ignore=shutil.ignore_patterns("tmp"))
        plant(mutant, folder)
        return passes(mutant.killers, folder)

    with ThreadPoolExecutor(2) as pool:
        is_sound, *survived = pool.map(survives, (None, *MUTANTS))
    assert is_sound, "the killers pass on the sources as they are"
    survivors = [mutant.rule for mutant, is_alive in zip(MUTANTS, survived, strict=True) if is_alive]
    print(f"mutants killed: {len(MUTANTS) - len(survivors)} of {len(MUTANTS)}")
    assert survivors == []


def test_a_mutant_whose_text_is_gone_is_refused(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "copy", ignore=shutil.ignore_patterns("tmp"))
    with pytest.raises(AssertionError, match="0 times, not once"):
        plant(Mutant("a rule", "capture/spool.py", (("no such text", ""),), ()), tmp_path / "copy")
