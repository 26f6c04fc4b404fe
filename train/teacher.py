"""Asks the teacher the test questions again, through our own relay with purpose eval: its own agreement with what it said before.

The request is the captured one with the example's messages, so that model, temperature and limits are those of production.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from capture.errors import UpstreamError
from curate.relabelling.asking import Question, ask, captured_request, request_of

if TYPE_CHECKING:
    from capture.database import Database
    from curate.datasets import Example

_PURPOSE = "eval"


@dataclass(frozen=True, slots=True)
class TeacherAnswers:
    """Answers in the order of the questions, None where there was none; `problem` is the first reason."""

    answers: tuple[str | None, ...]
    problem: str


def ask_again(
    database: Database,
    examples: Sequence[Example],
    relay_url: str,
    *,
    threads: int,
    timeout_s: float,
    on_answer: Callable[[int], None] | None = None,
) -> TeacherAnswers:
    """The teacher's answers to `examples`; never raises for a teacher that cannot be reached. Keys come from the environment.

    After the first question fails for want of a relay or a key, the others are not asked.
    """
    requests = [teacher_request(example, captured_request(database, example.exchange_id)) for example in examples]
    problems: list[str] = []

    def answer_to(at: int) -> str | None:
        if problems and at > 0 and not answered:
            return None
        try:
            path, body = requests[at]
            example = examples[at]
            told = ask(client, relay_url, path, body, purpose=_PURPOSE, task=example.task, copy_of=example.exchange_id)
        except UpstreamError as error:
            problems.append(error.what)
            return None
        answered.append(at)
        if on_answer is not None:
            on_answer(len(answered))
        return told.message.text

    answered: list[int] = []
    with httpx.Client(timeout=timeout_s, limits=httpx.Limits(max_connections=threads)) as client:
        first = [answer_to(0)] if examples else []
        with ThreadPoolExecutor(threads) as pool:
            rest = list(pool.map(answer_to, range(1, len(examples))))
    return TeacherAnswers((*first, *rest), problems[0] if problems else "")


def teacher_request(example: Example, captured: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Path and body of the question, in the example's protocol; `captured` is the body of the exchange it came from.

    Where that went with its retention, the example still says which model answered.
    """
    model = "" if captured.get("model") else example.teacher_model
    question = Question(example.exchange_id, example.task, example.protocol, example.messages, example.tools, model)
    return request_of(question, captured)
