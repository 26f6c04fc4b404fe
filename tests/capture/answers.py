"""One answer, written as each format writes it: whole, and as a stream of events."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from capture.assemble import Assembled, assemble
from capture.messages import Message, Usage

CHAT, MESSAGES = ("openai", "/v1/chat/completions"), ("anthropic", "/v1/messages")
COMPLETIONS, RESPONSES = ("openai", "/v1/completions"), ("openai", "/v1/responses")
EMBEDDINGS = ("openai", "/v1/embeddings")
ASKED = b'{"messages":[{"role":"user","content":"hi"}],"prompt":"hi","input":"hi"}'

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


SOME_USAGE = Usage(7, 3, "reported")


@dataclass(frozen=True)
class Said:
    """What a model says: calls are (name, arguments); the input of a custom tool is a text."""

    text: str = ""
    thought: str = ""
    refusal: str = ""
    calls: tuple[tuple[str, dict[str, str] | str], ...] = ()
    usage: Usage = SOME_USAGE


_COUNTS = st.integers(0, 2**40)
USAGES = st.builds(
    lambda fresh, cached, written, said, thought: Usage(
        fresh + cached + written, said + thought, "reported", cached, written, thought
    ),
    *[_COUNTS] * 5,
)
_ARGUMENTS = st.dictionaries(TEXTS, TEXTS, max_size=2)
_NAMES = st.sampled_from(["find", "book"])
_CALLS = st.lists(st.tuples(_NAMES, _ARGUMENTS), max_size=3).map(tuple)
_ANY_CALLS = st.lists(st.tuples(_NAMES, _ARGUMENTS | TEXTS), max_size=3).map(tuple)
WORDS = st.builds(Said, text=TEXTS, usage=USAGES)
TOOLS = st.builds(Said, text=TEXTS, thought=TEXTS, calls=_CALLS, usage=USAGES)
ANYTHING = st.builds(Said, text=TEXTS, thought=TEXTS, refusal=TEXTS, calls=_ANY_CALLS, usage=USAGES)


def split(text: str, at: int) -> list[str]:
    """`text` in two pieces."""
    at = at % (len(text) + 1)
    return [text[:at], text[at:]]


def read(
    kind: tuple[str, str], response: bytes, *, is_stream: bool = False, request: bytes = ASKED, encoding: str = ""
) -> Assembled:
    """A 200 of this protocol and path, assembled."""
    return assemble(*kind, is_stream, request, response, encoding, 200)


def answer_of(assembled: Assembled) -> Message:
    """The answer, which must be there."""
    assert assembled.conversation.answer is not None
    return assembled.conversation.answer


def delta(finish_reason: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    """An event of a streamed chat."""
    return {"model": "gpt-4o", "choices": [{"index": index, "delta": fields, "finish_reason": finish_reason}]}


def call(index: int, id: str | None, name: str | None, arguments: str | None) -> dict[str, Any]:
    """A fragment of a tool call in an event of a streamed chat."""
    return {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}


def chat_stream(*bodies: Any, done: bool = True) -> bytes:
    """Events as OpenAI's chat sends them."""
    lines = [f"data: {json.dumps(body)}\n\n" for body in bodies]
    return "".join([*lines, *(["data: [DONE]\n\n"] if done else [])]).encode()


def typed_stream(*bodies: dict[str, Any]) -> bytes:
    """Events as Anthropic and OpenAI's Responses send them."""
    return "".join(f"event: {body['type']}\ndata: {json.dumps(body)}\n\n" for body in bodies).encode()


def openai_counts(usage: Usage) -> dict[str, Any]:
    """`usage` as a chat reports it."""
    return {
        "prompt_tokens": usage.tokens_in,
        "completion_tokens": usage.tokens_out,
        "prompt_tokens_details": {"cached_tokens": usage.tokens_cached, "cache_write_tokens": usage.tokens_cache_written},
        "completion_tokens_details": {"reasoning_tokens": usage.tokens_reasoning},
    }


def chat_pair(said: Said, at: int) -> tuple[bytes, bytes]:
    """One answer of a chat completion, unstreamed and streamed."""
    written: list[dict[str, Any]] = []
    chunks = [delta(role="assistant", content="")]
    chunks += [delta(reasoning_content=part) for part in split(said.thought, at)]
    chunks += [delta(content=part) for part in split(said.text, at)] + [delta(refusal=part) for part in split(said.refusal, at)]
    for number, (name, arguments) in enumerate(said.calls):
        kind, key = ("custom", "input") if isinstance(arguments, str) else ("function", "arguments")
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        written.append({"id": f"c{number}", "type": kind, kind: {"name": name, key: text}})
        first, second = split(text, at)
        chunks.append(delta(tool_calls=[{"index": number, "id": f"c{number}", "type": kind, kind: {"name": name, key: first}}]))
        chunks.append(delta(tool_calls=[{"index": number, kind: {key: second}}]))
    usage = openai_counts(said.usage)
    message = {"role": "assistant", "content": said.text, "reasoning_content": said.thought, "tool_calls": written}
    message["refusal"] = said.refusal or None
    whole = {"model": "gpt-4o", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
    return json.dumps(whole).encode(), chat_stream(*chunks, delta("stop"), {"model": "gpt-4o", "choices": [], "usage": usage})


def completion_pair(said: Said, at: int) -> tuple[bytes, bytes]:
    """One answer of a legacy completion, unstreamed and streamed."""
    usage = openai_counts(said.usage)
    whole = {"model": "m", "choices": [{"index": 0, "text": said.text, "finish_reason": "stop"}], "usage": usage}
    parts = [{"model": "m", "choices": [{"index": 0, "text": part, "finish_reason": None}]} for part in split(said.text, at)]
    last = {"model": "m", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}], "usage": usage}
    return json.dumps(whole).encode(), chat_stream(*parts, last)


