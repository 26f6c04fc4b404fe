"""Who gave each target, and under which terms: decided for all candidates of a task before anything else is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from curate import terms
from curate.examples import RELABEL
from curate.relabelling.targets import spread
from curate.selection import Candidate
from curate.settings import CurateSettings
from curate.terms import TERMS_TAG, Terms


@dataclass(frozen=True, slots=True)
class Provenance:
    """Candidates whose terms let them teach, with `terms` in words; the exchanges that go for theirs; the terms of all, by id."""

    kept: tuple[Candidate, ...]
    dropped: tuple[str, ...]
    terms: Mapping[str, Terms]


def settle_provenance(
    candidates: Sequence[Candidate], relabelled_by: Mapping[str, str], settings: CurateSettings, forced: str = "",
    accepted: Collection[str] = (),
) -> Provenance:  # fmt: skip
    """Names the teacher of every target, gives the very same input the better target, and looks at the terms. Pure.

    `relabelled_by` gives the model of chosen relabels by exchange id; `terms` of a candidate is what the tag `terms` of its
    exchange says. `forced` is the reason for which rows stay that their terms would drop. The targets of the exchanges in
    `accepted` were looked at by a person: no model's answer to the same input goes before them.
    """
    named = [
        replace(candidate, teacher_model=relabelled_by.get(candidate.exchange_id, candidate.teacher_model), terms="")
        if candidate.target_source == RELABEL
        else candidate
        for candidate in candidates
    ]
    kept: list[Candidate] = []
    dropped: list[str] = []
    found: dict[str, Terms] = {}
    for candidate in spread(named, accepted):
        tags = {TERMS_TAG: candidate.terms}
        own = terms.terms_of(candidate.teacher_model, "", tags, settings.teacher_terms, candidate.target_source)
        found[candidate.exchange_id] = own
        words = terms.row_terms(own, settings.terms, forced)
        if words is None:
            dropped.append(candidate.exchange_id)
        else:
            kept.append(replace(candidate, terms=words))
    return Provenance(tuple(kept), tuple(dropped), found)


def terms_figures(
    rows: Iterable[Candidate], provenance: Provenance, settings: CurateSettings, forced: str = ""
) -> dict[str, Any]:
    """What the manifest says of the terms of `rows`, which are kept candidates of `provenance`."""
    return terms.figures(((provenance.terms[row.exchange_id], row.terms) for row in rows), settings.terms, forced)
