"""What a dataset version says about itself: the bill, what was found and done, and what to be careful about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from capture.ids import content_hash
from curate.bill import make_bill
from curate.draft import CONTRADICTION, Draft
from curate.duplicates import CROWD_SHARE
from curate.examples import Example, example_id, to_line
from curate.freeze import DROPPED, TEMPLATE, to_json
from curate.selection import Candidate, Selection
from curate.settings import CurateSettings
from curate.splits import SPLITS

_FORMAT = 2
_LISTED = 20
_CROWD = 10
_WHERE_NOT_WHAT = ("engine", "ray_address")
"""Settings that say where the work is done; every engine gives the same version."""


def describe(task: str, settings: CurateSettings, selection: Selection, draft: Draft) -> tuple[dict[str, Any], dict[str, str]]:
    """The manifest, still without number and hashes, and the text of each file that it speaks of.

    GateError when the bill does not add up.
    """
    kept = [candidate for candidate in draft.candidates if candidate.exchange_id in draft.splits]
    examples = [_example(task, candidate, draft.splits[candidate.exchange_id]) for candidate in kept]
    reasons = _reasons(selection, draft)
    template = _template(draft)
    files = {f"{split}.jsonl": _lines(examples, split) for split in SPLITS}
    files[DROPPED] = "".join(f"{to_json({'exchange_id': key, **reasons[key]})}\n" for key in sorted(reasons))
    files[TEMPLATE] = template
    dropped = Counter(reason["reason"] for reason in reasons.values())
    manifest = {
        "format": _FORMAT,
        "task": task,
        "settings": {name: value for name, value in asdict(settings).items() if name not in _WHERE_NOT_WHAT},
        "selection": {"answered_by_student": selection.by_student},
        "bill": make_bill(len(selection.candidates) + len(selection.dropped), len(kept), dropped),
        "counts": {split: sum(example.split == split for example in examples) for split in SPLITS},
        "with_tools": {split: sum(example.speaks_of_tools for example in examples if example.split == split) for split in SPLITS},
        "target_sources": _sorted(Counter(example.target_source for example in examples)),
        "certificate": dict(draft.certificate),
        "contradictions": _contradictions(draft),
        "clusters": {"largest": max(draft.clusters.values(), default=1), "largest_split_group": draft.largest_group},
        "personal_data": _personal_data(kept, settings),
        "template": {
            "hash": content_hash(template.encode()),
            "distinct_inputs": draft.template.distinct,
            "minimum": draft.template.minimum,
            "context": len(draft.template.context),
            "frames": sorted(draft.template.frames),
            "segments": len(draft.template.segments),
            "phrases": len(draft.template.phrases),
        },
        "teachers": _sorted(Counter(candidate.teacher_model for candidate in kept)),
        "protocols": _sorted(Counter(candidate.protocol for candidate in kept)),
        "warnings": _warnings(draft),
    }
    return manifest, files


def _example(task: str, candidate: Candidate, split: str) -> Example:
    return Example(
        example_id(candidate.exchange_id),
        candidate.exchange_id,
        task,
        candidate.messages,
        candidate.target,
        split,
        candidate.input_key,
        candidate.teacher_model,
        candidate.protocol,
        candidate.calls,
        candidate.tools,
        candidate.target_source,
        candidate.terms,
    )


def _lines(examples: Sequence[Example], split: str) -> str:
    return "".join(f"{to_line(example)}\n" for example in examples if example.split == split)


def _reasons(selection: Selection, draft: Draft) -> dict[str, dict[str, str]]:
    reasons = {exchange_id: {"reason": reason} for exchange_id, reason in selection.dropped.items()}
    for exchange_id, drop in draft.dropped.items():
        reasons[exchange_id] = {"reason": drop.reason, **({"because": drop.because} if drop.because else {})}
    return reasons


def _template(draft: Draft) -> str:
    frames = {first: sorted(words) for first, words in draft.template.frames.items()}
    return to_json({**asdict(draft.template), "frames": frames}, indent=2) + "\n"


def _contradictions(draft: Draft) -> dict[str, Any]:
    listed = [
        {
            "kept": draft.candidates[found.winner].exchange_id,
            "dropped": [draft.candidates[row].exchange_id for row in found.losers],
            "answers": [[draft.candidates[row].target, count] for row, count in sorted(found.counts.items())],
        }
        for found in draft.contradictions[:_LISTED]
    ]
    dropped = sum(drop.reason == CONTRADICTION for drop in draft.dropped.values())
    return {"inputs": len(draft.contradictions), "dropped": dropped, "first": listed}


def _personal_data(kept: Sequence[Candidate], settings: CurateSettings) -> dict[str, Any]:
    found: Counter[str] = Counter()
    for candidate in kept:
        found.update(candidate.personal)
    return {
        "policy": settings.personal_data,
        "examples": sum(bool(candidate.personal) for candidate in kept),
        "found": _sorted(found),
    }


def _warnings(draft: Draft) -> list[str]:
    total, largest = len(draft.candidates), max(draft.clusters.values(), default=1)
    warnings = []
    if largest > max(_CROWD, CROWD_SHARE * total):
        warnings.append(f"One input stands for {largest} of {total} exchanges; this task may rather need a cache.")
    if draft.crowded:
        warnings.append(f"{draft.crowded} groups of look-alikes were too large to compare whole; near duplicates may be left.")
    if draft.sessions_apart:
        warnings.append(f"{draft.sessions_apart} sessions were not kept in one split; their groups would have been too large.")
    if draft.disagreements:
        warnings.append(f"{len(draft.disagreements)} pairs of near duplicates have different answers; review them.")
    return warnings


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
