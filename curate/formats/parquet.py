"""Parquet, as Hugging Face `datasets` reads it.

Messages and tools are columns of Arrow's JSON type: as plain objects, the schemas of different tools would be merged into one
struct, and each tool would get the others' properties as nulls. `datasets` 5 knows that type as its feature Json; for other
readers, plain columns hold the same as JSON text.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from capture.loose_json import as_object, compact
from curate.examples import Example, prompt_of, tools_of
from curate.formats.openai import turns_before
from curate.formats.trl import templated
from curate.preferring.preferences import Preference

_ROWS = 1_000
_ABOUT = ("id", "exchange_id", "teacher_model", "target_source", "terms")
_STRING, _JSON_LIST = {"dtype": "string", "_type": "Value"}, {"feature": {"_type": "Json"}, "_type": "List"}

Columns = Mapping[str, Sequence[Any]]
"""Values by column: texts, or lists of objects."""


def columns(examples: Sequence[Example]) -> Columns:
    """prompt, completion and tools as TRL reads them, and where each example came from."""
    return {
        "prompt": [templated(example.messages) for example in examples],
        "completion": [templated([example.answer]) for example in examples],
        "tools": [tools_of(example.tools) for example in examples],
        **_about(examples),
    }


def plain_columns(examples: Sequence[Example]) -> Columns:
    """messages_json and tools_json as text, for readers without the JSON type."""
    chats = [[*turns_before(example.messages), *prompt_of([example.answer])] for example in examples]
    tools = [compact(tools_of(example.tools)) for example in examples]
    return {"messages_json": [compact(chat) for chat in chats], "tools_json": tools, **_about(examples)}


def preference_columns(preferences: Sequence[Preference]) -> Columns:
    """prompt, chosen, rejected and tools as TRL reads them, and who preferred."""
    return {
        "prompt": [templated(preference.messages) for preference in preferences],
        "chosen": [templated([preference.chosen]) for preference in preferences],
        "rejected": [templated([preference.rejected]) for preference in preferences],
        "tools": [tools_of(preference.tools) for preference in preferences],
        "id": [preference.id for preference in preferences],
        "exchange_id": [preference.exchange_id for preference in preferences],
        "source": [preference.source for preference in preferences],
    }


def to_bytes(columns: Columns) -> bytes:
    """A file of these columns, the same bytes for the same values and the same pyarrow."""
    import pyarrow
    import pyarrow.parquet

    features = {name: _JSON_LIST if _is_json(name) else _STRING for name in columns}
    arrays = {name: _json_lists(values) if _is_json(name) else _texts(values) for name, values in columns.items()}
    told = {"huggingface": json.dumps({"info": {"features": features}})}
    out = io.BytesIO()
    table = pyarrow.table(arrays).replace_schema_metadata(told)
    pyarrow.parquet.write_table(table, out, compression="zstd", row_group_size=_ROWS)
    return out.getvalue()


def without(path: Path, wrong: Columns) -> tuple[bytes, int]:
    """The file at `path` without rows that are among `wrong`, and how many that were.

    ValueError where it is no Parquet that can be read, KeyError where a column is gone.
    """
    import pyarrow
    import pyarrow.parquet

    bad = set(zip(*([_key(value) for value in values] for values in wrong.values()), strict=True))
    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error
    rows = zip(*([_key(value) for value in _values(table, name)] for name in wrong), strict=True)
    keep = [row not in bad for row in rows]
    out = io.BytesIO()
    left = table.filter(pyarrow.array(keep, pyarrow.bool_()))
    pyarrow.parquet.write_table(left, out, compression="zstd", row_group_size=_ROWS)
    return out.getvalue(), keep.count(False)


def is_parquet(path: Path) -> bool:
    """Whether the file begins as Parquet does."""
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file in order, a batch at a time; JSON columns as what they hold. Nulls are left out.

    pyarrow.ArrowException where it is damaged.
    """
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_ROWS):
            names = batch.schema.names
            values = [_values(batch, name) for name in names]
            for row in zip(*values, strict=True):
                yield {name: value for name, value in zip(names, row, strict=True) if value is not None}


def _about(examples: Sequence[Example]) -> Columns:
    return {name: [str(getattr(example, name)) for example in examples] for name in _ABOUT}


def _is_json(name: str) -> bool:
    return name in ("prompt", "completion", "chosen", "rejected", "tools")


def _texts(values: Sequence[str]) -> Any:
    import pyarrow

    return pyarrow.array(values, pyarrow.string())


def _json_lists(values: Sequence[Sequence[Any]]) -> Any:
    import pyarrow

    texts = pyarrow.array([[compact(item) for item in value] for value in values], pyarrow.list_(pyarrow.string()))
    items = pyarrow.ExtensionArray.from_storage(pyarrow.json_(pyarrow.string()), texts.values)
    return pyarrow.ListArray.from_arrays(texts.offsets, items)


def _values(table: Any, name: str) -> list[Any]:
    """A column as Python values. Arrow gives JSON as text."""
    import pyarrow

    column = table.column(name)
    type = column.type
    if isinstance(type, pyarrow.JsonType):
        return [_parsed(value) for value in column.to_pylist()]
    if pyarrow.types.is_list(type) and isinstance(type.value_type, pyarrow.JsonType):
        return [None if value is None else [_parsed(item) for item in value] for value in column.to_pylist()]
    return [_without_nulls(value) for value in column.to_pylist()]


def _parsed(text: str | None) -> Any:
    """What JSON text holds; the text itself where it holds none, or is nested too deep: Arrow does not look into it."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _without_nulls(value: Any) -> Any:
    """`value` without the nulls that Arrow puts where objects of one column differ."""
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in as_object(value).items() if item is not None}
    return value


def _key(value: Any) -> str:
    return value if isinstance(value, str) else compact(value)
