"""What a WebSocket said comes back from its transcript byte for byte, and what was cut is not made up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from capture.personal_bodies import hide_in_body
from capture.pseudonyms import Hiding
from capture.transcript import BINARY, CLIENT, CLOSE, SERVER, TEXT, Said, read_transcript, write_close, write_message

TEXTS = st.one_of(
    st.text(max_size=60).map(str.encode), st.text("\r\n \ufeffa:", max_size=12).map(str.encode), st.binary(max_size=40)
)
MESSAGES = st.lists(st.tuples(st.sampled_from([CLIENT, SERVER]), st.booleans(), TEXTS, st.integers(0, 2**40)), max_size=6)


@given(MESSAGES)
def test_any_messages_come_back_byte_for_byte(messages: list[tuple[str, bool, bytes, int]]) -> None:
    body = b"".join(write_message(*each) for each in messages)
    assert list(read_transcript(body)) == [Said(side, TEXT if is_text else BINARY, data) for side, is_text, data, _ in messages]


@given(MESSAGES, st.integers(0, 400))
def test_of_a_cut_transcript_the_whole_messages_before_the_cut_are_left(
    messages: list[tuple[str, bool, bytes, int]], cut: int
) -> None:
    events = [write_message(*each) for each in messages]
    found = list(read_transcript(b"".join(events)[:cut]))
    assert found == list(read_transcript(b"".join(events)))[: len(found)]
    whole = sum(len(b"".join(events[: number + 1])) <= cut for number in range(len(events)))
    assert len(found) == whole


@given(st.binary(max_size=80))
def test_any_bytes_are_read_without_an_error(body: bytes) -> None:
    list(read_transcript(body))


def test_a_close_has_its_code_and_reason() -> None:
    (said,) = read_transcript(write_close(SERVER, 4001, 'busy "now"', 12))
    assert (said.side, said.kind) == (SERVER, CLOSE)
    assert said.data == b'{"code":4001,"reason":"busy \\"now\\""}'


def test_text_stands_in_the_transcript_as_it_was_sent() -> None:
    assert (
        write_message(CLIENT, True, b'{"type": "x"}', 3_700_000_001) == b'event: client\nid: 3700.000001\ndata: {"type": "x"}\n\n'
    )


def test_personal_data_are_masked_in_what_was_said_and_the_clock_stays() -> None:
    texts = [b'{"type":"input_text","text":"I am ann@example.org"}', b"plain +49 170 1234567"]
    body = b"".join(write_message(CLIENT, True, text, at) for text in texts for at in range(0, 10**12, 77_777_777_777))
    hidden = hide_in_body(body, Hiding(None))
    assert [said.data for said in read_transcript(hidden)][-1] == b"plain [phone]"
    assert b"ann@" not in hidden
    assert [line for line in hidden.split(b"\n") if line.startswith(b"id:")] == [
        line for line in body.split(b"\n") if line.startswith(b"id:")
    ]
