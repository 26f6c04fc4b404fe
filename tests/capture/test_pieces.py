from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from capture.pieces import LEAST_BYTES, Parts, piece_hash, put_together, take_apart, take_apart_answer, words_of

SYSTEM = {"role": "system", "content": "You label support tickets with exactly one of the labels that follow. " * 4}
QUESTION = {"role": "user", "content": "My parcel has not come although the page says that it was delivered on Monday."}
ANSWER = {"role": "assistant", "content": "I am sorry to hear that. Could you tell me the number of your order, please?"}
REPLY = {"role": "user", "content": "It is number 4711, and I would like to have my money back as soon as possible."}


def body(*messages: object, **more: object) -> bytes:
    return json.dumps({"model": "m", "messages": list(messages), **more}).encode()


def again(parts: Parts) -> bytes:
    return put_together(parts.skeleton, [(piece.gap, piece.data) for piece in parts.pieces])


def test_each_message_is_a_piece_of_the_bytes_as_they_stood_in_the_body() -> None:
    spaced = b'{ "messages" : [ {"role":"user" ,  "content":"' + b"x" * 80 + b'"} ] }'
    parts = take_apart(spaced)
    assert [piece.data for piece in parts.pieces] == [b'{"role":"user" ,  "content":"' + b"x" * 80 + b'"}']
    assert parts.skeleton == b'{ "messages" : [  ] }'
    assert again(parts) == spaced


def test_a_system_prompt_has_the_same_address_in_every_request() -> None:
    first, second = take_apart(body(SYSTEM, QUESTION)), take_apart(body(SYSTEM, REPLY, temperature=0))
    assert first.hashes[0] == second.hashes[0]
    assert first.hashes[1] != second.hashes[1]


def test_tools_instructions_and_schemas_are_pieces_too() -> None:
    tool = {"type": "function", "function": {"name": "find", "description": "Finds an order by its number.", "parameters": {}}}
    schema = {
        "type": "json_schema",
        "json_schema": {"schema": {"properties": {f"field{n}": {"type": "string"} for n in range(20)}}},
    }
    parts = take_apart(json.dumps({"tools": [tool, tool], "response_format": schema, "instructions": "Be brief. " * 40}).encode())
    assert [json.loads(piece.data) for piece in parts.pieces] == [tool, tool, schema, "Be brief. " * 40]
    assert len(set(parts.hashes)) == 3


def test_what_was_said_after_the_last_answer_is_fresh_and_the_system_prompt_never_is() -> None:
    parts = take_apart(body(SYSTEM, QUESTION, ANSWER, REPLY))
    assert [piece.is_fresh for piece in parts.pieces] == [False, False, False, True]
    assert [piece.is_fresh for piece in take_apart(body(SYSTEM, QUESTION)).pieces] == [False, True]


def test_a_begun_answer_at_the_end_is_not_fresh() -> None:
    assert [piece.is_fresh for piece in take_apart(body(SYSTEM, QUESTION, ANSWER)).pieces] == [False, True, False]


def test_results_of_tools_are_fresh() -> None:
    call = {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "find", "arguments": "{}" * 40}}]}
    result = {
        "role": "tool",
        "tool_call_id": "1",
        "content": "The order was delivered on Monday to a neighbour, says the carrier.",
    }
    assert [piece.is_fresh for piece in take_apart(body(QUESTION, call, result)).pieces] == [False, False, True]


def test_short_messages_stay_in_the_skeleton_and_their_words_are_known() -> None:
    parts = take_apart(body({"role": "user", "content": "Where is it?"}))
    assert parts.pieces == ()
    assert parts.fresh_text == "Where is it?"


def test_short_prompts_and_earlier_turns_are_pieces_so_that_their_words_are_found_where_they_were_new() -> None:
    messages = [{"role": role, "content": said} for role, said in (("system", "walrus"), ("user", "emu"), ("assistant", "owl"))]
    parts = take_apart(body(*messages, {"role": "user", "content": "hen"}))
    assert [json.loads(piece.data)["content"] for piece in parts.pieces] == ["walrus", "emu", "owl"]
    assert parts.fresh_text == "hen"
    assert [piece.data for piece in take_apart(b'{"system":"ferret","instructions":"stoat"}').pieces] == [b'"ferret"', b'"stoat"']


def test_a_prompt_or_an_input_that_is_plain_text_is_fresh() -> None:
    assert take_apart(b'{"model":"m","input":"Short one"}').fresh_text == "Short one"
    long = take_apart(json.dumps({"prompt": "Once upon a time " * 30}).encode())
    assert [piece.is_fresh for piece in long.pieces] == [True]


def test_bodies_that_are_no_json_object_are_all_skeleton() -> None:
    for strange in (b"", b"[1,2]", b'{"messages":[', b"\xff\xfe", b"\x00", b"[" * 100_000, b'{"messages":' + b"[" * 100_000):
        assert take_apart(strange) == Parts(strange)


def test_of_an_answer_only_what_it_echoes_is_kept_apart() -> None:
    raw = json.dumps({"id": "r", "instructions": "Be brief. " * 40, "tools": [], "output": ["a long answer " * 40]}).encode()
    parts = take_apart_answer(raw)
    assert [json.loads(piece.data) for piece in parts.pieces] == ["Be brief. " * 40]
    assert again(parts) == raw
    assert take_apart_answer(b'{"choices": ["instructions"]}' + b" " * 400).pieces == ()


def test_words_leave_out_ids_addresses_and_encoded_files() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 3_000}}
    blocks = [{"type": "text", "text": "What is this?"}, image, {"type": "text", "text": "B" * 2_000}]
    assert words_of(json.dumps({"role": "user", "content": blocks}).encode()) == "What is this?"


def test_words_of_deep_nesting_are_given_up_not_an_error() -> None:
    assert words_of(b"[" * 100_000 + b"]" * 100_000) == ""


def test_the_address_is_blake2b_of_160_bits() -> None:
    assert piece_hash(b"abc").hex() == "384264f676f39536840523f284921cdc68b6846b"


TEXTS = st.text(max_size=3 * LEAST_BYTES)
MESSAGES = st.lists(
    st.one_of(
        st.builds(dict, role=st.sampled_from(["system", "user", "assistant", "tool"]), content=TEXTS),
        st.recursive(st.none() | st.booleans() | st.integers() | TEXTS, lambda inner: st.lists(inner, max_size=3), max_leaves=5),
    ),
    max_size=6,
)


@given(messages=MESSAGES, instructions=TEXTS, separators=st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")]))
@settings(max_examples=200)
def test_any_body_is_put_together_byte_for_byte(messages: list[object], instructions: str, separators: tuple[str, str]) -> None:
    value = {"a": instructions, "messages": messages, "system": messages, "messages2": messages, "input": instructions}
    raw = json.dumps(value, separators=separators, ensure_ascii=bool(len(messages) % 2)).encode("utf-8", "surrogatepass")
    assert again(take_apart(raw)) == raw


@given(st.binary(max_size=300))
def test_any_bytes_are_put_together_byte_for_byte(raw: bytes) -> None:
    assert again(take_apart(raw)) == raw == again(take_apart_answer(raw))


@given(st.text(alphabet='{}[]":,amesginputol \\n1', max_size=200))
@settings(max_examples=300)
def test_anything_like_json_is_put_together_byte_for_byte(text: str) -> None:
    raw = ('{"messages":[' + text + "]}").encode()
    assert again(take_apart(raw)) == raw
