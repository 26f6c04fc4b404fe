"""Which message stands in for each answer: a reviewer's edit, else the newest demonstration, else the chosen relabel.

What people said goes before what models say: an answer that a reviewer accepted stands, whatever is chosen later. The captured
answer stays in the store, and preferences are made of the difference.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import text

from capture import feedback
from capture.database import Database
from capture.feedback import BY_IMPORT
from capture.messages import Message
from capture.offered import Tool
from capture.statements import among
from curate.examples import ANSWER, DEMONSTRATION, EDIT, IMPORTED, RELABEL
from curate.relabelling.relabel_store import Relabel, relabels
from curate.reviewing.review import ACCEPT, as_message, hash_of, standing_verdicts
from curate.reviewing.review import EDIT as EDITED
from curate.selection import Candidate, Target

PAIR, WORSE = "preference", "rejected"
"""How an import marks a pair of answers: feedback named so holds the better side, a tag with this value is on the worse one."""


def read_targets(database: Database, task: str, *, with_relabels: bool = True) -> dict[str, Target]:
    """What stands in for the answers of `task`, by exchange id. Without relabels only what people said."""
    found: dict[str, Target] = {}
    if with_relabels:
        hashes = accepted_hashes(database, task)
        for row in _chosen(relabels(database, task), hashes):
            found[row.exchange_id] = Target(row.answer, RELABEL, hashes.get(row.exchange_id, ""))
    sources = _demonstrated(database, task)
    shown = feedback.demonstrations(database, list(sources))
    found |= {exchange_id: Target(message, sources[exchange_id]) for exchange_id, message in shown.items()}
    edited = [review for review in standing_verdicts(database, task) if review.verdict == EDITED]
    return found | {review.exchange_id: Target(as_message(review.target), EDIT) for review in edited}


def relabelled_by(database: Database, task: str) -> dict[str, str]:
    """The model whose answer was chosen, by exchange id: whose terms hold for a target that is a relabel."""
    chosen = _chosen(relabels(database, task), accepted_hashes(database, task))
    return {row.exchange_id: row.model for row in chosen}


def accepted_hashes(database: Database, task: str) -> dict[str, str]:
    """The hash of the answer that reviewers accepted, by exchange id; '' for an accept of before it was written down."""
    return {review.exchange_id: review.answer_hash for review in standing_verdicts(database, task) if review.verdict == ACCEPT}


def still_accepted(candidates: Sequence[Candidate], hashes: Mapping[str, str]) -> set[str]:
    """The exchanges among `candidates` whose target is what was accepted, by `accepted_hashes`; others have another one now."""
    return {
        candidate.exchange_id for candidate in candidates
        if (accepted := hashes.get(candidate.exchange_id)) is not None
        and (hash_of(candidate.answer) == accepted if accepted else candidate.target_source in (ANSWER, IMPORTED))
    }  # fmt: skip


def _chosen(rows: Mapping[str, Sequence[Relabel]], hashes: Mapping[str, str]) -> list[Relabel]:
    """Of each exchange the relabel that a reviewer accepted, else the chosen one; none where the captured answer stands."""
    found = []
    for exchange_id, answers in rows.items():
        chosen = next((row for row in answers if row.is_chosen), None)
        accepted = hashes.get(exchange_id)
        if accepted == "":
            continue
        if accepted is not None and (chosen is None or hash_of(chosen.answer) != accepted):
            chosen = next((row for row in answers if hash_of(row.answer) == accepted), chosen)
        if chosen is not None and not chosen.is_original:
            found.append(chosen)
    return found


def spread(candidates: Sequence[Candidate], accepted: Collection[str] = ()) -> list[Candidate]:
    """`candidates` where the very same input has the target that stands in for the answer of another exchange with it.

    Otherwise the answers that were given before would outvote the better one, one input being asked about once. Where several
    stand in, the best source counts and of it the newest. What people `accepted`, by exchange id, is given no model's answer.
    """
    worth = {RELABEL: 1, IMPORTED: 1, DEMONSTRATION: 2, EDIT: 3}
    best: dict[tuple[tuple[Message, ...], tuple[Tool, ...]], Candidate] = {}

    def rank(candidate: Candidate) -> tuple[int, int, str]:
        return worth[candidate.target_source], candidate.started_us, candidate.exchange_id

    for candidate in candidates:
        key = (candidate.messages, candidate.tools)
        if candidate.target_source in worth and (key not in best or rank(candidate) > rank(best[key])):
            best[key] = candidate
    better = [best.get((candidate.messages, candidate.tools)) for candidate in candidates]
    return [
        candidate if candidate.exchange_id in accepted and other and worth[other.target_source] == 1
        else _with_target(candidate, other)
        for candidate, other in zip(candidates, better, strict=True)
    ]  # fmt: skip


def _with_target(candidate: Candidate, better: Candidate | None) -> Candidate:
    if better is None or candidate.target_source != ANSWER:
        return candidate
    return replace(
        candidate, target=better.target, calls=better.calls, target_source=better.target_source, terms=better.terms,
        teacher_model=better.teacher_model,
    )  # fmt: skip


def _demonstrated(database: Database, task: str) -> dict[str, str]:
    """Where the demonstrations come from, of exchanges that may belong to `task`: tagged so, or by another of its names, or not.

    The better side of a pair in a team's data set is one as well, and came by import.
    """
    with database.read() as connection:
        aliases = connection.execute(text("SELECT alias FROM task_aliases WHERE task = :task"), {"task": task}).scalars().all()
        statement = among(
            """SELECT f.exchange_id, MIN(CASE WHEN f.name = :pair AND f.source = :by_import THEN 1 ELSE 0 END)
            FROM feedback AS f JOIN exchanges AS e ON e.id = f.exchange_id
            WHERE f.kind = 'demonstration' AND e.task IN :tasks GROUP BY f.exchange_id ORDER BY f.exchange_id"""
        )
        asked = {"tasks": [task, "", *aliases], "pair": PAIR, "by_import": BY_IMPORT}
        return {row[0]: IMPORTED if row[1] else DEMONSTRATION for row in connection.execute(statement, asked)}


def person_settled(targets: Mapping[str, Target]) -> set[str]:
    """The exchanges whose target a person wrote: no model needs to be asked about them, and none outvotes them."""
    return {exchange_id for exchange_id, target in targets.items() if target.source in (EDIT, DEMONSTRATION)}
