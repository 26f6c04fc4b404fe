"""What speaks against single targets: a phrase that dictates them, or what the rest of the task would answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from capture.progress import Progress
from curate import splits
from curate.doubting.contradictions import TEXT, Kind
from curate.doubting.poison import Poisoned, find_poisoned
from curate.doubting.suspects import Suspect, find_suspects, unjudged
from curate.likeness.duplicates import Comparison
from curate.likeness.templates import Asked, Stripper, Template
from curate.selection import Candidate
from curate.settings import CurateSettings

OFF = "off"


@dataclass(frozen=True, slots=True)
class Doubts:
    """Rows whose target a rare phrase seems to dictate, and rows whose label the rest of the task contradicts, by row.

    `unjudged` counts labels that nobody looked at because the task has too many.
    """

    poisoned: Mapping[int, Poisoned]
    suspects: Mapping[int, Suspect]
    unjudged: int = 0


def find(
    rows: Sequence[Candidate], inputs: Sequence[Asked], template: Template, said: Sequence[str], kind: Kind,
    comparison: Comparison, alive: Sequence[int], accepted: Collection[str], settings: CurateSettings, on_progress: Progress,
) -> Doubts:  # fmt: skip
    """Doubts about the rows `alive` whose target no person confirmed; none where targets are free text.

    `said` is the comparable form of each target and `kind` how they are compared. Targets are judged as labels: they
    must recur. Inputs are read as they were written, without the app's `template`: a trigger may be a sign that no comparison
    looks at.
    """
    asked = [row for row in alive if rows[row].exchange_id not in accepted]
    if settings.poisoned == settings.wrong_answers == OFF or kind.name == TEXT:
        return Doubts({}, {})
    on_progress("doubt targets", 0, len(rows))
    stripper = Stripper(template)
    texts, labels = [stripper.variable_part(inputs[row]) for row in alive], [said[row] for row in alive]
    poisoned: Sequence[Poisoned] = ()
    if settings.poisoned != OFF:
        poisoned = find_poisoned(texts, labels, [rows[row].unit for row in alive], on_progress=on_progress)
    suspects: Sequence[Suspect] = ()
    if settings.wrong_answers != OFF:
        suspects = find_suspects(texts, labels, _groups(comparison, alive), on_progress=on_progress)
    doubtful = set(asked)
    return Doubts(
        {alive[one.row]: one for one in poisoned if alive[one.row] in doubtful},
        {alive[one.row]: one for one in suspects if alive[one.row] in doubtful},
        unjudged(labels),
    )


def _groups(comparison: Comparison, alive: Sequence[int]) -> list[int]:
    """The group of similar inputs that each row belongs to."""
    pairs = list(zip(comparison.loose.a.tolist(), comparison.loose.b.tolist(), strict=True))
    of_node = splits.components(len(comparison.rows), pairs)
    of_row = {row: of_node[node] for node, members in enumerate(comparison.rows) for row in members}
    return [of_row[row] for row in alive]
