"""Train-serve parity: the engine must give the trainer's own greedy answers, or what was evaluated is not what serves."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from capture.errors import EngineError, NotFoundError
from serve.engine import EngineClient


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the trainer's student answered to a test prompt, greedily."""

    id: str
    prompt: tuple[dict[str, str], ...]
    student: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A prompt to which trainer and engine answered differently."""

    id: str
    trainer: str
    engine: str


@dataclass(frozen=True, slots=True)
class Parity:
    """`same` of `n` answers were identical; `differences` shows the others, at most ten."""

    n: int
    same: int
    differences: tuple[Difference, ...] = ()

    @property
    def share(self) -> float:
        """Identical answers, between 0 and 1; 0 when nothing was compared."""
        return self.same / self.n if self.n else 0.0


def read_predictions(path: Path, limit: int) -> list[Prediction]:
    """The first `limit` lines of a run's predictions.jsonl; NotFoundError when there are none."""
    try:
        lines = path.read_text("utf-8").splitlines()[:limit]
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{path} does not exist.", "Train again: the parity check needs the run's test predictions."
        ) from error
    predictions = []
    for line in lines:
        body = json.loads(line)
        prompt = tuple({"role": str(one["role"]), "content": str(one["content"])} for one in body["prompt"])
        predictions.append(Prediction(str(body["id"]), prompt, str(body["student"])))
    if not predictions:
        raise NotFoundError(f"{path} is empty.", "Train with a dataset version whose test split has examples.")
    return predictions


def check_parity(
    client: EngineClient,
    name: str,
    predictions: Sequence[Prediction],
    *,
    max_tokens: int,
    concurrency: int = 8,
    on_progress: Callable[[int, int], None] | None = None,
) -> Parity:
    """Asks the engine for `name`'s greedy answers and counts those identical to the trainer's, white space at the ends aside.

    `max_tokens` is the trainer's own limit. An answer that the engine refuses counts as different.
    """

    def ask(prediction: Prediction) -> str:
        try:
            return client.chat(name, prediction.prompt, max_tokens=max_tokens, temperature=0.0).text
        except EngineError as error:
            return f"({error.what})"

    differences, same = [], 0
    with ThreadPoolExecutor(concurrency, thread_name_prefix="parity") as pool:
        for done, (prediction, answer) in enumerate(zip(predictions, pool.map(ask, predictions), strict=True), start=1):
            if answer.strip() == prediction.student.strip():
                same += 1
            else:
                differences.append(Difference(prediction.id, prediction.student, answer))
            if on_progress is not None:
                on_progress(done, len(predictions))
    return Parity(len(predictions), same, tuple(differences[:10]))
