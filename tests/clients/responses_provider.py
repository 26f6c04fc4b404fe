"""OpenAI's Responses API for tests: whole and streamed, with tools, on the scripted provider's answers and faults.

Codex, the Vercel AI SDK and OpenAI's newer clients speak it first. What is asked decides the answer as everywhere in
`proxy.provider_answer`; the header `x-script` orders the same faults.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import web

from proxy.provider_answer import Answer, Ask, Tool, answer, count_tokens, pieces_of
from proxy.provider_openai import error_body
from proxy.provider_script import HEADER, parse_script
from proxy.provider_wire import Reply, send

_NUMBERS = itertools.count(1)
_STOPPING = web.AppKey("stopping", asyncio.Event)


def make_responses_app() -> web.Application:
    """`POST /v1/responses` as an aiohttp application; run it with `handler_cancellation=True`."""
    app = web.Application(client_max_size=64 * 2**20)
    app[_STOPPING] = asyncio.Event()
    app.on_shutdown.append(_stop)
    app.router.add_post("/v1/responses", _respond)
    return app


async def _stop(app: web.Application) -> None:
    app[_STOPPING].set()


async def _respond(request: web.Request) -> web.StreamResponse:
    script = parse_script(request.headers.get(HEADER, ""))
    if not request.headers.get("authorization", "").removeprefix("Bearer").strip():
        return await send(request, _refusal(401, "You didn't provide an API key."), script, request.app[_STOPPING])
    await asyncio.sleep(script.delay_ms / 1000)
    if script.status >= 400:
        reply = _refusal(script.status, f"Scripted error {script.status}.")
        if script.retry_after >= 0:
            reply = Reply(reply.status, {**reply.headers, "retry-after": f"{script.retry_after:g}"}, reply.pieces)
        return await send(request, reply, script, request.app[_STOPPING])
    body = await request.json()
    ask = _read(body)
    said = answer(ask, script, "1", 0.0)
    started = _response(next(_NUMBERS), body, ask)
    finished = started | {"status": "completed", "output": _items(started["id"], said), "usage": _usage(ask, said)}
    if not ask.is_stream:
        whole = Reply(200, {"content-type": "application/json"}, [json.dumps(finished).encode()])
        return await send(request, whole, script, request.app[_STOPPING])
    events = Reply(200, {"content-type": "text/event-stream; charset=utf-8"}, _events(started, finished, said), is_stream=True)
    return await send(request, events, script, request.app[_STOPPING])


def _refusal(status: int, message: str) -> Reply:
    return Reply(status, {"content-type": "application/json"}, [json.dumps(error_body(status, message)).encode()])


def _read(body: Mapping[str, Any]) -> Ask:
    given = body.get("input")
    items = (
        [{"role": "user", "content": given}]
        if isinstance(given, str)
        else [each for each in given or () if isinstance(each, dict)]
    )
    users = [_text(each) for each in items if each.get("role") == "user"]
    results = [str(each.get("output", "")) for each in items if each.get("type") == "function_call_output"]
    tools = [each for each in body.get("tools") or () if each.get("type") == "function"]
    choice = body.get("tool_choice")
    wanted = (
        str(choice.get("name", "any"))
        if isinstance(choice, dict)
        else {"required": "any", "none": "none"}.get(str(choice), "auto")
    )
    limit = body.get("max_output_tokens")
    return Ask(
        model=str(body.get("model", "")),
        system=str(body.get("instructions") or ""),
        user_text=users[-1] if users else "",
        tool_result="\n".join(results) if items and items[-1].get("type") == "function_call_output" else None,
        tools=tuple(Tool(str(each.get("name", "")), each.get("parameters") or {}) for each in tools),
        tool_choice=wanted,
        max_tokens=limit if isinstance(limit, int) else None,
        is_stream=body.get("stream") is True,
        wants_usage=True,
        choices=1,
        tokens_in=3 + sum(4 + count_tokens(_text(each)) for each in items),
    )


def _text(item: Mapping[str, Any]) -> str:
    content = item.get("content")
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return content if isinstance(content, str) else ""


def _response(number: int, body: Mapping[str, Any], ask: Ask) -> dict[str, Any]:
    return {
        "id": f"resp_{number:032x}",
        "object": "response",
        "created_at": 1_720_000_000,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": ask.max_tokens,
        "model": ask.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": body.get("store", True),
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": body.get("tools") or [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": {},
    }


def _items(answer_id: str, said: Answer) -> list[dict[str, Any]]:
    """The output: function calls where tools are used, else one message."""
    number = answer_id.removeprefix("resp_")
    if said.tool_uses:
        return [
            {
                "type": "function_call",
                "id": f"fc_{number}{at}",
                "call_id": f"call_{number[-20:]}{at}",
                "name": use.name,
                "arguments": use.arguments,
                "status": "completed",
            }
            for at, use in enumerate(said.tool_uses)
        ]
    text = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
    return [{"type": "message", "id": f"msg_{number}", "status": "completed", "role": "assistant", "content": [text]}]


def _usage(ask: Ask, said: Answer) -> dict[str, Any]:
    return {
        "input_tokens": ask.tokens_in,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": said.tokens_out,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": ask.tokens_in + said.tokens_out,
    }


def _events(started: dict[str, Any], finished: dict[str, Any], said: Answer) -> Iterator[bytes]:
    """The events of a streamed response, each as its bytes, numbered from 0."""
    numbers = itertools.count()
    for kind, value in _told(started, finished, said):
        event = {"type": kind, "sequence_number": next(numbers), **value}
        yield f"event: {kind}\ndata: {json.dumps(event, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def _told(started: dict[str, Any], finished: dict[str, Any], said: Answer) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "response.created", {"response": started}
    yield "response.in_progress", {"response": started}
    for at, item in enumerate(finished["output"]):
        place = {"item_id": item["id"], "output_index": at}
        if item["type"] == "function_call":
            yield "response.output_item.added", {"output_index": at, "item": item | {"arguments": "", "status": "in_progress"}}
            for piece in pieces_of(item["arguments"]):
                yield "response.function_call_arguments.delta", place | {"delta": piece}
            done = {"arguments": item["arguments"], "name": item["name"]}
            yield "response.function_call_arguments.done", place | done
        else:
            part, place = item["content"][0], place | {"content_index": 0}
            yield "response.output_item.added", {"output_index": at, "item": item | {"content": [], "status": "in_progress"}}
            yield "response.content_part.added", place | {"part": part | {"text": ""}}
            for piece in said.pieces:
                yield "response.output_text.delta", place | {"delta": piece, "logprobs": []}
            yield "response.output_text.done", place | {"text": part["text"], "logprobs": []}
            yield "response.content_part.done", place | {"part": part}
        yield "response.output_item.done", {"output_index": at, "item": item}
    yield "response.completed", {"response": finished}
