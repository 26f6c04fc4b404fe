"""The official SDKs against the relay, with base URLs as users set them, in front of the scripted provider."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from capture.settings import Settings
from proxy.provider import ProviderOptions, serving
from proxy.worker import Worker, start_worker
from tests.proxy.scripting import free_port, kept, relay_settings

ASK: Any = [{"role": "user", "content": "Say 北 to me: 👩‍👩‍👧"}]


@dataclass
class House:
    """A relay in front of the scripted provider."""

    provider: str
    worker: Worker
    settings: Settings

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.worker.port}"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with serving(ProviderOptions(latency_ms=0)) as provider:
        settings = relay_settings(tmp_path, provider)
        worker = await start_worker(settings)
        yield House(provider, worker, settings)
        await worker.drain(0.0)


def openai_sdk(base_url: str, **headers: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=base_url, api_key="sk-test", max_retries=0, default_headers=headers)


def anthropic_sdk(base_url: str, **headers: str) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=base_url, api_key="sk-test", max_retries=0, default_headers=headers)


OPENAI_BASES = ["/v1", "/v1/", "", "/task/triage/v1", "/upstream/openai/v1", "/task/triage/upstream/openai/v1"]
ANTHROPIC_BASES = ["", "/", "/v1", "/task/triage", "/upstream/anthropic"]


@pytest.mark.parametrize("base", OPENAI_BASES)
async def test_openai_whole_and_streamed(base: str, house: House) -> None:
    async with openai_sdk(house.provider + "/v1") as direct, openai_sdk(house.address + base) as relayed:
        expected = await direct.chat.completions.create(model="m", messages=ASK)
        answer = await relayed.chat.completions.create(model="m", messages=ASK)
        assert answer.choices[0].message.content == expected.choices[0].message.content
        assert answer.usage == expected.usage
        pieces = [
            piece.choices[0].delta.content or ""
            async for piece in await relayed.chat.completions.create(model="m", messages=ASK, stream=True)
            if piece.choices
        ]
        assert "".join(pieces) == expected.choices[0].message.content
    begins = [exchange.begin for exchange in kept(house.settings) if exchange.begin is not None]
    assert {begin.path for begin in begins} == {"/v1/chat/completions"}
    assert {begin.task for begin in begins} == {"triage" if "task" in base else ""}
    assert [begin.is_stream for begin in begins] == [False, True]


@pytest.mark.parametrize("base", ANTHROPIC_BASES)
async def test_anthropic_whole_and_streamed(base: str, house: House) -> None:
    async with anthropic_sdk(house.provider) as direct, anthropic_sdk(house.address + base) as relayed:
        expected: Any = await direct.messages.create(model="m", max_tokens=99, messages=ASK)
        answer: Any = await relayed.messages.create(model="m", max_tokens=99, messages=ASK)
        assert answer.content[0].text == expected.content[0].text
        async with relayed.messages.stream(model="m", max_tokens=99, messages=ASK) as stream:
            assert "".join([text async for text in stream.text_stream]) == expected.content[0].text
    begins = [exchange.begin for exchange in kept(house.settings) if exchange.begin is not None]
    assert {begin.path for begin in begins} == {"/v1/messages"}
    assert {begin.protocol for begin in begins} == {"anthropic"}
    assert all(begin.request_headers["anthropic-version"] for begin in begins)


@pytest.mark.parametrize("fault", ["split", "gzip", "usage", "no_done", "pings", "tools"])
async def test_odd_streams_reach_the_sdks_as_they_would_directly(fault: str, house: House) -> None:
    tool: Any = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    text = {} if fault == "tools" else {"text": "日本 👩‍👩‍👧"}
    headers = {"x-script": json.dumps({fault: 1, "nonce": "1", **text})}
    found = []
    for base in (house.provider, house.address):
        async with openai_sdk(base + "/v1", **headers) as sdk:
            stream = await sdk.chat.completions.create(model="m", messages=ASK, stream=True, tools=tool)
            deltas = [piece.choices[0].delta if piece.choices else None async for piece in stream]
            calls = [call.function for delta in deltas for call in (delta.tool_calls if delta else None) or []]
            found.append([delta.content if delta else "" for delta in deltas] + calls)
        async with anthropic_sdk(base, **headers) as sdk:
            events = await sdk.messages.create(model="m", max_tokens=9, messages=ASK, stream=True)
            found.append([event.type async for event in events])
    assert found[0] == found[2]
    assert found[1] == found[3]


async def test_a_providers_errors_are_typed_as_they_would_be_directly(house: House) -> None:
    async with openai_sdk(house.address + "/v1", **{"x-script": "status=429,retry_after=3"}) as sdk:
        with pytest.raises(openai.RateLimitError) as limited:
            await sdk.chat.completions.create(model="m", messages=ASK)
        assert limited.value.response.headers["retry-after"] == "3"
    async with anthropic_sdk(house.address, **{"x-script": "status=529"}) as sdk:
        with pytest.raises(anthropic.APIStatusError) as overloaded:
            await sdk.messages.create(model="m", max_tokens=9, messages=ASK)
        assert overloaded.value.status_code == 529


async def test_our_refusals_are_typed_too(house: House) -> None:
    tag = {"x-potstill-task": "not a task"}
    async with openai_sdk(house.address + "/v1", **tag) as sdk:
        with pytest.raises(openai.BadRequestError, match="a task name has"):
            await sdk.chat.completions.create(model="m", messages=ASK)
    async with anthropic_sdk(house.address, **tag) as sdk:
        with pytest.raises(anthropic.BadRequestError, match="a task name has"):
            await sdk.messages.create(model="m", max_tokens=9, messages=ASK)
    without_key: dict[str, Any] = {"Authorization": openai.Omit()}
    async with openai_sdk(house.address + "/v1") as sdk:
        with pytest.raises(openai.AuthenticationError, match="Set OPENAI_API_KEY in the app"):
            await sdk.chat.completions.create(model="m", messages=ASK, extra_headers=without_key)
    without_key = {"X-Api-Key": anthropic.Omit(), "Authorization": anthropic.Omit()}
    async with anthropic_sdk(house.address) as anthropic_client:
        with pytest.raises(anthropic.AuthenticationError, match="Set ANTHROPIC_API_KEY in the app"):
            await anthropic_client.messages.create(model="m", max_tokens=9, messages=ASK, extra_headers=without_key)


async def test_an_unreachable_upstream_is_a_typed_error_with_a_next_step(tmp_path: Path) -> None:
    worker = await start_worker(relay_settings(tmp_path, f"http://127.0.0.1:{free_port()}"))
    address = f"http://127.0.0.1:{worker.port}"
    try:
        async with openai_sdk(address + "/v1") as sdk:
            with pytest.raises(openai.InternalServerError, match="Check url in"):
                await sdk.chat.completions.create(model="m", messages=ASK)
        async with anthropic_sdk(address) as sdk:
            with pytest.raises(anthropic.InternalServerError, match="Check url in"):
                await sdk.messages.create(model="m", max_tokens=9, messages=ASK)
    finally:
        await worker.drain(0.0)


@pytest.mark.parametrize("at", [0, 150, 400])
async def test_a_stream_that_is_cut_is_an_error_in_both_sdks(at: int, house: House) -> None:
    script = {"x-script": json.dumps({"cut_after_bytes": at, "text": "word " * 60})}
    async with openai_sdk(house.address + "/v1", **script) as sdk:
        with pytest.raises(Exception) as cut:
            async for _ in await sdk.chat.completions.create(model="m", messages=ASK, stream=True):
                pass
        assert not isinstance(cut.value, json.JSONDecodeError)
    async with anthropic_sdk(house.address, **script) as sdk:
        with pytest.raises(Exception) as cut:
            async for _ in await sdk.messages.create(model="m", max_tokens=99, messages=ASK, stream=True):
                pass
        assert not isinstance(cut.value, json.JSONDecodeError)
    states = [exchange.end.state for exchange in kept(house.settings) if exchange.end is not None]
    assert states == ["upstream_aborted", "upstream_aborted"]


async def test_other_endpoints_of_the_sdks_pass(house: House) -> None:
    async with openai_sdk(house.address + "/v1") as sdk:
        assert [model async for model in sdk.models.list()]
        assert (await sdk.embeddings.create(model="m", input="x")).data
    async with anthropic_sdk(house.address) as sdk:
        assert (await sdk.messages.count_tokens(model="m", messages=ASK)).input_tokens
        assert [model async for model in sdk.models.list()]


async def test_bytes_through_the_relay_equal_bytes_from_the_provider(house: House) -> None:
    """Byte equality of whole answers and streams, direct against relayed, in both families and any encoding."""
    import aiohttp

    bodies = {
        "/v1/chat/completions": {"model": "m", "messages": ASK},
        "/v1/messages": {"model": "m", "max_tokens": 9, "messages": ASK},
    }
    scripts = ["nonce=1", "nonce=1,gzip=1", "nonce=1,split=1", "nonce=1,status=500", "nonce=1,in_band_error=1"]
    async with aiohttp.ClientSession(auto_decompress=False, headers={"Authorization": "Bearer k"}) as session:
        for path, body in bodies.items():
            for is_stream in (False, True):
                for script in scripts:
                    found = []
                    for base in (house.provider, house.address):
                        headers = {"x-script": script}
                        async with session.post(base + path, json={**body, "stream": is_stream}, headers=headers) as answer:
                            found.append((answer.status, answer.headers.get("Content-Encoding"), await answer.read()))
                    assert strip_ids(found[0]) == strip_ids(found[1])


def strip_ids(found: tuple[int, str | None, bytes]) -> tuple[int, str | None, bytes]:
    """Without the ids and times that the provider makes anew for each answer."""
    import gzip
    import re

    status, encoding, body = found
    plain = gzip.decompress(body) if encoding == "gzip" else body
    return status, encoding, re.sub(rb'"(id|created|request_id)": ?("[^"]*"|\d+)', b"", plain)
