"""Asks the teacher the test questions again, through our own relay with purpose eval: its own agreement with what it said before.

The request is the captured one with the example's messages, so that model, temperature and limits are those of production.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from capture import feed
from capture.assemble import assemble
from capture.errors import NotFoundError, UpstreamError
from capture.subject import COPY_TAG

if TYPE_CHECKING:
    from capture.database import Database
    from curate.datasets import Example

_MOST_TOKENS = 1024
_PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
_LEFT_OUT = ("messages", "system", "stream", "stream_options", "tools", "tool_choice", "metadata", "user", "store", "n")


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
    requests = [teacher_request(example, _captured(database, example)) for example in examples]
    problems: list[str] = []

    def ask(at: int) -> str | None:
        if problems and at > 0 and not answered:
            return None
        try:
            answer = _ask(client, relay_url, examples[at], *requests[at])
        except UpstreamError as error:
            problems.append(error.what)
            return None
        answered.append(at)
        if on_answer is not None:
            on_answer(len(answered))
        return answer

    answered: list[int] = []
    with httpx.Client(timeout=timeout_s, limits=httpx.Limits(max_connections=threads)) as client:
        first = [ask(0)] if examples else []
        with ThreadPoolExecutor(threads) as pool:
            rest = list(pool.map(ask, range(1, len(examples))))
    return TeacherAnswers((*first, *rest), problems[0] if problems else "")


def teacher_request(example: Example, captured: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Path and body of the question, in the example's protocol; `captured` is the body of the exchange it came from."""
    body = {name: value for name, value in captured.items() if name not in _LEFT_OUT}
    body.setdefault("model", example.teacher_model)
    messages = [{"role": message.role, "content": message.text} for message in example.messages]
    if example.protocol == "anthropic":
        body.setdefault("max_tokens", _MOST_TOKENS)
        system = "\n".join(message["content"] for message in messages if message["role"] == "system")
        body["messages"] = [message for message in messages if message["role"] != "system"]
        return _PATHS["anthropic"], {**body, "system": system} if system else body
    body["messages"] = messages
    return _PATHS["openai"], body


def _captured(database: Database, example: Example) -> dict[str, Any]:
    try:
        exchange = feed.get(database, example.exchange_id)
        body = json.loads(feed.content(database, exchange).request_body)
    except (NotFoundError, ValueError):
        return {}  # the exchange went with its retention; the example still says which model answered
    return body if isinstance(body, dict) else {}


def _ask(client: httpx.Client, relay_url: str, example: Example, path: str, body: Mapping[str, Any]) -> str:
    headers = {
        "x-potstill-purpose": "eval",
        "x-potstill-task": example.task,
        f"x-potstill-tag-{COPY_TAG}": example.exchange_id,
        "accept-encoding": "identity",
    }
    if example.protocol == "anthropic":
        headers |= {"anthropic-version": "2023-06-01", "x-api-key": os.environ.get("ANTHROPIC_API_KEY", "")}
    else:
        headers["authorization"] = f"Bearer {os.environ.get('OPENAI_API_KEY', '')}"
    headers = {name: value for name, value in headers.items() if value and value != "Bearer "}
    try:
        response = client.post(relay_url.rstrip("/") + path, json=body, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UpstreamError(
            f"the relay at {relay_url} cannot be asked: {type(error).__name__}", "Start it: potstill up"
        ) from error
    if response.status_code != 200:
        raise UpstreamError(f"the teacher answered {response.status_code}: {response.text[:200]}", "See potstill exchanges list.")
    request = response.request.content
    assembled = assemble(example.protocol, path, False, request, response.content, "", response.status_code)
    answer = assembled.conversation.answer
    if answer is None:
        raise UpstreamError(f"the teacher's answer has no text: {response.text[:200]}", "See potstill exchanges list.")
    return answer.text
