"""What a dataset version says about itself: the bill, what was found and done, and what to be careful about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from capture.ids import content_hash
from curate import terms
from curate.bill import make_bill
from curate.cleaning import presidio
from curate.doubting.contradictions import JSON, TEXT, Kind
from curate.doubting.suspects import MOST_LABELS
from curate.draft import CONTRADICTION, Draft
from curate.examples import RELABEL, Example, example_id, to_line
from curate.freeze import DROPPED, GOLDEN_FILE, PHRASE_WARNING, PREFERENCES, TEMPLATE, to_json
from curate.golden import Golden, bare_pins, disagreeing, golden_lines, without_prompt
from curate.likeness.duplicates import CROWD_SHARE
from curate.preferring import preferences
from curate.preferring.evidence import figures
from curate.preferring.pairs import Pairs
from curate.selection import DAMAGED, Candidate, Selection
from curate.settings import CurateSettings
from curate.splits import SPLITS, TRAIN, later_than
from curate.tasks.kept_templates import Settled
from curate.version_keys import KEYS, make_keys

_FORMAT = 2
_LISTED = 20
OWN_PATTERNS = "validated patterns"
_CROWD, _FEW = 10, 5
_LABEL_LIKE = 0.8
"""From this share of answers that several have, eval holds labels."""
_WHERE_NOT_WHAT = ("engine", "ray_address")
"""Settings that say where the work is done; every engine gives the same version."""


@dataclass(frozen=True, slots=True)
class Sources:
    """All that a version is made of, and what is to be said of the terms of its answers.

    `unknown` counts inputs that earlier versions held out and whose text is no longer to be had.
    """

    selection: Selection
    draft: Draft
    golden: tuple[Golden, ...]
    pairs: Pairs
    template: Settled
    terms: Mapping[str, Any]
    unknown: int = 0


def describe(task: str, settings: CurateSettings, sources: Sources) -> tuple[dict[str, Any], dict[str, str | bytes]]:
    """The manifest, still without number and hashes, and the content of each file that it speaks of.

    GateError when the bill does not add up.
    """
    selection, draft = sources.selection, sources.draft
    kept = [candidate for candidate in draft.candidates if candidate.exchange_id in draft.splits]
    examples = [_example(task, candidate, draft.splits[candidate.exchange_id]) for candidate in kept]
    reasons = _reasons(selection, draft)
    template = _template(draft)
    files: dict[str, str | bytes] = {f"{split}.jsonl": _lines(task, examples, split) for split in SPLITS}
    files["train.jsonl"] = _lines(task, [*examples, *(replace(one, split=TRAIN) for one in draft.mix_in.examples)], TRAIN)
    files[DROPPED] = "".join(f"{to_json({'exchange_id': key, **reasons[key]})}\n" for key in sorted(reasons))
    files[TEMPLATE] = template
    worded = dict(zip((candidate.exchange_id for candidate in draft.candidates), draft.wordings, strict=True))
    wordings = [worded[candidate.exchange_id] for candidate in kept]
    files[KEYS] = make_keys(wordings, [example.input_key for example in examples], [example.split for example in examples])
    files[GOLDEN_FILE] = golden_lines(sources.golden)
    files[PREFERENCES] = "".join(f"{preferences.to_line(pair)}\n" for pair in sources.pairs.pairs)
    counts = Counter(example.split for example in examples)
    dropped = Counter(reason["reason"] for reason in reasons.values())
    manifest = {
        "format": _FORMAT,
        "task": task,
        "settings": {name: value for name, value in asdict(settings).items() if name not in _WHERE_NOT_WHAT},
        "selection": {"answered_by_student": selection.by_student},
        "bill": make_bill(len(selection.candidates) + len(selection.dropped), len(kept), dropped),
        "counts": {split: counts[split] + (len(draft.mix_in.examples) if split == TRAIN else 0) for split in SPLITS},
        "time_cut": _time_cut(kept, draft, settings),
        "golden": {"pinned": len(sources.golden), "answered_otherwise": len(disagreeing(sources.golden, draft.candidates))},
        "with_tools": _with_tools([*examples, *(replace(one, split=TRAIN) for one in draft.mix_in.examples)]),
        "target_sources": _sorted(Counter(example.target_source for example in examples)),
        "mix_in": {"examples": draft.mix_in.by_task, "wanted": draft.mix_in.wanted, "overlapping": draft.mix_in.overlapping},
        "preferences": figures(sources.pairs),
        "certificate": dict(draft.certificate),
        "contradictions": _contradictions(draft),
        "doubts": {"poisoned": _poisoned(draft), "wrong_answers": len(draft.doubts.suspects)},
        "clusters": {"largest": draft.largest_cluster, "largest_split_group": draft.largest_group},
        "personal_data": _personal_data(kept, settings),
        "template": {
            "version": sources.template.number,
            "hash": content_hash(template.encode()),
            "distinct_inputs": draft.template.distinct,
            "minimum": draft.template.minimum,
            "context": len(draft.template.context),
            "frames": sorted(draft.template.frames),
            "segments": len(draft.template.segments),
            "phrases": len(draft.template.phrases),
        },
        "teachers": _sorted(Counter(candidate.teacher_model for candidate in kept)),
        "terms": dict(sources.terms),
        "protocols": _sorted(Counter(candidate.protocol for candidate in kept)),
        "warnings": [*_warnings(task, sources), *terms.warnings(sources.terms, _of_unknown_terms(kept))],
    }
    return manifest, files


def _time_cut(kept: Sequence[Candidate], draft: Draft, settings: CurateSettings) -> dict[str, Any]:
    """How many examples of each split come before and after the cut in time; nothing without one."""
    if not settings.eval_after:
        return {}
    late = later_than([candidate.started_us for candidate in kept], settings.eval_after)
    counts = Counter((draft.splits[one.exchange_id], is_late) for one, is_late in zip(kept, late, strict=True))
    before, later = ({split: counts[split, is_late] for split in SPLITS} for is_late in (False, True))
    return {"at": settings.eval_after, "before": before, "later": later}


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


def _lines(task: str, examples: Sequence[Example], split: str) -> str:
    return "".join(f"{to_line(example, task)}\n" for example in examples if example.split == split)


def _with_tools(examples: Sequence[Example]) -> dict[str, int]:
    """How many examples of each split speak of tools; recipes do not learn those."""
    counts = Counter(example.split for example in examples if example.speaks_of_tools)
    return {split: counts[split] for split in SPLITS}


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
            "kept": "" if found.winner is None else draft.candidates[found.winner].exchange_id,
            "dropped": [draft.candidates[row].exchange_id for row in found.losers],
            "answers": [[draft.candidates[side.rows[0]].answer.said.strip(), len(side.rows)] for side in found.sides],
            "decided_by": found.decided_by,
            "kind": found.kind,
        }
        for found in draft.contradictions[:_LISTED]
    ]
    dropped = sum(drop.reason == CONTRADICTION for drop in draft.dropped.values())
    return {
        "compared_as": {"kind": draft.kind.name, "answers": draft.kind.plain, "odd": draft.kind.odd},
        "inputs": len(draft.contradictions),
        "dropped": dropped,
        "kinds": _sorted(Counter(found.kind for found in draft.contradictions)),
        "decided_by": _sorted(Counter(found.decided_by for found in draft.contradictions)),
        "first": listed,
    }


def _poisoned(draft: Draft) -> dict[str, int]:
    """How many rows each phrase seems to dictate."""
    return _sorted(Counter(found.phrase for found in draft.doubts.poisoned.values()))


def _personal_data(kept: Sequence[Candidate], settings: CurateSettings) -> dict[str, Any]:
    found: Counter[str] = Counter()
    for candidate in kept:
        found.update(candidate.personal)
    return {
        "policy": settings.personal_data,
        "examples": sum(bool(candidate.personal) for candidate in kept),
        "found_by": [OWN_PATTERNS, *([presidio.described()] if settings.presidio else [])],
        "found": _sorted(found),
    }


def _warnings(task: str, sources: Sources) -> list[str]:
    draft, review = sources.draft, f"potstill review next {task}"
    total, largest = len(draft.candidates), draft.largest_cluster
    warnings = []
    if damaged := sum(reason == DAMAGED for reason in sources.selection.dropped.values()):
        warnings.append(f"Exchanges left out because they are damaged in the store: {damaged}. See potstill verify")
    if largest > max(_CROWD, CROWD_SHARE * total):
        warnings.append(f"One cluster holds {largest} of {total} exchanges; this task may rather need a cache.")
    if draft.crowded:
        warnings.append(f"{draft.crowded} groups of look-alikes were too large to compare whole; near duplicates may be left.")
    if draft.sessions_apart:
        warnings.append(f"{draft.sessions_apart} sessions were not kept in one split; their groups would have been too large.")
    if draft.disagreements:
        warnings.append(f"{len(draft.disagreements)} pairs of near duplicates have different answers; review them: {review}")
    if outliers := _outliers(draft.kind, review):
        warnings.append(outliers)
    refusals = sum(candidate.looks_refused and candidate.exchange_id in draft.splits for candidate in draft.candidates)
    if refusals:
        warnings.append(f"{refusals} answers read like a refusal and are kept; review them, they come early: {review}")
    if draft.doubts.unjudged:
        told = f"Wrong answers and poisoned rows were looked for among the {MOST_LABELS} most frequent labels"
        warnings.append(f"{told}, not among {draft.doubts.unjudged} others.")
    if draft.doubts.suspects:
        warnings.append(f"{len(draft.doubts.suspects)} labels look wrong beside the rest of the task; review them: {review}")
    for phrase, count in _poisoned(draft).items():
        warnings.append(f"{PHRASE_WARNING} {phrase!r} seems to dictate the answer of {count} exchanges; see who sent them.")
    if other := _in_another_form(draft):
        told = f"{other} relabelled answers in train say what no answer in eval says, and those repeat each other like labels"
        warnings.append(
            f"{told}: a student would learn another form than it is judged by. See what the other teacher said: {review}"
        )
    if sources.template.change is not None:
        told = f"The app's prompt is another one than before: template v{sources.template.number}"
        warnings.append(f"{told}, see potstill tasks template {task}")
    if bare := without_prompt(sources.golden, draft.template):
        warnings.append(bare_pins(task, [one.id for one in bare]))
    if sources.unknown:
        told = f"Of {sources.unknown} inputs that were held out before only a hash is left (erased, unpinned, or files are gone)"
        warnings.append(f"{told}. What resembles them may be in train.")
    if draft.mix_in.wanted > len(draft.mix_in.examples):
        warnings.append(f"Only {len(draft.mix_in.examples)} of {draft.mix_in.wanted} examples of other tasks could be mixed in.")
    return warnings


def _in_another_form(draft: Draft) -> int:
    """How many relabelled targets in train are unlike those of an eval set of labels; 0 where they are few, or half are alike."""
    held_out = Counter(draft.said[id] for id, side in draft.splits.items() if side != TRAIN)
    repeated = sum(count for count in held_out.values() if count > 1)
    relabelled = [one.exchange_id for one in draft.candidates if one.target_source == RELABEL]
    unlike = [draft.said[id] not in held_out for id in relabelled if draft.splits.get(id) == TRAIN]
    is_label_like = repeated > _LABEL_LIKE * held_out.total()
    return sum(unlike) if is_label_like and sum(unlike) > max(_FEW, len(unlike) / 2) else 0


def _outliers(kind: Kind, review: str) -> str:
    """What to say of answers that are not of the kind that the task's are compared as; '' of none, or of few in free text."""
    of = f"{kind.odd} of {kind.plain} answers"
    if kind.name == TEXT:
        told = f"{of} are JSON or as short as labels, the others are free text: plain ones are compared by their numbers alone."
        return told if kind.odd and kind.odd * 2 >= kind.plain else ""
    told = f"{of} are no {'JSON' if kind.name == JSON else 'labels'} as the others are; review them: {review}"
    return told if kind.odd else ""


def _of_unknown_terms(kept: Sequence[Candidate]) -> str:
    """The teacher of most rows whose terms nobody knows."""
    models = Counter(candidate.teacher_model for candidate in kept if candidate.terms.startswith(terms.UNKNOWN))
    return max(sorted(models), key=models.__getitem__, default="")


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
