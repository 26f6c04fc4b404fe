from __future__ import annotations

import json
from typing import Any

import pytest

from capture.assemble import input_hash, state_of
from capture.messages import Media, Message, ToolCall, Usage
from tests.capture.answers import CHAT, COMPLETIONS, answer_of, call, chat_stream, delta, read


@pytest.mark.parametrize(
    ("chunks", "calls"),
    [
        ([call(0, "a", "find", '{"q":'), call(1, "b", "book", "{"), call(0, None, None, "1}"), call(1, None, None, "}")],
         [ToolCall("find", '{"q":1}', "a"), ToolCall("book", "{}", "b")]),
        ([call(0, "a", "find", "{}"), call(0, "b", "book", "{}")], [ToolCall("find", "{}", "a"), ToolCall("book", "{}", "b")]),
        ([call(0, "a", "find", None), call(0, "", None, "{}")], [ToolCall("find", "{}", "a")]),
        ([call(0, "a", "find", '{"q": "par')], [ToolCall("find", '{"q": "par', "a", is_complete=False)]),
        ([{"id": "a", "function": {"name": "find", "arguments": {"q": 1}}},
          {"id": "b", "function": {"name": "book", "arguments": "{}"}}],
         [ToolCall("find", '{"q":1}', "a"), ToolCall("book", "{}", "b")]),
    ],
    ids=["interleaved", "same index, new id", "empty id", "cut arguments", "no index"],
)  # fmt: skip
def test_tool_calls_are_put_together_from_their_fragments(chunks: list[dict[str, Any]], calls: list[ToolCall]) -> None:
    stream = chat_stream(*[delta(tool_calls=[chunk]) for chunk in chunks], delta("tool_calls"))
    assert list(answer_of(read(CHAT, stream, is_stream=True)).tool_calls) == calls


def test_a_custom_tools_input_is_free_text_and_whole_when_the_choice_is() -> None:
    first = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "run", "input": "ls "}}
    more = {"index": 0, "custom": {"input": "-l"}}
    for finish, is_complete in (("tool_calls", True), ("length", False)):
        stream = chat_stream(delta(tool_calls=[first]), delta(tool_calls=[more]), delta(finish))
        assert answer_of(read(CHAT, stream)).tool_calls == (ToolCall("run", "ls -l", "a", is_complete, is_custom=True),)
    cut = chat_stream(delta(tool_calls=[first]), done=False)
    assert not answer_of(read(CHAT, cut)).tool_calls[0].is_complete


def test_legacy_function_calls_are_tool_calls() -> None:
    stream = chat_stream(
        delta(function_call={"name": "find", "arguments": '{"q"'}), delta(function_call={"arguments": ":1}"}), delta("stop")
    )
    assert answer_of(read(CHAT, stream, is_stream=True)).tool_calls == (ToolCall("find", '{"q":1}'),)


def test_the_first_choice_of_several_is_the_answer() -> None:
    stream = chat_stream(delta(index=1, content="b"), delta(index=0, content="a"), delta("stop", 1), delta("stop", 0))
    assert answer_of(read(CHAT, stream, is_stream=True)).text == "a"
    stream = chat_stream(delta(index=0, content="a"), delta("stop", 0), delta(index=1, content="b"), done=False)
    assert state_of("complete", 200, read(CHAT, stream, is_stream=True)) == "truncated"


def test_a_provider_that_sends_no_done_is_complete_with_its_finish_reason() -> None:
    got = read(CHAT, chat_stream(delta(content="a"), delta("stop"), done=False), is_stream=True)
    assert state_of("complete", 200, got) == "complete"


@pytest.mark.parametrize("text", ["Hel", ""])
def test_what_is_said_in_two_places_of_a_chunk_is_said_once(text: str) -> None:
    chunks = [delta(content="Hel"), delta("stop", content="lo"), delta("stop", content="")]
    for chunk, said in zip(chunks, (text, text and "lo", ""), strict=True):
        chunk["choices"][0]["text"] = said
    assert answer_of(read(CHAT, chat_stream(*chunks), is_stream=True)).text == "Hello"


def test_halves_of_a_letter_in_two_events_are_joined() -> None:
    body = b"".join(b'data: {"choices":[{"index":0,"delta":{"content":"\\u%s"}}]}\n\n' % half for half in (b"d83d", b"de00"))
    assert answer_of(read(CHAT, body, is_stream=True)).text == "😀"
    lone = b'{"choices":[{"index":0,"message":{"content":"\\ud83d!"},"finish_reason":"stop"}]}'
    assert answer_of(read(CHAT, lone)).text == "\ufffd!"


