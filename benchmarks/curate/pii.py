"""Personal data that our forms and Presidio find in labelled text; prints one JSON object: kind -> ours, presidio.

    python -m benchmarks.curate.pii [--half first|second|both]

Rows of datasets/pii_synth_presidio.json in ../shared/data. A labelled span is found when a finding of its kind overlaps with it,
a finding is right when a span of its kind overlaps with it; `whole` is the share of spans that a finding of the kind covers
completely. Our patterns were written while reading the first half; the second is the honest one. Presidio runs without a language
model and with its own threshold (any score); kinds that a method does not look for have recall 0 and no precision. The file
labels dates of birth as dates only, so for those that are found there is no span to be right with.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.curate.bases import SHARED
from capture import personal_data
from capture.personal_data import Finding
from curate.cleaning import presidio

LABELLED = SHARED / "datasets" / "pii_synth_presidio.json"
_NOT_PERSONAL = ("NRP", "TITLE", "AGE", "GPE", "ORGANIZATION", "DATE_TIME", "ZIP_CODE", "DOMAIN_NAME")
_CALLED = {**presidio.KINDS, "STREET_ADDRESS": "street_address"}

Spans = list[tuple[int, int, str]]
Find = Callable[[str], Sequence[Finding]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curate.pii")
    parser.add_argument("--half", choices=("first", "second", "both"), default="second")
    options = parser.parse_args(arguments)
    rows = json.loads(LABELLED.read_text("utf-8"))
    middle = len(rows) // 2
    rows = {"first": rows[:middle], "second": rows[middle:], "both": rows}[options.half]
    texts = [row["full_text"] for row in rows]
    spans = [_spans(row["spans"]) for row in rows]
    ways: dict[str, Find] = {"ours": personal_data.find, "presidio": lambda text: presidio.find([text], 0.0)[0]}
    figures = {name: scores(texts, spans, find) for name, find in ways.items()}
    kinds = sorted(set(figures["ours"]) | set(figures["presidio"]))
    nothing = {"precision": None, "recall": None, "whole": None, "n": 0, "found": 0}
    speed = {name: _megabytes_a_second(texts, find) for name, find in ways.items()}
    by_kind = {kind: {name: figures[name].get(kind, nothing) for name in ways} for kind in kinds}
    print(json.dumps({"half": options.half, "texts": len(texts), "mb_per_cpu_s": speed, "kinds": by_kind}))
    return 0


def scores(texts: Sequence[str], labelled: Sequence[Spans], find: Find) -> dict[str, dict[str, Any]]:
    """Precision, recall, share of whole spans, spans and findings of each kind that is labelled or found."""
    total, hit, whole, found, right = (Counter[str]() for _ in range(5))
    for text, spans in zip(texts, labelled, strict=True):
        findings = find(text)
        for one in findings:
            found[one.kind] += 1
            right[one.kind] += any(kind == one.kind and start < one.end and one.start < end for start, end, kind in spans)
        for start, end, kind in spans:
            over = [one for one in findings if one.kind == kind and start < one.end and one.start < end]
            total[kind] += 1
            hit[kind] += bool(over)
            whole[kind] += any(one.start <= start and end <= one.end for one in over)
    return {
        kind: {
            "precision": right[kind] / found[kind] if found[kind] else None,
            "recall": hit[kind] / total[kind] if total[kind] else None,
            "whole": whole[kind] / total[kind] if total[kind] else None,
            "n": total[kind],
            "found": found[kind],
        }
        for kind in total | found
    }


def _spans(labelled: Sequence[dict[str, Any]]) -> Spans:
    return [
        (span["start_position"], span["end_position"], _CALLED[span["entity_type"]])
        for span in labelled
        if span["entity_type"] not in _NOT_PERSONAL
    ]


def _megabytes_a_second(texts: Sequence[str], find: Find) -> float:
    """Of texts that were not seen before: each has a mark at its end."""
    fresh = [f"{text} ." for text in texts]
    before = time.process_time()
    for text in fresh:
        find(text)
    return sum(map(len, fresh)) / 1e6 / (time.process_time() - before)


if __name__ == "__main__":
    sys.exit(main())
