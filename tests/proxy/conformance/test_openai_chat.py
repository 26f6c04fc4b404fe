"""C21-C40: chats as OpenAI and its imitators write them pass unchanged, and the store knows what they said and how they ended."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

import pytest

from capture.messages import ToolCall
from tests.proxy.conformance.dialects import DONE, chat, chat_event, data, delta
from tests.proxy.conformance.house import KEY, House, ask_of, compared, streaming, whole
from tests.proxy.conformance.sdks import CHAT, Sdks
from tests.proxy.scripting import Received, chunk, chunked_head

pytestmark = [pytest.mark.conformance, pytest.mark.asyncio(loop_scope="session")]

USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
WANTS_USAGE = {"stream_options": {"include_usage": True}}


def call(index: int, id: str | None = None, name: str | None = None, arguments: str | None = None) -> dict[str, object]:
    """A fragment of a tool call."""
    return {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*fragments: dict[str, object], finish_reason: str = "tool_calls") -> list[bytes]:
    """A chat that calls tools, each fragment in an event of its own."""
    return [*(delta(tool_calls=[each]) for each in fragments), delta(0, finish_reason), DONE]


@dataclass(frozen=True)
class Case:
    """A streamed chat, and what the store must know of it."""

    events: list[bytes]
    text: str | None = ""
    state: str = "complete"
    finish_reason: str = "stop"
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    refusal: str = ""
    error: str = ""


TWO_CALLS = (ToolCall("find", '{"q":"北"}', "call_a"), ToolCall("book", '{"day":2}', "call_b"))
CASES = {
    "C21 with DONE": Case(chat(["a", "b"]), "ab"),
    "C22 without DONE but finished": Case(chat(["a"])[:-1], "a"),
    "C22 without DONE and unfinished": Case(chat(["a"])[:-2], "a", "truncated", ""),
    "C23 DONE without a space": Case([*chat(["a"])[:-1], b"data:[DONE]\n\n"], "a"),
    "C27 no choices in the middle": Case([chat(["a"])[1], chat_event(choices=[]), *chat(["b"])[1:]], "ab"),
    "C28 an event without choices": Case([chat(["a"])[1], chat_event(), *chat(["b"])[1:]], "ab"),
    "C29 two choices interleaved": Case(
        [delta(0, content="a"), delta(1, content="x"), delta(0, content="b"), delta(1, "stop"), delta(0, "stop"), DONE], "ab"
    ),
    "C29 two choices of which one is unfinished": Case(
        [delta(0, content="a"), delta(1, content="x"), delta(0, "stop")], "a", "truncated", ""
    ),
    "C30 parallel calls interleaved": Case(
        calls(
            call(0, "call_a", "find", ""),
            call(1, "call_b", "book", ""),
            call(0, arguments='{"q":'),
            call(1, arguments='{"day":'),
            call(0, arguments='"北"}'),
            call(1, arguments="2}"),
        ),
        finish_reason="tool_calls",
        tool_calls=TWO_CALLS,
    ),
    "C31 a new id at the same index": Case(
        calls(call(0, "call_a", "find", '{"q":"北"}'), call(0, "call_b", "book", '{"day":2}')),
        finish_reason="tool_calls",
        tool_calls=TWO_CALLS,
    ),
    "C32 null fragments": Case(
        calls(
            call(0, "call_a", "find", None), call(0, None, None, '{"q":'), call(0, None, None, None), call(0, None, None, '"北"}')
        ),
        finish_reason="tool_calls",
        tool_calls=TWO_CALLS[:1],
    ),
    "C33 each call in one event": Case(
        calls(call(0, "call_a", "find", '{"q":"北"}'), call(1, "call_b", "book", '{"day":2}')),
        finish_reason="tool_calls",
        tool_calls=TWO_CALLS,
    ),
    "C34 arguments that break off": Case(
        calls(call(0, "call_a", "find", '{"q":"北'), finish_reason="length"),
        finish_reason="length",
        tool_calls=(ToolCall("find", '{"q":"北', "call_a", is_complete=False),),
    ),
    "C35 a refusal": Case([delta(refusal="I "), delta(refusal="won't"), delta(0, "stop"), DONE], "I won't", refusal="I won't"),
    "C35 reasoning and logprobs": Case(
        [
            delta(reasoning_content="hm "),
            delta(reasoning_content="北"),
            chat_event(
                choices=[
                    {
                        "index": 0,
                        "delta": {"content": "a"},
                        "logprobs": {"content": [{"token": "a", "logprob": -0.10, "bytes": [97], "top_logprobs": []}]},
                    }
                ]
            ),
            delta(0, "stop"),
            DONE,
        ],
        "a",
        reasoning="hm 北",
    ),
    "C35 audio": Case(
        [delta(audio={"id": "audio_1", "transcript": "hello"}), delta(audio={"data": "UklGRg=="}), delta(0, "stop"), DONE],
        "hello",
    ),
    "C36 an error in the stream": Case(
        [chat(["a"])[1], data({"error": {"message": "overloaded", "type": "server_error", "code": "x"}}), DONE],
        "a",
        "error_in_band",
        "",
        error="overloaded",
    ),
    "C36 an error as the only event": Case(
        [data({"error": {"message": "overloaded", "type": "server_error", "code": "x"}})],
        None,
        "error_in_band",
        "",
        error="overloaded",
    ),
    "C37 bare JSON of an error at the end": Case(
        [chat(["a"])[1], b'{"error":{"message":"overloaded"}}'], "a", "error_in_band", "", error="overloaded"
    ),
    "C38 cut by length": Case(chat(["a"], "length"), "a", finish_reason="length"),
    "C38 cut by a filter": Case(chat(["a"], "content_filter"), "a", finish_reason="content_filter"),
    "C39 a call of the old kind": Case(
        [
            delta(function_call={"name": "find", "arguments": '{"q":'}),
            delta(function_call={"arguments": '"北"}'}),
            delta(0, "function_call"),
            DONE,
        ],
        finish_reason="function_call",
        tool_calls=(ToolCall("find", '{"q":"北"}'),),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_chat_passes_and_is_understood(case: Case, house: House, direct: Sdks, relayed: Sdks) -> None:
    found = await compared(house, CHAT, streaming(case.events), ask_of(CHAT))
    assert (found.exchange.state, found.exchange.finish_reason) == (case.state, case.finish_reason)
    assert (found.exchange.error_kind, found.exchange.error_message) == ("in_band" if case.error else "", case.error)
    answer = found.conversation.answer
    assert (answer.text if answer is not None else None) == case.text
    if answer is not None:
        assert answer.tool_calls == case.tool_calls
        assert (answer.reasoning, answer.refusal) == (case.reasoning, case.refusal)
    assert await relayed.said(CHAT) == await direct.said(CHAT)


async def usage_if_asked(received: Received, writer: asyncio.StreamWriter) -> None:
    """As OpenAI does: the counts come in an event of their own, and only when they were asked for."""
    options = json.loads(received.body).get("stream_options") or {}
    last = [chat_event(choices=[], usage=USAGE)] if options.get("include_usage") else []
    *events, done = chat(["a", "b"])
    writer.write(chunked_head() + b"".join(chunk(event) for event in [*events, *last, done]) + b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("options", "is_told"),
    [
        pytest.param(WANTS_USAGE, True, id="C24 usage is asked for"),
        pytest.param({}, False, id="C25 usage is not asked for"),
        pytest.param({"stream_options": {"include_usage": False}}, False, id="C26 usage is refused"),
    ],
)
async def test_usage_comes_when_the_client_wants_it(
    options: dict[str, object], is_told: bool, house: House, relayed: Sdks
) -> None:
    found = await compared(house, CHAT, usage_if_asked, ask_of(CHAT, **options))
    assert (b'"usage"' in found.content.response_body) is is_told
    exchange = found.exchange
    if is_told:
        assert (exchange.tokens_in, exchange.tokens_out, exchange.usage_source) == (11, 7, "reported")
        assert (exchange.tokens_cached, exchange.tokens_reasoning) == (3, 2)
    else:
        assert exchange.usage_source == "estimated"
    stream = await relayed.openai.chat.completions.create(
        model="m-1",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        **options,  # type: ignore[call-overload]
    )
    seen = [event async for event in stream]
    assert [event.usage.total_tokens for event in seen if event.usage] == ([18] if is_told else [])


COMPLETION = (
    b'{"id":"cmpl-1","object":"text_completion","created":1,"model":"m-1","choices":[{"index":0,"text":"\\u5317 ok",'
    b'"finish_reason":"stop","logprobs":null}],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}'
)
EMBEDDING = (
    b'{"object":"list","model":"m-1","data":[{"object":"embedding","index":0,"embedding":[0.10,-1e-3]}],'
    b'"usage":{"prompt_tokens":5,"total_tokens":5}}'
)
COMPLETION_EVENTS = [
    data({"id": "cmpl-1", "model": "m-1", "choices": [{"index": 0, "text": "北 ", "finish_reason": None}]}),
    data({"id": "cmpl-1", "model": "m-1", "choices": [{"index": 0, "text": "ok", "finish_reason": "stop"}]}),
    DONE,
]


async def test_C40_a_legacy_completion_passes_whole_and_streamed(house: House, relayed: Sdks) -> None:
    path = "/v1/completions"
    found = await compared(house, path, whole(COMPLETION), b'{"model":"m-1","prompt":"h\xc3\xa9"}')
    assert (found.exchange.protocol, found.answer, found.exchange.tokens_out) == ("openai", "北 ok", 2)
    found = await compared(house, path, streaming(COMPLETION_EVENTS), b'{"model":"m-1","prompt":"h\xc3\xa9","stream":true}')
    assert (found.exchange.state, found.answer) == ("complete", "北 ok")
    stream = await relayed.openai.completions.create(model="m-1", prompt="hé", stream=True)
    assert "".join([event.choices[0].text async for event in stream]) == "北 ok"


async def test_C40_embeddings_pass(house: House, relayed: Sdks) -> None:
    found = await compared(house, "/v1/embeddings", whole(EMBEDDING), b'{"model":"m-1","input":["h\xc3\xa9"]}')
    assert (found.exchange.state, found.exchange.tokens_in, found.exchange.usage_source) == ("complete", 5, "reported")
    answer = await relayed.openai.embeddings.create(model="m-1", input="hé", encoding_format="float")
    assert answer.data[0].embedding == [0.1, -0.001]


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/rerank", "/v1/something/new?a=1&b=%20x"])
async def test_C40_a_path_that_nobody_knows_passes_raw(path: str, house: House) -> None:
    body = bytes(range(256)) * 20
    found = await compared(house, path, whole(body, Content_Type="audio/mpeg"), b"\x00\xff any bytes")
    assert (found.exchange.protocol, found.exchange.state) == ("raw", "complete")
    assert found.exchange.path == path.partition("?")[0]


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH"])
async def test_C40_any_method_passes(method: str, house: House) -> None:
    house.upstream.script = whole(b'{"object":"list","data":[]}')
    body = b"{}" if method in ("PUT", "PATCH") else b""
    reply = await house.ask(f"{method} /v1/files/file-1?limit=2", KEY, body)
    assert (reply.status, reply.body) == (200, b'{"object":"list","data":[]}')
    assert house.upstream.received[0].line == f"{method} /v1/files/file-1?limit=2 HTTP/1.1"
    assert house.upstream.received[0].body == body
    assert (await house.stored_of(reply)).exchange.method == method