USAGES: list[tuple[str, dict[str, Any], Usage]] = [
    ("zero", {"prompt_tokens": 0, "completion_tokens": 0}, Usage(0, 0, "reported")),
    ("cached", {"prompt_tokens_details": {"cached_tokens": 3}}, Usage(9, 4, "reported", 3)),
    ("deepseek", {"prompt_cache_hit_tokens": 2, "prompt_cache_miss_tokens": 7}, Usage(9, 4, "reported", 2)),
    ("together", {"prompt_tokens_details": None, "cached_tokens": 2}, Usage(9, 4, "reported", 2)),
    ("openrouter", {"prompt_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 5}}, Usage(9, 4, "reported", 1, 5)),
    ("azure, with more cached than asked", {"prompt_tokens_details": {"cached_tokens": 163}}, Usage(9, 4, "reported", 9)),
    (
        "reasoning",
        {"completion_tokens": 40, "total_tokens": 49, "completion_tokens_details": {"reasoning_tokens": 30}},
        Usage(9, 40, "reported", tokens_reasoning=30),
    ),
    (
        "xai, which counts reasoning apart",
        {"total_tokens": 43, "completion_tokens_details": {"reasoning_tokens": 30}},
        Usage(9, 34, "reported", tokens_reasoning=30),
    ),
]


@pytest.mark.parametrize(("usage", "expected"), [case[1:] for case in USAGES], ids=[case[0] for case in USAGES])
def test_usage_is_read_as_each_provider_writes_it(usage: dict[str, Any], expected: Usage) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 4} | usage
    whole = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": usage}
    assert read(CHAT, json.dumps(whole).encode()).usage == expected
    for first in ({**delta(), "usage": usage}, {"choices": [], "x_groq": {"usage": usage}}):
        assert read(CHAT, chat_stream(first, delta("stop"))).usage == expected


def test_a_refusal_is_the_answer_and_marked() -> None:
    got = read(CHAT, chat_stream(delta(refusal="I can"), delta(refusal="not."), delta("stop")), is_stream=True)
    assert answer_of(got) == Message("assistant", "I cannot.", (), ("refusal",), refusal="I cannot.")
    both = chat_stream(delta(content="Well. "), delta(refusal="No."), delta("stop"))
    assert answer_of(read(CHAT, both)) == Message("assistant", "Well. ", (), ("refusal",), refusal="No.")


@pytest.mark.parametrize(
    "message",
    [
        {"content": "4", "reasoning_content": "2+2"},
        {"content": "4", "reasoning": "2+2", "reasoning_details": [{"type": "reasoning.text", "text": "2+2"}]},
        {"content": "4", "reasoning": "2+2", "reasoning_content": "2+2"},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "2+2"}]}, {"type": "text", "text": "4"}]},
    ],
    ids=["deepseek", "openrouter", "both", "mistral"],
)
def test_reasoning_is_kept_apart(message: dict[str, Any]) -> None:
    whole = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
    for body in (whole, chat_stream(delta("stop", **message))):
        assert answer_of(read(CHAT, body)) == Message("assistant", "4", reasoning="2+2")


def test_an_answer_that_only_spoke_has_its_transcript() -> None:
    spoken = [{"id": "au_1"}, {"data": "AAA="}, {"transcript": "good "}, {"transcript": "day"}]
    got = answer_of(read(CHAT, chat_stream(*[delta(audio=part) for part in spoken], delta("stop"))))
    assert (got.text, got.other_parts) == ("good day", ("audio",))


def test_fields_that_are_there_but_empty_are_nothing() -> None:
    """As Snowflake sends them."""
    empty = {"audio": {"data": "", "id": "", "transcript": "", "expires_at": 0}, "function_call": {"arguments": "", "name": ""}}
    body = {"choices": [{"index": 0, "finish_reason": "", "message": {"content": "4", "refusal": "", **empty}}]}
    got = read(CHAT, json.dumps(body).encode())
    assert (answer_of(got), got.is_terminal, got.finish_reason) == (Message("assistant", "4"), True, "")


def test_two_images_are_two_inputs() -> None:
    def hash_of(url: str) -> str:
        part = {"type": "image_url", "image_url": {"url": url}}
        request = json.dumps({"messages": [{"role": "user", "content": [part]}]}).encode()
        conversation = read(CHAT, b"", request=request).conversation
        assert conversation.asked[0].other_parts[0].startswith("image:")
        return input_hash(conversation)

    assert hash_of("data:a") != hash_of("data:b")
    assert hash_of("data:a") == hash_of("data:a")


def test_an_image_in_the_answer_is_kept_by_reference() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    got = answer_of(read(CHAT, chat_stream(delta(images=[image]), delta("stop"))))
    assert got.media == (Media("image", "https://x/y.png"),)
    assert got.other_parts[0].startswith("image:")


@pytest.mark.parametrize(
    ("prompt", "texts", "others"),
    [("how are", ["how are"], 0), (["a", "b"], ["a", "b"], 0), ([1, 2], [""], 1), ([[1, 2], [3]], ["", ""], 2), (None, [], 0)],
)
def test_legacy_prompts_are_texts_or_tokens(prompt: Any, texts: list[str], others: int) -> None:
    body = b'{"model":"m","choices":[{"index":0,"text":"you","finish_reason":"stop"}]}'
    got = read(COMPLETIONS, body, request=json.dumps({"prompt": prompt}).encode())
    assert [message.text for message in got.conversation.asked] == texts
    assert sum(len(message.other_parts) for message in got.conversation.asked) == others
    assert answer_of(got).text == "you"
