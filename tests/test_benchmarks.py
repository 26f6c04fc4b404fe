"""The benchmarks run, and what they print has its shape. How large a figure is, is nobody's business here."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.figures import Figure, Result, ratio, table
from benchmarks.report import DOCUMENT, START, STOP, written_into

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 1


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_gives_finite_figures_for_every_round(name: str) -> None:
    command = [sys.executable, "-m", "benchmarks", name, "--rounds", str(ROUNDS), "--scale", "0.002", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert {"date", "machine", "versions", "load_before", "load_after", "foreign_cores", "seconds"} <= set(printed["conditions"])
    (result,) = printed["results"]
    assert result["benchmark"] == name
    assert all(isinstance(count, int) and count > 0 for count in result["counts"].values())
    assert result["figures"]
    for figure in result["figures"]:
        assert set(figure) == {"group", "name", "unit", "median", "low", "high", "n", "values"}
        assert figure["n"] == len(figure["values"]) == ROUNDS
        assert all(math.isfinite(value) for value in figure["values"])
        assert figure["low"] <= figure["median"] <= figure["high"]


def test_a_ratio_is_taken_round_by_round() -> None:
    assert ratio("JSON", "ours / theirs", [2.0, 9.0], [1.0, 3.0]).values == (2.0, 3.0)


def test_a_table_shows_median_and_extremes_and_names_each_group_once() -> None:
    lines = table([Figure("JSON", "ours", "us", (1234.0, 5.0, 66.0)), Figure("JSON", "theirs", "us", (1.0, 2.0, 3.0))]).split(
        "\n"
    )
    assert lines[2] == "| JSON | ours | 66.0 | 5.00 - 1,234 | us | 3 |"
    assert lines[3] == "|  | theirs | 2.00 | 1.00 - 3.00 | us | 3 |"


def test_a_result_becomes_json_that_can_be_read_again() -> None:
    result = Result("spool", {"appends": 3}, (Figure("a", "b", "us", (1.0,)),), ("a note",))
    assert json.loads(json.dumps(result.as_json()))["figures"][0]["median"] == 1.0


def test_a_run_is_written_between_the_markers_of_the_document_and_nowhere_else() -> None:
    document = DOCUMENT.read_text("utf-8")
    written = written_into(document, "| first run |")
    assert written_into(written, "| second run |") == written.replace("| first run |", "| second run |")
    assert written.partition(START)[0] == document.partition(START)[0]
    assert written.partition(STOP)[2] == document.partition(STOP)[2]
    with pytest.raises(ValueError, match="results"):
        written_into("no markers", "| first run |")
