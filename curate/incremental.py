"""Does a frozen version already hold this input, or one like it, and on which side? Answered from hashes, without a build.

A version carries the keys of its inputs: hashes of what varies, from which no text can be read. They find candidates; the verdict
is made on the texts, as in a build. Where the text of a candidate was erased, the keys alone decide, and a match is `likely`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from capture import feed, openai_chat
from capture.database import Database
from capture.errors import StoreError
from capture.filters import parse_filter, quote
from capture.ids import content_hash
from capture.loose_json import as_list
from capture.messages import Message
from capture.offered import Tool, tool_from_openai
from curate.cleaning.hiding import hide
from curate.datasets import DatasetVersion
from curate.examples import from_line
from curate.freeze import TEMPLATE, read_file
from curate.likeness.duplicates import Wording, worded
from curate.likeness.similarity import ROWS, arrow_texts, band_keys, jaccard
from curate.likeness.templates import UNIVERSAL_SHARE, Asked, Stripper, Template, read_input
from curate.settings import CurateSettings
from curate.splits import SPLITS, TRAIN
from curate.tasks.aliases import expand
from curate.tasks.kept_templates import from_json
from curate.version_keys import KEYS, KeyRows, hash_of, load_keys, make_keys

EXACT, NEAR, LIKELY = "exact", "near", "likely"
_LEAST, _LOOKED_AT = 5, 500

Input = tuple[Sequence[Message], Sequence[Tool]]
"""Messages, and the tools that they may call."""


@dataclass(frozen=True, slots=True)
class Match:
    """The example of a frozen version that is the same as a new input, or like it.

    `kind` is exact, near, or likely: only the keys are left, so `similarity` is estimated. `exchange_id` is '' of an erased one.
    """

    kind: str
    split: str
    exchange_id: str
    similarity: float


def check_rows(version: DatasetVersion, inputs: Sequence[Input]) -> list[Match | None]:
    """For each input (messages, which must not be empty, and the tools it offers) the example of `version` that is most like it.

    None where nothing is as similar as the version's `near_threshold`. An equal one goes before a similar one, eval before train.
    StoreError when the version's files were changed or are gone.
    """
    if not inputs:
        return []
    template = from_json(read_file(version.folder, version.manifest, TEMPLATE))
    strippers = Stripper(template), Stripper(_universal(template))
    said = version.manifest["settings"]
    settings = CurateSettings(personal_data=said["personal_data"], presidio=bool(said.get("presidio")))
    wordings = [_worded(strippers, read_input(_hidden(messages, settings), tools)) for messages, tools in inputs]
    keys = _keys_of(version, strippers)
    candidates = _candidates(keys, wordings)
    texts = _texts(version, {int(keys["input"][place]) for places in candidates for place in places}, strippers)
    threshold = float(said["near_threshold"])
    return [_best(wording, keys[places], texts, threshold) for wording, places in zip(wordings, candidates, strict=True)]


def read_lines(lines: Iterable[bytes]) -> tuple[dict[int, Input], dict[int, str]]:
    """The inputs on lines of JSON, by number of the line from 1, and why others are none.

    A line is `{"messages": [...], "tools": [...]}` in OpenAI's form, whose last answer does not count, or `{"text": "..."}`.
    """
    found: dict[int, Input] = {}
    bad: dict[int, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            bad[number] = "it is no JSON"
            continue
        given = _input_of(row)
        if isinstance(given, str):
            bad[number] = given
        else:
            found[number] = given
    return found, bad


def captured(database: Database, task: str, words: str) -> tuple[list[str], list[Input]]:
    """Ids and inputs of the task's captured exchanges that match the filter `words`."""
    names: list[str] = []
    inputs: list[Input] = []
    for tag in expand(database, task):
        for exchange, content in feed.with_content(database, parse_filter(f"task:{quote(tag)} purpose:app {words}")):
            conversation, offered = feed.asked_of(exchange, content)
            if conversation.asked:
                names.append(exchange.id)
                inputs.append((conversation.asked, offered.tools))
    return names, inputs


def _input_of(row: object) -> Input | str:
    """The input that a line holds, or what is wrong with it."""
    if not isinstance(row, dict):
        return "it is no object"
    if isinstance(row.get("text"), str):
        return (Message("user", row["text"]),), ()
    messages = openai_chat.asked(row) if isinstance(row.get("messages"), list) else ()
    if messages and messages[-1].role == "assistant":
        messages = messages[:-1]
    if not messages:
        return "it has neither messages nor text"
    return messages, tuple(tool_from_openai(tool) for tool in as_list(row.get("tools")) if isinstance(tool, dict))


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
        examples = [(split, from_line(json.dumps(row), version.task, split)) for split, row in _rows(version)]
        worded = [_worded(strippers, read_input(example.messages, example.tools)) for _, example in examples]
        made = make_keys(worded, [example.input_key for _, example in examples], [split for split, _ in examples])
        return load_keys(made)
    path = version.folder / KEYS
    if not path.is_file():
        raise StoreError(f"{path} is missing.", "Build the dataset again: the same exchanges give the same version.")
    data = path.read_bytes()
    if content_hash(data) != version.manifest["files"][KEYS]:
        raise StoreError(f"{path} was changed after it was frozen.", "Restore it, or build a new version.")
    return load_keys(data)


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
    version: DatasetVersion, wanted: set[int], strippers: tuple[Stripper, Stripper]
) -> dict[tuple[int, int], list[tuple[str, Wording]]]:
    """Exchange and wording of the examples whose input hash is wanted, by that hash and split."""
    found: dict[tuple[int, int], list[tuple[str, Wording]]] = defaultdict(list)
    for split, row in _rows(version) if wanted else ():
        key = hash_of(str(row.get("input_key", "")))
        if key in wanted:
            example = from_line(json.dumps(row), version.task, split)
            wording = _worded(strippers, read_input(example.messages, example.tools))
            found[key, SPLITS.index(split)].append((example.exchange_id, wording))
    return found


def _rows(version: DatasetVersion) -> Iterator[tuple[str, dict[str, Any]]]:
    for split in SPLITS:
        for line in read_file(version.folder, version.manifest, f"{split}.jsonl").split("\n"):
            if line:
                yield split, json.loads(line)


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
