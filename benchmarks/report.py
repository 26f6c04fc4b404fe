"""Writes a run into the document of the benchmarks, between its two markers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.conditions import Conditions
from benchmarks.figures import Result, table

DOCUMENT = Path(__file__).resolve().parent / "README.md"
START, STOP = "<!-- results -->", "<!-- end of results -->"
CAPTURE_MARKERS = ("<!-- results of capture -->", "<!-- end of results of capture -->")
_TITLES: Mapping[str, str] = {"spool": "Spool", "writer": "Store writer", "curate": "Dataset build"}


def markdown(conditions: Conditions, results: Sequence[Result]) -> str:
    """The run in words and tables."""
    parts = ["\n".join(conditions.as_lines())]
    for result in results:
        counts = ", ".join(f"{name} {count:,}" for name, count in result.counts.items())
        parts.append(f"### {_TITLES[result.benchmark]}\n\nIn each round: {counts}.")
        parts.append(table(result.figures))
        parts.extend(result.notes)
    return "\n\n".join(parts)


def written_into(document: str, run: str, markers: tuple[str, str] = (START, STOP)) -> str:
    """`document` with what was between the markers replaced by `run`; ValueError when it has no markers."""
    first, last = markers
    before, start, rest = document.partition(first)
    _, stop, after = rest.partition(last)
    if not start or not stop:
        raise ValueError(f"the document lacks {first} or {last}")
    return f"{before}{first}\n\n{run}\n\n{last}{after}"
