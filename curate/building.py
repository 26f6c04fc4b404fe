"""Makes a dataset version out of a store: selection, draft, preferences, and what the store remembers of it once it is frozen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from capture.database import Database
from capture.errors import NotEnoughError
from capture.progress import Progress
from curate.bill import bill_in_words, make_bill
from curate.draft import Draft, make_draft
from curate.examples import Example
from curate.freeze import hashed
from curate.gathering import gather
from curate.history import former_eval, sides_of, write_examples, write_splits
from curate.likeness.engine import engine_for
from curate.likeness.templates import Asked, Template
from curate.manifest import Sources, describe
from curate.mix_in import read_mix_in, task_names
from curate.preferring.evidence import collect_pairs
from curate.provenance import terms_figures
from curate.sampling import NOT_SAMPLED
from curate.selection import Candidate
from curate.settings import CurateSettings
from curate.splits import TRAIN
from curate.tasks.aliases import canonical
from curate.tasks.kept_templates import Settled, keep_template


@dataclass(frozen=True, slots=True)
class MadeVersion:
    """A version that is not written yet: its manifest (with hashes, without number), its files by name, and its draft."""

    manifest: dict[str, Any]
    files: Mapping[str, str | bytes]
    draft: Draft
    template: Settled


def make_version(
    database: Database, task: str, tags: tuple[str, ...], settings: CurateSettings, forced: str, on_progress: Progress,
    load_train: Callable[[str], Sequence[Example]], held_out: Iterable[Example],
) -> MadeVersion:  # fmt: skip
    """The next version of `task`, which is tagged with any of `tags`. NotEnoughError with the bill when too little is left.

    `load_train` gives the train split of another task, `held_out` is what earlier versions of this one did not train on.
    """
    engine = engine_for(settings)
    names = task_names(settings, task, lambda name: canonical(database, name))
    others = read_mix_in(names, load_train, lambda name: _held_out(database, name))
    gathered = gather(database, task, tags, settings, forced, on_progress)
    selection = gathered.selection
    if not selection.candidates:
        bill = make_bill(len(selection.dropped), 0, Counter(selection.dropped.values()))
        raise NotEnoughError(f"Task {task!r} gives no examples: {bill_in_words(bill)}.", _next_step(settings))
    used: list[Settled] = []

    def settle(mined: Template, inputs: Sequence[Asked]) -> Template:
        used.append(gathered.settle(mined, inputs))
        return used[-1].template

    former, unknown = former_eval(gathered.history, selection.candidates, held_out)
    history = replace(gathered.history, former=tuple(former))
    draft = make_draft(
        selection.candidates, history, settings, on_progress, engine=engine, settle=settle,
        others=others,
    )  # fmt: skip
    train = [one for one in draft.candidates if draft.splits.get(one.exchange_id) == TRAIN]
    rest = [one for one in draft.candidates if one.exchange_id not in draft.splits]
    pairs = collect_pairs(database, task, train, rest, settings, forced=forced, on_progress=on_progress)
    (template,) = used
    terms = terms_figures(_kept(draft), gathered.provenance, settings, forced)
    sources = Sources(selection, draft, gathered.golden, pairs, template, terms, unknown)
    manifest, files = describe(task, settings, sources)
    _require_enough(manifest, settings)
    return MadeVersion(hashed(manifest, files), files, draft, template)


def _held_out(database: Database, task: str) -> set[str]:
    with database.read() as connection:
        return {key for key, side in sides_of(connection, task).items() if side != TRAIN}


def _kept(draft: Draft) -> list[Candidate]:
    return [candidate for candidate in draft.candidates if candidate.exchange_id in draft.splits]


def remember(connection: Connection, made: MadeVersion, number: int) -> None:
    """Writes down what Review shows, which template was used, and for ever where each input of version `number` went."""
    task = made.manifest["task"]
    write_splits(connection, task, made.draft, number)
    write_examples(connection, task, made.draft)
    keep_template(connection, made.template, min(one.started_us for one in made.draft.candidates))


def _require_enough(manifest: Mapping[str, Any], settings: CurateSettings) -> None:
    counts = manifest["counts"]
    if manifest["bill"]["kept"] >= settings.minimum_examples and all(counts.values()):
        return
    sides = ", ".join(f"{split} {count}" for split, count in counts.items())
    raise NotEnoughError(
        f"Task {manifest['task']!r} gives {manifest['bill']['kept']} examples ({sides}), and a version needs "
        f"{settings.minimum_examples} and one in each split: {bill_in_words(manifest['bill'])}.",
        _more_room(manifest["bill"], settings)
        or (_next_step(settings) if manifest["bill"]["kept"] < settings.minimum_examples else _SPLIT_STEP),
    )


_SPLIT_STEP = (
    "Conversations and look-alikes stay in one split, and these are too few or too large to hold any out: send more traffic of "
    "this task. Larger ones may be held out with a higher val_share and test_share in section [curate]."
)


def _more_room(bill: Mapping[str, Any], settings: CurateSettings) -> str:
    if not bill["dropped"].get(NOT_SAMPLED) or settings.max_examples > bill["kept"]:
        return ""
    return f"What eval holds stays, so max_examples = {settings.max_examples} in section [curate] is too few: raise it."


def _next_step(settings: CurateSettings) -> str:
    widen = ", widen filter" if settings.filter else ""
    return f"Send more traffic of this task{widen}, or lower minimum_examples in section [curate]."
