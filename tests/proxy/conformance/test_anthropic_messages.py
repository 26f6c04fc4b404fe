"""C41-C50: Anthropic's messages pass unchanged, signatures and unknown events included, and the store knows what they said."""

from __future__ import annotations

from dataclasses import dataclass

import brotli
import pytest

from capture.messages import ToolCall
from tests.proxy.conformance.dialects import block, ended, messages, named, started
from tests.proxy.conformance.house import House, ask_of, compared, streaming, whole
from tests.proxy.conformance.sdks import ASKED, MESSAGES, Sdks

pytestmark = [pytest.mark.conformance, pytest.mark.asyncio(loop_scope="session")]

TEXT = {"type": "text", "text": ""}
SIGNATURE = "EqQBCkYIBxgCKkDw+/=="
PING = named("ping")


def says(text: str) -> dict[str, object]:
    return {"type": "text_delta", "text": text}


def writes(part: str) -> dict[str, object]:
    return {"type": "input_json_delta", "partial_json": part}


@dataclass(frozen=True)
class Case:
    """A streamed message, and what the store must know of it."""

    events: list[bytes]
    text: str = "ab"
    state: str = "complete"
    finish_reason: str = "end_turn"
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    tokens: tuple[int, int, int, int] | None = (11, 7, 0, 0)
    """In, out, of those in: read from a cache, written to one."""
    error: str = ""