def message_pair(said: Said, at: int) -> tuple[bytes, bytes]:
    """One answer of Anthropic messages, unstreamed and streamed."""
    content: list[dict[str, Any]] = [{"type": "thinking", "thinking": said.thought, "signature": "s"}] if said.thought else []
    content.append({"type": "text", "text": said.text})
    content += [{"type": "tool_use", "id": f"c{n}", "name": name, "input": args} for n, (name, args) in enumerate(said.calls)]
    cached, written = said.usage.tokens_cached, said.usage.tokens_cache_written
    usage = {
        "input_tokens": (said.usage.tokens_in or 0) - cached - written,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": written,
    }
    final = {"output_tokens": said.usage.tokens_out, "output_tokens_details": {"thinking_tokens": said.usage.tokens_reasoning}}
    whole = {"model": "claude", "role": "assistant", "content": content, "stop_reason": "end_turn", "usage": {**usage, **final}}
    started = {"model": "claude", "content": [], "usage": {**usage, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": started}, {"type": "ping"}]
    keys = {
        "thinking": ("thinking_delta", "thinking"),
        "text": ("text_delta", "text"),
        "tool_use": ("input_json_delta", "partial_json"),
    }
    for index, block in enumerate(content):
        kind, key = keys[block["type"]]
        text = json.dumps(block["input"]) if "input" in block else block[key]
        empty = {**block, "input": {}} if "input" in block else {**block, key: ""}
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events += [
            {"type": "content_block_delta", "index": index, "delta": {"type": kind, key: part}} for part in split(text, at)
        ]
        events.append({"type": "content_block_stop", "index": index})
    events.append({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": final})
    return json.dumps(whole).encode(), typed_stream(*events, {"type": "message_stop"})


def response_output(said: Said) -> list[dict[str, Any]]:
    """The output items of a Responses answer."""
    output: list[dict[str, Any]] = []
    if said.thought:
        output.append({"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": said.thought}]})
    parts = [{"type": "output_text", "text": said.text}] + [{"type": "refusal", "refusal": said.refusal}] * bool(said.refusal)
    output.append({"type": "message", "id": "msg", "role": "assistant", "status": "completed", "content": parts})
    for number, (name, arguments) in enumerate(said.calls):
        is_custom = isinstance(arguments, str)
        written = {"input": arguments} if is_custom else {"arguments": json.dumps(arguments)}
        kind = "custom_tool_call" if is_custom else "function_call"
        output.append({"type": kind, "id": f"i{number}", "call_id": f"c{number}", "name": name, **written, "status": "completed"})
    return output


def response_pair(said: Said, at: int) -> tuple[bytes, bytes]:
    """One answer of Responses, unstreamed and streamed."""
    output, usage = response_output(said), said.usage
    counts = {
        "input_tokens": usage.tokens_in,
        "input_tokens_details": {"cached_tokens": usage.tokens_cached, "cache_write_tokens": usage.tokens_cache_written},
        "output_tokens": usage.tokens_out,
        "output_tokens_details": {"reasoning_tokens": usage.tokens_reasoning},
    }
    whole = {"object": "response", "model": "gpt-5", "status": "completed", "error": None, "output": output, "usage": counts}
    started = {**whole, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": started}]
    for place, item in enumerate(output):
        events += _item_events(item, place, at)
    return json.dumps(whole).encode(), typed_stream(*events, {"type": "response.completed", "response": whole})


def _item_events(item: dict[str, Any], place: int, at: int) -> list[dict[str, Any]]:
    here = {"output_index": place, "item_id": item["id"]}
    names = {"output_text": "output_text", "refusal": "refusal", "summary_text": "reasoning_summary_text"}
    empty = {key: [] if isinstance(value, list) else value for key, value in item.items()}
    empty |= {key: "" for key in ("arguments", "input") if key in item} | {"status": "in_progress"}
    events: list[dict[str, Any]] = [{"type": "response.output_item.added", "output_index": place, "item": empty}]
    for index, part in enumerate(item.get("content") or item.get("summary") or []):
        text = part.get("text", part.get("refusal"))
        name = f"response.{names[part['type']]}.delta"
        events += [
            {"type": name, **here, "content_index": index, "summary_index": index, "delta": piece} for piece in split(text, at)
        ]
    for key, name in (("arguments", "function_call_arguments"), ("input", "custom_tool_call_input")):
        if key in item:
            events += [{"type": f"response.{name}.delta", **here, "delta": piece} for piece in split(item[key], at)]
    return [*events, {"type": "response.output_item.done", "output_index": place, "item": item}]


PAIRS: dict[tuple[str, str], Callable[[Said, int], tuple[bytes, bytes]]] = {
    CHAT: chat_pair,
    COMPLETIONS: completion_pair,
    MESSAGES: message_pair,
    RESPONSES: response_pair,
}
SAYINGS = {CHAT: ANYTHING, COMPLETIONS: WORDS, MESSAGES: TOOLS, RESPONSES: ANYTHING}
