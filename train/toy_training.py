"""How the toy base learns: rows, batches and a plain training loop, nothing for a real model.

Unlabelled prompts of the task to come take part too: they are grouped by their words (TF-IDF, k-means), and the toy learns
to name a prompt's group. Without that its frozen weights would not know the words that the adapter has to build on.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from train.hardware import autocast_gains

LR = 3e-3
GROUP_SHARE = 0.7
"""Part of the rows that name the group of an unlabelled prompt."""
GROUP_SYSTEM = "Name the group of the ticket."
NOISE = 12
"""Random tokens in each batch, so that every row of the output layer is trained: an adapter cannot move that layer."""


@dataclass(frozen=True, slots=True)
class ToyProgress:
    """How far the making of a toy base is."""

    step: int
    total_steps: int
    loss: float
    seconds_left: float


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids, and the first of them that is trained."""

    ids: list[int]
    first_trained: int


def name_groups(users: Sequence[str], groups: int, seed: int) -> list[tuple[str, str, str]]:
    """(system, user, answer) for each user text, the answer naming its group: texts with similar words share one."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    counts = TfidfVectorizer(ngram_range=(1, 2), min_df=2, max_df=0.3, sublinear_tf=True).fit_transform(users)
    narrow = normalize(TruncatedSVD(min(64, counts.shape[1] - 1), random_state=seed).fit_transform(counts))
    found = KMeans(min(groups, len(users)), n_init=2, random_state=seed).fit_predict(narrow)
    return [
        (GROUP_SYSTEM, user, f'{{"group": "group_{chr(97 + n // 26)}{chr(97 + n % 26)}"}}')
        for user, n in zip(users, found, strict=True)
    ]


def make_rows(tokenizer: Any, conversations: Sequence[tuple[str, str, str]]) -> list[Row]:
    """One row per (system, user, answer); only the answer is trained."""
    found = []
    for system, user, answer in conversations:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        answer_ids = tokenizer(answer + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
        found.append(Row([*prompt_ids, *answer_ids], len(prompt_ids)))
    return found


def mix(conversations: Sequence[Row], groups: Sequence[Row], count: int, rng: random.Random) -> list[Row]:
    """`count` rows, GROUP_SHARE of them from `groups` when there are any, each kind gone through evenly."""
    wanted = round(count * GROUP_SHARE) if groups else 0
    mixed = [
        rows[at]
        for rows, share in ((groups, wanted), (conversations, count - wanted))
        if rows
        for at in _shuffled(rng, -(-share // len(rows)), len(rows))[:share]
    ]
    rng.shuffle(mixed)
    return mixed


def _shuffled(rng: random.Random, times: int, size: int) -> list[int]:
    return [at for _ in range(times) for at in rng.sample(range(size), size)]


def batches(rows: Sequence[Row], vocabulary: int, rng: random.Random, size: int) -> Iterator[list[Row]]:
    """Endless batches of rows of similar length, each with a short row of random tokens."""
    while True:
        order = sorted(rng.sample(list(rows), len(rows)), key=lambda row: len(row.ids) // 8 + rng.random() * 4)
        bundles = [order[start : start + size - 1] for start in range(0, len(order), size - 1)]
        rng.shuffle(bundles)
        for bundle in bundles:
            yield [*bundle, Row([rng.randrange(vocabulary) for _ in range(NOISE)], 0)]


def fit(
    model: Any,
    rows: Iterator[list[Row]],
    steps: int,
    pad: int,
    on_progress: Callable[[ToyProgress], None] | None,
) -> int:
    """Trains `model` in place; returns how many tokens it saw. Deterministic under torch's seed."""
    import torch
    from torch.nn.functional import cross_entropy

    optimiser = torch.optim.AdamW(model.parameters(), lr=LR, betas=(0.9, 0.98), weight_decay=0.01)
    warmup = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / steps))
    )
    model.train()
    tokens, started = 0, time.monotonic()
    for step in range(1, steps + 1):
        batch = next(rows)
        ids, labels = _tensors(batch, pad)
        tokens += sum(len(row.ids) for row in batch)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast_gains()):
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]  # padding stands right: nobody sees it
            wanted = labels[:, 1:]
            trained = wanted >= 0  # the output layer is a quarter of the work: only where there is something to learn
            loss = cross_entropy(model.lm_head(hidden[trained]).float(), wanted[trained])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad(set_to_none=True)
        if on_progress is not None and (step % 10 == 0 or step == steps):
            spent = time.monotonic() - started
            on_progress(ToyProgress(step, steps, float(loss.detach()), spent / step * (steps - step)))
    model.eval()
    return tokens


def _tensors(batch: list[Row], pad: int) -> tuple[Any, Any]:
    """Ids padded on the right, and labels."""
    import torch

    width = max(len(row.ids) for row in batch)
    ids = torch.full((len(batch), width), pad)
    labels = torch.full((len(batch), width), -100)
    for at, row in enumerate(batch):
        size = len(row.ids)
        ids[at, :size] = torch.tensor(row.ids)
        labels[at, row.first_trained : size] = ids[at, row.first_trained : size]
    return ids, labels
