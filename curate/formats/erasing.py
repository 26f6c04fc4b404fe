"""Takes examples out of files that were exported, in the format of each."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from capture import exported
from capture.exported import DATASET, Exported
from curate.examples import Example
from curate.formats import columns, openai, parquet
from curate.formats import exporting as known
from curate.preferring.preferences import Preference


def is_ours(file: Exported) -> bool:
    """Whether `file` holds a dataset, whose rows name no exchange."""
    return file.format.partition(":")[0] == DATASET


def erase_from(file: Exported, examples: Sequence[Example], preferences: Sequence[Preference] = ()) -> int:
    """Takes the rows of these examples and preferences out of a file in place; how many went.

    StoreError, with the reason, when it cannot be done: somebody has changed the file's form, or it cannot be written.
    """
    format = file.format.partition(":")[2] or known.OPENAI
    try:
        return _erase_from(file, format, examples, preferences)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, csv.Error) as error:
        raise exported.cannot_be_rewritten(file, error) from error


def _erase_from(file: Exported, format: str, examples: Sequence[Example], preferences: Sequence[Preference]) -> int:
    if format == known.HF_CARD or not file.path.is_file():
        return 0
    if format == known.OPENAI:
        # Before earlier answers got a weight, examples were exported without.
        old = [openai.to_line(openai.chat_row(example, with_weight=False)) for example in examples]
        return exported.erase_from(file, (), [*known.to_lines(format, examples), *old])
    if format in (known.TRL, known.SHAREGPT, known.ALPACA):
        return exported.erase_from(file, (), _carried_lines(format, examples))
    if format in (known.OPENAI_PREFERENCE, known.TRL_PREFERENCE):
        return exported.erase_from(file, (), known.pairs_to_lines(format, preferences))
    data, gone = _without(file, format, examples, preferences)
    if gone:
        known.replace_file(file.path, data)
    return gone


def _without(file: Exported, format: str, examples: Sequence[Example], preferences: Sequence[Preference]) -> tuple[bytes, int]:
    if format == known.CSV:
        return _without_cells(file.path.read_bytes().decode(), examples)
    if format == known.ARGILLA:
        wrong = {example.id for example in examples}
        records = json.loads(file.path.read_bytes())
        left = [record for record in records if record["id"] not in wrong]
        return known.records_to_bytes(left), len(records) - len(left)
    if format == known.PARQUET_PLAIN:
        return parquet.without(file.path, parquet.plain_columns(examples))
    if format.endswith(known.PREFERENCES):
        return parquet.without(file.path, parquet.preference_columns(preferences))
    return parquet.without(file.path, parquet.columns(examples))


def _without_cells(text: str, examples: Sequence[Example]) -> tuple[bytes, int]:
    wrong = {tuple(columns.safe(cell) for cell in columns.row(example)) for example in examples}
    csv.field_size_limit(len(text) + 1)
    rows = list(csv.reader(io.StringIO(text, newline="")))
    left = [row for row in rows if tuple(row) not in wrong]
    return columns.write_cells(left).encode(), len(rows) - len(left)


def _carried_lines(format: str, examples: Sequence[Example]) -> list[str]:
    refusal = known.REFUSALS.get(format)
    return known.to_lines(format, [example for example in examples if refusal is None or not refusal(example)])
