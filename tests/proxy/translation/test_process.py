"""The process by itself: what it loads and when, whom it talks to, its signals, and what the official SDKs make of it."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import httpx
import httpx2
import openai
import pytest

from tests.proxy.scripting import Upstream
from tests.proxy.translation.conftest import HEADER, PATIENCE_S, Translation, environment, wait_for, write_config
from tests.proxy.translation.providers import EVENTS, answering, gemini, provider_thread, sse, streaming

GEMINI = "gemini/gemini-2.5-flash"
SAY: Any = [{"role": "user", "content": "Say hello."}]
PIECES = sse([gemini([{"text": "Hel"}], None), gemini([{"text": "lo."}])])

# Runs the process with a hook that writes down every address that Python code looks up or connects to.
WATCHED = """
import sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        print("TALKS", event, arguments[1] if event != "socket.getaddrinfo" else arguments[0], file=sys.stderr, flush=True)
sys.addaudithook(hook)
from proxy.translation.process import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a name short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="ps", dir="/tmp") as name:
        yield Path(name)


def start(folder: Path, url: str, *command: str) -> subprocess.Popen[bytes]:
    """Starts a process on the settings in `folder`."""
    with (folder / "log.txt").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, *(command or ("-m", "proxy.translation.process")), "--config", str(folder / "potstill.toml")],
            env=environment(folder, url),
            stderr=log,
        )


async def ask(socket: Path, body: dict[str, Any], upstream: str = "gemini") -> tuple[int, Any]:
    """One request on a connection of its own."""
    async with (
        aiohttp.ClientSession("http://translation", connector=aiohttp.UnixConnector(str(socket))) as session,
        session.post("/v1/chat/completions", json=body, headers={HEADER: upstream}) as answer,
    ):
        return answer.status, await answer.json()


def loaded_by(code: str) -> set[str]:
    """The packages that `code` loads."""
    shown = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sorted(name.partition('.')[0] for name in sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(shown.stdout.split())


@pytest.mark.parametrize("module", ["proxy.worker", "proxy.supervise", "proxy.translation.process"])
def test_litellm_is_not_loaded_by_the_worker_the_supervisor_or_the_waiting_process(module: str) -> None:
    assert not loaded_by(f"import {module}") & {"litellm", "openai", "boto3", "google"}


async def test_it_talks_to_the_provider_alone_follows_its_settings_and_lets_an_open_answer_finish(folder: Path) -> None:
    """All in the life of one process, because each loads litellm, which takes seconds."""
    with provider_thread() as provider:
        provider.script = answering(json.dumps(gemini([{"text": "Hello."}])).encode())
        config = write_config(folder, provider.url)
        process = start(folder, provider.url, "-c", WATCHED)
        socket, log = folder / "data" / "run" / "translation.sock", folder / "log.txt"
        try:
            await asyncio.to_thread(wait_for, socket, process, log)
            assert "TALKS" not in log.read_text()
            await ask_in_every_way(socket, provider)
            await change_settings(process, config, provider.url, socket, log)
            await end_while_answering(process, provider, socket)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0
        talks = [line for line in log.read_text().splitlines() if line.startswith("TALKS")]
        assert talks and all("127.0.0.1" in line for line in talks), talks


async def ask_in_every_way(socket: Path, provider: Upstream) -> None:
    """Straight, through a proxy, and for a count, which no provider is asked for."""
    assert (await ask(socket, {"model": GEMINI, "messages": SAY}))[0] == 200
    assert (await ask(socket, {"model": GEMINI, "messages": SAY}, "proxied"))[0] == 200
    assert provider.received[-1].line.startswith("POST http://provider.invalid/v1beta/models/")
    async with (
        aiohttp.ClientSession("http://translation", connector=aiohttp.UnixConnector(str(socket))) as session,
        session.post("/v1/messages/count_tokens", json={"model": GEMINI, "messages": SAY}, headers={HEADER: "gemini"}) as answer,
    ):
        assert answer.status == 200


async def change_settings(process: subprocess.Popen[bytes], config: Path, url: str, socket: Path, log: Path) -> None:
    """SIGHUP takes new upstreams, and keeps the old ones when the new are wrong."""
    body = {"model": GEMINI, "messages": SAY}
    assert (await ask(socket, body, "later"))[0] == 404
    good = config.read_text()
    config.write_text(good + f'[upstreams.later]\nprotocol = "litellm"\nurl = "{url}/v1beta"\nkey = "file:key.txt"\n')
    process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(PATIENCE_S):
        while (await ask(socket, body, "later"))[0] != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    config.write_text(good + "[upstreams.later]\nprotocool = 1\n")
    process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(PATIENCE_S):
        while "The configuration is not taken" not in log.read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (await ask(socket, body, "later"))[0] == 200


async def end_while_answering(process: subprocess.Popen[bytes], provider: Upstream, socket: Path) -> None:
    """SIGTERM takes the socket away, and lets an open answer finish."""
    gate = threading.Event()
    provider.script = streaming(PIECES, EVENTS, pause=[gate])
    async with (
        aiohttp.ClientSession("http://translation", connector=aiohttp.UnixConnector(str(socket))) as session,
        session.post(
            "/v1/chat/completions", json={"model": GEMINI, "messages": SAY, "stream": True}, headers={HEADER: "gemini"}
        ) as answer,
    ):
        assert b"Hel" in await answer.content.readline()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            while socket.exists():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        gate.set()
        rest = await answer.text()
    assert "lo." in rest and "[DONE]" in rest


def test_a_socket_that_others_could_put_there_is_refused(folder: Path) -> None:
    write_config(folder, "http://127.0.0.1:9")
    (folder / "data" / "run").mkdir(parents=True)
    (folder / "data" / "run").chmod(0o777)
    process = start(folder, "http://127.0.0.1:9")
    assert process.wait(PATIENCE_S) == 1
    assert "others may write in it" in (folder / "log.txt").read_text()


async def test_a_key_that_is_not_there_is_said_with_its_place(client: aiohttp.ClientSession, provider: Upstream) -> None:
    for upstream, word, status in (("unset", "TEST_NOT_SET", 503), ("theirs", "Authorization", 401)):
        async with client.post(
            "/v1/messages", json={"model": GEMINI, "max_tokens": 5, "messages": SAY}, headers={HEADER: upstream}
        ) as answer:
            assert answer.status == status
            assert word in (await answer.json())["error"]["message"]
    assert not provider.received


async def test_a_body_beyond_the_limit_and_an_unknown_upstream_are_refused(
    client: aiohttp.ClientSession, provider: Upstream
) -> None:
    body = io.BytesIO(json.dumps({"model": GEMINI, "messages": [{"role": "user", "content": "x" * 4_000_000}]}).encode())
    async with client.post("/v1/chat/completions", data=body, headers={HEADER: "gemini"}) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (413, "too_large")
    async with client.post("/v1/chat/completions", json={"model": GEMINI, "messages": SAY}) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (404, "unknown_upstream")
    assert not provider.received


@pytest.fixture
async def transport(translation: Translation) -> AsyncIterator[httpx.AsyncClient]:
    """What an official SDK reaches the socket through."""
    async with httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(uds=str(translation.socket)), headers={HEADER: "gemini"}, timeout=PATIENCE_S
    ) as found:
        yield found


