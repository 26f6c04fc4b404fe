"""How many eval rows have a true duplicate in train, after our splits and their final join, and after chance; one JSON object.

    python -m benchmarks.curate.leak FILE

Steps of a build without deletion of duplicates, which would hide what a split leaks: groups of similar rows, splits by group, the
certificate's join, which takes out of train what overlaps with eval. Beside it the same shares of rows drawn by chance.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

from benchmarks.curate import apart
from benchmarks.curate.rows import truth, wordings_by_task
from benchmarks.curate.truth import Rows, leaked
from curate.likeness.certificate import find_overlap
from curate.likeness.duplicates import Wording, compare
from curate.settings import CurateSettings
from curate.splits import TRAIN, assign, components


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curate.leak")
    parser.add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    tasks = wordings_by_task(options.file)
    parts = [_split(wordings) for _, wordings in tasks]
    train, joined, held_out = (
        np.concatenate([rows[part[which]] for (rows, _), part in zip(tasks, parts, strict=True)]) for which in range(3)
    )
    found = apart.spent()
    cluster, _ = truth(options.file)
    drawn = random.Random(1).sample(range(len(cluster)), len(held_out))
    by_chance = np.array(sorted(drawn), dtype=np.int64)
    others = np.setdiff1d(np.arange(len(cluster)), by_chance)
    print(
        json.dumps(
            {
                "rows": len(cluster),
                "eval": len(held_out),
                "taken_out_of_train": len(train) - len(joined),
                "before_the_join": leaked(train, held_out, cluster),
                "leak": leaked(joined, held_out, cluster),
                "random_rows": leaked(others, by_chance, cluster),
                **found,
            }
        )
    )
    return 0


def _split(wordings: Sequence[Wording]) -> tuple[Rows, Rows, Rows]:
    """Rows of train, those left after the join, and rows of eval."""
    settings = CurateSettings()
    comparison = compare(wordings, settings)
    of_node = components(len(comparison.rows), list(zip(comparison.loose.a.tolist(), comparison.loose.b.tolist(), strict=True)))
    groups = [0] * len(wordings)
    for node, rows in enumerate(comparison.rows):
        for row in rows:
            groups[row] = of_node[node]
    keys = [blake2b(wording.varying.encode("utf-8", "replace"), digest_size=16).hexdigest() for wording in wordings]
    splits = np.array(assign(keys, groups, {}, settings))
    train, held_out = np.flatnonzero(splits == TRAIN), np.flatnonzero(splits != TRAIN)
    overlap = find_overlap([wordings[row] for row in train.tolist()], [wordings[row] for row in held_out.tolist()], settings)
    return train, np.delete(train, sorted(overlap.rows)), held_out


if __name__ == "__main__":
    sys.exit(main())
