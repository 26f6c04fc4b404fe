"""Does a frozen version already hold this input, or one like it, and on which side? Answered from hashes, without a build.

A version carries the keys of its inputs: hashes of what varies, from which no text can be read. They find candidates; the verdict
is made on the texts, as in a build. Where the text of a candidate was erased, the keys alone decide, and a match is `likely`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil

import numpy as np
import numpy.typing as npt

from capture.messages import Message
from curate.cleaning.hiding import hide
from curate.datasets import DatasetVersion
from curate.examples import from_line
from curate.freeze import TEMPLATE, read_bytes, read_file
from curate.inputs import Input
from curate.likeness.duplicates import Wording, worded
from curate.likeness.similarity import ROWS, arrow_texts, band_keys, jaccard
from curate.likeness.templates import UNIVERSAL_SHARE, Asked, Stripper, Template, read_input
from curate.settings import CurateSettings
from curate.splits import SPLITS, TRAIN
from curate.tasks.kept_templates import from_json
from curate.version_keys import KEYS, KeyRows, hash_of, load_keys, make_keys

EXACT, NEAR, LIKELY = "exact", "near", "likely"
_LEAST, _LOOKED_AT, _AT_ONCE = 5, 500, 2_000


@dataclass(frozen=True, slots=True)
class Match:
    """The example of a frozen version that is the same as a new input, or like it.

    `kind` is exact, near, or likely: only the keys are left, so `similarity` is estimated. `exchange_id` is '' of an erased one.
    """

    kind: str
    split: str
    exchange_id: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of `checked` inputs: the match of each that has one, by its name, and why others are no inputs, by theirs."""

    checked: int
    matches: Mapping[str, Match]
    bad: Mapping[str, str]


def check_named(version: DatasetVersion, named: Iterable[tuple[str, Input | str]]) -> Checked:
    """`check_rows` for as many inputs as you like, of which some thousands are in memory at a time.

    Each comes with its name; a text in place of the input says what is wrong with it.
    """
    compare = _comparison(version)
    remaining, checked = iter(named), 0
    matches: dict[str, Match] = {}
    bad: dict[str, str] = {}
    while some := list(islice(remaining, _AT_ONCE)):
        bad |= {name: found for name, found in some if isinstance(found, str)}
        inputs = [(name, found) for name, found in some if not isinstance(found, str)]
        compared = zip(inputs, compare([found for _, found in inputs]), strict=True)
        matches |= {name: match for (name, _), match in compared if match}
        checked += len(inputs)
    return Checked(checked, matches, bad)


def check_rows(version: DatasetVersion, inputs: Sequence[Input]) -> list[Match | None]:
    """For each input (messages, which must not be empty, and the tools it offers) the example of `version` that is most like it.

    None where nothing is as similar as the version's `near_threshold`. An equal one goes before a similar one, eval before train.
    StoreError when the version's files were changed or are gone.
    """
    return _comparison(version)(inputs) if inputs else []


def _comparison(version: DatasetVersion) -> Callable[[Sequence[Input]], list[Match | None]]:
    """What `check_rows` does with inputs, once the version's files were read."""
    template = from_json(read_file(version.folder, version.manifest, TEMPLATE))
    strippers = Stripper(template), Stripper(_universal(template))
    said = version.manifest["settings"]
    settings = CurateSettings(personal_data=said["personal_data"], presidio=bool(said.get("presidio")))
    threshold = float(said["near_threshold"])
    keys, lines = _keys_of(version, strippers), _lines_by_input(version)

    def compare(inputs: Sequence[Input]) -> list[Match | None]:
        if not inputs:
            return []
        wordings = [_worded(strippers, read_input(_hidden(messages, settings), tools)) for messages, tools in inputs]
        candidates = _candidates(keys, wordings)
        wanted = {int(keys["input"][place]) for places in candidates for place in places}
        texts = _texts(version, wanted, lines, strippers)
        return [_best(wording, keys[places], texts, threshold) for wording, places in zip(wordings, candidates, strict=True)]

    return compare


def _hidden(messages: Sequence[Message], settings: CurateSettings) -> list[Message]:
    """The messages with tokens for personal data where the version has them."""
    if settings.personal_data != "pseudonymise":
        return list(messages)
    texts, _ = hide([message.text for message in messages], settings)
    return [replace(message, text=text) for message, text in zip(messages, texts, strict=True)]


def _worded(strippers: tuple[Stripper, Stripper], asked: Asked) -> Wording:
    return worded(asked, *strippers)


def _universal(template: Template) -> Template:
    """The part of a template that is in most inputs."""
    minimum = max(_LEAST, ceil(UNIVERSAL_SHARE * template.distinct))

    def frequent(counts: Mapping[str, int]) -> dict[str, int]:
        return {piece: count for piece, count in counts.items() if count >= minimum}

    return replace(template, minimum=minimum, segments=frequent(template.segments), phrases=frequent(template.phrases))


