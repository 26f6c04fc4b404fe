"""C51-C57: the Responses API passes unchanged with its numbers, and the store knows what was said and how it ended."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest

from capture.messages import ToolCall
from tests.proxy.conformance.dialects import named, numbered, response, responses
from tests.proxy.conformance.house import KEY, House, ask_of, compared, streaming, whole
from tests.proxy.conformance.sdks import RESPONSES, Sdks
from tests.proxy.scripting import Received, chunk, chunked_head

pytestmark = [pytest.mark.conformance, pytest.mark.asyncio(loop_scope="session")]


@dataclass(frozen=True)
class Case:
    """A streamed response, and what the store must know of it."""

    events: list[bytes]
    text: str | None = "ab"
    state: str = "complete"
    finish_reason: str = "completed"
    tool_calls: tuple[ToolCall, ...] = ()
    error: str = ""


def function(number: int, name: str, arguments: str, status: str) -> dict[str, Any]:
    return {
        "id": f"fc_{number}",
        "type": "function_call",
        "call_id": f"call_{number}",
        "name": name,
        "arguments": arguments,
        "status": status,
    }


def two_calls() -> list[bytes]:
    """Two function calls whose arguments come interleaved."""
    done = [function(0, "find", '{"q":"北"}', "completed"), function(1, "book", '{"day":2}', "completed")]

    def part(number: int, delta: str) -> tuple[str, dict[str, Any]]:
        fields = {"item_id": f"fc_{number}", "output_index": number, "delta": delta}
        return "response.function_call_arguments.delta", fields

    return numbered(
        [
            ("response.created", {"response": response("in_progress")}),
            ("response.output_item.added", {"output_index": 0, "item": function(0, "find", "", "in_progress")}),
            ("response.output_item.added", {"output_index": 1, "item": function(1, "book", "", "in_progress")}),
            part(0, '{"q":'),
            part(1, '{"day":'),
            part(0, '"北"}'),
            part(1, "2}"),
            *(
                (
                    "response.function_call_arguments.done",
                    {"item_id": f"fc_{number}", "output_index": number, "name": item["name"], "arguments": item["arguments"]},
                )
                for number, item in enumerate(done)
            ),
            *(("response.output_item.done", {"output_index": number, "item": item}) for number, item in enumerate(done)),
            ("response.completed", {"response": response("completed", done)}),
        ]
    )


def ends_with(kind: str, ended: dict[str, Any]) -> list[bytes]:
    """A response whose last event is `kind`."""
    events = responses(["a", "b"])[:-1]
    return [*events, named(kind, sequence_number=len(events), response=ended)]


SAID = [{"id": "msg_1", "type": "message", "role": "assistant", "status": "incomplete", "content": [
    {"type": "output_text", "text": "ab", "annotations": []}
]}]  # fmt: skip
SURPRISE = named("response.surprise", sequence_number=99, detail={"a": 0.10})
CASES = {
    "C51 the whole lifecycle": Case(responses(["a", "b"])),
    "C52 no DONE is expected, and one does no harm": Case([*responses(["a", "b"]), b"data: [DONE]\n\n"]),
    "C53 failed": Case(
        ends_with("response.failed", response("failed", SAID, error={"code": "server_error", "message": "no luck"})),
        state="error_in_band",
        finish_reason="failed",
        error="no luck",
    ),
    "C53 incomplete": Case(
        ends_with("response.incomplete", response("incomplete", SAID, incomplete_details={"reason": "max_output_tokens"})),
        finish_reason="max_output_tokens",
    ),
    "C53 an error event": Case(
        [*responses(["a", "b"])[:6], named("error", sequence_number=6, code="server_error", message="no luck", param=None)],
        state="error_in_band",
        finish_reason="",
        error="no luck",
    ),
    "C54 arguments by place": Case(
        two_calls(),
        "",
        tool_calls=(ToolCall("find", '{"q":"北"}', "call_0"), ToolCall("book", '{"day":2}', "call_1")),
    ),
    "C55 cut between events, and told so by nobody": Case(responses(["a", "b"])[:6], state="truncated", finish_reason=""),
    "C56 an event that nobody knows": Case([piece for event in responses(["a", "b"]) for piece in (event, SURPRISE)]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_response_passes_and_is_understood(case: Case, house: House, direct: Sdks, relayed: Sdks) -> None:
    found = await compared(house, RESPONSES, streaming(case.events), ask_of(RESPONSES))
    exchange = found.exchange
    assert (exchange.state, exchange.finish_reason) == (case.state, case.finish_reason)
    assert (exchange.error_kind, exchange.error_message) == ("in_band" if case.error else "", case.error)
    answer = found.conversation.answer
    assert answer is not None
    assert (answer.text, answer.tool_calls) == (case.text, case.tool_calls)
    assert await relayed.said(RESPONSES) == await direct.said(RESPONSES)


async def test_C51_numbers_reach_the_sdk_as_they_were_sent(house: House, relayed: Sdks) -> None:
    house.upstream.script = streaming(responses(["a", "b", "c"]))
    numbers = [event.sequence_number async for event in relayed.stream(RESPONSES)]
    assert numbers == list(range(11))
    found = await house.ask(f"POST {RESPONSES}", KEY, ask_of(RESPONSES))
    stored = (await house.stored_of(found)).exchange
    assert (stored.tokens_in, stored.tokens_out, stored.tokens_cached, stored.tokens_reasoning) == (11, 7, 3, 2)


@pytest.mark.parametrize("after", [1, 3, 6])
async def test_C55_a_break_is_told_as_a_failed_response_with_the_next_number(after: int, house: House, relayed: Sdks) -> None:
    events = responses(["a", "b"])[:after]

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + b"".join(chunk(event) for event in events))
        await writer.drain()
        writer.transport.close()

    house.upstream.script = script
    reply = await house.ask(f"POST {RESPONSES}", KEY, ask_of(RESPONSES))
    assert not reply.is_whole
    assert reply.body.startswith(b"".join(events))
    name, last = reply.body.removeprefix(b"".join(events)).decode().rstrip("\n").split("\n")
    assert name == "event: response.failed"
    told = json.loads(last.removeprefix("data: "))
    assert (told["type"], told["sequence_number"], told["response"]["status"]) == ("response.failed", after, "failed")
    found = await house.stored_of(reply)
    assert (found.exchange.state, found.exchange.error_kind) == ("upstream_aborted", "upstream_aborted")
    seen = []
    with pytest.raises(Exception, match=r"peer closed connection|incomplete"):
        async for event in relayed.stream(RESPONSES):
            seen.append(event)  # noqa: PERF401  what came before the break counts
    assert (seen[-1].type, seen[-1].sequence_number) == ("response.failed", after)


async def test_C57_a_response_that_follows_another_says_so_in_the_store(house: House) -> None:
    request = ask_of(RESPONSES, previous_response_id="resp_0", background=True, store=True)
    found = await compared(house, RESPONSES, streaming(responses(["ab"])), request)
    assert any("previous_response:resp_0" in message.other_parts for message in found.conversation.asked)


async def test_C57_background_work_is_asked_after_resumed_and_cancelled(house: House, relayed: Sdks) -> None:
    queued = json.dumps(response("queued", background=True)).encode()
    found = await compared(house, RESPONSES, whole(queued), ask_of(RESPONSES, background=True).replace(b"true", b"false", 1))
    assert (found.exchange.status, found.exchange.state) == (200, "complete")
    house.upstream.script = whole(json.dumps(response("completed", SAID)).encode())
    assert (await relayed.openai.responses.retrieve("resp_1")).status == "completed"
    assert house.upstream.received[-1].line == "GET /v1/responses/resp_1 HTTP/1.1"
    house.upstream.script = whole(json.dumps(response("cancelled")).encode())
    assert (await relayed.openai.responses.cancel("resp_1")).status == "cancelled"
    assert house.upstream.received[-1].line == "POST /v1/responses/resp_1/cancel HTTP/1.1"
    house.upstream.script = streaming(responses(["a", "b"])[5:])
    stream = await relayed.openai.responses.retrieve("resp_1", stream=True, starting_after=4)
    assert [event.sequence_number async for event in stream] == [5, 6, 7, 8, 9]
    assert house.upstream.received[-1].line == "GET /v1/responses/resp_1?starting_after=4&stream=true HTTP/1.1"
