"""Finds labels that the rest of a task says are wrong, by out-of-fold prediction.

As in confident learning (Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels, 2021) a
linear classifier on words and character n-grams learns from all but a row's group and is asked for the row's label. The row
is suspect when another label is 50 times as likely as the given one.

A suspect is a question to a person, not a verdict: of labels that people confuse, some will always be among them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.progress import Progress, tell_nobody
from curate.one_thread import on_one_thread

_STAGE = "predict labels"
LEAST_ROWS = 50
_FOLDS = 4
MOST_LABELS = 500
"""Labels that are judged, the most frequent: bounds memory, which grows with rows times labels, and of more labels there would
be too few rows each to learn from (see `_MOST_WORK`)."""
_LEAST_OF_CLASS = 5
_LEAST_GROUPS = 3
_MOST_FITTED = 10_000
_MOST_WORK = 1_500_000
"""Rows times labels that a classifier is fitted to: bounds the time with many labels."""
_MOST_CHARACTERS = 2_000
_CALIBRATED_ON = 100_000
_RULED_OUT = 0.02

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Suspect:
    """Row `row` was given a label that others contradict; probabilities are calibrated over the whole task."""

    row: int
    given: str
    predicted: str
    p_given: float
    p_predicted: float


@dataclass(frozen=True, slots=True)
class Predictions:
    """What is predicted out of fold: `probabilities` (rows x names, sums of 1) for the `rows` that can be judged.

    `given` is the index in `names` of each of those rows' labels.
    """

    rows: Ints
    names: tuple[str, ...]
    given: Ints
    probabilities: Floats


def find_suspects(
    texts: Sequence[str], labels: Sequence[str], groups: Sequence[int], seed: int = 0, on_progress: Progress = tell_nobody
) -> list[Suspect]:
    """The rows whose label looks wrong, the most certain first; `groups` are rows that must not predict each other.

    Nothing is said about labels with fewer than 5 rows or 3 groups, or behind the 500 most frequent (see `unjudged`), nor at all
    about fewer than `LEAST_ROWS` rows or one label; so tasks whose answers are free text have no suspects. The same arguments
    give the same result.
    """
    found = predict(texts, labels, groups, seed, on_progress)
    if found is None:
        return []
    each = np.arange(len(found.rows))
    p = found.probabilities
    p_given = p[each, found.given]
    others = p.copy()
    others[each, found.given] = 0.0
    predicted = others.argmax(axis=1)
    p_predicted = p[each, predicted]
    is_suspect = p_given < _RULED_OUT * p_predicted
    suspects = [
        Suspect(int(row), found.names[given], found.names[other], float(p_before), float(p_instead))
        for row, given, other, p_before, p_instead in zip(
            found.rows[is_suspect],
            found.given[is_suspect],
            predicted[is_suspect],
            p_given[is_suspect],
            p_predicted[is_suspect],
            strict=True,
        )
    ]
    return sorted(suspects, key=lambda suspect: (suspect.p_given / suspect.p_predicted, suspect.row))


def predict(
    texts: Sequence[str], labels: Sequence[str], groups: Sequence[int], seed: int = 0, on_progress: Progress = tell_nobody
) -> Predictions | None:
    """The label of each row as rows of other groups would have it; None where there is too little to learn from.

    Above 10,000 rows the classifiers learn from a sample of groups, and the others are predicted from all of that sample.
    """
    rows, names, given = judged(labels, groups)
    if len(rows) < LEAST_ROWS or len(names) < 2:
        return None
    vectors = vectorise([texts[row] for row in rows])
    folds = _folds(given, np.asarray(groups)[rows], min(_MOST_FITTED, _MOST_WORK // len(names)), seed)
    said = np.zeros((len(rows), len(names)), np.float32)
    each = np.unique(folds)
    for done, fold in enumerate(each):
        on_progress(_STAGE, done, len(each))
        learnt = (folds != fold) & (folds >= 0)
        said[folds == fold] = scores(vectors[learnt], given[learnt], vectors[folds == fold], len(names))
    on_progress(_STAGE, len(each), len(each))
    return Predictions(rows, names, given, calibrated(said, said, given, seed))


def vectorise(texts: Sequence[str]) -> Any:
    """TF-IDF of words, pairs of words and character n-grams, as a sparse matrix of a row for each text."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    cut = [text[:_MOST_CHARACTERS] for text in texts]
    least = 2 if len(cut) > _MOST_FITTED // 20 else 1
    common = {"sublinear_tf": True, "min_df": least, "dtype": np.float32}
    words = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", ngram_range=(1, 2), max_features=100_000, **common)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), max_features=50_000, **common)
    # A word of its own, so that texts of nothing but punctuation leave no vocabulary empty.
    marked = [f"{text} potstill" for text in cut]
    return hstack([words.fit_transform(marked), letters.fit_transform(marked)]).tocsr()


