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
from benchmarks.curate.rows import batches, kept_rows, truth, wordings_by_task
from benchmarks.curate.truth import judged
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
    else:
        kept = kept_rows(options.file, CurateSettings())
    found = apart.spent()  # before the truth is loaded
    if options.by == OURS and options.texts:
        _write_texts(options.file, options.texts)
    print(json.dumps({**judged(kept, *truth(options.file)), **found}))
    return 0


def _write_texts(path: Path, to: Path) -> None:
    """What varies in each row of `path`, as the others read it."""
    import pyarrow as pa

    by_task = wordings_by_task(path)
    varying = [""] * sum(len(rows) for rows, _ in by_task)
    for rows, wordings in by_task:
        for row, wording in zip(rows.tolist(), wordings, strict=True):
            varying[row] = wording.varying
    batch = pa.record_batch([np.arange(len(varying)), varying], names=["id", "text"])
    with pa.OSFile(str(to), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def _texts(path: Path) -> list[str]:
    return [normalise(mask(text)) for batch in batches(path) for text in batch.column("text").to_pylist()]


if __name__ == "__main__":
    sys.exit(main())
