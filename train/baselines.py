"""The cheap baseline: word counts and a linear model. A student that does not beat it is not worth its serving."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capture.messages import Message
    from curate.datasets import Example

MOST_LABELS = 300
"""More different targets than this are free text, which a classifier cannot give."""


def cheap_answers(train: Sequence[Example], questions: Sequence[Sequence[Message]], *, seed: int = 0) -> list[str] | str:
    """One answer per question: the target that TF-IDF (words, pairs of words) with logistic regression finds in `train`.

    A sentence that says why, instead, when the targets are free text.
    """
    targets = [example.target.strip() for example in train]
    labels = sorted(set(targets))
    if len(labels) > MOST_LABELS or len(labels) > len(targets) / 2:
        return f"the {len(targets)} targets have {len(labels)} different texts: not labels, so no classifier was tried"
    if len(labels) == 1:
        return [labels[0]] * len(questions)
    texts = [last_user_text(example.messages) for example in train]
    if not any(re.search(r"\w", text) for text in texts):
        return "the questions hold no words, so no classifier was tried"
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b"),
        LogisticRegression(C=10.0, max_iter=1000, random_state=seed),
    )
    model.fit(texts, targets)
    return [str(answer) for answer in model.predict([last_user_text(question) for question in questions])]


def last_user_text(messages: Sequence[Message]) -> str:
    """The text of the last user message; '' when there is none."""
    return next((message.text for message in reversed(messages) if message.role == "user"), "")
