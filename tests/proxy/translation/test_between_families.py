"""The relay's own two families asked across: OpenAI's clients to Anthropic's API, and the other way round; and a relative."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import pytest

from proxy.translation.messages_stream import MessagesStream
from tests.proxy.scripting import CHAT_ANSWER, Upstream
from tests.proxy.translation.conftest import HEADER, KEY
from tests.proxy.translation.providers import EVENTS, answering, streaming
from tests.proxy.translation.test_service import SAY, WEATHER, ask, events

CLAUDE, GPT, MISTRAL = "anthropic/claude-sonnet-4-5", "openai/gpt-4o", "mistral/mistral-small-latest"
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": "Hello."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 2},
}


def chunks(deltas: Sequence[Mapping[str, Any]], finish: str) -> list[bytes]:
    """OpenAI's stream of chat chunks, with usage and [DONE]."""
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
    found = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    found.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    found.append({**head, "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}})
    return [*(f"data: {json.dumps(each)}\n\n".encode() for each in found), b"data: [DONE]\n\n"]


async def test_a_client_of_openais_reads_claude(client: aiohttp.ClientSession, provider: Upstream) -> None:
    provider.script = answering(json.dumps(MESSAGE).encode())
    status, answered = await ask(client, "/v1/chat/completions", {"model": CLAUDE, "messages": SAY, "max_tokens": 9}, "claude")
    assert status == 200, answered
    assert answered["choices"][0]["message"]["content"] == "Hello."
    assert provider.received[-1].line.startswith("POST /v1/messages") and provider.received[-1].header("x-api-key") == KEY
    stream = MessagesStream("msg_1", "claude-sonnet-4-5")
    out = b"".join(stream.feed({"choices": [{"delta": {"content": text}}]}) for text in ("Hel", "lo."))
    out += stream.feed({"choices": [{"delta": {}, "finish_reason": "stop"}]}) + stream.end()
    provider.script = streaming([out[:400], out[400:]], EVENTS)
    seen = await events(client, "/v1/chat/completions", {"model": CLAUDE, "messages": SAY, "max_tokens": 9}, "claude")
    assert "".join(each["choices"][0]["delta"].get("content") or "" for each in seen[:-1]) == "Hello."
    assert seen[-2]["choices"][0]["finish_reason"] == "stop" and seen[-1] == "[DONE]"
    provider.script = streaming([out[: out.index(b"event: message_delta")]], EVENTS)
    body = {"model": CLAUDE, "messages": SAY, "max_tokens": 9, "stream": True}
    async with client.post("/v1/chat/completions", json=body, headers={HEADER: "claude"}) as answer:
        text = await answer.text()
    assert "Hel" in text and '"error"' in text and "[DONE]" not in text and '"finish_reason":"' not in text


@pytest.mark.parametrize(("upstream", "model"), [("gpt", GPT), ("mistral", MISTRAL)])
async def test_a_client_of_anthropics_reads_openais_models_and_their_relatives(
    client: aiohttp.ClientSession, provider: Upstream, upstream: str, model: str
) -> None:
    provider.script = answering(CHAT_ANSWER)
    body = {"model": model, "max_tokens": 9, "messages": SAY, "tools": [{"name": "weather", "input_schema": WEATHER}]}
    status, answered = await ask(client, "/v1/messages", body, upstream)
    assert status == 200, answered
    assert answered["content"] == [{"type": "text", "text": "billing"}]
    assert provider.received[-1].line.startswith("POST /v1/chat/completions")
    assert provider.received[-1].header("authorization") == f"Bearer {KEY}"

    def fragment(index: int, id: str | None, arguments: str) -> dict[str, Any]:
        function = {"name": "weather" if id else None, "arguments": arguments}
        return {"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]}

    deltas = [
        {"role": "assistant", "content": "Wait."},
        fragment(0, "a", '{"city":'),
        fragment(1, "b", '{"city":'),  # two calls at once, their pieces mixed
        fragment(0, None, '"Oslo"}'),
        fragment(1, None, '"Rome"}'),
    ]
    provider.script = streaming(chunks(deltas, "tool_calls"), EVENTS)
    blocks: dict[int, str] = {}
    for each in await events(client, "/v1/messages", body, upstream):
        if each["type"] == "content_block_delta":
            blocks[each["index"]] = blocks.get(each["index"], "") + each["delta"].get(
                "partial_json", each["delta"].get("text", "")
            )
    assert blocks == {0: "Wait.", 1: '{"city":"Oslo"}', 2: '{"city":"Rome"}'}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("upstream", "model"), [("claude", CLAUDE), ("gpt", GPT), ("mistral", MISTRAL)])
async def test_a_no_is_passed_on_and_nobody_asks_twice(
    client: aiohttp.ClientSession, provider: Upstream, upstream: str, model: str, is_stream: bool
) -> None:
    error = {"type": "rate_limit_error", "message": "Slow down."}
    provider.script = answering(
        json.dumps({"type": "error", "error": error}).encode(), status="429 No", headers={"Retry-After": "3"}
    )
    for path in ("/v1/chat/completions", "/v1/messages"):
        provider.received.clear()
        body = {"model": model, "max_tokens": 9, "messages": SAY, "stream": is_stream}
        async with client.post(path, json=body, headers={HEADER: upstream}) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "3")
            told = (await answer.json())["error"]
        assert (told["type"], told["message"]) == ("rate_limit_error", "Slow down.")
        assert len(provider.received) == 1
