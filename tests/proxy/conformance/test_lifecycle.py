"""C67 and C69-C72: what leaves, waits, fails, falls back or changes in the middle ends as it should, for client and store."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from serve.flag_store import rollback
from tests.proxy.conformance import house as houses
from tests.proxy.conformance.dialects import FAMILIES, chat, data
from tests.proxy.conformance.house import KEY, LONGEST_S, TRIED, House, ask_of, streaming, whole
from tests.proxy.conformance.sdks import ASKED, CHAT, MESSAGES, RESPONSES, Sdks
from tests.proxy.scripting import CHAT_ANSWER, Received, Script, chunk, chunked_head, until

pytestmark = [pytest.mark.conformance, pytest.mark.asyncio(loop_scope="session")]

ASK = b'{"model": "m-1",  "messages": [{"role":"user","content":"hi"}]}'
TAGGED = KEY + f"x-potstill-task: {TRIED}\r\nx-potstill-user: u1\r\n"
NAMES = {CHAT: "chat", MESSAGES: "messages", RESPONSES: "responses"}


class Endless:
    """An upstream that sends `first` and never ends by itself; it notes when its client has gone."""

    def __init__(self, first: bytes) -> None:
        self.first = first
        self.is_asked = asyncio.Event()
        self.left_at = 0.0

    async def script(self, _received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(self.first)
        self.is_asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left_at = asyncio.get_running_loop().time()


EVENT = chat(["a"])[1]
WHOLE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"
STAGES = {
    "before the head": (ask_of(CHAT), b"", b""),
    "in the middle of a stream": (ask_of(CHAT), chunked_head() + chunk(EVENT), EVENT),
    "after a stream's head": (ask_of(CHAT), chunked_head(), b""),
    "before the head of a whole answer": (ASK, b"", b""),
    "in the middle of a whole answer": (ASK, WHOLE_HEAD + CHAT_ANSWER[:40], CHAT_ANSWER[:40]),
}
"""Request, what the upstream sends, and what of that is body."""


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("stage", STAGES)
async def test_C67_a_client_that_leaves_takes_the_upstream_with_it(
    stage: str, how: str, house: House, record_property: Callable[[str, object], None]
) -> None:
    body, first, got = STAGES[stage]
    endless = Endless(first)
    house.upstream.script = endless.script
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    session = uuid4().hex
    headers = f"{KEY}x-potstill-session: {session}\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode() + body)
    async with asyncio.timeout(LONGEST_S):
        await endless.is_asked.wait()
        if first:
            await reader.readuntil(got or b"\r\n\r\n")
    left_at = asyncio.get_running_loop().time()
    writer.transport.abort() if how == "reset" else writer.close()
    await until(lambda: endless.left_at, LONGEST_S)
    record_property("upstream_closed_after_ms", round((endless.left_at - left_at) * 1000, 1))
    found = await house.stored_in(session)
    assert (found.exchange.state, found.exchange.status) == ("client_closed", 200 if first else 0)
    assert found.content.request_body == body
    assert found.content.response_body == got


def _id_in(seen: bytes) -> str:
    lines = seen.decode("latin-1").split("\r\n")
    return next(line.partition(":")[2].strip() for line in lines if line.lower().startswith("x-potstill-exchange-id:"))


@pytest.mark.parametrize("path", FAMILIES, ids=NAMES.get)
@pytest.mark.parametrize("has_begun", [False, True], ids=["before the head", "in the middle"])
async def test_C67_an_sdk_that_cancels_takes_the_upstream_with_it(
    has_begun: bool, path: str, house: House, relayed: Sdks
) -> None:
    first = b"".join(chunk(event) for event in FAMILIES[path](["a", "b"])[:3])
    endless = Endless(chunked_head() + first if has_begun else b"")
    house.upstream.script = endless.script
    seen: list[Any] = []

    async def read() -> None:
        async for event in relayed.stream(path):
            seen.append(event)  # noqa: PERF401  they are looked at while they come

    reading = asyncio.ensure_future(read())
    await until(lambda: len(seen) == 3 if has_begun else endless.is_asked.is_set(), LONGEST_S)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await until(lambda: endless.left_at, LONGEST_S)


STATUSES = ["429 Too Many Requests", "500 Internal Server Error", "502 Bad Gateway", "503 Slow Down", "529 Overloaded"]
ERRORS = {
    CHAT: b'{"error": {"message": "slow  down", "type": "rate_limit_error", "code": null}}',
    MESSAGES: b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}',
    RESPONSES: b'{"error": {"message": "slow  down", "type": "rate_limit_error", "code": null}}',
}


@pytest.mark.parametrize("path", FAMILIES, ids=NAMES.get)
@pytest.mark.parametrize("status", STATUSES)
async def test_C70_an_upstreams_error_passes_verbatim_and_is_asked_once(
    status: str, path: str, house: House, direct: Sdks, relayed: Sdks
) -> None:
    house.upstream.script = whole(ERRORS[path], status, retry_after="7", x_should_retry="true", request_id="req_1")
    reply = await house.ask(f"POST {path}", KEY, ask_of(path))
    assert (reply.status, reply.body, reply.header("retry-after")) == (int(status[:3]), ERRORS[path], "7")
    assert (reply.header("x-should-retry"), reply.header("request-id")) == ("true", "req_1")
    assert len(house.upstream.received) == 1
    found = (await house.stored_of(reply)).exchange
    assert (found.state, found.status, found.error_kind) == ("complete", int(status[:3]), f"http_{status[:3]}")
    assert found.is_success is False
    ours, expected = await relayed.said(path), await direct.said(path)
    assert ours == expected
    assert ours[1].startswith(
        ("RateLimitError", "InternalServerError", "OverloadedError", "APIStatusError", "ServiceUnavailable")
    )


async def _http_500(_received: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n{}")


async def _breaks(_received: Received, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def _says_nothing(_received: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(chunked_head() + b"0\r\n\r\n")


async def _errs_in_band(_received: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(chunked_head() + chunk(data({"error": {"message": "no"}})) + b"0\r\n\r\n")


FAULTS: dict[str, tuple[Script, str]] = {
    "a 500": (_http_500, "http_500"),
    "a break": (_breaks, "aborted"),
    "nothing": (_says_nothing, "empty_answer"),
    "an error as its first event": (_errs_in_band, "error_in_band"),
}


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_C71_the_teacher_answers_once_for_a_student_that_fails_before_its_first_byte(
    fault: str, is_stream: bool, house: House
) -> None:
    house.student.script, reason = FAULTS[fault]
    house.upstream.script = streaming(chat(["a", "b"])) if is_stream else whole(CHAT_ANSWER)
    body = ask_of(CHAT) if is_stream else ASK
    reply = await house.ask(f"POST {CHAT}", TAGGED, body)
    assert (reply.status, reply.body) == (200, b"".join(chat(["a", "b"])) if is_stream else CHAT_ANSWER)
    assert len(house.student.received) == len(house.upstream.received) == 1
    assert house.upstream.received[0].body == body
    assert reply.header("x-potstill-upstream") == "openai"
    found = (await house.stored_of(reply)).exchange
    assert (found.variant, found.upstream, found.fallback_reason) == ("candidate", "openai", reason)
    assert (found.state, found.task) == ("complete", TRIED)
    house.student.script = streaming(chat(["s"]))
    assert (await house.ask(f"POST {CHAT}", TAGGED, body)).header("x-potstill-upstream") == "engine"


async def test_C71_the_sdk_sees_one_answer(house: House, relayed: Sdks) -> None:
    house.student.script = _http_500
    house.upstream.script = streaming(chat(["a", "b"]))
    sdk = relayed.openai.with_options(default_headers={"x-potstill-task": TRIED, "x-potstill-user": "u1"})
    stream = await sdk.chat.completions.create(model="m-1", messages=ASKED, stream=True)
    assert "".join([event.choices[0].delta.content or "" async for event in stream]) == "ab"


async def test_C71_a_student_that_breaks_after_its_first_byte_is_not_answered_for(house: House) -> None:
    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(EVENT))
        await writer.drain()
        writer.transport.close()

    house.student.script = script
    reply = await house.ask(f"POST {CHAT}", TAGGED, ask_of(CHAT))
    assert not reply.is_whole
    assert reply.body.startswith(EVENT)
    assert house.upstream.received == []
    found = (await house.stored_of(reply)).exchange
    assert (found.variant, found.upstream, found.state) == ("candidate", "engine", "upstream_aborted")


@pytest.fixture
async def own_house(tmp_path: Path) -> AsyncIterator[House]:
    """A house that a test may change."""
    async with houses.house(tmp_path) as found:
        yield found


class Paused:
    """A stream that waits after its first event until it is let go."""

    def __init__(self, events: list[bytes]) -> None:
        self.events = events
        self.go_on = asyncio.Event()

    async def script(self, _received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(self.events[0]))
        await self.go_on.wait()
        writer.write(b"".join(chunk(event) for event in self.events[1:]) + b"0\r\n\r\n")


async def open_stream(house: House, paused: Paused, headers: str) -> asyncio.Task[Any]:
    """A client that reads a paused stream; returned once its first event has arrived."""
    body = ask_of(CHAT)
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    async with asyncio.timeout(LONGEST_S):
        seen = await reader.readuntil(paused.events[0])

    async def rest() -> bytes:
        async with asyncio.timeout(LONGEST_S):
            told = seen + await reader.readuntil(b"0\r\n\r\n")
        writer.close()
        return told

    return asyncio.ensure_future(rest())


@pytest.mark.asyncio(loop_scope="function")
async def test_C72_a_stream_finishes_on_its_arm_though_a_rollback_comes_in_its_middle(own_house: House) -> None:
    paused = Paused(chat(["a", "b"]))
    own_house.student.script = paused.script
    reading = await open_stream(own_house, paused, TAGGED)
    own_house.student.script = whole(CHAT_ANSWER)
    rollback(own_house.database, TRIED, "tests", "in the middle of a stream")
    async with asyncio.timeout(LONGEST_S):
        answered_by = "engine"
        while answered_by != "openai":
            answered_by = (await own_house.ask(f"POST {CHAT}", TAGGED, ASK)).header("x-potstill-upstream")
    paused.go_on.set()
    told = await reading
    assert all(event in told for event in paused.events)
    found = await own_house.stored(_id_in(told))
    assert found.content.response_body == b"".join(paused.events)
    assert (found.exchange.variant, found.exchange.upstream, found.exchange.state) == ("candidate", "engine", "complete")


@pytest.mark.asyncio(loop_scope="function")
async def test_C72_a_stream_finishes_though_the_configuration_is_read_anew_in_its_middle(own_house: House) -> None:
    paused = Paused(chat(["a", "b"]))
    own_house.upstream.script = paused.script
    reading = await open_stream(own_house, paused, KEY)
    own_house.upstream.script = whole(b'{"object":"list","data":[]}')
    path = own_house.folder / "potstill.toml"
    path.write_text(f'{path.read_text()}\n[upstreams.spare]\nurl = "http://127.0.0.1:{own_house.upstream.port}/v1"\n', "utf-8")
    own_house.process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(LONGEST_S):
        while True:
            assert own_house.process.poll() is None, "SIGHUP ended the house"
            reply = await own_house.ask("GET /upstream/spare/v1/models", KEY)
            if reply.status == 200:
                break
            await asyncio.sleep(0.05)
    paused.go_on.set()
    told = await reading
    assert all(event in told for event in paused.events)
    assert (await own_house.stored(_id_in(told))).exchange.state == "complete"
