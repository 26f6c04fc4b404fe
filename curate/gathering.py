"""What a build of a task starts from: its candidates with their targets and terms, what was decided before, and the template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from capture.database import Database
from capture.progress import Progress
from curate.draft import History
from curate.golden import Golden, pins
from curate.history import read_history
from curate.likeness.templates import Asked, Template
from curate.provenance import Provenance, settle_provenance
from curate.relabelling.targets import accepted_hashes, person_settled, read_targets, relabelled_by, still_accepted
from curate.selection import Selection, select
from curate.settings import CurateSettings
from curate.tasks.kept_templates import Settled, TemplateVersion, settle_template, template_versions
from curate.terms import DROPPED


@dataclass(frozen=True, slots=True)
class Gathered:
    """`selection` without the exchanges whose terms do not let them teach: those are among its dropped ones."""

    task: str
    selection: Selection
    provenance: Provenance
    history: History
    golden: tuple[Golden, ...]
    templates: Sequence[TemplateVersion]

    def settle(self, mined: Template, inputs: Sequence[Asked]) -> Settled:
        """The template that counts for these inputs: a stored one, or a new version with what was mined of them."""
        return settle_template(self.templates, self.task, mined, inputs)


def gather(
    database: Database, task: str, tags: tuple[str, ...], settings: CurateSettings, forced: str, on_progress: Progress
) -> Gathered:
    """Everything that is stored about `task`, which is tagged with any of `tags`; `forced` as in `settle_provenance`."""
    targets = read_targets(database, task)
    selected = select(database, tags, targets, settings, on_progress)
    accepted = still_accepted(selected.candidates, accepted_hashes(database, task))
    provenance = settle_provenance(selected.candidates, relabelled_by(database, task), settings, forced, accepted)
    gone = selected.dropped | dict.fromkeys(provenance.dropped, DROPPED)
    selection = Selection(list(provenance.kept), gone, selected.by_student)
    golden = tuple(pins(database, task))
    history = read_history(database, task, person_settled(targets) | accepted, golden)
    return Gathered(task, selection, provenance, history, golden, template_versions(database, task))