def _keys_of(version: DatasetVersion, strippers: tuple[Stripper, Stripper]) -> KeyRows:
    """The version's keys; those of a version that was frozen without are made of its examples."""
    if KEYS not in version.manifest["files"]:
        examples = [(split, from_line(line, version.task, split)) for split, line in _lines(version)]
        worded = [_worded(strippers, read_input(example.messages, example.tools)) for _, example in examples]
        made = make_keys(worded, [example.input_key for _, example in examples], [split for split, _ in examples])
        return load_keys(made)
    return load_keys(read_bytes(version.folder, version.manifest, KEYS))


def _candidates(keys: KeyRows, wordings: Sequence[Wording]) -> list[npt.NDArray[np.int64]]:
    """For each wording the places of keys that agree with it in one hash at least; of a crowd the first `_LOOKED_AT`."""
    asked = band_keys(arrow_texts([wording.varying for wording in wordings]))
    asked = np.column_stack([asked, np.array([hash_of(wording.varying) for wording in wordings], np.uint64)])
    known = np.column_stack([keys["bands"], keys["exact"]])
    found: list[list[npt.NDArray[np.int64]]] = [[] for _ in wordings]
    for column in range(known.shape[1]):
        order = np.argsort(known[:, column], kind="stable")
        values = known[order, column]
        first, end = (np.searchsorted(values, asked[:, column], side=side) for side in ("left", "right"))
        for row in np.flatnonzero(end > first).tolist():
            found[row].append(order[first[row] : min(end[row], first[row] + _LOOKED_AT)])
    return [np.unique(np.concatenate(places)) if places else np.empty(0, np.int64) for places in found]


def _texts(
    version: DatasetVersion,
    wanted: set[int],
    lines: Mapping[int, Sequence[tuple[str, str]]],
    strippers: tuple[Stripper, Stripper],
) -> dict[tuple[int, int], list[tuple[str, Wording]]]:
    """Exchange and wording of the examples whose input hash is wanted, by that hash and split."""
    found: dict[tuple[int, int], list[tuple[str, Wording]]] = defaultdict(list)
    for key in wanted & lines.keys():
        for split, line in lines[key]:
            example = from_line(line, version.task, split)
            wording = _worded(strippers, read_input(example.messages, example.tools))
            found[key, SPLITS.index(split)].append((example.exchange_id, wording))
    return found


def _lines_by_input(version: DatasetVersion) -> dict[int, list[tuple[str, str]]]:
    """Split and line of every example, by the hash of its input."""
    found: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for split, line in _lines(version):
        found[hash_of(str(json.loads(line).get("input_key", "")))].append((split, line))
    return found


def _lines(version: DatasetVersion) -> Iterator[tuple[str, str]]:
    for split in SPLITS:
        for line in read_file(version.folder, version.manifest, f"{split}.jsonl").split("\n"):
            if line:
                yield split, line


def _best(
    wording: Wording, keys: KeyRows, texts: Mapping[tuple[int, int], list[tuple[str, Wording]]], threshold: float
) -> Match | None:
    held = {place: texts.get((int(row["input"]), int(row["split"])), []) for place, row in enumerate(keys)}
    known = [(SPLITS[keys[place]["split"]], example, other) for place, found in held.items() for example, other in found]
    equal = [Match(EXACT, split, example, 1.0) for split, example, other in known if other == wording]
    if equal:
        return min(equal, key=_order)
    found = _near(wording, known, threshold)
    erased = [place for place, examples in held.items() if not examples]
    bands = band_keys(arrow_texts([wording.varying]))[0] if erased else None
    for place in erased:
        row = keys[place]
        is_equal = int(row["exact"]) == hash_of(wording.varying)
        estimate = 1.0 if is_equal else float((row["bands"] == bands).mean() ** (1 / ROWS))
        if estimate >= threshold:
            found.append(Match(LIKELY, SPLITS[row["split"]], "", estimate))
    return min(found, key=_order, default=None)


def _near(wording: Wording, known: Sequence[tuple[str, str, Wording]], threshold: float) -> list[Match]:
    alike = [each for each in known if (each[2].critical, each[2].turns) == (wording.critical, wording.turns)]
    if not alike:
        return []
    similar = np.minimum(
        _similar(wording.varying, [other.varying for _, _, other in alike]),
        _similar(wording.own, [other.own for _, _, other in alike]),
    )
    return [
        Match(NEAR, split, example, float(similarity))
        for (split, example, _), similarity in zip(alike, similar, strict=True)
        if similarity >= threshold
    ]


def _order(match: Match) -> tuple[float, int, bool, str]:
    return -match.similarity, (EXACT, LIKELY, NEAR).index(match.kind), match.split == TRAIN, match.exchange_id


def _similar(left: str, right: Sequence[str]) -> npt.NDArray[np.float64]:
    return np.asarray(jaccard(arrow_texts([left] * len(right)), arrow_texts(list(right))), np.float64)
