"""Adapter: trained LoRA weights with where they came from. Its folder is complete when manifest.json is there, and never changes.

The folder holds adapter_config.json, adapter_model.safetensors, card.md and manifest.json: safetensors only, nothing that runs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import Connection, Row, text

from capture import clock
from capture.errors import NotFoundError
from capture.ids import content_hash, new_id

if TYPE_CHECKING:
    from capture.database import Database

FILES = ("adapter_config.json", "adapter_model.safetensors")
_COLUMNS = "id, run_id, task, dataset_version_id, recipe_hash, base_model, folder, hash, card, created_us"


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter. `hash` covers its configuration and weights; `card` is the text of its card.md."""

    id: str
    run_id: str
    task: str
    dataset_version_id: str
    recipe_hash: str
    base_model: str
    folder: Path
    hash: str
    card: str
    created_us: int


def get_adapter(database: Database, adapter_id: str) -> Adapter:
    """The adapter with that id (a unique beginning suffices); NotFoundError otherwise."""
    query = text(f"SELECT {_COLUMNS} FROM adapters WHERE substr(id, 1, :size) = :id ORDER BY id LIMIT 2")  # noqa: S608
    with database.read() as connection:
        rows = connection.execute(query, {"id": adapter_id, "size": len(adapter_id)}).all() if adapter_id else []
    if len(rows) != 1:
        what = "is ambiguous" if rows else "does not exist"
        raise NotFoundError(f"Adapter {adapter_id!r} {what}.", "See `potstill runs list` and `potstill runs show RUN`.")
    return _adapter(rows[0])


def list_adapters(database: Database, task: str = "") -> list[Adapter]:
    """Every adapter, newest first; of one task when `task` is given."""
    query = f"SELECT {_COLUMNS} FROM adapters WHERE :task = '' OR task = :task ORDER BY created_us DESC, id DESC"  # noqa: S608
    with database.read() as connection:
        return [_adapter(row) for row in connection.execute(text(query), {"task": task})]


def latest_adapter(database: Database, task: str) -> Adapter | None:
    """The newest adapter of `task`; None when there is none."""
    return next(iter(list_adapters(database, task)), None)


def write_adapter_folder(
    data_folder: Path, task: str, adapter_id: str, trained: Path, card: str, facts: Mapping[str, Any]
) -> tuple[Path, str]:
    """Copies the trained files beside their place, adds card and manifest, and renames; returns the folder and its hash."""
    folder = data_folder.resolve() / "adapters" / _safe(task) / adapter_id
    part = folder.with_name(f".{adapter_id}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name in FILES:
        shutil.copyfile(trained / name, part / name)
    (part / "card.md").write_text(card, "utf-8")
    hashes = {name: content_hash((part / name).read_bytes()) for name in FILES}
    whole = content_hash(json.dumps(hashes, sort_keys=True).encode())
    manifest = {"id": adapter_id, "hash": whole, "files": hashes, **facts}
    (part / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    for file in part.iterdir():
        file.chmod(0o644)  # the engine may run as another user
    part.rename(folder)
    return folder, whole


def add_adapter(connection: Connection, adapter: Adapter) -> None:
    """Puts an adapter whose folder is complete into the store, inside the caller's transaction."""
    from train.tables import AdapterRow

    values = {name: getattr(adapter, name) for name in Adapter.__slots__}
    row = AdapterRow(**{**values, "folder": str(adapter.folder)})
    connection.execute(AdapterRow.__table__.insert(), row.model_dump())  # type: ignore[attr-defined]


def new_adapter_id() -> str:
    """A fresh id."""
    return new_id("ad")


def write_card(
    *,
    task: str,
    adapter_id: str,
    base_model: str,
    is_toy: bool,
    version: Any,
    recipe_lines: Sequence[str],
    results: Sequence[Sequence[str]],
) -> str:
    """The card of an adapter: what it is for, what it was made from, what it scored, what it is not good for."""
    bill = version.manifest["bill"]
    dropped = ", ".join(f"{reason.replace('_', ' ')} {count}" for reason, count in sorted(bill["dropped"].items())) or "none"
    table = "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in results)
    toy = "\nThe base model is a toy made on the spot, not a pretrained language model.\n" if is_toy else ""
    return f"""# {task}: adapter {adapter_id}

A LoRA adapter for one task, `{task}`. Give it that task's requests only: on anything else it answers as if it were this task.
{toy}
- Base model: `{base_model}`
- Dataset version: `{version.task}/v{version.number}` ({version.hash})
- Examples: train {version.train}, val {version.val}, test {version.test}
- Bill: {bill["selected"]} exchanges selected, {bill["kept"]} kept, dropped: {dropped}
- Train-eval overlap: 0 (exact, near, 8-gram), or the version would not have been frozen
- Made: {clock.iso(clock.now_us())}

## Results on the test split

| who | metric | n | value | 95 % interval | note |
|---|---|---|---|---|---|
{table}

The checkpoint was chosen on the val split; the test split was looked at once. Targets are the teacher's answers, so its
mistakes count as right.

## Recipe

{chr(10).join(f"- {line}" for line in recipe_lines)}
"""


def _cell(text: str) -> str:
    """`text` in a cell of a table: on one line, a bar escaped."""
    return " ".join(text.split()).replace("|", "\\|")


def _adapter(row: Row[Any]) -> Adapter:
    values = dict(row._mapping)
    return Adapter(**{**values, "folder": Path(values["folder"])})


def _safe(task: str) -> str:
    name = quote(task, safe="")
    return "%2E" + name[1:] if name.startswith(".") else name or "%20"
