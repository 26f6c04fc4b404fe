from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.sse import Event, looks_like_events, parse_events

EVENTS = [Event("a", b'{"x":1}'), Event("", "grüße 東京".encode())]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_every_line_ending_is_understood(ending: str) -> None:
    body = 'event: a\ndata: {"x":1}\n\n: ping\n\ndata: grüße 東京\n\n'.replace("\n", ending).encode()
    assert list(parse_events(body)) == EVENTS


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"\xef\xbb\xbfdata: x\n\n", [Event("", b"x")]),
        (b"data:x\n\n", [Event("", b"x")]),
        (b"data: a\ndata: b\n\n", [Event("", b"a\nb")]),
        (b": only a comment\n\n", []),
        (b"data: x\n\ndata: y", [Event("", b"x"), Event("", b"y", is_torn=True)]),
        (b"data:\n\n", [Event("", b"")]),
        (b"id: 7\nretry: 3\ndata: x\n\n", [Event("", b"x")]),
        (b"data: x\n\n\n\ndata: y\n\n", [Event("", b"x"), Event("", b"y")]),
        (
            b'data: x\n\n{"error":\n {"message": "boom"}}',
            [Event("", b"x"), Event("", b'{"error":\n {"message": "boom"}}', True, True)],
        ),
        (b"", []),
    ],
)
def test_streams_are_read_as_providers_write_them(body: bytes, events: list[Event]) -> None:
    assert list(parse_events(body)) == events


@given(st.binary(max_size=400))
def test_any_bytes_are_parsed_without_an_error(body: bytes) -> None:
    assert all(isinstance(event, Event) for event in parse_events(body))


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20), max_size=6), st.data())
def test_a_cut_stream_gives_a_prefix_and_at_most_one_torn_event(texts: list[str], data: st.DataObject) -> None:
    body = "".join(f"data: {text}\n\n" for text in texts).encode()
    cut = data.draw(st.integers(0, len(body)))
    *whole, last = [*parse_events(body[:cut]), Event("", b"", True)][: len(texts) + 1]
    assert [event.data for event in whole if not event.is_torn] == [text.encode() for text in texts][
        : len([e for e in whole if not e.is_torn])
    ]
    assert last.is_torn


def test_json_is_told_from_a_stream() -> None:
    assert looks_like_events(b"\n: hello\n\ndata: x")
    assert looks_like_events(b"event: message_start\n")
    assert not looks_like_events(b' {"choices": []}')
    assert not looks_like_events(b"")
    assert not looks_like_events(b"identity of the caller is unknown")
