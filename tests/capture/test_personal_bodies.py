from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.assemble import assemble
from capture.personal_bodies import hide_in_body, hide_in_encoded
from capture.pseudonyms import Hiding, Keys

MAIL, PHONE, CARD = "ann.marker@example.org", "+49 170 1234567", "4111 1111 1111 1111"
SECRET = "0123456789abcdef" * 4


def masked(body: bytes) -> bytes:
    return hide_in_body(body, Hiding(None))


def chat_events(pieces: list[str], **delta: Any) -> bytes:
    events = [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}]
    events += [{"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": piece}, **delta}]} for piece in pieces]
    events += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"


def said(stream: bytes, protocol: str = "openai", path: str = "/v1/chat/completions") -> str:
    answer = assemble(protocol, path, True, b"{}", stream, "", 200).conversation.answer
    assert answer is not None
    return answer.text + "".join(call.arguments for call in answer.tool_calls)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f'{{"a" : "to {MAIL}",\n "n": 1.50}}', '{"a" : "to [email]",\n "n": 1.50}'),
        ('{"a": "tab\\t\\n+49 170 1234567"}', '{"a": "tab\\t\\n[phone]"}'),
        ('{"a": "ann\\u0040example.org \\u00e9"}', '{"a": "[email] \\u00e9"}'),
        ('{"a": "ann@example.org é"}', '{"a": "[email] é"}'),
        ('{"ann@example.org": [1, 2]}', '{"[email]": [1, 2]}'),
        ('{"cut": "mail me at ann@example.org', '{"cut": "mail me at [email]'),
        ('{"cut": "mail me at ann@example.org\\', '{"cut": "mail me at [email]\\'),
        ("mail me at ann@example.org", "mail me at [email]"),
        ("[log] ann@example.org said", "[log] [email] said"),
    ],
)
def test_strings_lose_their_data_and_the_rest_stays_as_it_was(body: str, expected: str) -> None:
    assert masked(body.encode()) == expected.encode()


def test_the_arguments_of_a_tool_call_are_json_again() -> None:
    arguments = json.dumps({"to": MAIL, "text": f"line\n{PHONE}", "deep": json.dumps({"card": CARD})})
    body = json.dumps({"tool_calls": [{"function": {"arguments": arguments}}]}).encode()
    inner = json.loads(json.loads(masked(body))["tool_calls"][0]["function"]["arguments"])
    assert inner == {"to": "[email]", "text": "line\n[phone]", "deep": '{"card": "[card]"}'}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"created": 4111111111111111, "x": [0.123456789, -1e10, true, null]}',
        b'{"model": "gpt-4o-2024-08-06", "id": "chatcmpl-9x7", "messages": [{"role": "user", "content": "at 10:30, 3 pcs"}]}',
        b"\xff\xfe\x00binary 12345 \x80",
        b"[" * 100_000,
        b'{"a": "\\ud83d alone"}',
        json.dumps({"image": "data:image/png;base64," + "+49170123" * 400}).encode(),
    ],
)
def test_a_body_without_personal_data_stays_byte_for_byte(body: bytes) -> None:
    assert masked(body) == body


def test_bytes_that_are_no_text_around_a_datum_stay() -> None:
    assert masked(b"\xff\xfe ann@example.org \x80\x00") == b"\xff\xfe [email] \x80\x00"


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_a_datum_split_over_the_events_of_a_stream_is_found(size: int) -> None:
    text = f"Write to {MAIL} or call {PHONE}."
    stream = chat_events([text[start : start + size] for start in range(0, len(text), size)])
    hidden = masked(stream)
    assert said(hidden) == "Write to [email] or call [phone]."
    assert hidden.endswith(b"data: [DONE]\n\n") and hidden.count(b"data:") == stream.count(b"data:")


def test_two_choices_of_a_stream_do_not_mix() -> None:
    events = [{"choices": [{"index": number % 2, "delta": {"content": piece}}]} for number, piece in enumerate("aXnYnZ@Ae.Bo")]
    events += [
        {"choices": [{"index": number, "delta": {"content": piece}}]} for number, piece in ((0, " ann@ex"), (1, "ample.org"))
    ]
    stream = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    assert masked(stream) == stream


