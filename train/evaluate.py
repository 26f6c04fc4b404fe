"""Base model, student, teacher and cheap baseline on the test split, side by side, by exact match with intervals."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.baselines import cheap_answers
from train.generate import generate
from train.runs import BASE, CHEAP_BASELINE, STUDENT, TEACHER, Evaluation, Run
from train.scores import exact_match, wilson
from train.teacher import ask_again

if TYPE_CHECKING:
    from capture.database import Database
    from curate.datasets import Example
    from train.settings import TrainSettings

METRIC = "exact_match"
PREDICTIONS = "predictions.jsonl"
_LEAST_ANSWERED = 0.9
"""Below this share of answers the rest would not stand for the whole."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Greedy answers of base model and student to the test questions, in order."""

    base: tuple[str, ...]
    student: tuple[str, ...]


def generate_both(base_model: Any, adapter_folder: Path, tokenizer: Any, test: Sequence[Example], run: Run) -> Answers:
    """Asks the base model, then the same model with the adapter as it will be served, read back from its files."""
    from peft import PeftModel

    questions = [example.messages for example in test]
    tokens, size = run.recipe.max_new_tokens, run.recipe.eval_batch_size
    base = generate(base_model, tokenizer, questions, max_new_tokens=tokens, batch_size=size)
    student_model = PeftModel.from_pretrained(base_model, str(adapter_folder))
    student = generate(student_model, tokenizer, questions, max_new_tokens=tokens, batch_size=size)
    return Answers(tuple(base), tuple(student))


def write_predictions(folder: Path, test: Sequence[Example], answers: Answers) -> None:
    """One line per test example, for the check of the engine against the trainer."""
    lines = [
        json.dumps(
            {
                "id": example.id,
                "prompt": [{"role": message.role, "content": message.text} for message in example.messages],
                "target": example.target,
                "student": student,
                "base": base,
            },
            ensure_ascii=False,
        )
        for example, base, student in zip(test, answers.base, answers.student, strict=True)
    ]
    (folder / PREDICTIONS).write_text("\n".join(lines) + "\n", "utf-8")


def evaluate_all(
    database: Database,
    settings: TrainSettings,
    run: Run,
    train: Sequence[Example],
    test: Sequence[Example],
    answers: Answers,
    *,
    on_answer: Callable[[int], None] | None = None,
) -> list[Evaluation]:
    """The four rows of the table; one that could not be measured has value None and says why."""
    targets = [example.target for example in test]
    cheap = cheap_answers(train, [example.messages for example in test], seed=run.recipe.seed)
    return [
        score(run.id, BASE, answers.base, targets),
        score(run.id, STUDENT, answers.student, targets),
        _ask_teacher(database, settings, run, test[: run.recipe.teacher_examples], on_answer),
        unmeasured(run.id, CHEAP_BASELINE, cheap)
        if isinstance(cheap, str)
        else score(run.id, CHEAP_BASELINE, cheap, targets, "TF-IDF and logistic regression on the last user message"),
    ]


def score(run_id: str, variant: str, answers: Sequence[str | None], targets: Sequence[str], note: str = "") -> Evaluation:
    """Exact match of `answers` with `targets`, over the questions that have an answer (at least one)."""
    pairs = [(answer, target) for answer, target in zip(answers, targets, strict=True) if answer is not None]
    hits = sum(exact_match(answer, target) for answer, target in pairs)
    low, high = wilson(hits, len(pairs))
    return Evaluation(run_id, variant, "test", METRIC, len(pairs), hits / len(pairs), low, high, note)


def unmeasured(run_id: str, variant: str, note: str) -> Evaluation:
    """A row without a value, and why."""
    return Evaluation(run_id, variant, "test", METRIC, 0, None, None, None, note)


def _ask_teacher(
    database: Database, settings: TrainSettings, run: Run, test: Sequence[Example], on_answer: Callable[[int], None] | None
) -> Evaluation:
    if not run.options.ask_teacher or not test:
        return unmeasured(run.id, TEACHER, "not asked")
    told = ask_again(
        database,
        test,
        run.options.relay_url or settings.relay_url,
        threads=settings.teacher_threads,
        timeout_s=settings.teacher_timeout_s,
        on_answer=on_answer,
    )
    answered = sum(answer is not None for answer in told.answers)
    if answered < _LEAST_ANSWERED * len(test):
        return unmeasured(run.id, TEACHER, f"{answered} of {len(test)} questions answered: {told.problem}")
    note = "asked again through the relay" + (
        f"; {len(test) - answered} unanswered: {told.problem}" if answered < len(test) else ""
    )
    return score(run.id, TEACHER, told.answers, [example.target for example in test], note)
