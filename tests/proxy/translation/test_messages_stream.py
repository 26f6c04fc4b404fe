"""Whatever order a provider's pieces come in, Anthropic's blocks come one after another and hold what was said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.translation.messages_stream import MessagesStream


def written(deltas: Sequence[Mapping[str, Any]], finish: str = "stop", **more: Any) -> list[dict[str, Any]]:
    """The events for these deltas."""
    stream = MessagesStream("msg_1", "m", more.pop("names", {}))
    out = b"".join(stream.feed({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas)
    out += stream.feed({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}], **more}) + stream.end()
    found = []
    for event in out.decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def blocks_of(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The blocks as a client puts them together; asserts that they come one after another, in good order."""
    assert [event["type"] for event in events[:1]] == ["message_start"]
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    blocks: list[dict[str, Any]] = []
    is_open = False
    for event in events[1:-2]:
        if event["type"] == "content_block_start":
            assert not is_open and event["index"] == len(blocks)
            blocks.append({**event["content_block"], "json": ""})
            is_open = True
        elif event["type"] == "content_block_stop":
            assert is_open and event["index"] == len(blocks) - 1
            is_open = False
        else:
            assert is_open and event["index"] == len(blocks) - 1
            delta = event["delta"]
            for key, into in (("text", "text"), ("thinking", "thinking"), ("signature", "signature"), ("partial_json", "json")):
                if key in delta:
                    blocks[-1][into] += delta[key]
    assert not is_open
    return blocks


def call(index: int, id: str | None, name: str | None, arguments: str | None) -> dict[str, Any]:
    """A delta with a fragment of a tool call."""
    return {"tool_calls": [{"index": index, "id": id, "function": {"name": name, "arguments": arguments}}]}


_FRAGMENTS = st.lists(
    st.one_of(
        st.tuples(st.just("text"), st.text(min_size=1)),
        st.tuples(st.just("thinking"), st.text(min_size=1)),
        st.tuples(st.integers(0, 3), st.text(min_size=1)),
    )
)


@given(_FRAGMENTS)
def test_blocks_follow_each_other_and_lose_nothing(fragments: list[tuple[Any, str]]) -> None:
    deltas: list[dict[str, Any]] = []
    said, thought, calls, begun = "", "", {}, set[int]()
    for kind, text in fragments:
        if kind == "text":
            deltas.append({"content": text})
            said += text
        elif kind == "thinking":
            deltas.append({"reasoning_content": text})
            thought += text
        else:
            deltas.append(call(kind, f"call_{kind}" if kind not in begun else None, "tool" if kind not in begun else None, text))
            begun.add(kind)
            calls[kind] = calls.get(kind, "") + text
    # A call that goes on after other content has closed it is no call any more in Anthropic's protocol.
    if any(kind in ("text", "thinking") for kind, _ in fragments) and calls:
        blocks_of(written(deltas))
        return
    blocks = blocks_of(written(deltas))
    assert "".join(block["text"] for block in blocks if block["type"] == "text") == said
    assert "".join(block["thinking"] for block in blocks if block["type"] == "thinking") == thought
    assert {block["id"]: block["json"] for block in blocks if block["type"] == "tool_use"} == {
        f"call_{index}": arguments for index, arguments in calls.items()
    }


def test_the_first_call_is_written_as_it_comes_and_the_next_when_it_is_complete() -> None:
    stream = MessagesStream("msg_1", "m")
    stream.feed({"choices": [{"delta": call(0, "a", "weather", '{"city":')}]})
    assert b'"Oslo' in stream.feed({"choices": [{"delta": call(0, None, None, '"Oslo')}]}).replace(b"\\", b"")
    assert b'"name":"b-tool"' not in stream.feed({"choices": [{"delta": call(1, "b", "b-tool", "{}")}]})
    assert b'"name":"b-tool"' in stream.feed({"choices": [{"delta": call(0, None, None, '"}')}]})


def test_the_same_index_with_another_id_is_another_call() -> None:
    blocks = blocks_of(
        written([call(0, "a", "weather", '{"city":"Oslo"}'), call(0, "b", "weather", '{"city":"Rome"}')], "tool_calls")
    )
    assert [(block["id"], json.loads(block["json"])["city"]) for block in blocks] == [("a", "Oslo"), ("b", "Rome")]


def test_thinking_keeps_its_signature_and_is_not_said_twice() -> None:
    events = written(
        [
            {"thinking_blocks": [{"type": "thinking", "thinking": "Hm", "signature": ""}], "reasoning_content": "Hm"},
            {"thinking_blocks": [{"type": "thinking", "thinking": ".", "signature": None}]},
            {"thinking_blocks": [{"type": "thinking", "thinking": "Hm.", "signature": "s1"}]},
            {"thinking_blocks": [{"type": "redacted_thinking", "data": "xyz"}]},
            {"content": "Yes."},
        ]
    )
    blocks = blocks_of(events)
    assert [(block["type"], block.get("thinking"), block.get("signature")) for block in blocks[:1]] == [("thinking", "Hm.", "s1")]
    assert (blocks[1]["type"], blocks[1]["data"], blocks[2]["text"]) == ("redacted_thinking", "xyz", "Yes.")


def test_the_reason_to_stop_and_what_was_used_are_anthropics() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
    for finish, reason in (
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("content_filter", "refusal"),
    ):
        last = written([{"content": "x"}], finish, usage=usage)[-2]
        assert last["delta"]["stop_reason"] == reason
        counted = {"input_tokens": 6, "output_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4}
        assert last["usage"] == counted


def test_a_tool_has_the_name_that_the_client_gave_it() -> None:
    blocks = blocks_of(written([call(0, "a", "short", "{}")], names={"short": "a very long name"}))
    assert blocks[0]["name"] == "a very long name"


def test_an_answer_without_anything_in_it_is_still_an_answer() -> None:
    assert blocks_of(written([])) == []