def judged(labels: Sequence[str], groups: Sequence[int]) -> tuple[Ints, tuple[str, ...], Ints]:
    """The rows of labels that enough groups have, at most 500 labels; those labels, and the index of each row's label."""
    names = tuple(sorted(_able(labels, groups)[:MOST_LABELS]))
    place = {name: at for at, name in enumerate(names)}
    rows = [row for row, label in enumerate(labels) if label in place]
    return np.array(rows, np.int64), names, np.array([place[labels[row]] for row in rows], np.int64)


def unjudged(labels: Sequence[str]) -> int:
    """How many labels recur often enough and are left out all the same, because 500 others are more frequent."""
    return max(0, len(_able(labels, range(len(labels)))) - MOST_LABELS)


def _able(labels: Sequence[str], groups: Sequence[int]) -> list[str]:
    """Labels with enough rows in enough groups, the most frequent first."""
    counts = Counter(labels)
    spread = Counter(label for label, _ in set(zip(labels, groups, strict=True)))
    able = [label for label in counts if counts[label] >= _LEAST_OF_CLASS and spread[label] >= _LEAST_GROUPS]
    return sorted(able, key=lambda label: (-counts[label], label))


def _folds(given: Ints, groups: Ints, most: int, seed: int) -> Ints:
    """A fold for each row, the same in a group, labels spread evenly; -1 for rows that nothing is learnt from."""
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(first))
    dealt = shuffled[np.argsort(given[first[shuffled]], kind="stable")]
    fold = np.empty(len(first), np.int64)
    fold[dealt] = np.arange(len(first)) % _FOLDS
    if len(given) > most:
        sizes = np.bincount(group)
        taken = np.cumsum(sizes[shuffled]) <= most
        fold[shuffled[~taken]] = -1
    return fold[group]


def scores(learnt: Any, given: Ints, asked: Any, count: int) -> Floats:
    """What a one-against-all linear classifier says of each label; far below all others for a label that it never saw."""
    from sklearn.svm import LinearSVC

    out = np.full((asked.shape[0], count), -2.0, np.float32)
    known = np.unique(given)
    if len(known) > 1:
        with on_one_thread():
            said = LinearSVC(C=0.1, random_state=0).fit(learnt, given).decision_function(asked)
        out[:, known] = np.column_stack([-said, said]) if said.ndim == 1 else said
    return out


def calibrated(asked: Floats, plain: Floats, given: Ints, seed: int) -> Floats:
    """Probabilities for the scores `asked`: one logistic curve for all labels (Platt), fitted on scores of rows and what they
    were given."""
    from sklearn.linear_model import LogisticRegression

    count = plain.shape[1]
    picked = np.random.default_rng(seed).integers(0, plain.size, min(plain.size, _CALIBRATED_ON))
    hit = given[picked // count] == picked % count
    if not hit.any() or hit.all():
        return np.full_like(asked, 1 / count)
    with on_one_thread():
        curve = LogisticRegression(C=1e3).fit(plain.ravel()[picked, None], hit)
    odds = 1 / (1 + np.exp(-(asked * np.float32(curve.coef_[0, 0]) + np.float32(curve.intercept_[0]))))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float32)
