"""The exchanges of an experiment, read from the store, and how its units were divided."""

from __future__ import annotations

import json
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import text

from capture.database import Database
from capture.errors import NotFoundError
from capture.exchange import BASELINE, CANDIDATE, COMPLETE
from capture.statements import among
from serve.flag_store import FlagChange, history


@dataclass(frozen=True, slots=True)
class Experiment:
    """All changes of one flag that share a salt; `shares` gives basis points by revision, without rollbacks.

    `ended_us` is 0 while it is running.
    """

    task: str
    release_id: str
    engine_model: str
    unit: str
    salt: str
    shares: Mapping[int, int]
    started_us: int
    ended_us: int

    @property
    def share_bp(self) -> int:
        """The last share that was set and was not a rollback."""
        return self.shares[max(self.shares)]


@dataclass(frozen=True, slots=True)
class Seen:
    """What an experiment needs to know of one exchange."""

    variant: str
    revision: int
    unit: str
    is_answered: bool
    is_fallback: bool
    latency_us: int | None
    first_byte_us: int | None
    cost_microusd: int | None
    input_hash: str
    answer: str

    @property
    def is_success(self) -> bool:
        """True when the variant itself answered; a teacher that stepped in answered, but the candidate failed."""
        return self.is_answered and not (self.variant == CANDIDATE and self.is_fallback)


def last_experiment(database: Database, task: str) -> Experiment:
    """The running experiment of `task`, else its last one; NotFoundError when no share was ever given."""
    changes = history(database, task)
    given = [change for change in changes if change.share_bp > 0]
    if not given:
        raise NotFoundError(
            f"Task {task!r} has no experiment: no release ever got a share.", f"Run `potstill flag set {task} --share 10%`."
        )
    return _experiment(changes, given[-1].salt)


def _experiment(changes: Sequence[FlagChange], salt: str) -> Experiment:
    own = [change for change in changes if change.salt == salt]
    given = [change for change in own if change.share_bp > 0]
    after = [change for change in changes if change.revision > given[-1].revision]
    first = given[0]
    shares = {change.revision: change.share_bp for change in given}
    ended_us = after[0].created_us if after else 0
    return Experiment(first.task, first.release_id, first.engine_model, first.unit, salt, shares, first.created_us, ended_us)


def read_window(database: Database, experiment: Experiment) -> list[Seen]:
    """The app's exchanges that were assigned under `experiment`, in order."""
    statement = among(
        "SELECT variant, flag_revision, unit, state, status, fallback_reason, latency_us, first_byte_us, cost_microusd,"
        " input_hash, output_text FROM exchanges"
        " WHERE task = :task AND variant <> '' AND variant IN ('baseline', 'candidate') AND purpose = 'app'"
        " AND flag_revision IN :revisions"
        " ORDER BY number"
    )
    with database.read() as connection:
        rows = connection.execute(statement, {"task": experiment.task, "revisions": sorted(experiment.shares)})
        return [
            Seen(
                row.variant, row.flag_revision, row.unit, row.state == COMPLETE and 200 <= row.status < 300,
                bool(row.fallback_reason), row.latency_us, row.first_byte_us, row.cost_microusd, row.input_hash,
                normalise(row.output_text),
            )
            for row in rows
        ]  # fmt: skip


def teacher_answers(database: Database, task: str, wanted: set[str]) -> dict[str, list[str]]:
    """What the teacher ever answered to the inputs whose hashes are `wanted`, normalised, repeats included."""
    answers: dict[str, list[str]] = defaultdict(list)
    statement = text(
        "SELECT input_hash, output_text FROM exchanges WHERE task = :task AND input_hash <> '' AND state = 'complete'"
        " AND status BETWEEN 200 AND 299 AND purpose IN ('app', 'relabel', 'eval')"
        " AND (variant <> 'candidate' OR fallback_reason <> '')"
        " AND model_served NOT IN (SELECT engine_model FROM releases WHERE task = :task)"
    )
    with database.read() as connection:
        for row in connection.execute(statement, {"task": task}):
            if row.input_hash in wanted:
                answers[row.input_hash].append(normalise(row.output_text))
    return answers


def normalise(answer: str) -> str:
    """An answer as it is compared: JSON without regard to spacing and order of keys, other text without outer white space."""
    stripped = unicodedata.normalize("NFC", answer).strip()
    if stripped[:1] in ("{", "["):
        try:
            return json.dumps(json.loads(stripped), sort_keys=True, ensure_ascii=False)
        except ValueError:
            return stripped
    return stripped


def divided(experiment: Experiment, window: Sequence[Seen]) -> list[tuple[int, int, float]]:
    """(candidates, units, share) of the units by the share under which each was seen first."""
    counts: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    known = set()
    for seen in window:
        if seen.unit and seen.unit not in known:
            known.add(seen.unit)
            group = counts[experiment.shares[seen.revision]]
            group[0] += seen.variant == CANDIDATE
            group[1] += 1
    return [(candidates, n, share_bp / 10_000) for share_bp, (candidates, n) in sorted(counts.items())]


def sticky_violations(experiment: Experiment, window: Sequence[Seen]) -> int:
    """Units whose variants no fixed point can explain: candidate under a share that is not above one where it was baseline.

    A unit that moved because the share grew or shrank is no violation.
    """
    lowest_candidate: dict[str, int] = {}
    highest_baseline: dict[str, int] = {}
    for seen in window:
        if not seen.unit:
            continue
        share_bp = experiment.shares[seen.revision]
        if seen.variant == CANDIDATE:
            lowest_candidate[seen.unit] = min(share_bp, lowest_candidate.get(seen.unit, share_bp))
        elif seen.variant == BASELINE:
            highest_baseline[seen.unit] = max(share_bp, highest_baseline.get(seen.unit, share_bp))
    return sum(share_bp <= highest_baseline.get(unit, -1) for unit, share_bp in lowest_candidate.items())