def test_tool_arguments_of_a_stream_are_cleaned_as_json() -> None:
    arguments = json.dumps({"note": f"x\n{PHONE}", "to": MAIL})
    events = [
        {
            "choices": [
                {"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": ""}}]}}
            ]
        },
        *(
            {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}}]}
            for piece in arguments
        ),
    ]
    stream = b"".join(b"data: " + json.dumps(event).encode() + b"\r\n\r\n" for event in events)
    assert json.loads(said(masked(stream))) == {"note": "x\n[phone]", "to": "[email]"}


def test_a_stream_of_messages_is_cleaned() -> None:
    events = [
        {"type": "message_start", "message": {"role": "assistant", "model": "m", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": letter}} for letter in MAIL),
        {"type": "content_block_stop", "index": 0},
    ]
    stream = b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)
    assert said(masked(stream), "anthropic", "/v1/messages") == "[email]"


def test_a_torn_last_event_is_cleaned_as_text() -> None:
    stream = chat_events(["hello"]) + b'data: {"choices":[{"index":0,"delta":{"content":"write to ann@example.org an'
    assert b"example" not in masked(stream) and b"[email]" in masked(stream)


def test_tokens_of_an_answer_spelled_out_with_their_bytes_go() -> None:
    spelled = {"content": [{"token": letter, "bytes": [ord(letter)], "logprob": 0.0} for letter in MAIL]}
    body = json.dumps({"choices": [{"message": {"content": MAIL}, "logprobs": spelled}]}).encode()
    assert json.loads(masked(body)) == {"choices": [{"message": {"content": "[email]"}, "logprobs": None}]}
    pieces = [{"content": [{"token": letter, "bytes": [ord(letter)]}]} for letter in MAIL]
    events = [{"choices": [{"index": 0, "delta": {"content": one["content"][0]["token"]}, "logprobs": one}]} for one in pieces]
    stream = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    assert said(masked(stream)) == "[email]" and b'"token"' not in masked(stream)


def test_a_pseudonym_is_stable_keyed_and_opens_with_its_key_alone() -> None:
    keys, other = Keys(SECRET), Keys(SECRET[::-1])
    first, second = Hiding(keys), Hiding(keys)
    token = first.text(MAIL)
    assert token == second.text(f" {MAIL.upper()} ").strip() != Hiding(other).text(MAIL)
    assert token.startswith("<EMAIL_") and MAIL not in token
    sealed = first.pseudonyms[0].sealed
    assert keys.unseal(token, sealed) == MAIL and MAIL.encode() not in sealed
    with pytest.raises(Exception, match="does not open"):
        other.unseal(token, sealed)


def test_a_compressed_body_is_kept_decoded_only_where_it_held_a_datum() -> None:
    headers = {"content-encoding": "gzip", "accept": "x"}
    for said in (chat_events(list(MAIL)), json.dumps({"a": MAIL}).encode()):
        hidden, left = hide_in_encoded(gzip.compress(said), headers, Hiding(None))
        assert left == {"accept": "x"} and hidden == masked(said) != said
    packed = gzip.compress(b'{"a": "nobody"}')
    assert hide_in_encoded(packed, headers, Hiding(None)) == (packed, headers)


def test_hiding_what_is_hidden_changes_nothing() -> None:
    for keys in (None, Keys(SECRET)):
        once = hide_in_body(json.dumps({"a": f"{MAIL} {PHONE} {CARD}"}).encode(), Hiding(keys))
        assert hide_in_body(once, Hiding(keys)) == once


@given(st.lists(st.text(max_size=5), max_size=30), st.data())
def test_a_datum_in_a_stream_never_stays(noise: list[str], data: st.DataObject) -> None:
    before, after = "".join(noise).rstrip("\\") + " ", " tail"
    text = before + MAIL + after
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert MAIL not in said(masked(chat_events(pieces)))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_and_those_without_a_datum_stay(data: bytes) -> None:
    hiding = Hiding(None)
    hidden = hide_in_body(data, hiding)
    assert hiding.count or hidden == data
