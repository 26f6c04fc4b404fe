"""The order that the promise rests on, looked at where it is decided: in the relay, at every step, without any luck of timing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from capture.settings import Settings
from proxy.wire.call import Call
from proxy.wire.upstream import UpstreamConnection
from proxy.worker import Worker
from tests.faults.relay_process import ASK, CHAT, KEY
from tests.proxy.scripting import CHAT_ANSWER, Received, Upstream, answer_whole, chunk, chunked_head, http_answer, kept, talk

EVENTS = [b'data: {"choices":[{"index":0,"delta":{"content":"%d"}}]}\n\n' % number for number in range(6)] + [b"data: [DONE]\n\n"]


async def streamed(_received: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(chunked_head())
    for event in EVENTS:
        writer.write(chunk(event))
        await writer.drain()
        await asyncio.sleep(0.005)
    writer.write(b"0\r\n\r\n")


async def halved(_received: Received, writer: asyncio.StreamWriter) -> None:
    answer = http_answer(CHAT_ANSWER)
    writer.write(answer[:-20])
    await asyncio.sleep(0.01)
    writer.write(answer[-20:])


@pytest.mark.faults
@pytest.mark.parametrize("script", [streamed, halved, answer_whole], ids=["stream", "whole answer", "whole answer at once"])
async def test_f01_nothing_is_handed_to_the_client_before_it_is_kept_and_no_end_before_the_end_is(
    script: Any, relay: Worker, upstream: Upstream, relay_config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed, wrong = [b""], []
    write, finish = Call.write, Call.finish

    def look(data: bytes, is_last: bool) -> None:
        handed[0] += bytes(data)
        (exchange,) = kept(relay_config)
        if not exchange.body.startswith(handed[0]):
            wrong.append(f"{bytes(data)!r} is handed out before it is kept")
        if is_last and exchange.end is None:
            wrong.append("the last byte is handed out before the end is kept")

    def watched_write(call: Call, data: bytes) -> None:
        look(data, is_last=False)
        write(call, data)

    def watched_finish(call: Call, data: bytes = b"") -> None:
        look(data, is_last=True)
        finish(call, data)

    monkeypatch.setattr(Call, "write", watched_write)
    monkeypatch.setattr(Call, "finish", watched_finish)
    upstream.script = script
    reply = await talk(relay.port, CHAT, KEY, ASK)
    assert reply.body == handed[0] in (b"".join(EVENTS), CHAT_ANSWER)
    assert wrong == []


@pytest.mark.faults
async def test_f01_the_request_is_kept_before_anybody_is_asked(
    relay: Worker, upstream: Upstream, relay_config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    ask = UpstreamConnection.ask

    def watched(*arguments: Any, **named: Any) -> Any:
        asked.append(any(exchange.begin is not None and exchange.begin.body == ASK for exchange in kept(relay_config)))
        return ask(*arguments, **named)

    monkeypatch.setattr(UpstreamConnection, "ask", watched)
    assert (await talk(relay.port, CHAT, KEY, ASK)).is_whole
    assert asked == [True]
