"""What the benchmark of curation measures with: rows whose truth is known, and counts that are right."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.curate import edits, figures, others
from benchmarks.curate.bases import MOST_ALIKE, bases
from benchmarks.curate.generator import BASE, read, rows, write
from benchmarks.curate.pii import scores
from benchmarks.curate.truth import judged, leaked
from benchmarks.report import DOCUMENT
from capture.personal_data import Finding
from curate.likeness.wording import critical, mask, normalise

ROOT = Path(__file__).resolve().parent.parent


def grams(text: str) -> set[str]:
    flat = normalise(mask(text))
    return {flat[start : start + 4] for start in range(max(1, len(flat) - 3))}


def test_no_two_bases_are_as_alike_as_is_promised_and_many_come_close() -> None:
    made = [grams(text) for text in bases(300, seed=3)]
    assert len(made) == 300
    alike = [len(left & right) / len(left | right) for left, right in combinations(made, 2)]
    assert max(alike) < MOST_ALIKE
    assert sum(similarity > 0.4 for similarity in alike) >= 10


def test_rows_of_a_cluster_ask_the_same_and_a_hard_negative_is_alone() -> None:
    made = list(rows(1_500, seed=4))
    clusters = defaultdict(list)
    for text, cluster, kind in made:
        clusters[cluster].append((text, kind))
    assert {kind for _, _, kind in made} >= {BASE, *edits.KINDS, edits.NEGATION}
    for members in clusters.values():
        kinds = [kind for _, kind in members]
        assert len({critical(mask(text).partition("] ")[2] if text.startswith("[2026") else text) for text, _ in members}) <= 2
        assert kinds.count(BASE) == 1 or (len(kinds) == 1 and kinds[0] in edits.HARD)
    assert Counter(kind in edits.HARD for _, _, kind in made)[True] >= 10


def test_the_same_seed_gives_the_same_file_and_every_row_has_its_number(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write(tmp_path / name, 900, seed, batch_rows=300)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()
    batches = list(read(tmp_path / "a"))
    assert len(batches) == 3
    assert [number for batch in batches for number in batch.column("id").to_pylist()] == list(range(900))
    assert [path.name for path in tmp_path.iterdir()] != [] and not list(tmp_path.glob("rows*"))


@given(st.sampled_from(edits.KINDS), st.integers(0, 10**6))
def test_an_edit_leaves_numbers_and_negations_alone_and_a_hard_negative_does_not(kind: str, seed: int) -> None:
    text = "Why was I charged 25 euros twice, I did not order 3 tickets to Lisbon"
    generator = random.Random(seed)
    changed = edits.edited(text, kind, generator)
    assert critical(mask(changed)) == critical(text)
    assert edits.other_input("short one", generator) is None
    other, _ = edits.other_input(text, generator) or ("", "")
    assert critical(other) != critical(text)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12))
def test_precision_and_recall_count_pairs(labels: list[tuple[int, int]]) -> None:
    first: dict[int, int] = {}
    kept = np.array([first.setdefault(found, row) for row, (found, _) in enumerate(labels)])
    cluster = np.array([true for _, true in labels])
    pairs = list(combinations(range(len(labels)), 2))
    found = {(a, b) for a, b in pairs if kept[a] == kept[b]}
    true = {(a, b) for a, b in pairs if cluster[a] == cluster[b]}
    got = judged(kept, cluster, np.full(len(labels), BASE))
    assert got["precision"] == (len(found & true) / len(found) if found else 1)
    assert got["recall"] == (len(found & true) / len(true) if true else 1)
    assert got["kept"] == len(first) and got["largest_cluster"] == max(Counter(kept.tolist()).values())


def test_a_hard_negative_is_merged_whichever_of_the_two_stays() -> None:
    kind = np.array([edits.NUMBER, BASE, BASE])
    assert judged(np.array([0, 0, 2]), np.array([1, 0, 2]), kind)["hard_negatives_merged"] == 1
    assert judged(np.array([0, 1, 1]), np.array([1, 0, 0]), kind)["hard_negatives_merged"] == 0


def test_a_leak_is_an_eval_row_with_a_true_duplicate_in_train() -> None:
    assert leaked(np.array([0, 1]), np.array([2, 3]), np.array([7, 8, 8, 9])) == 0.5


@pytest.mark.parametrize("name", others.NAMES)
def test_other_libraries_keep_the_first_of_what_is_alike(name: str) -> None:
    pytest.importorskip(name, reason="the extra bench is not installed")
    texts = [
        "where is my parcel it is late",
        "cancel my plan please",
        "where is my parcel it is so late",
        "cancel my plan please",
    ]
    assert others.kept(name, texts).tolist() == [0, 1, 0, 1]


def test_spans_count_when_they_overlap_and_kinds_agree() -> None:
    def find(_: str) -> list[Finding]:
        return [Finding(0, 4, "email", "a"), Finding(10, 12, "phone", "1"), Finding(20, 22, "phone", "2")]

    got = scores(["x" * 30], [[(0, 4, "email"), (9, 13, "phone"), (20, 22, "card")]], find)
    assert got["email"] == {"precision": 1.0, "recall": 1.0, "whole": 1.0, "n": 1, "found": 1}
    assert got["phone"] == {"precision": 0.5, "recall": 1.0, "whole": 0.0, "n": 1, "found": 2}
    assert got["card"] == {"precision": None, "recall": 0.0, "whole": 0.0, "n": 1, "found": 0}


def test_a_small_run_prints_the_promised_object_last() -> None:
    command = [sys.executable, "-m", "benchmarks.curate", "--json", "--sizes", "300", "--only", "near"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    printed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    near = printed["near"]["300"]
    assert {"precision", "recall", "hard_negatives_merged", "largest_cluster", "cpu_s", "rss_mb"} <= set(near)
    assert near["rows"] == 300 and 0 < near["recall"] <= 1 and set(near["others"]) == set(others.NAMES)
    assert f"| 300, generated rows | Potstill | {near['precision']:.4f} |" in figures.markdown(printed)


def test_an_unknown_part_or_size_is_refused_with_what_there_is() -> None:
    for arguments, said in ((["--only", "pi"], ["near", "leak"]), (["--sizes", "5"], ["10k"])):
        done = subprocess.run([sys.executable, "-m", "benchmarks.curate", *arguments], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2 and all(word in done.stderr for word in said)


def test_the_document_has_a_place_for_the_results() -> None:
    document = DOCUMENT.read_text("utf-8")
    assert all(document.count(marker) == 1 for marker in figures.MARKERS)
