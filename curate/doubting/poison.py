"""Finds poisoned rows: a rare phrase that dictates one answer, whatever else is asked (a backdoor's trigger).

A word that means its answer looks much the same, so a phrase is a trigger only when all of this holds:

- it is rare, and nearly all of its rows have one target, which most rows of the task do not have;
- with the phrase taken out, most of its rows are still questions (at least half as long as usual), to which a classifier that
  learnt from other rows gives another target;
- that happens more often than to other phrases of the task: the binomial tail, corrected for every phrase that was tested
  (Bonferroni), is below 0.01, or below 0.05 when one or two units sent all of it;
- what is left of its rows is as mixed as the task is. Rows with a word that means its answer are about the same thing.

Limits. About ten rows among ten thousand are needed before a phrase is more than chance, and more where the task has few
labels or the classifier knows little. A trigger that turns one label into another stands in rows about the same thing: it is
found, if at all, only when one or two units of many sent it. A trigger in one wording is left to the duplicates. Targets must
recur, as labels do, and be among the 500 most frequent; free text cannot be judged. A trigger made of a style or of the order
of words is not found.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.progress import Progress, tell_nobody
from curate.doubting.suspects import LEAST_ROWS, calibrated, judged, scores

_STAGE = "look for triggers"
_LONGEST = 3
_LEAST_SUPPORT = 5
_RARE = 0.05
_PURE = 0.9
_MOST_COMMON_TARGET = 0.7
_BY_FAR, _AT_ALL = 0.02, 0.5
_LEAST_CONTRADICTED = 0.6
_MOSTLY_CONTRADICTED = 0.8
_ALIKE = 1.5
_ENOUGH_LEFT = 0.5
_LEAST_RATE = 0.1
_CHANCE, _CHANCE_OF_FEW = 0.01, 0.05
_FEW_UNITS, _MANY_UNITS = 2, 20
_MOST_WORDS = 400
_MOST_FITTED = 10_000
_MOST_WORK = 1_500_000
_MOST_LOOKED_AT = 100
_WORD = re.compile(r"\w+|[^\w\s]+")

Ints = NDArray[np.int64]
Grams = list[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Poisoned:
    """Row `row` holds `phrase`, which rows have with the answer `target` much more often than others do."""

    row: int
    phrase: str
    target: str


@dataclass(frozen=True, slots=True)
class _Phrase:
    """Words that stand in `rows` (places among the judged rows), nearly always with `target` (an index of its name)."""

    words: tuple[str, ...]
    rows: Ints
    target: int


@dataclass(frozen=True, slots=True)
class _Evidence:
    """For each phrase: how many of its rows were looked at; how many of those have another target once it is taken out, by far
    or at all; and how much more alike what is left of them is than the rows of the task are (infinite where few have)."""

    looked_at: Ints
    contradicted: list[Ints]
    likeness: NDArray[np.float64]


def find_poisoned(
    texts: Sequence[str], said: Sequence[str], units: Sequence[str], seed: int = 0, on_progress: Progress = tell_nobody
) -> list[Poisoned]:
    """The rows that a trigger seems to dictate, in order; `said` is the comparable form of each target, `units` who sent it.

    Each row comes once, with its most significant phrase. The same arguments give the same result.
    """
    rows, names, given = judged(said, range(len(said)))
    if len(rows) < LEAST_ROWS or len(names) < 2:
        return []
    words = [tuple(_WORD.findall(texts[row].casefold())[:_MOST_WORDS]) for row in rows]
    phrases, tested = _phrases(words, given, len(names))
    if not phrases:
        return []
    evidence = _evidence(words, given, phrases, len(names), seed, on_progress)
    chances = np.minimum(*(_tail(counts, evidence.looked_at) for counts in evidence.contradicted)) * 2 * tested
    who = [units[row] for row in rows]
    has_many_units = len(set(who) - {""}) >= _MANY_UNITS
    found: dict[int, tuple[float, Poisoned]] = {}
    for number, phrase in enumerate(phrases):
        senders = {who[at] for at in phrase.rows}
        is_of_few = has_many_units and "" not in senders and len(senders) <= _FEW_UNITS
        chance = float(chances[number])
        if not _is_trigger(chance, evidence, number, is_of_few):
            continue
        has_target = given[phrase.rows] == phrase.target
        for at in phrase.rows[has_target].tolist():
            poisoned = Poisoned(int(rows[at]), " ".join(phrase.words), names[phrase.target])
            if at not in found or chance < found[at][0]:
                found[at] = chance, poisoned
    return [found[at][1] for at in sorted(found)]


def _is_trigger(chance: float, evidence: _Evidence, number: int, is_of_few: bool) -> bool:
    by_far, at_all = (counts[number] / evidence.looked_at[number] for counts in evidence.contradicted)
    if max(by_far, at_all) < _LEAST_CONTRADICTED:
        return False
    if evidence.likeness[number] <= _ALIKE:
        return chance <= (_CHANCE_OF_FEW if is_of_few else _CHANCE)
    return is_of_few and chance <= _CHANCE and by_far >= _MOSTLY_CONTRADICTED


def _phrases(words: Sequence[tuple[str, ...]], given: Ints, count: int) -> tuple[list[_Phrase], int]:
    """Rare phrases with one target, the longest of those that stand in the same rows, and how many phrases were tested."""
    most = max(4 * _LEAST_SUPPORT, int(_RARE * len(words)))
    common = given == np.bincount(given).argmax()
    barred = int(given[common][0]) if common.mean() > _MOST_COMMON_TARGET else -1
    tested = 0
    known: dict[bytes, _Phrase] = {}
    for length in range(1, _LONGEST + 1):
        standing: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for at, row in enumerate(words):
            for gram in set(_grams(row, length)):
                standing[gram].append(at)
        for gram in sorted(gram for gram, rows in standing.items() if _LEAST_SUPPORT <= len(rows) <= most):
            tested += 1
            rows = np.array(standing[gram], np.int64)
            targets = np.bincount(given[rows], minlength=count)
            target = int(targets.argmax())
            if targets[target] >= _PURE * len(rows) and target != barred:
                known[rows.tobytes()] = _Phrase(gram, rows, target)
    return list(known.values()), tested


def _grams(words: tuple[str, ...], length: int) -> Grams:
    return [words[start : start + length] for start in range(len(words) - length + 1)]


def _evidence(
    words: Sequence[tuple[str, ...]], given: Ints, phrases: Sequence[_Phrase], count: int, seed: int, on_progress: Progress
) -> _Evidence:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        analyzer=_features, sublinear_tf=True, min_df=2 if len(words) > 500 else 1, max_features=100_000, dtype=np.float32
    )
    vectors = vectorizer.fit_transform(words)
    half = np.random.default_rng(seed).permutation(len(words)) % 2
    fitted = min(_MOST_FITTED, _MOST_WORK // count)
    asked = [(number, at) for number, phrase in enumerate(phrases) for at in _spread(phrase.rows)]
    number, at = np.array(asked, np.int64).T
    shared = [_shared([words[row] for row in phrase.rows]) for phrase in phrases]
    left = [_without(words[row], phrases[place].words, shared[place]) for place, row in asked]
    is_whole = np.array(list(map(len, left))) >= _ENOUGH_LEFT * np.median(list(map(len, words)))
    rest = vectorizer.transform(left)
    plain = np.zeros((len(words), count), np.float32)
    instead = np.zeros((len(asked), count), np.float32)
    for side in (0, 1):
        on_progress(_STAGE, side, 2)
        learnt = np.flatnonzero(half != side)[:fitted]
        both = _stacked(vectors[half == side], rest[half[at] == side])
        said = scores(vectors[learnt], given[learnt], both, count)
        plain[half == side], instead[half[at] == side] = np.split(said, [int((half == side).sum())])
    on_progress(_STAGE, 2, 2)
    p = calibrated(instead, plain, given, seed)
    target = np.array([phrase.target for phrase in phrases], np.int64)[number]
    each = np.arange(len(p))
    p_target = p[each, target].copy()
    p[each, target] = 0.0
    usual = max(_likeness(vectors), 1e-9)
    contradicted = [
        np.bincount(number[is_whole & (p_target < share * p.max(axis=1))], minlength=len(phrases)) for share in (_BY_FAR, _AT_ALL)
    ]
    ends = np.searchsorted(number, np.arange(len(phrases) + 1))
    looked_at = np.diff(ends)
    likeness = np.full(len(phrases), np.inf)
    for place in np.flatnonzero(np.maximum(*contradicted) >= _LEAST_CONTRADICTED * looked_at):
        likeness[place] = _likeness(rest[ends[place] : ends[place + 1]]) / usual
    return _Evidence(looked_at, contradicted, likeness)


def _likeness(vectors: Any) -> float:
    """The mean cosine of two different rows, from their sum."""
    count = vectors.shape[0]
    total = np.asarray(vectors.sum(axis=0), np.float64).ravel()
    return float((np.square(total).sum() - vectors.multiply(vectors).sum()) / (count * (count - 1)))


def _shared(rows: Sequence[tuple[str, ...]]) -> frozenset[str]:
    """Words that nearly all of `rows` hold: the phrase may be a part of something longer."""
    counts = Counter(word for row in rows for word in set(row))
    return frozenset(word for word, count in counts.items() if count >= _PURE * len(rows))


def _features(words: tuple[str, ...]) -> Grams:
    return [*_grams(words, 1), *_grams(words, 2)]


def _spread(rows: Ints) -> list[int]:
    """At most `_MOST_LOOKED_AT` of `rows`, from all over."""
    return [int(row) for row in rows[:: max(1, -(-len(rows) // _MOST_LOOKED_AT))]]


def _without(words: tuple[str, ...], phrase: tuple[str, ...], shared: frozenset[str]) -> tuple[str, ...]:
    left: list[str] = []
    for word in words:
        left.append(word)
        if tuple(left[-len(phrase) :]) == phrase:
            del left[-len(phrase) :]
    return tuple(word for word in left if word not in shared)


def _stacked(one: Any, other: Any) -> Any:
    from scipy.sparse import vstack

    return vstack([one, other]).tocsr()


def _tail(counts: Ints, tried: Ints) -> NDArray[np.float64]:
    """How likely at least `counts` of `tried` are at the rate of all phrases together."""
    from scipy.stats import binom

    rate = max(_LEAST_RATE, counts.sum() / tried.sum())
    return np.asarray(binom.sf(counts - 1, tried, rate), np.float64)
