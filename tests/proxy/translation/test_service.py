"""Chat, streams, tools, images and the rest, from both protocols to Gemini, Vertex AI and Bedrock, through the real process."""

from __future__ import annotations

import json
from typing import Any

import aiohttp

from tests.proxy.scripting import Upstream
from tests.proxy.translation.conftest import KEY
from tests.proxy.translation.providers import answering, gemini

SAY = [{"role": "user", "content": "Say hello."}]
EVENTS = "text/event-stream"


async def ask(
    client: aiohttp.ClientSession, path: str, body: dict[str, Any], upstream: str = "gemini", **headers: str
) -> tuple[int, Any]:
    """Status and JSON body of a whole answer."""
    async with client.post(path, json=body, headers={"x-potstill-upstream": upstream, **headers}) as answer:
        return answer.status, await answer.json()


async def test_a_chat_becomes_the_providers_question_and_its_answer_a_chat(
    client: aiohttp.ClientSession, provider: Upstream
) -> None:
    provider.script = answering(json.dumps(gemini([{"text": "Hello."}])).encode())
    status, answer = await ask(client, "/v1/chat/completions", {"model": "gemini/gemini-2.5-flash", "messages": SAY})
    assert status == 200, answer
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == "Hello."
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (5, 2)
    received = provider.received[-1]
    assert received.line.startswith("POST /v1beta/models/gemini-2.5-flash:generateContent")
    assert received.header("x-goog-api-key") == KEY
    assert json.loads(received.body)["contents"] == [{"role": "user", "parts": [{"text": "Say hello."}]}]
