"""Inputs with their truth, for near duplicates at any size, as an Arrow file in batches.

    python -m benchmarks.curate.generator --rows 100000 --seed 1 --out FILE.arrow

Columns: id, text, cluster (the truth: equal for duplicates), kind (base, the edit, or what makes a hard negative). A third of the
bases have one to twelve edits; one base in thirty has a hard negative, which is a cluster of its own. Order is by chance. Memory
does not grow with the rows: they go to shards on disk as they are made, and each shard is put in order alone.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.curate.bases import bases
from benchmarks.curate.edits import KINDS, edited, other_input, with_slot

BASE = "base"
BATCH_ROWS = 20_000
_EDITED_SHARE, _MORE_EDITS, _MOST_EDITS = 0.35, 0.57, 12
_HARD_SHARE = 0.03
_SLOT_SHARE = 0.2

Row = tuple[str, int, str]


def rows(count: int, seed: int) -> Iterator[Row]:
    """`count` rows (text, cluster, kind), those of a cluster together."""
    generator = random.Random(seed)
    made, cluster = 0, 0
    for base in bases(count, seed):
        for text, is_other, kind in _family(base, generator):
            if made == count:
                return
            yield with_slot(text, generator) if generator.random() < _SLOT_SHARE else text, cluster + is_other, kind
            made += 1
        cluster += 2


def write(path: Path, count: int, seed: int, batch_rows: int = BATCH_ROWS) -> None:
    """An Arrow file at `path` with `count` rows in batches of about `batch_rows`, the same for the same arguments."""
    import pyarrow as pa

    schema = pa.schema([("id", pa.int64()), ("text", pa.string()), ("cluster", pa.int64()), ("kind", pa.string())])
    shards = max(1, round(count / batch_rows))
    generator = random.Random(f"order {seed}")
    with tempfile.TemporaryDirectory(prefix="rows", dir=path.parent) as name:
        files = [Path(name) / f"{shard}.arrow" for shard in range(shards)]
        _spread(rows(count, seed), files, schema, generator)
        first = 0
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for file in files:
                batch = _shuffled(file, first, schema, generator)
                writer.write_batch(batch)
                first += batch.num_rows


def read(path: Path) -> Iterator[Any]:
    """The record batches of a file that `write` wrote, one in memory at a time."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def _family(base: str, generator: random.Random) -> Iterator[tuple[str, bool, str]]:
    """The rows of a base, each with whether it is another input."""
    yield base, False, BASE
    if generator.random() < _HARD_SHARE and (other := other_input(base, generator)):
        yield other[0], True, other[1]
    edits = 0
    while edits < _MOST_EDITS and generator.random() < (_MORE_EDITS if edits else _EDITED_SHARE):
        kind = generator.choice(KINDS)
        yield edited(base, kind, generator), False, kind
        edits += 1


def _spread(made: Iterator[Row], files: Sequence[Path], schema: Any, generator: random.Random) -> None:
    """Puts each row into a file by chance, through buffers that hold a batch together."""
    import pyarrow as pa

    sinks = [pa.OSFile(str(file), "wb") for file in files]
    writers = [pa.ipc.new_stream(sink, schema) for sink in sinks]
    held: list[list[Row]] = [[] for _ in files]

    def flush(shard: int) -> None:
        columns = list(zip(*held[shard], strict=True)) or [(), (), ()]
        writers[shard].write_batch(pa.record_batch([[0] * len(held[shard]), *map(list, columns)], schema=schema))
        held[shard].clear()

    for row in made:
        shard = generator.randrange(len(files))
        held[shard].append(row)
        if len(held[shard]) >= max(100, BATCH_ROWS // len(files)):
            flush(shard)
    for shard, (writer, sink) in enumerate(zip(writers, sinks, strict=True)):
        flush(shard)
        writer.close()
        sink.close()


def _shuffled(file: Path, first: int, schema: Any, generator: random.Random) -> Any:
    import numpy as np
    import pyarrow as pa

    with pa.OSFile(str(file), "rb") as source:
        table = pa.ipc.open_stream(source).read_all()
    order = np.random.default_rng(generator.getrandbits(64)).permutation(table.num_rows)
    table = table.take(pa.array(order)).set_column(0, schema.field(0), pa.array(np.arange(first, first + table.num_rows)))
    return table.combine_chunks().to_batches()[0] if table.num_rows else pa.RecordBatch.from_pylist([], schema=schema)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the file that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curate.generator", description="Rows with their truth.")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    write(options.out, options.rows, options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
