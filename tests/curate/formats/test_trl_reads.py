"""TRL's own preparation of data sets, on what is exported for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from capture.database import open_database
from curate.formats.exporting import export
from tests.curate.formats.making import WEATHER, frozen, mixed, preference

PREPARE = Path(__file__).with_name("prepare_with_trl.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Exports of one version."""
    database = open_database(f"sqlite:///{tmp_path / 'store.db'}")
    version = frozen(tmp_path / "v1", mixed(), [preference(1), preference(2, (WEATHER,))])
    for format in ("trl", "trl-preference", "hf"):
        export(database, version, tmp_path / format, format)
    database.close()
    return tmp_path


def _prepared(folder: Path) -> dict[str, list[Any]]:
    """What trainers make of the exports, as text. In a child: torch stays out of this process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    child = subprocess.run(
        [sys.executable, str(PREPARE), str(folder)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert child.returncode == 0, child.stderr
    prepared: dict[str, list[Any]] = json.loads((folder / "prepared.json").read_bytes())
    return prepared


def test_sft_and_dpo_trainers_prepare_what_is_exported(folder: Path) -> None:
    prepared = _prepared(folder)
    seen, pairs = prepared["lines"], prepared["line_pairs"]
    assert seen == prepared["parquet"]
    assert '<call>weather {"city": "Bonn"}</call>' in seen[2]
    offered = [json.loads(text[len("<tools>") :].partition("</tools>")[0]) for text in seen[2:]]
    assert [[tool["function"]["name"] for tool in tools] for tools in offered] == [["weather", "clock"], ["clock"]]
    schema = {"properties": {"zone": {"default": None, "type": "string"}}, "type": "object"}
    assert [tools[-1]["function"]["parameters"] for tools in offered] == [schema, schema]
    assert "<tools>" not in seen[0] and "How warm" in seen[0]
    learnt = prepared["learnt"][0]
    assert "21 degrees" in learnt and "How warm" not in learnt
    assert pairs == prepared["parquet_pairs"]
    assert "<tools>" in pairs[1][0] and "better 2" in pairs[1][1] and "worse 2" in pairs[1][2]
