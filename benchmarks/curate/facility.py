"""CPU time to choose 1,000 of 100,000 vectors of 128 dimensions for variety; prints one JSON object.

    python -m benchmarks.curate.facility [--rows N] [--choose K]

The vectors are made: 2,000 directions with rows around them, as many as Zipf's law gives each.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.curate import apart
from curate.sampling import facility_location

_DIMENSIONS, _DIRECTIONS, _SPREAD = 128, 2_000, 0.05


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curate.facility")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--choose", type=int, default=1_000)
    options = parser.parse_args(arguments)
    generator = np.random.default_rng(1)
    centres = generator.standard_normal((_DIRECTIONS, _DIMENSIONS), dtype=np.float32)
    share = 1 / np.arange(1, _DIRECTIONS + 1)
    of_row = generator.choice(_DIRECTIONS, options.rows, p=share / share.sum())
    noise = generator.standard_normal((options.rows, _DIMENSIONS), dtype=np.float32)
    vectors = centres[of_row] + _SPREAD * noise * np.sqrt(np.float32(_DIMENSIONS))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    before = time.process_time()
    chosen = facility_location(vectors, options.choose, seed=1)
    cpu_s = time.process_time() - before
    directions = len(np.unique(of_row[chosen]))
    by_chance = len(np.unique(of_row[generator.choice(options.rows, options.choose, replace=False)]))
    found = {"rows": options.rows, "chosen": len(set(chosen)), "directions": directions, "directions_by_chance": by_chance}
    print(json.dumps({**found, "cpu_s": cpu_s, "rss_mb": apart.spent()["rss_mb"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
