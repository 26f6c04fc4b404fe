"""Which examples a version of limited size keeps: quotas first, variety inside a quota.

    label or tool   square root of what there is, so that rare ones survive (see `quotas`)
    length          buckets of fourfold length, in proportion
    facility        inside a quota, inputs that the others are most like, times their quality: "score first"

Facility location by stochastic greedy (Mirzasoleiman et al., "Lazier than lazy greedy", 2015) on latent semantic analysis of
character n-grams. Deterministic: the same rows in any order and the same seed choose the same, on any number of cores; and what
was chosen before may stand without a change to the rest of the choice, so that a version built again is the same version.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from capture.messages import Message
from curate.one_thread import on_one_thread

NOT_SAMPLED = "not_sampled"
"""Reason of what is left out because a version holds at most `max_examples`."""
DIMENSIONS = 128
_CLOSED_SHARE = 0.2
_CELLS = 4_000_000
_LEAST_CANDIDATES = 200
_REFERENCE = 2_000
_FIT_ROWS = 20_000
_LEAST_QUALITY = 0.1

Floats32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Pickable:
    """A row to choose from: its label or tool ('' for none), the length of its input in characters, how good its target is
    (above 0, 1 is best; see `qualities`), and the text whose variety counts: the variable part of its input."""

    label: str
    length: int
    quality: float
    text: str


def choose(rows: Sequence[Pickable], most: int, seed: int, standing: Collection[int] = ()) -> list[int]:
    """At most `most` of `rows`, in ascending order; `standing` rows are among them whatever else is.

    `standing` is for what eval holds and what a person confirmed; it counts in the quotas, and where it alone is more than
    `most`, it is what is chosen. Whatever stood, some of what was chosen may stand from then on without a change.
    """
    if most >= len(rows):
        return list(range(len(rows)))
    chosen = set(standing)
    if len(chosen) >= most:
        return sorted(chosen)
    order = sorted(range(len(rows)), key=lambda row: (rows[row].text, rows[row].label, rows[row].length, -rows[row].quality, row))
    strata: dict[tuple[str, int], list[int]] = defaultdict(list)
    buckets = length_buckets([row.length for row in rows])
    for row in order:
        strata[rows[row].label, buckets[row]].append(row)
    wanted = _quotas_of_strata({stratum: len(members) for stratum, members in strata.items()}, most)
    place = {row: position for position, row in enumerate(order)}
    picked: list[tuple[int, tuple[str, int], int]] = []
    with on_one_thread():
        vectors = lsa([rows[row].text for row in order], seed)
        for stratum in sorted(strata):
            members = strata[stratum]
            room = wanted[stratum] - sum(row in chosen for row in members)
            if room > 0:
                best = _best_first(rows, members, vectors[[place[row] for row in members]], wanted[stratum], seed)
                free = [(at, stratum, row) for at, row in enumerate(best) if row not in chosen]
                picked += free[:room]
    # Where strata stand above their quota, others give way, the fullest first.
    return sorted(chosen.union(row for _, _, row in sorted(picked)[: most - len(chosen)]))


def quotas(counts: Mapping[str, int], most: int) -> dict[str, int]:
    """How many of `most` each label gets, given how many there are: in proportion to the square root of its count.

    That lies between proportion, where rare labels vanish, and equality, where frequent ones starve. Every label gets one as
    long as there is room, the most frequent first; none gets more than it has, and what it leaves goes to the others. Rests are
    settled by largest remainder.
    """
    least = dict.fromkeys(counts, 0)
    for label in sorted(counts, key=lambda label: (-counts[label], label))[:most]:
        least[label] = 1
    return _shared({label: math.sqrt(count) for label, count in counts.items()}, counts, least, most)


def labels_of(targets: Sequence[Message], said: Sequence[str]) -> list[str]:
    """What `choose` takes as the label of each target: the names of the tools it calls, else its answer where the task has few.

    `said` is the comparable form of each target (`contradictions.answers`). Where more than a fifth of the plain answers
    differ, as in free text, they are no labels and all are ''.
    """
    plain = [text for target, text in zip(targets, said, strict=True) if not target.tool_calls]
    is_closed = len(set(plain)) <= max(2, _CLOSED_SHARE * len(plain))
    return [
        "+".join(call.name for call in target.tool_calls) if target.tool_calls else text if is_closed else ""
        for target, text in zip(targets, said, strict=True)
    ]


def qualities(scores: Sequence[float | None]) -> list[float]:
    """Scores of any scale as weights from 0.1 (worst) to 1 (best); a row without a score weighs the mean of the others."""
    given = [score for score in scores if score is not None]
    low, high = min(given, default=0.0), max(given, default=0.0)
    if high <= low:
        return [1.0] * len(scores)

    def weight(score: float) -> float:
        return _LEAST_QUALITY + (1 - _LEAST_QUALITY) * (score - low) / (high - low)

    mean = sum(map(weight, given)) / len(given)
    return [mean if score is None else weight(score) for score in scores]


def length_buckets(lengths: Sequence[int]) -> list[int]:
    """The bucket of each length in characters; each is four times as long as the one before: below 4, 16, 64, 256, ..."""
    return [(max(length, 1).bit_length() - 1) // 2 for length in lengths]


def lsa(texts: Sequence[str], seed: int) -> Floats32:
    """`texts` as rows of unit length in at most 128 dimensions: truncated SVD of TF-IDF over character 2- to 4-grams in words.

    A text without any gram is a row of zeros. Above 20,000 texts the SVD is fitted on an even sample of them.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not any(text.strip() for text in texts):
        return np.zeros((len(texts), 1), np.float32)
    step = -(-len(texts) // _FIT_ROWS)
    sample = texts[::step] if any(text.strip() for text in texts[::step]) else texts
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, min_df=1, dtype=np.float32)
    fitted = vectorizer.fit_transform(sample)
    rows = fitted if len(sample) == len(texts) else vectorizer.transform(texts)
    dimensions = min(DIMENSIONS, min(fitted.shape) - 1)
    if dimensions < 1:
        return _unit(np.asarray(rows.sum(axis=1), dtype=np.float32))
    svd = TruncatedSVD(dimensions, n_iter=3, random_state=seed)
    with np.errstate(invalid="ignore", divide="ignore"):  # equal texts have no variance to explain
        svd.fit(fitted)
    return _unit(svd.transform(rows).astype(np.float32))


