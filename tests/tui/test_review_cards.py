from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from capture.messages import Message, ToolCall
from capture.offered import Tool
from curate.reviewing.look_alikes import Side
from curate.reviewing.review import ReviewCard
from tui.screens.review_cards import call_words, output_blocks, prompt_blocks, where_line, words

LONG = {"from": "Berlin", "to": "Tokyo", "passengers": [{"name": "Zoë", "age": 7}], "note": "a window seat, please"}


def card(**fields: object) -> ReviewCard:
    return ReviewCard("ex_1", "mail", (Message("user", "?"),), "billing", "train", "", "", 0, **fields)  # type: ignore[arg-type]


def test_a_short_call_stays_on_its_line_and_a_long_one_gets_a_line_per_argument() -> None:
    assert call_words(ToolCall("look", '{"id": 7}')) == '-> look({"id": 7})'
    assert call_words(ToolCall("book", json.dumps(LONG, ensure_ascii=False))).split("\n") == [
        "-> book",
        '   from: "Berlin"',
        '   to: "Tokyo"',
        '   passengers: [{"name": "Zoë", "age": 7}]',
        '   note: "a window seat, please"',
    ]


def test_an_argument_that_comes_twice_is_shown_twice() -> None:
    arguments = '{"amount": 10, "filler": "' + "x" * 60 + '", "amount": 9999}'
    assert call_words(ToolCall("pay", arguments)).count("amount") == 2


@given(st.text(max_size=200) | st.dictionaries(st.text(max_size=9), st.text(max_size=40), max_size=5).map(json.dumps))
def test_no_arguments_break_a_card_and_the_name_comes_first(arguments: str) -> None:
    assert call_words(ToolCall("look", arguments)).startswith("-> look")


def test_deeply_nested_and_very_long_arguments_stay_as_they_are() -> None:
    for arguments in ('{"a": ' + "[" * 5_000 + "]" * 5_000 + "}", '{"a": "' + "x" * 30_000 + '"}'):
        assert call_words(ToolCall("look", arguments)) == f"-> look({arguments})"


def test_a_prompt_shows_calls_results_and_the_tools_on_offer() -> None:
    tools = (Tool("look", "Looks something up.", '{"type": "object"}'), Tool("book"))
    messages = (Message("assistant", "One moment.", (ToolCall("look", "{}"),)), Message("tool", "found", tool_call_id="call_1"))
    assert prompt_blocks(messages, tools, is_whole=False) == [
        ("assistant", "One moment.\n-> look({})"), ("tool", "found"), ("tools", "look, book"),
    ]  # fmt: skip
    assert prompt_blocks(messages, tools, is_whole=True)[2:] == [
        ("tool on", 'look  Looks something up.\n{"type": "object"}'), ("tool on", "book"),
    ]  # fmt: skip


def test_a_hundred_tools_are_cut_with_their_number() -> None:
    tools = tuple(Tool(f"tool_number_{number}") for number in range(100))
    ((_, shown),) = prompt_blocks((), tools, is_whole=False)
    assert len(shown) < 250
    assert "(100, [z] shows them)" in shown


def test_the_target_line_says_whose_it_is_how_many_it_stands_for_and_what_looks_alike() -> None:
    assert where_line(card()) == "target, in split train"
    assert where_line(card(target_source="edit", stands_for=1_200, alike=3)) == (
        "target (edited), in split train, stands for 1,200, 3 look alike [b]"
    )
    assert where_line(card(alike=1)).endswith("1 looks alike [b]")


def test_the_sides_of_a_contradiction_stand_below_the_target_with_their_counts() -> None:
    sides = tuple(Side(f"ex_{number}", f"answer {number}", (), 9) for number in range(25))
    blocks = output_blocks(card(sides=sides))
    assert blocks[:2] == [("target", "billing"), ("also 9x", "answer 0")]
    assert blocks[-1] == ("", "and 5 more answers")
    assert output_blocks(card()) == [("", "billing")]


def test_a_side_that_only_calls_a_tool_shows_the_call() -> None:
    side = Side("ex_2", "", (ToolCall("look", "{}"),), 2)
    assert output_blocks(card(sides=(side,)))[1] == ("also 2x", words(Message("assistant", "", side.calls)))