async def test_openais_sdk_reads_every_kind_of_answer(transport: httpx.AsyncClient, provider: Upstream) -> None:
    sdk = openai.AsyncOpenAI(base_url="http://translation/v1", api_key="k", http_client=transport, max_retries=0)
    provider.script = answering(json.dumps(gemini([{"text": "Hello."}])).encode())
    chat = await sdk.chat.completions.create(model=GEMINI, messages=SAY)
    assert chat.choices[0].message.content == "Hello."
    response = await sdk.responses.create(model=GEMINI, input="Say hello.")
    assert response.output_text == "Hello."
    provider.script = answering(json.dumps({"embeddings": [{"values": [0.5, -0.25]}]}).encode())
    embedding = await sdk.embeddings.create(model="gemini/gemini-embedding-001", input="x")
    assert embedding.data[0].embedding == [0.5, -0.25]
    provider.script = streaming(PIECES, EVENTS)
    async with sdk.chat.completions.stream(model=GEMINI, messages=SAY) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == "Hello." and final.choices[0].finish_reason == "stop"
    async with sdk.responses.stream(model=GEMINI, input="Say hello.") as responses:
        assert (await responses.get_final_response()).output_text == "Hello."
    provider.script = answering(b'{"error":{"code":429,"message":"Slow down.","status":"RESOURCE_EXHAUSTED"}}', status="429 No")
    with pytest.raises(openai.RateLimitError, match="Slow down"):
        await sdk.chat.completions.create(model=GEMINI, messages=SAY)


async def test_anthropics_sdk_reads_every_kind_of_answer(translation: Translation, provider: Upstream) -> None:
    through = httpx2.AsyncHTTPTransport(uds=str(translation.socket))
    async with httpx2.AsyncClient(transport=through, headers={HEADER: "gemini"}, timeout=PATIENCE_S) as transport:
        await read_by_anthropics(
            anthropic.AsyncAnthropic(base_url="http://translation", api_key="k", http_client=transport, max_retries=0), provider
        )


async def read_by_anthropics(sdk: anthropic.AsyncAnthropic, provider: Upstream) -> None:
    """Every kind of answer, as Anthropic's SDK gives it."""
    provider.script = answering(json.dumps(gemini([{"text": "Hello."}])).encode())
    message = await sdk.messages.create(model=GEMINI, max_tokens=9, messages=SAY)
    assert [block.type for block in message.content] == ["text"] and message.stop_reason == "end_turn"
    assert (await sdk.messages.count_tokens(model=GEMINI, messages=SAY)).input_tokens > 0
    calls = [{"functionCall": {"name": "weather", "args": {"city": city}}} for city in ("Oslo", "Rome")]
    provider.script = streaming(sse([gemini([{"text": "Hel"}], None), gemini([{"text": "lo."}], None), gemini(calls)]), EVENTS)
    tools: Any = [{"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}]
    async with sdk.messages.stream(model=GEMINI, max_tokens=9, messages=SAY, tools=tools) as stream:
        final = await stream.get_final_message()
    assert [block.type for block in final.content] == ["text", "tool_use", "tool_use"]
    assert [block.input for block in final.content if block.type == "tool_use"] == [{"city": "Oslo"}, {"city": "Rome"}]
    assert (final.stop_reason, final.usage.output_tokens) == ("tool_use", 2)
    provider.script = answering(b'{"error":{"code":429,"message":"Slow down.","status":"RESOURCE_EXHAUSTED"}}', status="429 No")
    with pytest.raises(anthropic.RateLimitError, match="Slow down"):
        await sdk.messages.create(model=GEMINI, max_tokens=9, messages=SAY)
