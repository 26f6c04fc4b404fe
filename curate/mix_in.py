"""General-purpose examples mixed into train, so that a student that learns one task does not forget the others.

They come from the newest frozen versions of other tasks, and only from their train splits, so that no task's eval is learnt
anywhere; what was pinned there since stays out too. What overlaps with this version's eval or golden set, by the measures of
the certificate, is left out. Each keeps the name of the task that it came from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from capture.errors import NotFoundError, SettingsError
from curate.doubting.contradictions import answers
from curate.examples import Example
from curate.likeness.certificate import find_overlap
from curate.likeness.duplicates import Wording, read_wordings
from curate.likeness.templates import read_input
from curate.settings import CurateSettings


@dataclass(frozen=True, slots=True)
class MixIn:
    """What is mixed in, by task and then newest first, and the wording of each, which the certificate must include.

    `overlapping` counts examples that were left out because they overlap with eval; `wanted` is how many were asked for.
    """

    examples: tuple[Example, ...]
    wordings: tuple[Wording, ...]
    overlapping: int
    wanted: int

    def without(self, places: Collection[int]) -> MixIn:
        """What is left when the examples in these places go for their overlap with eval."""
        kept = [place for place in range(len(self.examples)) if place not in places]
        examples = tuple(self.examples[place] for place in kept)
        wordings = tuple(self.wordings[place] for place in kept)
        return MixIn(examples, wordings, self.overlapping + len(self.examples) - len(kept), self.wanted)

    @property
    def by_task(self) -> Mapping[str, int]:
        """How many came from each task."""
        return dict(sorted(Counter(example.task for example in self.examples).items()))


NOTHING = MixIn((), (), 0, 0)


def task_names(settings: CurateSettings, task: str, whole: Callable[[str], str] = str) -> list[str]:
    """The tasks that [curate] mix_in names, each once; SettingsError when `task` is among them.

    `whole` gives the task that a name, which may be an alias, counts as.
    """
    names = list(dict.fromkeys(whole(name.strip()) for name in settings.mix_in.split(",") if name.strip()))
    if task in names:
        raise SettingsError(f"mix_in names {task!r}, the task that is built.", "Name other tasks in section [curate].")
    return names


def read_mix_in(
    names: Sequence[str], load_train: Callable[[str], Sequence[Example]], held_out: Callable[[str], Collection[str]]
) -> dict[str, list[Example]]:
    """The train examples of each task, as `load_train` reads them from its newest version, without what was mixed into it.

    `held_out` gives the input keys that are no longer train in a task: what was pinned after that version was frozen.
    NotFoundError, naming the task, where none is frozen.
    """
    found = {}
    for name in names:
        try:
            examples = load_train(name)
        except NotFoundError as error:
            what = f"mix_in names task {name!r}, which has no dataset version."
            raise NotFoundError(what, f"Build it first: `potstill dataset build {name}`, or take it out of mix_in.") from error
        gone = held_out(name)
        found[name] = [example for example in examples if example.task == name and example.input_key not in gone]
    return found


def pick_mix_in(
    others: Mapping[str, Sequence[Example]],
    trained: int,
    held_out: Sequence[Wording],
    held_out_keys: frozenset[str],
    settings: CurateSettings,
) -> MixIn:
    """The newest examples of each task, as many of each, until they are `mix_in_share` of the train split.

    `trained` counts train without them, `held_out` are the wordings of val, test and golden, `held_out_keys` their input keys.
    Where a task has too few, the others give more. Pure and deterministic; ids of exchanges sort by time.
    """
    wanted = int(trained * settings.mix_in_share / (1 - settings.mix_in_share) + 1e-9)
    fit: dict[str, list[tuple[Example, Wording]]] = {}
    overlapping = 0
    for name in sorted(others):
        examples = sorted(others[name], key=lambda example: example.exchange_id, reverse=True)
        wordings = _wordings(examples)
        gone = find_overlap(wordings, held_out, settings).rows
        gone |= {row for row, example in enumerate(examples) if example.input_key in held_out_keys}
        overlapping += len(gone)
        fit[name] = [pair for row, pair in enumerate(zip(examples, wordings, strict=True)) if row not in gone]
    shares = _shares({name: len(pairs) for name, pairs in fit.items()}, wanted)
    chosen = [pair for name, pairs in fit.items() for pair in pairs[: shares[name]]]
    return MixIn(tuple(example for example, _ in chosen), tuple(wording for _, wording in chosen), overlapping, wanted)


def _wordings(examples: Sequence[Example]) -> list[Wording]:
    """What varies in them: their own app's prompt is theirs to find, not that of the task that is built."""
    if not examples:
        return []
    inputs = [read_input(example.messages, example.tools) for example in examples]
    return read_wordings(inputs, answers([example.answer for example in examples]))[1]


def _shares(counts: Mapping[str, int], wanted: int) -> dict[str, int]:
    """`wanted` in equal parts; what a task cannot give, the others do. Odd ones go to the first by name."""
    shares = dict.fromkeys(counts, 0)
    left = min(wanted, sum(counts.values()))
    while left:
        open_ones = [name for name in counts if shares[name] < counts[name]]
        part = max(1, left // len(open_ones))
        for name in open_ones:
            given = min(part, counts[name] - shares[name], left)
            shares[name] += given
            left -= given
    return shares