def facility_location(Z: Floats32, k: int, weights: Sequence[float] | None = None, seed: int = 0) -> list[int]:
    """`k` rows of `Z` (unit length) that together are most similar to everything, best first.

    Each step looks at max(200, 3 n / k) random rows and takes the one that adds most, times its weight; a row adds what it brings
    nearer to a sample of 2,000 rows. Where nothing adds anything, as among equal rows, weight alone decides. Memory is bounded:
    similarities are computed for the rows that a block of steps looks at, 16 MB at a time.
    """
    count = len(Z)
    generator = np.random.default_rng(seed)
    reference = Z[np.sort(generator.choice(count, min(_REFERENCE, count), replace=False))].T.copy()
    weight = np.ones(count, np.float32) if weights is None else np.asarray(weights, np.float32)
    best = np.zeros(reference.shape[1], np.float32)
    taken = np.zeros(count, np.bool_)
    out: list[int] = []
    size = min(count, max(_LEAST_CANDIDATES, 3 * count // max(k, 1)))
    steps = max(1, _CELLS // (size * reference.shape[1]))
    while len(out) < min(k, count):
        looked_at = _drawn(generator, np.flatnonzero(~taken), size, min(steps, k - len(out)))
        similarity = Z[looked_at.ravel()] @ reference
        for step, rows in enumerate(looked_at):
            free = ~taken[rows]
            if len(out) == min(k, count) or not free.any():
                break
            block = similarity[step * looked_at.shape[1] : (step + 1) * looked_at.shape[1]]
            gain = np.maximum(block - best, 0).sum(axis=1) * weight[rows]
            gain[~free] = -1
            place = int(gain.argmax()) if gain.max() > 0 else int(np.where(free, weight[rows], -1).argmax())
            taken[rows[place]] = True
            out.append(int(rows[place]))
            np.maximum(best, block[place], out=best)
    return out


def _drawn(generator: np.random.Generator, free: npt.NDArray[np.int64], size: int, steps: int) -> npt.NDArray[np.int64]:
    """Candidates of `steps` steps, each without repeats. Fewer than `size` rows are all looked at, one step at a time."""
    if len(free) <= size:
        return free[None, :]
    if steps * size <= len(free):
        return generator.permutation(free)[: steps * size].reshape(steps, size)
    return np.stack([generator.choice(free, size, replace=False) for _ in range(steps)])


def _quotas_of_strata(counts: Mapping[tuple[str, int], int], most: int) -> dict[tuple[str, int], int]:
    by_label: dict[str, dict[int, int]] = defaultdict(dict)
    for (label, bucket), count in counts.items():
        by_label[label][bucket] = count
    of_label = quotas({label: sum(buckets.values()) for label, buckets in by_label.items()}, most)
    out = {}
    for label, buckets in by_label.items():
        shares = {str(bucket): float(count) for bucket, count in buckets.items()}
        limits = {str(bucket): count for bucket, count in buckets.items()}
        for name, quota in _shared(shares, limits, dict.fromkeys(shares, 0), of_label[label]).items():
            out[label, int(name)] = quota
    return out


def _best_first(rows: Sequence[Pickable], members: Sequence[int], Z: Floats32, most: int, seed: int) -> list[int]:
    """`most` of the rows `members` of a stratum in the order in which they are worth having, whatever stands already."""
    weights = [rows[row].quality for row in members]
    if most == len(members):
        return [members[at] for at in sorted(range(most), key=lambda at: -weights[at])]
    return [members[at] for at in facility_location(Z, most, weights, seed=seed)]


def _shared(shares: Mapping[str, float], limits: Mapping[str, int], least: Mapping[str, int], most: int) -> dict[str, int]:
    """`most` units by `shares`, each between its least and its limit, the rest by largest remainder."""
    out = dict(least)
    most = min(most, sum(limits.values()))
    while (left := most - sum(out.values())) > 0:
        open_ones = [name for name in shares if out[name] < limits[name]]
        # What a name has counts towards its share, so that a floor is no gift on top.
        level = _level([shares[name] for name in open_ones], [out[name] for name in open_ones], left)
        exact = {name: max(0.0, level * shares[name] - out[name]) for name in open_ones}
        given = {name: min(int(exact[name] + 1e-9), limits[name] - out[name]) for name in open_ones}
        if not any(given.values()):
            by_remainder = sorted(open_ones, key=lambda name: (-exact[name], -shares[name], name))
            given = dict.fromkeys(by_remainder[:left], 1)
        for name, more in given.items():
            out[name] += more
    return out


def _level(shares: Sequence[float], have: Sequence[int], left: int) -> float:
    """The level at which `left` more fill everybody up to level times share; who has more already gets nothing."""
    filled = sorted((one / share, share, one) for share, one in zip(shares, have, strict=True))
    total_share, total_have = 0.0, 0
    level = 0.0
    for place, (_, share, one) in enumerate(filled):
        total_share += share
        total_have += one
        level = (left + total_have) / total_share
        if place + 1 < len(filled) and level <= filled[place + 1][0]:
            break
    return level


def _unit(rows: Any) -> Floats32:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats32 = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return unit
