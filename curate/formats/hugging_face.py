"""A folder that Hugging Face's `datasets.load_dataset(folder)` reads: Parquet files and a card that names them.

Format: https://huggingface.co/docs/hub/datasets-manual-configuration
"""

from __future__ import annotations

import json

CARD = "README.md"
"""Where the card lies in the folder."""
_NAMES = {"train": "train", "val": "validation", "test": "test"}


def file_name(split: str) -> str:
    """Where a split, or the preferences, lie in the folder."""
    return f"data/{_NAMES.get(split, split)}.parquet"


def card(task: str, number: int, hash: str, *, has_preferences: bool) -> str:
    """The card, with the configuration that `load_dataset` follows in front."""
    lines = ["---", "configs:", "- config_name: default", "  data_files:"]
    for split, name in _NAMES.items():
        lines += [f"  - split: {name}", f"    path: {file_name(split)}"]
    if has_preferences:
        lines += ["- config_name: preferences", "  data_files:", "  - split: train", f"    path: {file_name('preferences')}"]
    # The name of a task is somebody's text: as JSON it stays on its line.
    title = json.dumps(f"{task}/v{number}", ensure_ascii=False)
    lines += [f"pretty_name: {title}", "---", "", f"# {title[1:-1]}", ""]
    lines += [
        "Exported by Potstill.",
        "",
        f"- content hash: {hash}",
        "- `prompt`, `completion`: lists of messages as chat templates read them; `tools`: what it offers, in OpenAI's form",
        "- `id`, `exchange_id`, `teacher_model`, `target_source`, `terms`: where each example came from",
        "",
        "Messages and tools are features of type `Json`, so that the schemas of different tools are not merged.",
    ]
    return "\n".join(lines) + "\n"
