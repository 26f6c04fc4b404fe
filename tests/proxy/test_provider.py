"""The scripted provider, asked by the real SDKs and by bare HTTP."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import anthropic
import openai
import pytest

from capture.errors import PortTakenError
from proxy.provider import ProviderOptions, main, serving
from proxy.tickets import make_tickets

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "kelvin"]}, "days": {"type": "integer"}},
    "required": ["city"],
}
HELLO: list[Any] = [{"role": "user", "content": "Grüße aus 東京 👩‍🚀 today"}]
ASKS_FOR_TOOL: list[Any] = [{"role": "user", "content": "Please use get weather for Oslo, 3 days in kelvin"}]


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with serving(ProviderOptions(latency_ms=0)) as address:
        yield address


@pytest.fixture
async def openai_sdk(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-any", max_retries=0) as client:
        yield client


@pytest.fixture
async def anthropic_sdk(url: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0) as client:
        yield client


@asynccontextmanager
async def posted(url: str, path: str, body: Any, **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
    sent = {"authorization": "Bearer any", **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.post(url + path, data=body if isinstance(body, bytes) else json.dumps(body), headers=sent) as response,
    ):
        yield response


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "messages": HELLO, **more}


def message(**more: Any) -> dict[str, Any]:
    return {"model": "claude-haiku-4-5", "max_tokens": 100, "messages": HELLO, **more}


def without_ids(body: str) -> dict[str, Any]:
    return {key: value for key, value in json.loads(body).items() if key not in ("id", "created")}


async def test_a_ticket_gets_the_teachers_answer_from_both_families(
    openai_sdk: openai.AsyncOpenAI, anthropic_sdk: anthropic.AsyncAnthropic
) -> None:
    right = 0
    for ticket in make_tickets(4, 20):
        user: Any = {"role": "user", "content": ticket.user_prompt}
        system: Any = {"role": "system", "content": ticket.system_prompt}
        whole = await openai_sdk.chat.completions.create(model="gpt-4o-mini", messages=[system, user])
        other = await anthropic_sdk.messages.create(
            model="claude-haiku-4-5", max_tokens=40, system=ticket.system_prompt, messages=[user]
        )
        block = other.content[0]
        assert block.type == "text"
        assert json.loads(block.text).keys() == {"queue"}
        assert whole.model == "gpt-4o-mini-2024-07-18" and whole.choices[0].finish_reason == "stop"
        assert whole.usage is not None and whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
        assert other.stop_reason == "end_turn" and other.usage.input_tokens > 50
        right += (whole.choices[0].message.content == ticket.gold) + (block.text == ticket.gold)
    assert right >= 35


async def test_a_stream_of_the_openai_family_says_the_same_as_the_whole_answer(openai_sdk: openai.AsyncOpenAI) -> None:
    whole = await openai_sdk.chat.completions.create(model="m", messages=HELLO, n=2)
    stream = await openai_sdk.chat.completions.create(
        model="m", messages=HELLO, n=2, stream=True, stream_options={"include_usage": True}
    )
    texts, finishes, usage = {0: "", 1: ""}, {}, None
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            finishes[choice.index] = choice.finish_reason
    assert texts == {0: whole.choices[0].message.content, 1: whole.choices[1].message.content}
    assert "東京 👩‍🚀" in texts[0] and finishes == {0: "stop", 1: "stop"}
    assert usage == whole.usage


async def test_usage_comes_in_a_stream_only_when_asked_or_scripted(url: str) -> None:
    for options, script, is_expected in (({}, "", False), ({}, "usage=1", True), ({"include_usage": True}, "usage=0", False)):
        body = chat(stream=True, stream_options=options)
        async with posted(url, "/v1/chat/completions", body, x_script=script) as response:
            text = await response.text()
        assert ('"prompt_tokens"' in text) is is_expected
        assert text.endswith("data: [DONE]\n\n")


async def test_a_stream_of_the_anthropic_family_has_its_events_in_order(
    url: str, anthropic_sdk: anthropic.AsyncAnthropic
) -> None:
    async with posted(url, "/v1/messages", message(stream=True), x_script="pings=2") as response:
        kinds = [line[7:] for line in (await response.text()).split("\n") if line.startswith("event: ")]
        assert response.headers["content-type"].startswith("text/event-stream")
    deltas = kinds.count("content_block_delta")
    assert kinds == [
        *("message_start", "content_block_start", "ping", "ping"),
        *("content_block_delta",) * deltas,
        *("content_block_stop", "message_delta", "message_stop"),
    ]
    async with anthropic_sdk.messages.stream(model="claude-haiku-4-5", max_tokens=100, messages=HELLO) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()
    assert text == "You wrote: Grüße aus 東京 👩‍🚀 today" and deltas > 3
    assert final.model == "claude-haiku-4-5-20251001" and final.stop_reason == "end_turn" and final.usage.output_tokens == deltas


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_tool_that_the_prompt_names_is_used_in_the_openai_family(openai_sdk: openai.AsyncOpenAI, is_stream: bool) -> None:
    tools: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER, "strict": True}}]
    done: Any
    if is_stream:
        async with openai_sdk.chat.completions.stream(model="m", messages=ASKS_FOR_TOOL, tools=tools) as stream:
            events = [event.type async for event in stream]
            done = await stream.get_final_completion()
        assert events.count("tool_calls.function.arguments.delta") > 2
    else:
        done = await openai_sdk.chat.completions.create(model="m", messages=ASKS_FOR_TOOL, tools=tools)
    calls = done.choices[0].message.tool_calls
    assert calls is not None and done.choices[0].finish_reason == "tool_calls"
    assert calls[0].type == "function" and calls[0].function.name == "get_weather"
    assert json.loads(calls[0].function.arguments) == {"city": "Oslo", "unit": "kelvin", "days": 3}
    after = await openai_sdk.chat.completions.create(
        model="m",
        tools=tools,
        messages=[
            *ASKS_FOR_TOOL,
            done.choices[0].message.model_dump(include={"role", "content", "tool_calls"}),
            {"role": "tool", "tool_call_id": calls[0].id, "content": "4 degrees"},
        ],
    )
    assert after.choices[0].message.content == "The tool says: 4 degrees"


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_tool_that_the_prompt_names_is_used_in_the_anthropic_family(
    anthropic_sdk: anthropic.AsyncAnthropic, is_stream: bool
) -> None:
    tools: Any = [{"name": name, "input_schema": WEATHER} for name in ("get_news", "get_weather")]
    asked: Any = {"model": "claude-haiku-4-5", "max_tokens": 200, "messages": ASKS_FOR_TOOL, "tools": tools}
    if is_stream:
        async with anthropic_sdk.messages.stream(**asked) as stream:
            done = await stream.get_final_message()
    else:
        done = await anthropic_sdk.messages.create(**asked)
    text, use = done.content
    assert done.stop_reason == "tool_use" and text.type == "text" and use.type == "tool_use"
    assert use.name == "get_weather" and use.input == {"city": "Oslo", "unit": "kelvin", "days": 3}
    result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "4 degrees"}]}
    turns = [*ASKS_FOR_TOOL, {"role": "assistant", "content": done.content}, {"role": "user", "content": [result]}]
    after = await anthropic_sdk.messages.create(**asked | {"messages": turns})
    assert [block.type for block in after.content] == ["text"] and "4 degrees" in str(after.content[0])


async def test_tool_choice_rules_over_the_prompt(openai_sdk: openai.AsyncOpenAI) -> None:
    tools: Any = [{"type": "function", "function": {"name": name, "parameters": WEATHER}} for name in ("first", "second")]
    named: Any = {"type": "function", "function": {"name": "second"}}
    expectations: list[tuple[Any, str, list[str]]] = [
        ("none", "use first", []),
        ("required", "nothing", ["first"]),
        (named, "use first", ["second"]),
        ("auto", "second, then first", ["second", "first"]),
        ("auto", "nothing", []),
    ]
    for choice, prompt, expected in expectations:
        done = await openai_sdk.chat.completions.create(
            model="m", tools=tools, tool_choice=choice, messages=[{"role": "user", "content": prompt}]
        )
        assert [call.function.name for call in done.choices[0].message.tool_calls or () if call.type == "function"] == expected


async def test_embeddings_are_unit_vectors_that_know_shared_words(openai_sdk: openai.AsyncOpenAI) -> None:
    texts = ["my parcel is late", "the parcel is late", "reset password"]
    packed = await openai_sdk.embeddings.create(model="text-embedding-3-small", input=texts, dimensions=64)
    plain = await openai_sdk.embeddings.create(
        model="text-embedding-3-small", input=texts, dimensions=64, encoding_format="float"
    )
    vectors = [each.embedding for each in packed.data]
    assert vectors == [each.embedding for each in plain.data]

    def dot(left: int, right: int) -> float:
        return sum(one * other for one, other in zip(vectors[left], vectors[right], strict=True))

    assert dot(0, 0) == pytest.approx(1) and dot(0, 1) > 0.5 > dot(0, 2)
    one = await openai_sdk.embeddings.create(model="text-embedding-3-large", input="x")
    assert len(one.data[0].embedding) == 3072


async def test_models_and_token_counts_are_there(openai_sdk: openai.AsyncOpenAI, anthropic_sdk: anthropic.AsyncAnthropic) -> None:
    assert "gpt-4o-mini" in [model.id async for model in openai_sdk.models.list()]
    assert (await openai_sdk.models.retrieve("gpt-4o")).id == "gpt-4o"
    assert "claude-haiku-4-5" in [model.id async for model in anthropic_sdk.models.list()]
    counted = await anthropic_sdk.messages.count_tokens(model="claude-haiku-4-5", messages=HELLO)
    said = await anthropic_sdk.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=HELLO)
    assert counted.input_tokens == said.usage.input_tokens > 5
    with pytest.raises(openai.NotFoundError):
        await openai_sdk.models.retrieve("gpt-0")


async def test_max_tokens_cuts_the_answer(openai_sdk: openai.AsyncOpenAI, anthropic_sdk: anthropic.AsyncAnthropic) -> None:
    short = await openai_sdk.chat.completions.create(model="m", messages=HELLO, max_tokens=2)
    assert short.choices[0].finish_reason == "length" and short.usage is not None and short.usage.completion_tokens == 2
    other = await anthropic_sdk.messages.create(model="m", max_tokens=2, messages=HELLO)
    assert other.stop_reason == "max_tokens" and other.usage.output_tokens == 2


async def test_a_missing_key_a_bad_body_and_an_unknown_path_are_refused_in_the_familys_shape(
    url: str, openai_sdk: openai.AsyncOpenAI, anthropic_sdk: anthropic.AsyncAnthropic
) -> None:
    async with posted(url, "/v1/chat/completions", chat(), authorization="") as response:
        assert response.status == 401 and (await response.json())["error"]["code"] == "invalid_api_key"
    async with posted(url, "/v1/messages", message(), authorization="") as response:
        answered = await response.json()
        assert response.status == 401 and answered["error"]["type"] == "authentication_error"
        assert answered["request_id"] == response.headers["request-id"]
    for path, body in (("/v1/chat/completions", b"{"), ("/v1/chat/completions", b"[]"), ("/v1/messages", {"model": "m"})):
        async with posted(url, path, body) as response:
            assert response.status == 400 and (await response.json())["error"]["type"] == "invalid_request_error"
    with pytest.raises(openai.BadRequestError, match="messages"):
        await openai_sdk.chat.completions.create(model="m", messages=[])
    with pytest.raises(anthropic.BadRequestError, match="role"):
        await anthropic_sdk.messages.create(model="m", max_tokens=9, messages=[{"role": "system", "content": "x"}])
    with pytest.raises(openai.NotFoundError, match="Invalid URL"):
        await openai_sdk.images.generate(prompt="x")
    with pytest.raises(anthropic.NotFoundError) as caught:
        await anthropic_sdk.post("/v1/elsewhere", cast_to=object, body={})
    assert caught.value.response.json()["error"]["type"] == "not_found_error"


@pytest.mark.parametrize(("status", "waits"), [(429, "1"), (500, None), (503, "1"), (529, "1")])
async def test_a_scripted_status_is_the_sdks_own_error(
    openai_sdk: openai.AsyncOpenAI, anthropic_sdk: anthropic.AsyncAnthropic, status: int, waits: str | None
) -> None:
    script = {"x-script": f"status={status}"}
    with pytest.raises(openai.APIStatusError) as first:
        await openai_sdk.chat.completions.create(model="m", messages=HELLO, extra_headers=script)
    with pytest.raises(anthropic.APIStatusError) as second:
        await anthropic_sdk.messages.create(model="m", max_tokens=9, messages=HELLO, extra_headers=script)
    for response in (first.value.response, second.value.response):
        assert response.status_code == status and response.headers.get("retry-after") == waits
    with pytest.raises(openai.APIStatusError) as third:
        await openai_sdk.chat.completions.create(
            model="m", messages=HELLO, extra_headers={"x-script": '{"status": 429, "retry_after": 7}'}
        )
    assert third.value.response.headers["retry-after"] == "7"


async def test_equal_requests_get_equal_answers_and_other_ids(url: str) -> None:
    bodies = []
    for _ in range(2):
        async with posted(url, "/v1/chat/completions", chat()) as response:
            bodies.append(await response.text())
            assert response.headers["x-request-id"].startswith("req_") and response.headers["openai-processing-ms"].isdigit()
            assert int(response.headers["x-ratelimit-remaining-requests"]) > 0
    assert without_ids(bodies[0]) == without_ids(bodies[1])
    assert json.loads(bodies[0])["id"] != json.loads(bodies[1])["id"]


async def test_a_ticket_asked_often_is_answered_otherwise_now_and_then_and_the_same_way_after_a_restart() -> None:
    ticket = make_tickets(5, 1)[0]
    body = chat(messages=[{"role": "system", "content": ticket.system_prompt}, {"role": "user", "content": ticket.user_prompt}])
    runs = []
    for _ in range(2):
        async with serving(ProviderOptions(latency_ms=0, error_share=0.3)) as url, aiohttp.ClientSession() as session:
            answers = []
            for _ in range(25):
                headers = {"authorization": "Bearer any"}
                async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as response:
                    answers.append((await response.json())["choices"][0]["message"]["content"])
            runs.append(answers)
    assert runs[0] == runs[1] and len(set(runs[0])) > 1 and runs[0].count(ticket.gold) > 10


async def test_a_port_that_is_taken_is_named() -> None:
    async with serving(ProviderOptions(latency_ms=0)) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(PortTakenError, match=str(port)):
            async with serving(ProviderOptions(latency_ms=0), port=port):
                pass


@pytest.mark.parametrize("port", ["-1", "65536", "x"])
def test_a_port_that_cannot_be_is_refused_by_name(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([f"--port={port}"])
    assert f"argument --port: '{port}' is not a port between 0 and 65535" in capsys.readouterr().err


async def test_the_provider_runs_as_a_process_and_ends_on_sigterm(unused_tcp_port: int) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy.provider", "--port", str(unused_tcp_port), "--latency-ms", "0"),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        async with asyncio.timeout(30), aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{unused_tcp_port}/_script/requests") as response:
                        assert (await response.json())["requests"] == 0
                        break
                except aiohttp.ClientConnectorError:
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            _, complaints = await process.communicate()
    assert process.returncode == 0 and complaints == b""


async def test_a_gzip_answer_is_gzip_and_labelled(url: str) -> None:
    async with posted(url, "/v1/chat/completions", chat(), x_script="gzip=1") as response:
        assert response.headers["content-encoding"] == "gzip"
        packed = await response.read()
    assert "東京" in json.loads(gzip.decompress(packed))["choices"][0]["message"]["content"]
