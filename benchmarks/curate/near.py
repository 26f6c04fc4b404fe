"""Near duplicates in one file of rows, by our code or by that of others; prints one JSON object.

    python -m benchmarks.curate.near FILE [--by ours|rensa|datasketch] [--texts TEXTS.arrow]

`--texts`: for a file of prompts, ours writes there what varies in each row, and the others read it, so that all compare the same
texts. CPU time and memory are those of the whole process, loading of libraries, masking and normalising included.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.curate import apart, others
from benchmarks.curate.rows import batches, is_prompts, truth, wordings_by_task
from benchmarks.curate.truth import Rows, judged
from curate.likeness.duplicates import compare, find_duplicates
from curate.likeness.near import find_near
from curate.likeness.wording import mask, normalise
from curate.settings import CurateSettings

OURS = "ours"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curate.near")
    parser.add_argument("file", type=Path)
    parser.add_argument("--by", choices=(OURS, *others.NAMES), default=OURS)
    parser.add_argument("--texts", type=Path)
    options = parser.parse_args(arguments)
    if options.by != OURS:
        kept = others.kept(options.by, _texts(options.texts or options.file))
    elif is_prompts(options.file):
        kept = _kept_of_prompts(options.file, options.texts)
    else:
        kept = find_near(batches(options.file), CurateSettings()).kept
    found = apart.spent()  # before the truth is loaded
    print(json.dumps({**judged(kept, *truth(options.file)), **found}))
    return 0


def _kept_of_prompts(path: Path, texts: Path | None) -> Rows:
    """By the steps of a build: mining, comparing and removing in each task; writes what varies to `texts`."""
    by_task = wordings_by_task(path)
    kept = np.arange(sum(len(rows) for rows, _ in by_task))
    varying = [""] * len(kept)
    for rows, wordings in by_task:
        said, order = ["same"] * len(rows), range(len(rows))
        for row, removal in find_duplicates(compare(wordings, CurateSettings()), order, said, order).items():
            kept[rows[row]] = rows[removal.kept]
        for row, wording in zip(rows.tolist(), wordings, strict=True):
            varying[row] = wording.varying
    if texts is not None:
        import pyarrow as pa

        batch = pa.record_batch([np.arange(len(kept)), varying], names=["id", "text"])
        with pa.OSFile(str(texts), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
    return kept


def _texts(path: Path) -> list[str]:
    return [normalise(mask(text)) for batch in batches(path) for text in batch.column("text").to_pylist()]


if __name__ == "__main__":
    sys.exit(main())
