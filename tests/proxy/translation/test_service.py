"""Chat, streams, tools, images and the rest, from both protocols to Gemini, Vertex AI and Bedrock, through the real process."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import threading
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.proxy.scripting import Received, Upstream, chunked_head
from tests.proxy.translation.conftest import HEADER, KEY, PATIENCE_S, Translation
from tests.proxy.translation.providers import EVENTS, PIXEL, answering, converse, event_stream, gemini, sse, streaming

SAY = [{"role": "user", "content": "Say hello."}]
GEMINI, NOVA, VERTEX = "gemini/gemini-2.5-flash", "bedrock/us.amazon.nova-lite-v1:0", "vertex_ai/gemini-2.5-flash"
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CONVERSED = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hello."}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7},
}


async def ask(
    client: aiohttp.ClientSession, path: str, body: dict[str, Any], upstream: str = "gemini", **headers: str
) -> tuple[int, Any]:
    """Status and JSON body of a whole answer."""
    async with client.post(path, json=body, headers={HEADER: upstream, **headers}) as answer:
        return answer.status, await answer.json()


async def events(client: aiohttp.ClientSession, path: str, body: dict[str, Any], upstream: str = "gemini") -> list[Any]:
    """The data of every event of a stream; what is not JSON as text."""
    async with client.post(path, json={**body, "stream": True}, headers={HEADER: upstream}) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Content-Type"].startswith(EVENTS)
        return [each async for each in data_of(answer)]


async def data_of(answer: aiohttp.ClientResponse) -> AsyncIterator[Any]:
    """The data of each event as it comes."""
    async for line in answer.content:
        if line.startswith(b"data: "):
            data = line[6:].strip()
            yield data.decode() if data == b"[DONE]" else json.loads(data)


@pytest.mark.parametrize(
    ("upstream", "model", "answer", "target"),
    [
        ("gemini", GEMINI, gemini([{"text": "Hello."}]), "POST /v1beta/models/gemini-2.5-flash:generateContent"),
        ("vertex", VERTEX, gemini([{"text": "Hello."}]), "POST /v1/projects/p1/locations/us-central1/publishers/google/models/"),
        ("bedrock", NOVA, CONVERSED, "POST /model/us.amazon.nova-lite-v1%3A0/converse "),
    ],
)
async def test_a_chat_becomes_the_providers_question_and_its_answer_a_chat(
    client: aiohttp.ClientSession, provider: Upstream, upstream: str, model: str, answer: dict[str, Any], target: str
) -> None:
    provider.script = answering(json.dumps(answer).encode())
    body = {"model": model, "messages": SAY, "temperature": 0.5, "max_tokens": 20}
    status, answered = await ask(client, "/v1/chat/completions", body, upstream)
    assert status == 200, answered
    assert answered["object"] == "chat.completion"
    assert answered["choices"][0]["message"]["content"] == "Hello."
    assert answered["choices"][0]["finish_reason"] == "stop"
    assert (answered["usage"]["prompt_tokens"], answered["usage"]["completion_tokens"]) == (5, 2)
    received = provider.received[-1]
    assert received.line.startswith(target)
    assert b"Say hello." in received.body and b"0.5" in received.body and b"20" in received.body


@pytest.mark.parametrize(
    ("upstream", "model", "answer"),
    [
        ("gemini", GEMINI, gemini([{"text": "Hello."}])),
        ("vertex", VERTEX, gemini([{"text": "Hello."}])),
        ("bedrock", NOVA, CONVERSED),
    ],
)
async def test_a_message_to_anthropics_api_is_answered_as_one(
    client: aiohttp.ClientSession, provider: Upstream, upstream: str, model: str, answer: dict[str, Any]
) -> None:
    provider.script = answering(json.dumps(answer).encode())
    body = {"model": model, "max_tokens": 20, "system": "Be brief.", "messages": SAY}
    status, answered = await ask(client, "/v1/messages", body, upstream)
    assert status == 200, answered
    assert (answered["type"], answered["role"], answered["stop_reason"]) == ("message", "assistant", "end_turn")
    assert answered["content"] == [{"type": "text", "text": "Hello."}]
    assert (answered["usage"]["input_tokens"], answered["usage"]["output_tokens"]) == (5, 2)
    assert b"Be brief." in provider.received[-1].body


STREAMS = [
    (
        "gemini",
        GEMINI,
        sse([gemini([{"text": "Hel"}], None), gemini([{"text": "lo, "}], None), gemini([{"text": "北京."}])]),
        EVENTS,
    ),
    (
        "vertex",
        VERTEX,
        sse([gemini([{"text": "Hel"}], None), gemini([{"text": "lo, "}], None), gemini([{"text": "北京."}])]),
        EVENTS,
    ),
    ("bedrock", NOVA, event_stream(converse(["Hel", "lo, ", "北京."])), "application/vnd.amazon.eventstream"),
]


@pytest.mark.parametrize(("upstream", "model", "pieces", "kind"), STREAMS)
async def test_a_stream_of_chat_says_the_same_with_usage_only_where_it_was_asked_for(
    client: aiohttp.ClientSession, provider: Upstream, upstream: str, model: str, pieces: list[bytes], kind: str
) -> None:
    provider.script = streaming(pieces, kind)
    plain = await events(client, "/v1/chat/completions", {"model": model, "messages": SAY}, upstream)
    assert plain[-1] == "[DONE]"
    assert "".join(each["choices"][0]["delta"].get("content") or "" for each in plain[:-1]) == "Hello, 北京."
    assert [each["choices"][0]["finish_reason"] for each in plain[:-1]][-1] == "stop"
    assert not any(each.get("usage") for each in plain[:-1])
    body = {"model": model, "messages": SAY, "stream_options": {"include_usage": True}}
    counted = await events(client, "/v1/chat/completions", body, upstream)
    assert counted[-2]["choices"] == [] and counted[-2]["usage"]["completion_tokens"] == 2
    assert not any(each.get("usage") for each in counted[:-2])


@pytest.mark.parametrize(("upstream", "model", "pieces", "kind"), STREAMS)
async def test_a_stream_of_messages_has_anthropics_order_of_events(
    client: aiohttp.ClientSession, provider: Upstream, upstream: str, model: str, pieces: list[bytes], kind: str
) -> None:
    provider.script = streaming(pieces, kind)
    seen = await events(client, "/v1/messages", {"model": model, "max_tokens": 20, "messages": SAY}, upstream)
    kinds = [each["type"] for each in seen]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert "".join(each["delta"]["text"] for each in seen[2:-3]) == "Hello, 北京."
    assert seen[-2]["delta"]["stop_reason"] == "end_turn"
    assert seen[-2]["usage"] == {"input_tokens": 5, "output_tokens": 2}


async def test_a_stream_of_responses_is_numbered_and_ends_completed(client: aiohttp.ClientSession, provider: Upstream) -> None:
    provider.script = streaming(STREAMS[0][2], EVENTS)
    seen = await events(client, "/v1/responses", {"model": GEMINI, "input": "Say hello.", "store": False})
    assert [each["sequence_number"] for each in seen] == list(range(len(seen)))
    assert seen[0]["type"] == "response.created" and seen[-1]["type"] == "response.completed"
    assert "".join(each["delta"] for each in seen if each["type"] == "response.output_text.delta") == "Hello, 北京."
    assert seen[-1]["response"]["usage"]["output_tokens"] == 2


@pytest.mark.parametrize(("upstream", "model", "pieces", "kind"), STREAMS)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_each_piece_is_passed_on_before_the_provider_sends_the_next(
    client: aiohttp.ClientSession, provider: Upstream, path: str, upstream: str, model: str, pieces: list[bytes], kind: str
) -> None:
    gates = [threading.Event() for _ in pieces[1:]]
    provider.script = streaming(pieces, kind, pause=gates)
    if upstream == "bedrock":  # its first frame says nothing
        gates[0].set()
    body = {"model": model, "max_tokens": 20, "messages": SAY, "stream": True}
    told = ""
    async with asyncio.timeout(PATIENCE_S), client.post(path, json=body, headers={HEADER: upstream}) as answer:
        async for each in data_of(answer):
            text = text_of(each)
            told += text
            if text:
                next((gate for gate in gates if not gate.is_set()), threading.Event()).set()
            if told == "Hello, 北京.":
                for gate in gates:
                    gate.set()
    assert told == "Hello, 北京."


def text_of(event: Any) -> str:
    """What an event of either protocol says."""
    if not isinstance(event, dict):
        return ""
    if "choices" in event:
        return "".join(choice["delta"].get("content") or "" for choice in event["choices"])
    return str(event.get("delta", {}).get("text", ""))


TWO_CALLS = [{"functionCall": {"name": "weather", "args": {"city": city}}} for city in ("Oslo", "Rome")]


async def test_tools_are_offered_and_two_calls_at_once_stay_apart_in_both_protocols(
    client: aiohttp.ClientSession, provider: Upstream
) -> None:
    chat = {
        "model": GEMINI,
        "messages": SAY,
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}],
    }
    messages = {"model": GEMINI, "max_tokens": 50, "messages": SAY, "tools": [{"name": "weather", "input_schema": WEATHER}]}
    cities = [{"city": "Oslo"}, {"city": "Rome"}]

    provider.script = answering(json.dumps(gemini(TWO_CALLS)).encode())
    _, answered = await ask(client, "/v1/chat/completions", chat)
    calls = answered["choices"][0]["message"]["tool_calls"]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == cities
    assert answered["choices"][0]["finish_reason"] == "tool_calls"
    _, answered = await ask(client, "/v1/messages", messages)
    assert [(block["type"], block["name"], block["input"]) for block in answered["content"]] == [
        ("tool_use", "weather", city) for city in cities
    ]
    declared = json.loads(provider.received[-1].body)["tools"][0]["function_declarations"][0]
    assert declared["name"] == "weather" and declared["parameters"]["required"] == ["city"]

    provider.script = streaming(sse([gemini([{"text": "Let me see."}], None), gemini(TWO_CALLS)]), EVENTS)
    streamed: dict[int, str] = {}
    for each in await events(client, "/v1/chat/completions", chat):
        for call in each["choices"][0]["delta"].get("tool_calls", ()) if isinstance(each, dict) else ():
            streamed[call["index"]] = streamed.get(call["index"], "") + call["function"]["arguments"]
    assert [json.loads(streamed[index]) for index in sorted(streamed)] == cities
    blocks: dict[int, str] = {}
    for each in await events(client, "/v1/messages", messages):
        if each["type"] == "content_block_delta" and each["delta"]["type"] == "input_json_delta":
            blocks[each["index"]] = blocks.get(each["index"], "") + each["delta"]["partial_json"]
    assert [json.loads(blocks[index]) for index in sorted(blocks)] == cities


async def test_a_tools_result_goes_back_to_the_provider(client: aiohttp.ClientSession, provider: Upstream) -> None:
    provider.script = answering(json.dumps(gemini([{"text": "Mild."}])).encode())
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    talk = [
        *SAY,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"degrees": 11}'},
    ]
    tools = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
    status, answered = await ask(client, "/v1/chat/completions", {"model": GEMINI, "messages": talk, "tools": tools})
    assert status == 200, answered
    parts = [part for content in json.loads(provider.received[-1].body)["contents"] for part in content["parts"]]
    assert any((part.get("function_call") or part.get("functionCall") or {}).get("args") == {"city": "Oslo"} for part in parts)
    assert any("11" in json.dumps(part.get("function_response") or part.get("functionResponse") or "") for part in parts)


async def test_images_and_reasoning_travel_both_ways(client: aiohttp.ClientSession, provider: Upstream) -> None:
    thoughts = gemini([{"text": "It is small.", "thought": True}, {"text": "A pixel."}])
    provider.script = answering(json.dumps(thoughts).encode())
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    body = {"model": GEMINI, "messages": [{"role": "user", "content": parts}], "reasoning_effort": "low"}
    status, answered = await ask(client, "/v1/chat/completions", body)
    assert status == 200, answered
    message = answered["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("It is small.", "A pixel.")
    sent = json.loads(provider.received[-1].body)
    assert sent["contents"][0]["parts"][1]["inline_data"]["data"] == PIXEL.partition(",")[2]
    assert sent["generationConfig"]["thinkingConfig"]["includeThoughts"] is True
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL.partition(",")[2]}
    thinking = {"type": "enabled", "budget_tokens": 1024}
    image = [{"role": "user", "content": [{"type": "image", "source": source}]}]
    status, answered = await ask(
        client, "/v1/messages", {"model": GEMINI, "max_tokens": 2048, "messages": image, "thinking": thinking}
    )
    assert status == 200, answered
    assert [block["type"] for block in answered["content"]] == ["thinking", "text"]
    assert json.loads(provider.received[-1].body)["contents"][0]["parts"][0]["inline_data"]["mime_type"] == "image/png"


async def test_embeddings_come_as_floats_or_in_base64_as_the_sdks_ask(client: aiohttp.ClientSession, provider: Upstream) -> None:
    provider.script = answering(json.dumps({"embeddings": [{"values": [0.5, -0.25]}]}).encode())
    body = {"model": "gemini/gemini-embedding-001", "input": ["Say hello."]}
    _, floats = await ask(client, "/v1/embeddings", body)
    assert floats["data"][0]["embedding"] == [0.5, -0.25]
    _, packed = await ask(client, "/v1/embeddings", {**body, "encoding_format": "base64"})
    assert struct.unpack("<2f", base64.b64decode(packed["data"][0]["embedding"])) == (0.5, -0.25)


async def test_an_image_is_made(client: aiohttp.ClientSession, provider: Upstream) -> None:
    provider.script = answering(json.dumps({"predictions": [{"bytesBase64Encoded": "aGk=", "mimeType": "image/png"}]}).encode())
    body = {"model": "gemini/imagen-4.0-generate-001", "prompt": "A still.", "n": 1}
    status, answered = await ask(client, "/v1/images/generations", body)
    assert status == 200 and answered["data"][0]["b64_json"] == "aGk="


async def test_completions_and_responses_are_answered_whole(client: aiohttp.ClientSession, provider: Upstream) -> None:
    provider.script = answering(json.dumps(gemini([{"text": "Hello."}])).encode())
    _, completion = await ask(client, "/v1/completions", {"model": GEMINI, "prompt": "Say hello."})
    assert (completion["object"], completion["choices"][0]["text"]) == ("text_completion", "Hello.")
    _, response = await ask(client, "/v1/responses", {"model": GEMINI, "input": "Say hello."})
    assert (response["status"], response["output"][0]["content"][0]["text"]) == ("completed", "Hello.")
    provider.script = streaming(STREAMS[0][2], EVENTS)
    seen = await events(client, "/v1/completions", {"model": GEMINI, "prompt": "Say hello."})
    assert "".join(each["choices"][0]["text"] for each in seen[:-1]) == "Hello, 北京."
    assert not any("usage" in each for each in seen[:-1])


async def test_tokens_that_no_provider_counted_are_marked_as_estimated(client: aiohttp.ClientSession, provider: Upstream) -> None:
    body = {"model": GEMINI, "messages": SAY}
    async with client.post("/v1/messages/count_tokens", json=body, headers={HEADER: "gemini"}) as answer:
        assert answer.status == 200
        assert answer.headers["x-token-count"] == "estimated"
        assert (await answer.json())["input_tokens"] > 0


@pytest.mark.parametrize("upstream", ["gemini", "filed"])
async def test_our_key_is_sent_and_the_clients_is_not(client: aiohttp.ClientSession, provider: Upstream, upstream: str) -> None:
    provider.script = answering(json.dumps(gemini([{"text": "Hello."}])).encode())
    body = {"model": GEMINI, "messages": SAY}
    await ask(client, "/v1/chat/completions", body, upstream, Authorization="Bearer sentinel-of-the-client")
    assert provider.received[-1].header("x-goog-api-key") == KEY
    assert "sentinel-of-the-client" not in repr(provider.received[-1])


@pytest.mark.parametrize("header", [{"Authorization": "Bearer their-key"}, {"x-api-key": "their-key"}, {"api-key": "their-key"}])
async def test_the_clients_key_is_sent_where_the_settings_say_so(
    client: aiohttp.ClientSession, provider: Upstream, header: dict[str, str]
) -> None:
    provider.script = answering(json.dumps(gemini([{"text": "Hello."}])).encode())
    status, _ = await ask(client, "/v1/chat/completions", {"model": GEMINI, "messages": SAY}, "theirs", **header)
    assert status == 200
    assert provider.received[-1].header("x-goog-api-key") == "their-key"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("upstream", ["gemini", "bedrock"])
@pytest.mark.parametrize("when", ["before the first byte", "within the stream", "before a whole answer"])
async def test_a_client_that_hangs_up_ends_the_providers_work(
    client: aiohttp.ClientSession, provider: Upstream, path: str, upstream: str, when: str
) -> None:
    begun = threading.Event()
    heard: list[str] = []
    first = STREAMS[0][2][:1] if upstream == "gemini" else STREAMS[2][2][:2]

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        if when == "within the stream":
            writer.write(chunked_head(STREAMS[0][3] if upstream == "gemini" else STREAMS[2][3]))
            for each in first:
                writer.write(f"{len(each):x}\r\n".encode() + each + b"\r\n")
            await writer.drain()
        begun.set()
        await asyncio.sleep(10 * PATIENCE_S)

    provider.script = script
    body = {"model": GEMINI if upstream == "gemini" else NOVA, "max_tokens": 20, "messages": SAY}
    body["stream"] = when != "before a whole answer"

    async def call() -> None:
        async with client.post(path, json=body, headers={HEADER: upstream}) as answer:
            async for each in data_of(answer):
                heard.append(text_of(each))  # noqa: PERF401

    calling = asyncio.ensure_future(call())
    await until(begun.is_set)
    if when == "within the stream":
        await until(lambda: "Hel" in heard)
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    await until(provider.closed.is_set)


async def until(is_so: Any) -> None:
    """Returns when it is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_fifty_streams_at_once_are_kept_apart(client: aiohttp.ClientSession, provider: Upstream) -> None:
    async def script(received: Received, writer: asyncio.StreamWriter) -> None:
        word = json.loads(received.body)["contents"][0]["parts"][0]["text"]
        await streaming(sse([gemini([{"text": word}], None), gemini([{"text": "."}])]), EVENTS)(received, writer)

    provider.script = script

    async def one(number: int) -> str:
        body = {"model": GEMINI, "messages": [{"role": "user", "content": f"word {number}"}]}
        return "".join(text_of(each) for each in await events(client, "/v1/chat/completions", body))

    assert await asyncio.gather(*(one(number) for number in range(50))) == [f"word {number}." for number in range(50)]


async def test_the_socket_is_for_its_owner_alone_and_the_log_holds_neither_content_nor_keys(translation: Translation) -> None:
    assert translation.socket.stat().st_mode & 0o777 == 0o600
    assert translation.socket.parent.stat().st_mode & 0o777 == 0o700
    log = translation.log.read_text()
    assert not any(word in log for word in ("Say hello", KEY, "sentinel", "Traceback"))
