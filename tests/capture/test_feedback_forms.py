"""The shapes in which feedback comes: what each means, and why one is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture import clock, ids
from capture.demonstrations import make_demonstration, read_message, write_message
from capture.errors import FeedbackError
from capture.feedback_forms import KINDS, MAX_BYTES, MOST_AT_ONCE, make_feedback, read_feedback
from capture.messages import Message, ToolCall
from capture.records import Note

EXCHANGE = "ex_01kdwpw35ge00000000000000f"
NAMES = ("exchange_id", "session", "traceId", "name", "metric_name", "value", "rating", "dataType", "comment", "demonstration",
         "id", "user", "who", "tags", "metadata", "timestamp", "weight", "nonsense")  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(("BOOLEAN", "TEXT", EXCHANGE)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def notes_of(**fields: Any) -> list[tuple[str, str, float | None, str]]:
    """(id, kind, value, text) of the notes that an object of these fields becomes."""
    made = make_feedback({"exchange_id": EXCHANGE, "id": "f1", **fields}, source="api")
    return [(note.id, note.kind, note.value, note.text) for note in made.notes]


def read_one(**fields: Any) -> Note:
    return read_feedback(json.dumps(fields).encode(), source="api")[0].notes[0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, ("f1", "boolean", 1.0, "")),
        (False, ("f1", "boolean", 0.0, "")),
        (0, ("f1", "float", 0.0, "")),
        (-0.25, ("f1", "float", -0.25, "")),
        (2**70, ("f1", "float", float(2**70), "")),
        ("  wrong queue ", ("f1", "category", None, "wrong queue")),
    ],
    ids=repr,
)
def test_the_type_of_a_value_says_its_kind(value: object, expected: tuple[object, ...]) -> None:
    assert notes_of(value=value) == [expected]


def test_value_comment_and_demonstration_together_become_a_note_each() -> None:
    made = notes_of(value=False, comment="no\nsuch queue", demonstration="billing")
    assert [note[0] for note in made] == ["f1", "f1#comment", "f1#demonstration"]
    assert [note[1] for note in made] == ["boolean", "comment", "demonstration"]
    assert made[1][3] == "no\nsuch queue"
    assert read_message(made[2][3]) == Message("assistant", "billing")


def test_without_an_id_each_feedback_gets_one_of_its_own() -> None:
    first, second = read_feedback(json.dumps([{"session": "s", "value": True}] * 2).encode(), source="api")
    assert first.id.startswith("fb_")
    assert first.id == first.notes[0].id != second.id


def test_what_an_object_does_not_name_stands_in_from_path_and_headers() -> None:
    made = make_feedback({"rating": True}, source="api", exchange_id=EXCHANGE, who="u1").notes[0]
    assert (made.exchange_id, made.who, made.name, made.kind) == (EXCHANGE, "u1", "feedback", "boolean")
    with pytest.raises(FeedbackError, match="path names"):
        make_feedback({"rating": True, "exchange_id": "ex_other"}, source="api", exchange_id=EXCHANGE)


def test_feedback_of_tensorzero_is_understood() -> None:
    note = read_one(metric_name="solved", value=True, inference_id="0194-ab", tags={"author": "ana"})
    assert (note.name, note.kind, note.value, note.exchange_id, note.tags) == (
        "solved",
        "boolean",
        1.0,
        "0194-ab",
        {"author": "ana"},
    )
    note = read_one(metric_name="comment", value="too long", episode_id="e1")
    assert (note.name, note.kind, note.text, note.session_name) == ("feedback", "comment", "too long", "e1")
    blocks = [{"type": "text", "text": "So:"}, {"type": "tool_call", "name": "route", "arguments": {"queue": "billing"}}]
    note = read_one(metric_name="demonstration", value=blocks, inference_id="i1")
    assert read_message(note.text) == Message("assistant", "So:", (ToolCall("route", '{"queue":"billing"}'),))


def test_scores_of_langfuse_are_understood() -> None:
    note = read_one(traceId="t-1", name="helpful", value=1, dataType="BOOLEAN", id="l1", environment="prod", metadata={"n": 3})
    assert (note.session_name, note.exchange_id, note.kind, note.value) == ("t-1", "", "boolean", 1.0)
    assert note.tags == {"environment": "prod", "n": "3"}
    assert read_one(traceId=EXCHANGE, name="n", value=0.5, dataType="NUMERIC").exchange_id == EXCHANGE
    assert read_one(sessionId="s", name="n", value="bad", dataType="CATEGORICAL").kind == "category"
    assert read_one(sessionId="s", name="n", value="two\nlines", dataType="TEXT").kind == "comment"


def test_a_time_is_kept_and_else_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now_us", lambda: 42)
    assert read_one(session="s", value=1).created_us == 42
    assert read_one(session="s", value=1, timestamp="2026-01-01T12:00:00+01:00").created_us == 1_767_265_200_000_000
    assert read_one(session="s", value=1, created_at="2026-01-01T11:00:00").created_us == 1_767_265_200_000_000


def test_half_a_surrogate_pair_and_nul_are_no_reason_to_lose_feedback() -> None:
    note = read_feedback(b'{"session": "s", "comment": "cut \\ud83d \\u0000 \xff end"}', source="api")[0].notes[0]
    assert note.text.startswith("cut \ufffd")
    assert note.text.encode()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"value": True}, "neither an exchange nor a session"),
        ({"session": "s"}, "says nothing"),
        ({"session": "s", "comment": "  "}, "says nothing"),
        ({"session": "s", "coment": "x"}, "'coment' is unknown"),
        ({"session": "s", "value": {"a": 1}}, "neither true or false"),
        ({"session": "s", "value": ""}, "neither true or false"),
        ({"session": "s", "value": float("nan")}, "finite"),
        ({"session": "s", "value": 10**400}, "finite"),
        ({"session": "s", "value": "two\nlines"}, "line break"),
        ({"session": "s", "value": 2, "dataType": "BOOLEAN"}, "is a float, not BOOLEAN"),
        ({"session": "s", "value": 1, "dataType": "STARS"}, "'STARS' is unknown"),
        ({"session": "s", "value": True, "rating": False}, "disagree"),
        ({"session": "s" * 513, "value": 1}, "513 characters"),
        ({"session": 5, "value": 1}, "not a text"),
        ({"session": "s", "value": 1, "id": "a#b"}, "'#'"),
        ({"session": "s", "value": 1, "id": "a\u0085b"}, "control character"),
        ({"session": "s", "value": 1, "tags": ["a"]}, "not an object"),
        ({"session": "s", "value": 1, "tags": {"": "a"}}, "tag's name"),
        ({"session": "s", "value": 1, "tags": {str(n): "a" for n in range(65)}}, "65 tags"),
        ({"session": "s", "value": 1, "timestamp": "yesterday"}, "ISO 8601"),
        ({"session": "s", "value": 1, "timestamp": 5}, "ISO 8601"),
        ({"session": "s", "demonstration": {"queue": "billing"}}, "'queue'"),
        ({"session": "s", "demonstration": {"role": "user", "content": "x"}}, "not an assistant's"),
        ({"session": "s", "demonstration": ""}, "empty"),
        ({"session": "s", "demonstration": 5}, "neither text nor a call"),
        ({"session": "s", "demonstration": {"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}}, "not a JSON object"),
        ({"session": "s", "demonstration": {"tool_calls": [{"function": {"arguments": "{}"}}]}}, "no name"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_taken_is_refused_with_its_reason_and_a_next_step(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(FeedbackError, match=reason) as refused:
        read_feedback(json.dumps(fields).encode(), source="api")
    assert refused.value.next_step[-1] in ".}?"


def test_a_slip_in_a_field_is_told_with_the_nearest_name() -> None:
    with pytest.raises(FeedbackError, match=r"Field 'valeu' is unknown. Did you mean value\?"):
        make_feedback({"session": "s", "valeu": True}, source="api")


@pytest.mark.parametrize("data", [b"", b"null", b"5", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"value":' * 50_000])
def test_what_is_no_feedback_at_all_is_refused(data: bytes) -> None:
    with pytest.raises(FeedbackError):
        read_feedback(data, source="api")


def test_size_and_number_have_bounds() -> None:
    one = b'{"session":"s","value":1}'
    assert len(read_feedback(b"[" + b",".join([one] * MOST_AT_ONCE) + b"]", source="api")) == MOST_AT_ONCE
    with pytest.raises(FeedbackError, match="501"):
        read_feedback(b"[" + b",".join([one] * (MOST_AT_ONCE + 1)) + b"]", source="api")
    with pytest.raises(FeedbackError, match="more than 262144"):
        read_feedback(one + b" " * MAX_BYTES, source="api")


def test_in_a_list_the_bad_one_is_named_by_its_place() -> None:
    with pytest.raises(FeedbackError, match=r"Feedback 2 of 3: .*says nothing"):
        read_feedback(json.dumps([{"session": "s", "value": 1}, {"session": "s"}, {}]).encode(), source="api")


def test_the_answer_of_an_sdk_can_be_sent_back_corrected() -> None:
    dumped = {
        "role": "assistant", "content": None, "refusal": None, "annotations": [], "audio": None, "function_call": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "route", "arguments": '{"queue": "billing"}'}}],
    }  # fmt: skip
    made = make_demonstration(dumped)
    assert made == Message("assistant", "", (ToolCall("route", '{"queue": "billing"}', "c1"),))
    anthropic = [{"type": "tool_use", "id": "c1", "name": "route", "input": {"queue": "billing"}}]
    assert make_demonstration(anthropic).tool_calls == (ToolCall("route", '{"queue":"billing"}', "c1"),)
    assert read_message(write_message(made)) == made


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6), max_size=3))
def test_anything_is_either_refused_with_a_reason_or_taken_in_a_form_that_stores(items: list[dict[str, Any]]) -> None:
    for item in items:
        item.setdefault("session", "s")
    try:
        taken = read_feedback(json.dumps(items).encode(), source="api")
    except FeedbackError as error:
        assert error.what
        assert error.next_step
        return
    assert len(taken) == len(items)
    for each in taken:
        assert len({note.id for note in each.notes}) == len(each.notes) >= 1
        for note in each.notes:
            check(note)


def check(note: Note) -> None:
    assert note.kind in KINDS
    assert (note.value is not None) == (note.kind in ("boolean", "float"))
    assert note.value is None or math.isfinite(note.value)
    assert note.kind != "boolean" or note.value in (0.0, 1.0)
    assert bool(note.text) == (note.kind in ("category", "comment", "demonstration"))
    for said in (note.id, note.exchange_id, note.session_name, note.name, note.who):
        assert not set(map(chr, (*range(32), *range(127, 160)))) & set(said)
        assert len(said) <= 512
    for said in (note.text, *note.tags, *note.tags.values()):
        assert said.encode()
    if note.kind == "demonstration":
        message = read_message(note.text)
        assert message.text.strip() or message.tool_calls


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_taken(data: bytes) -> None:
    try:
        read_feedback(data, source="api", exchange_id=ids.new_id("ex"))
    except FeedbackError:
        return
