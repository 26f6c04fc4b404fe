"""Inputs that are no duplicates of each other, for a generator that has to know the truth: seeded, any number of them.

The words are those of real questions (banking77, CLINC150, GSM8K in ../shared/data) or, where these are absent, of a grammar.
Single questions come first; then compositions of two to four, many of which share all parts but one with another, so that pairs
just below the threshold abound. No two bases have a Jaccard similarity of character 4-grams of `MOST_ALIKE` or more:

    single questions   all pairs compared
    compositions       parts are compared in the same way but more strictly, and are of like length, so that half of the parts in
                       common cannot reach it; those that share all but one part are compared outright
"""

from __future__ import annotations

import csv
import json
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from curate.likeness.wording import mask, normalise

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
MOST_ALIKE = 0.62
_PARTS_ALIKE = 0.35
_SINGLES, _PARTS, _CHUNK = 8_000, 8_000, 500
_LENGTHS = range(34, 48)
"""Characters of a part."""
_SIBLINGS = 0.4
_SINGLE_SHARE = 0.4

_WHO = (
    "my sister",
    "our accountant",
    "the new tenant",
    "a colleague",
    "the courier",
    "my landlord",
    "the clinic",
    "their lawyer",
    "the bakery",
    "a customer",
)
_DID = (
    "returned",
    "misplaced",
    "cancelled",
    "ordered",
    "repaired",
    "forwarded",
    "refused",
    "painted",
    "measured",
    "borrowed",
    "exported",
    "signed",
)
_WHAT = (
    "a wooden ladder",
    "the blue folder",
    "an invoice",
    "two concert tickets",
    "the garden hose",
    "a broken lamp",
    "the spare key",
    "a winter coat",
    "the server logs",
    "fresh basil",
    "an old atlas",
    "the piano",
)
_WHERE = (
    "in Lisbon",
    "near the harbour",
    "at the office",
    "behind the barn",
    "on platform nine",
    "in room twelve",
    "at the market",
    "under the bridge",
    "in Oslo",
    "by the lake",
    "at school",
    "downtown",
)
_WHY = (
    "for the audit",
    "because it leaked",
    "before the holidays",
    "without asking",
    "after the storm",
    "on request",
    "to save money",
    "by mistake",
    "during lunch",
    "as a favour",
    "for a friend",
    "out of habit",
)


def bases(count: int, seed: int) -> Iterator[str]:
    """`count` inputs, no two of them as alike as `MOST_ALIKE`; ValueError when the words do not suffice."""
    generator = random.Random(seed)
    pool = questions(generator)
    singles = [text for text in pool if len(text) not in _LENGTHS][: min(_SINGLES, math.ceil(_SINGLE_SHARE * count) + 1)]
    taken = _unlike(singles, MOST_ALIKE)
    parts = _unlike([text for text in pool if len(text) in _LENGTHS][: min(_PARTS, count + 100)], _PARTS_ALIKE)
    yield from taken
    yield from _compositions(parts, count - len(taken), generator)


def questions(generator: random.Random) -> list[str]:
    """Real questions where they are at hand, made ones elsewhere; shuffled, none twice."""
    found = list(dict.fromkeys(" ".join(text.split()) for text in (_shared_questions() or _made_questions())))
    generator.shuffle(found)
    return found


def _shared_questions() -> list[str]:
    if not (SHARED / "datasets" / "banking77").is_dir():
        return []
    texts = []
    for name in ("train", "test"):
        with (SHARED / "datasets" / "banking77" / f"{name}.csv").open(encoding="utf-8", newline="") as lines:
            texts += [row["text"] for row in csv.DictReader(lines)]
    clinc = json.loads((SHARED / "datasets" / "clinc150" / "data_full.json").read_text("utf-8"))
    texts += [text for name in sorted(clinc) for text, _ in clinc[name]]
    lines_of_math = (SHARED / "datasets" / "gsm8k" / "train.jsonl").read_text("utf-8").splitlines()
    return texts + [json.loads(line)["question"] for line in lines_of_math]


def _made_questions() -> list[str]:
    return [
        f"{who} {did} {what} {where} {why}" if len(why) % 2 else f"{why}, {who} {did} {what}"
        for who in _WHO
        for did in _DID
        for what in _WHAT
        for where in _WHERE
        for why in _WHY
    ]


def _unlike(texts: Sequence[str], threshold: float) -> list[str]:
    """Those of `texts`, from the first on, that are less similar than `threshold` to all kept before; all pairs are compared."""
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer

    if not texts:
        return []
    vectorizer = CountVectorizer(analyzer=_grams, binary=True, dtype=np.int32)
    rows = vectorizer.fit_transform(texts).tocsr()
    columns, sizes = rows.T.tocsr(), np.diff(rows.indptr)
    is_kept = np.ones(len(texts), np.bool_)
    for start in range(0, len(texts), _CHUNK):
        shared = (rows[start : start + _CHUNK] @ columns).tocoo()
        row, other = start + shared.row, shared.col
        close = (other < row) & (shared.data >= threshold * (sizes[row] + sizes[other] - shared.data))
        for one, before in sorted(zip(row[close].tolist(), other[close].tolist(), strict=True)):
            is_kept[one] &= not is_kept[before]
    return [text for text, kept in zip(texts, is_kept.tolist(), strict=True) if kept]


def _compositions(parts: Sequence[str], count: int, generator: random.Random) -> Iterator[str]:
    """Two to four parts each; a share differ from the composition before in a single part."""
    seen: dict[tuple[int, ...], list[tuple[int, ...]]] = defaultdict(list)
    if len(parts) < 30 and count:
        raise ValueError(f"{len(parts)} parts do not make {count} inputs")
    made, failures = 0, 0
    last: tuple[int, ...] = ()
    while made < count:
        chosen = _sibling(last, len(parts), generator) if last and generator.random() < _SIBLINGS else None
        chosen = chosen or tuple(generator.sample(range(len(parts)), generator.choice((2, 3, 4, 4))))
        rests = [tuple(sorted(chosen[:place] + chosen[place + 1 :])) for place in range(len(chosen))]
        likely = {other for rest in rests if len(rest) > 1 for other in seen[rest]}
        likely |= set(seen[tuple(sorted(chosen))])
        text = _sentence(chosen, parts)
        grams = _grams(text)
        if any(_jaccard(grams, _grams(_sentence(other, parts))) >= MOST_ALIKE for other in likely):
            failures += 1
            if failures > 20 * count + 1_000:
                raise ValueError(f"the words at hand do not make {count} inputs that differ enough")
            continue
        for rest in (*rests, tuple(sorted(chosen))):
            if len(rest) > 1:
                seen[rest].append(chosen)
        last = chosen
        made += 1
        yield text


def _sibling(chosen: tuple[int, ...], parts: int, generator: random.Random) -> tuple[int, ...] | None:
    """`chosen` with another part in one place; None where that part is in it already."""
    place, other = generator.randrange(len(chosen)), generator.randrange(parts)
    return None if other in chosen else (*chosen[:place], other, *chosen[place + 1 :])


def _sentence(chosen: Sequence[int], parts: Sequence[str]) -> str:
    return ". ".join(parts[place].rstrip(".?! ") for place in chosen)


def _grams(text: str) -> frozenset[str]:
    flat = normalise(mask(text))
    return frozenset(flat[start : start + 4] for start in range(max(1, len(flat) - 3)))


def _jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)