AB = messages(["a", "b"])
CASES = {
    "C41 start, block, delta, stop": Case(AB),
    "C42 pings anywhere": Case([piece for event in AB for piece in (PING, event)]),
    "C43 overloaded in the middle": Case(
        [*AB[:4], named("error", error={"type": "overloaded_error", "message": "Overloaded"})],
        state="error_in_band",
        finish_reason="",
        tokens=None,
        error="Overloaded",
    ),
    "C44 events and deltas that nobody knows": Case(
        [
            started(),
            named("message_surprise", detail={"a": 0.10}),
            *block(0, TEXT, says("a"), {"type": "surprise_delta", "surprise": "北"}, says("b")),
            *block(1, {"type": "surprise_block", "x": 1}),
            *ended(),
        ]
    ),
    "C45 the input of two tools by block": Case(
        [
            started(),
            named(
                "content_block_start", index=0, content_block={"type": "tool_use", "id": "toolu_a", "name": "find", "input": {}}
            ),
            named(
                "content_block_start", index=1, content_block={"type": "tool_use", "id": "toolu_b", "name": "book", "input": {}}
            ),
            named("content_block_delta", index=1, delta=writes('{"day"')),
            named("content_block_delta", index=0, delta=writes('{"q":"')),
            named("content_block_delta", index=1, delta=writes(":2}")),
            named("content_block_delta", index=0, delta=writes('北"}')),
            named("content_block_stop", index=0),
            named("content_block_stop", index=1),
            *ended("tool_use"),
        ],
        "",
        finish_reason="tool_use",
        tool_calls=(ToolCall("find", '{"q":"北"}', "toolu_a"), ToolCall("book", '{"day":2}', "toolu_b")),
    ),
    "C46 thoughts and their signature": Case(
        [
            started(),
            *block(
                0,
                {"type": "thinking", "thinking": "", "signature": ""},
                {"type": "thinking_delta", "thinking": "hm "},
                {"type": "thinking_delta", "thinking": "北"},
                {"type": "signature_delta", "signature": SIGNATURE},
            ),
            *block(1, TEXT, says("ab")),
            *ended(),
        ],
        reasoning="hm 北",
    ),
    "C47 counts that grow, cache included": Case(
        [
            started(cache_creation_input_tokens=40, cache_read_input_tokens=200),
            *block(0, TEXT, says("ab")),
            named("message_delta", delta={"stop_reason": None, "stop_sequence": None}, usage={"output_tokens": 3}),
            *ended(),
        ],
        tokens=(251, 7, 200, 40),
    ),
    "C47 counts of the end that hold all": Case(
        [
            started(input_tokens=1),
            *block(0, TEXT, says("ab")),
            *ended(input_tokens=12, cache_read_input_tokens=5, cache_creation_input_tokens=2),
        ],
        tokens=(19, 7, 5, 2),
    ),
    "C48 no message_stop": Case(AB[:-1], state="truncated"),
    "C48 nothing after the text": Case(AB[:-3], state="truncated", finish_reason="", tokens=None),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_message_passes_and_is_understood(case: Case, house: House, direct: Sdks, relayed: Sdks) -> None:
    found = await compared(house, MESSAGES, streaming(case.events), ask_of(MESSAGES, max_tokens=9))
    exchange = found.exchange
    assert (exchange.protocol, exchange.state, exchange.finish_reason) == ("anthropic", case.state, case.finish_reason)
    assert (exchange.error_kind, exchange.error_message) == ("in_band" if case.error else "", case.error)
    answer = found.conversation.answer
    assert answer is not None
    assert (answer.text, answer.tool_calls, answer.reasoning) == (case.text, case.tool_calls, case.reasoning)
    if case.tokens is not None:
        counts = (exchange.tokens_in, exchange.tokens_out, exchange.tokens_cached, exchange.tokens_cache_written)
        assert (*counts, exchange.usage_source) == (*case.tokens, "reported")
    assert await relayed.said(MESSAGES) == await direct.said(MESSAGES)


async def test_C46_the_sdk_gets_a_signature_as_it_was_sent(house: House, relayed: Sdks) -> None:
    house.upstream.script = streaming(CASES["C46 thoughts and their signature"].events)
    async with relayed.anthropic.messages.stream(model="m-1", max_tokens=9, messages=ASKED) as stream:
        message = await stream.get_final_message()
    assert [(each.type, getattr(each, "signature", "")) for each in message.content] == [("thinking", SIGNATURE), ("text", "")]


async def test_C49_version_and_beta_arrive_and_the_key_is_stored_nowhere(house: House, relayed: Sdks) -> None:
    keys = ["sk-ant-api03-conformance-raw-" + "k" * 60, "sk-ant-api03-conformance-sdk-" + "k" * 60]
    beta = "a-2025-01-01,b-2025-02-02"
    house.upstream.script = whole(b'{"type":"message","role":"assistant","content":[],"model":"m-1","stop_reason":"end_turn"}')
    headers = f"x-api-key: {keys[0]}\r\nanthropic-version: 2023-06-01\r\nanthropic-beta: {beta}\r\n"
    reply = await house.ask(f"POST {MESSAGES}", headers, ask_of(MESSAGES, max_tokens=9))
    sdk = relayed.anthropic.with_options(api_key=keys[1], default_headers={"anthropic-beta": beta})
    raw = await sdk.messages.with_raw_response.create(model="m-1", max_tokens=9, messages=ASKED)
    by_hand, by_sdk = house.upstream.received
    assert by_hand.header("x-api-key") == keys[0]
    assert keys[1] in (by_sdk.header("x-api-key"), by_sdk.header("authorization").removeprefix("Bearer "))
    ids = (reply.header("x-potstill-exchange-id"), raw.headers["x-potstill-exchange-id"])
    for id, sent, version in zip(ids, (by_hand, by_sdk), ("2023-06-01", sdk.default_headers["anthropic-version"]), strict=True):
        assert (sent.header("anthropic-version"), sent.header("anthropic-beta")) == (version, beta)
        kept = (await house.stored(id)).content.request_headers
        assert (kept["anthropic-version"], kept["anthropic-beta"]) == (version, beta)
    files = [path for path in house.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files)
    assert [path for path in files if any(key.encode() in path.read_bytes() for key in keys)] == []


async def test_C50_counting_tokens_passes(house: House, relayed: Sdks) -> None:
    request = ask_of(MESSAGES).replace(b'"stream": true, ', b"")
    found = await compared(house, "/v1/messages/count_tokens", whole(b'{"input_tokens":14}'), request)
    assert (found.exchange.state, found.exchange.upstream) == ("complete", "anthropic")
    assert (await relayed.anthropic.messages.count_tokens(model="m-1", messages=ASKED)).input_tokens == 14


MODELS = (
    b'{"data":[{"type":"model","id":"claude-x","display_name":"X","created_at":"2025-01-01T00:00:00Z"}],'
    b'"has_more":false,"first_id":"claude-x","last_id":"claude-x"}'
)


async def test_C50_models_pass_in_brotli(house: House, relayed: Sdks) -> None:
    packed = brotli.compress(MODELS)
    house.upstream.script = whole(packed, Content_Encoding="br")
    headers = "x-api-key: k\r\nanthropic-version: 2023-06-01\r\nAccept-Encoding: br\r\n"
    reply = await house.ask("GET /v1/models", headers)
    assert (reply.body, reply.header("content-encoding")) == (packed, "br")
    assert house.upstream.received[0].header("accept-encoding") == "br"
    assert (await house.stored_of(reply)).exchange.upstream == "anthropic"
    sdk = relayed.anthropic.with_options(default_headers={"Accept-Encoding": "br"})
    assert [model.id async for model in sdk.models.list()] == ["claude-x"]
