from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from capture.messages import Message, ToolCall
from capture.offered import Tool
from curate.examples import from_line
from curate.golden import Golden, as_candidates, disagreeing, golden_lines
from curate.selection import Candidate, input_key

TOOL = Tool("book", "Books a trip.", '{"type":"object"}')


def golden(question: str, answer: Message, exchange_id: str = "", tools: tuple[Tool, ...] = ()) -> Golden:
    messages = (Message("system", "Sort."), Message("user", question))
    return Golden("mail", input_key(messages, tools), exchange_id, messages, tools, answer, "hard", "ann", "", 1)


def said(text: str) -> Message:
    return Message("assistant", text)


@settings(max_examples=30)
@given(st.text(), st.text(min_size=1), st.booleans())
def test_a_line_holds_the_pin_as_an_example_with_its_grade(question: str, text: str, calls: bool) -> None:
    answer = Message("assistant", text, (ToolCall("book", '{"to": "Rome"}', "c1"),) if calls else ())
    pinned = golden(question, answer, "ex_1", (TOOL,) if calls else ())
    line = golden_lines([pinned]).removesuffix("\n")
    assert "\n" not in line
    example = from_line(line, "mail", "golden")
    assert (example.messages, example.answer, example.tools) == (pinned.messages, answer, pinned.tools)
    assert (example.input_key, example.id, json.loads(line)["grade"]) == (pinned.input_key, "eg_1", "hard")


def test_pins_from_files_have_ids_of_their_own_and_lines_in_the_order_of_inputs() -> None:
    pinned = [golden(f"question {'abc'[number]}", said("parcel")) for number in range(3)]
    lines = [json.loads(line) for line in golden_lines(pinned[::-1]).splitlines()]
    assert [line["input_key"] for line in lines] == sorted(one.input_key for one in pinned)
    assert len({line["id"] for line in lines}) == 3
    assert golden_lines(pinned) == golden_lines(pinned[::-1])


def test_a_pin_is_compared_like_a_candidate_of_the_same_input() -> None:
    pinned = golden("Where is it?", said("parcel"), "ex_7")
    (row,) = as_candidates([pinned])
    assert (row.exchange_id, row.input_key, row.messages, row.answer) == (
        "ex_7",
        pinned.input_key,
        pinned.messages,
        said("parcel"),
    )


def test_the_teachers_errors_on_the_golden_set_are_named() -> None:
    pinned = [golden("Where is it?", said('{"queue": "parcel"}')), golden("Cancel it", said('{"queue": "account"}'))]

    def candidate(id: str, of: Golden, target: str) -> Candidate:
        return Candidate(id, 0, "openai", "t", "", "", of.messages, target, of.input_key, {}, False)

    rows = [
        candidate("ex_right", pinned[0], '{"queue":"parcel"}'),
        candidate("ex_wrong", pinned[1], '{"queue":"billing"}'),
        candidate("ex_other", golden("Another", said("x")), '{"queue":"billing"}'),
    ]
    assert disagreeing(pinned, rows) == ["ex_wrong"]
