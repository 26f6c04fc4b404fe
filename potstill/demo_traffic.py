"""The demo's apps: they call through the relay with the official OpenAI and Anthropic SDKs and keep a ledger of their own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.tickets import TASKS, Ticket, make_tickets

CLOSED_TASK = "triage"
"""The task that the demo distils."""

_SHARES = (("triage", 0.66), ("urgency", 0.12), ("sentiment", 0.11), ("reply", 0.11))
_ANTHROPIC_TASKS = ("urgency", "sentiment")
_PATH_TAGGED_TASKS = ("sentiment",)
CALL_TAG = "call"
"""Tag that numbers every request, so that the ledger can find losses and duplicates in the store."""


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request an app will send: `number` is its place in the ledger."""

    number: int
    task: str
    system: str
    user_text: str
    user: str
    session: str
    is_stream: bool


@dataclass(slots=True)
class Ledger:
    """What the apps saw, request by request: exchange id and variant from the response headers, and errors."""

    sent: int = 0
    exchange_ids: dict[int, str] = field(default_factory=dict)
    variants: dict[int, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def plan_mixed(seed: int, count: int, *, names_labels: bool = False) -> list[PlannedRequest]:
    """`count` requests of several tasks in a seeded order, a third streamed; `names_labels` tells the model its choices."""
    planned: list[tuple[str, Ticket]] = []
    for number, (task, share) in enumerate(_SHARES):
        size = count - len(planned) if number == len(_SHARES) - 1 else round(count * share)
        planned += [(task, ticket) for ticket in make_tickets(seed + number, size, task)]
    random.Random(seed).shuffle(planned)
    return [_request(number, task, ticket, ticket.user, names_labels) for number, (task, ticket) in enumerate(planned)]


def plan_experiment(seed: int, count: int, first_number: int, users: int, *, names_labels: bool = False) -> list[PlannedRequest]:
    """`count` requests of the distilled task by `users` users, each ticket asked twice, so that both variants answer it."""
    tickets = make_tickets(seed, (count + 1) // 2, CLOSED_TASK)
    asked = [ticket for ticket in tickets for _ in range(2)][:count]
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return [
        _request(first_number + place, CLOSED_TASK, asked[index], f"customer-{seed}-{place % users}", names_labels)
        for place, index in enumerate(order)
    ]


def _request(number: int, task: str, ticket: Ticket, user: str, names_labels: bool) -> PlannedRequest:
    system = TASKS[task].full_prompt if names_labels else ticket.system_prompt
    return PlannedRequest(number, task, system, ticket.user_prompt, user, ticket.session, number % 3 == 0)


class Apps:
    """SDK clients pointed at the relay: base URLs and keys as a team would set them, no retries, so that errors show."""

    def __init__(self, relay_url: str, api_key: str, model: str) -> None:
        import anthropic
        import openai

        self._model = model
        self._openai = openai.AsyncOpenAI(base_url=f"{relay_url}/v1", api_key=api_key, max_retries=0, timeout=120)
        self._anthropic = anthropic.AsyncAnthropic(base_url=relay_url, api_key="sk-ant-demo", max_retries=0, timeout=120)
        self._anthropic_by_task = {
            task: anthropic.AsyncAnthropic(base_url=f"{relay_url}/task/{task}", api_key="sk-ant-demo", max_retries=0, timeout=120)
            for task in _PATH_TAGGED_TASKS
        }

    async def close(self) -> None:
        """Closes every connection."""
        await self._openai.close()
        for client in (self._anthropic, *self._anthropic_by_task.values()):
            await client.close()

    async def send(self, request: PlannedRequest, ledger: Ledger) -> None:
        """Sends one request, reads its answer to the end and writes it into the ledger; never raises for a failed request."""
        headers = {f"x-potstill-tag-{CALL_TAG}": str(request.number), "x-potstill-user": request.user}
        if request.session:
            headers["x-potstill-session"] = request.session
        if request.task not in _PATH_TAGGED_TASKS:
            headers["x-potstill-task"] = request.task
        ledger.sent += 1
        try:
            send = self._send_anthropic if request.task in _ANTHROPIC_TASKS else self._send_openai
            response_headers, answer = await send(request, headers)
        except Exception as error:
            # The ledger is the demo's proof that clients saw no error, so it must hold every kind of error.
            ledger.errors.append(f"request {request.number}: {type(error).__name__}: {error}")
            return
        if not answer:
            ledger.errors.append(f"request {request.number}: empty answer")
        ledger.exchange_ids[request.number] = response_headers.get("x-potstill-exchange-id", "")
        ledger.variants[request.number] = response_headers.get("x-potstill-variant", "")

    async def _send_openai(self, request: PlannedRequest, headers: dict[str, str]) -> tuple[Any, str]:
        messages: Any = [{"role": "system", "content": request.system}, {"role": "user", "content": request.user_text}]
        options: dict[str, Any] = {
            "model": self._model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": 40,
            "extra_headers": headers,
        }
        if request.is_stream:
            raw = await self._openai.chat.completions.with_raw_response.create(
                **options, stream=True, stream_options={"include_usage": True}
            )
            return raw.headers, await _join(raw.parse(), lambda event: event.choices[0].delta.content if event.choices else "")
        raw = await self._openai.chat.completions.with_raw_response.create(**options)
        return raw.headers, raw.parse().choices[0].message.content or ""

    async def _send_anthropic(self, request: PlannedRequest, headers: dict[str, str]) -> tuple[Any, str]:
        client = self._anthropic_by_task.get(request.task, self._anthropic)
        options: dict[str, Any] = {
            "model": "claude-haiku-4-5",
            "system": request.system,
            "messages": [{"role": "user", "content": request.user_text}],
            "max_tokens": 40,
            "extra_headers": headers,
        }
        if request.is_stream:
            raw = await client.messages.with_raw_response.create(**options, stream=True)
            stream = await _parsed(raw)
            return raw.headers, await _join(stream, lambda event: getattr(getattr(event, "delta", None), "text", ""))
        raw = await client.messages.with_raw_response.create(**options)
        message = await _parsed(raw)
        return raw.headers, "".join(getattr(block, "text", "") for block in message.content)


async def _parsed(raw: Any) -> Any:
    parsed = raw.parse()
    return await parsed if asyncio.iscoroutine(parsed) else parsed


async def _join(stream: AsyncIterator[Any], text_of: Callable[[Any], str | None]) -> str:
    pieces = [text_of(event) or "" async for event in stream]
    return "".join(pieces)


async def send_all(
    apps: Apps,
    requests: Iterable[PlannedRequest],
    ledger: Ledger,
    *,
    concurrency: int = 12,
    per_second: float = 0,
    on_sent: Callable[[int], None] | None = None,
) -> None:
    """Sends every request, at most `concurrency` at once and, where `per_second` is given, no faster than that."""
    turn = asyncio.Semaphore(concurrency)
    loop = asyncio.get_running_loop()
    began = loop.time()
    done = 0

    async def one(request: PlannedRequest) -> None:
        nonlocal done
        async with turn:
            await apps.send(request, ledger)
        done += 1
        if on_sent is not None:
            on_sent(done)

    async with asyncio.TaskGroup() as group:
        for place, request in enumerate(requests):
            if per_second:
                await asyncio.sleep(max(0.0, began + place / per_second - loop.time()))
            group.create_task(one(request))


def ids_of(ledgers: Sequence[Ledger]) -> set[str]:
    """Every exchange id that an app was told."""
    return {exchange_id for ledger in ledgers for exchange_id in ledger.exchange_ids.values()}
