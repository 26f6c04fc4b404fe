"""Writes a run into the document of the benchmarks, between its two markers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.conditions import Conditions
from benchmarks.figures import Result, table

DOCUMENT = Path(__file__).resolve().parent / "README.md"
START, STOP = "<!-- results -->", "<!-- end of results -->"
_TITLES: Mapping[str, str] = {"relay": "Relay", "spool": "Spool", "writer": "Store writer", "curate": "Dataset build"}


def markdown(conditions: Conditions, results: Sequence[Result]) -> str:
    """The run in words and tables."""
    parts = ["\n".join(conditions.as_lines())]
    for result in results:
        counts = ", ".join(f"{name} {count:,}" for name, count in result.counts.items())
        parts.append(f"### {_TITLES[result.benchmark]}\n\nIn each round: {counts}.")
        parts.append(table(result.figures))
        parts.extend(result.notes)
    return "\n\n".join(parts)


def written_into(document: str, run: str) -> str:
    """`document` with what was between the markers replaced by `run`; ValueError when it has no markers."""
    before, start, rest = document.partition(START)
    _, stop, after = rest.partition(STOP)
    if not start or not stop:
        raise ValueError(f"the document lacks {START} or {STOP}")
    return f"{before}{START}\n\n{run}\n\n{STOP}{after}"
