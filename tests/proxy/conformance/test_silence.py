"""C69: a model that thinks for two minutes before its first byte loses neither the relay's patience nor that of nginx."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest

from capture import records
from proxy.worker import start_worker
from tests.proxy.conformance.dialects import chat
from tests.proxy.conformance.front import nginx_in_front
from tests.proxy.conformance.house import KEY, ask_of, serving
from tests.proxy.conformance.quick_time import quick_loop
from tests.proxy.conformance.sdks import ASKED, CHAT
from tests.proxy.scripting import Kept, Received, Reply, chunk, chunked_head, http_answer, kept, relay_settings, talk

pytestmark = pytest.mark.conformance

SPEED = 100.0
SILENCE_S = 120.0
PATIENT = {"connect_timeout_s": 6_000.0, "body_idle_s": 6_000.0}
"""What a quick clock must not cut short: it waits for this machine, not for the upstream."""
BODY = b"".join(chat(["a", "b"]))


async def thinks_first(_received: Received, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(SILENCE_S)
    writer.write(chunked_head() + chunk(BODY) + b"0\r\n\r\n")


async def thinks_in_the_middle(_received: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(chunked_head() + chunk(BODY[:50]))
    await writer.drain()
    await asyncio.sleep(SILENCE_S)
    writer.write(chunk(BODY[50:]) + b"0\r\n\r\n")


async def thinks_before_a_whole_answer(_received: Received, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(SILENCE_S)
    writer.write(http_answer(BODY))


SCRIPTS = {
    "before the head": thinks_first,
    "in the middle": thinks_in_the_middle,
    "before a whole answer": thinks_before_a_whole_answer,
}


async def _asked(folder: Path, script: Any, *, has_front: bool = False, **relay: float) -> tuple[Reply, Kept]:
    """The reply of a relay whose clock is quick, and what it wrote down."""
    async with serving(script) as upstream:
        settings = relay_settings(folder, upstream.url, **PATIENT, **relay)
        worker = await start_worker(settings)
        try:
            if not has_front:
                reply = await talk(worker.port, f"POST {CHAT}", KEY, ask_of(CHAT))
            else:
                with nginx_in_front(worker.port, folder) as port:
                    reply = await talk(port, f"POST {CHAT}", KEY, ask_of(CHAT))
        finally:
            await worker.drain(0.0)
    (exchange,) = kept(settings)
    return reply, exchange


@pytest.mark.parametrize("front", ["relay", "nginx"])
@pytest.mark.parametrize("when", SCRIPTS)
def test_C69_two_minutes_of_silence_are_borne(when: str, front: str, tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=quick_loop(SPEED)) as runner:
        reply, exchange = runner.run(_asked(tmp_path, SCRIPTS[when], has_front=front == "nginx"))
    assert (reply.status, reply.body, reply.is_whole) == (200, BODY, True)
    assert exchange.order[0] == records.BEGIN
    assert exchange.end is not None
    assert (exchange.end.state, exchange.body) == ("complete", BODY)


def test_C69_silence_beyond_the_limit_is_told_and_stored_as_a_timeout(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=quick_loop(SPEED)) as runner:
        reply, exchange = runner.run(_asked(tmp_path, thinks_first, idle_timeout_s=60.0))
    assert reply.status == 504
    assert b"sent nothing for 60 s" in reply.body
    assert exchange.end is not None
    assert exchange.end.state == "timeout"


def test_C69_an_sdk_bears_the_silence_too(tmp_path: Path) -> None:
    async def ask() -> str:
        async with serving(thinks_first) as upstream:
            worker = await start_worker(relay_settings(tmp_path, upstream.url, **PATIENT))
            try:
                address = f"http://127.0.0.1:{worker.port}/v1"
                async with openai.AsyncOpenAI(base_url=address, api_key="sk-test", max_retries=0, timeout=None) as sdk:
                    stream = await sdk.chat.completions.create(model="m-1", messages=ASKED, stream=True)
                    return "".join([event.choices[0].delta.content or "" async for event in stream])
            finally:
                await worker.drain(0.0)

    with asyncio.Runner(loop_factory=quick_loop(SPEED)) as runner:
        assert runner.run(ask()) == "ab"
