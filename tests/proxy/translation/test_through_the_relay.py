"""A whole house with upstreams that must be translated to: `potstill up`, its relay, its translation process, its store."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from capture.exchange import Exchange
from tests.abuse.house import House, house_in
from tests.proxy.scripting import Upstream
from tests.proxy.translation.conftest import KEY, PATIENCE_S, environment
from tests.proxy.translation.providers import EVENTS, answering, gemini, provider_thread, sse, streaming

GEMINI = "gemini/gemini-2.5-flash"
SAY = [{"role": "user", "content": "Say hello."}]
PIECES = sse([gemini([{"text": "Hel"}], None), gemini([{"text": "lo."}])])
QUOTA = b'{"error":{"code":429,"message":"Slow down.","status":"RESOURCE_EXHAUSTED"}}'
USAGE = {"include_usage": True}


@asynccontextmanager
async def translating_house(provider: Upstream) -> AsyncIterator[House]:
    """A running house with an upstream gemini behind translation; its data folder's name is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="ps", dir="/tmp") as name:
        folder = Path(name)
        more = ["[upstreams.gemini]", 'protocol = "litellm"', f'url = "{provider.url}/v1beta"', 'key = "env:TEST_GEMINI_KEY"']
        more += ['aliases = {"gemini/fast" = "gemini/gemini-2.5-flash"}']
        async with house_in(folder, provider.url, more=more, environ=environment(folder, provider.url)) as house:
            yield house


async def post(session: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> tuple[int, str, Any]:
    """Status, text and headers of the relay's answer."""
    async with session.post(
        path, json=body, headers={"Authorization": "Bearer client-key", "x-potstill-task": "greet"}
    ) as answer:
        return answer.status, await answer.text(), answer.headers


def by_path(exchanges: list[Exchange]) -> dict[str, list[Exchange]]:
    """The exchanges by the path that was asked."""
    found: dict[str, list[Exchange]] = {}
    for each in exchanges:
        found.setdefault(each.path, []).append(each)
    return found


async def test_a_house_translates_both_protocols_notices_who_hangs_up_and_starts_a_killed_process_again() -> None:
    """All in one house, because each loads litellm, which takes seconds."""
    with provider_thread() as provider:
        async with translating_house(provider) as house, aiohttp.ClientSession(f"http://127.0.0.1:{house.port}") as session:
            await translate_relay_and_store(house, session, provider)
            count = len(await asyncio.to_thread(house.exchanges))
            await hang_up(session, provider)
            await kill_translation(house, session, provider)
            states = [each.state for each in await house.stored(count + 2)]
        assert "client_closed" in states


async def translate_relay_and_store(house: House, session: aiohttp.ClientSession, provider: Upstream) -> None:
    """Both protocols are translated, relayed and stored like any other."""
    provider.script = answering(json.dumps(gemini([{"text": "Hello."}])).encode())
    status, text, headers = await first_answer(session, {"model": GEMINI, "messages": SAY})
    assert (status, json.loads(text)["choices"][0]["message"]["content"]) == (200, "Hello.")
    assert headers["x-potstill-upstream"] == "gemini"
    assert provider.received[-1].header("x-goog-api-key") == KEY
    assert "client-key" not in repr(provider.received)
    status, text, _ = await post(session, "/v1/messages", {"model": "gemini/fast", "max_tokens": 9, "messages": SAY})
    assert (status, json.loads(text)["content"][0]["text"]) == (200, "Hello.")
    assert "gemini-2.5-flash" in provider.received[-1].line
    provider.script = streaming(PIECES, EVENTS)
    _, chat, _ = await post(
        session, "/v1/chat/completions", {"model": GEMINI, "messages": SAY, "stream": True, "stream_options": USAGE}
    )
    _, messages, _ = await post(session, "/v1/messages", {"model": GEMINI, "max_tokens": 9, "messages": SAY, "stream": True})
    assert chat.endswith("data: [DONE]\n\n") and "event: message_stop" in messages
    provider.script = answering(QUOTA, status="429 No", headers={"Retry-After": "9"})
    status, text, headers = await post(session, "/v1/messages", {"model": GEMINI, "max_tokens": 9, "messages": SAY})
    assert (status, json.loads(text)["error"]["type"], headers["Retry-After"]) == (429, "rate_limit_error", "9")
    asked = len(provider.received)
    status, text, _ = await post(session, "/v1/chat/completions", {"model": GEMINI, "messages": SAY, "api_base": "http://x"})
    assert status == 400 and "api_base" in text and len(provider.received) == asked

    status_now = await house.status()
    translating = [each["pid"] for each in status_now["others"] if each["name"] == "translation"]
    assert [has_litellm(pid) for pid in translating] == [True]
    assert [has_litellm(worker["pid"]) for worker in status_now["workers"]] == [False]
    stored = await house.stored(6)
    assert {each.upstream for each in stored} == {"gemini"}
    good = [each for each in stored if each.status == 200]
    assert len(good) == 4 and {each.state for each in good} == {"complete"}
    assert {each.output_text for each in good} == {"Hello."}
    assert {(each.tokens_in, each.tokens_out) for each in good} == {(5, 2)}
    assert {each.task for each in stored} == {"greet"}
    assert all(each.cost_microusd for each in good)


def has_litellm(pid: int) -> bool:
    """True when a process has loaded what litellm counts tokens with, which nothing else of ours does."""
    return b"tiktoken" in Path(f"/proc/{pid}/maps").read_bytes()


async def first_answer(session: aiohttp.ClientSession, body: dict[str, Any]) -> tuple[int, str, Any]:
    """The first answer once the translation process listens: until then the relay says 502."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            status, text, headers = await post(session, "/v1/chat/completions", body)
            if status != 502:
                return status, text, headers
            await asyncio.sleep(0.1)


async def hang_up(session: aiohttp.ClientSession, provider: Upstream) -> None:
    """A client that hangs up ends the provider's work."""
    provider.closed.clear()
    provider.script = streaming(PIECES, EVENTS, pause=[threading.Event()])
    body = {"model": GEMINI, "messages": SAY, "stream": True}
    async with session.post("/v1/chat/completions", json=body, headers={"Authorization": "Bearer k"}) as answer:
        assert b"Hel" in await answer.content.readline()
        answer.close()
    async with asyncio.timeout(PATIENCE_S):
        while not provider.closed.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def kill_translation(house: House, session: aiohttp.ClientSession, provider: Upstream) -> None:
    """A killed translation process comes back."""
    child = next(each for each in (await house.status())["others"] if each["name"] == "translation")
    os.kill(child["pid"], signal.SIGKILL)
    provider.script = answering(json.dumps(gemini([{"text": "Again."}])).encode())
    status, text, _ = await first_answer(session, {"model": GEMINI, "messages": SAY})
    assert status == 200 and "Again." in text
