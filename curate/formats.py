"""Dataset versions in the formats of others."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from capture.database import Database
from capture.exported import DATASET, remember
from curate.datasets import DatasetVersion, load_split
from curate.examples import Example, prompt_of
from curate.splits import SPLITS


def to_openai_lines(examples: Iterable[Example]) -> list[str]:
    """Examples in OpenAI's chat fine-tuning format, one JSON object per line."""
    return [
        json.dumps(
            {"messages": [*prompt_of(example.messages), {"role": "assistant", "content": example.target}]},
            ensure_ascii=False, separators=(",", ":"),
        )
        for example in examples
    ]  # fmt: skip


def export_version(database: Database, version: DatasetVersion, out: Path) -> int:
    """As `export_openai_jsonl`, and the store remembers the files, so that an erasure reaches them."""
    for split in SPLITS:
        remember(database, out / f"{split}.jsonl", DATASET, f"{version.task}/v{version.number}")
    return export_openai_jsonl(version, out)


def export_openai_jsonl(version: DatasetVersion, out: Path) -> int:
    """Writes train.jsonl, val.jsonl and test.jsonl of `version` into folder `out` as OpenAI chat JSONL; how many examples."""
    out.mkdir(parents=True, exist_ok=True)
    written = 0
    for split in SPLITS:
        lines = to_openai_lines(load_split(version, split))
        (out / f"{split}.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8", newline="\n")
        written += len(lines)
    return written
