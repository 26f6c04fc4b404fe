"""Rows of others: every format is recognised by its shape, and what teaches nothing says why."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.imports.imported import LineError
from curate.formats.reading import FORMATS, PARQUET, detect, read_row, split_name
from tests.curate.formats.making import json_values, read, refused

USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
SHAPES: dict[str, list[dict[str, Any]]] = {
    "openai": [{"messages": [USER, ANSWER]}],
    "openai-preference": [
        {"input": {"messages": [USER]}, "preferred_output": [ANSWER], "non_preferred_output": [{**ANSWER, "content": "No"}]}
    ],
    "trl": [
        {"prompt": [USER], "completion": [ANSWER]},
        {"prompt": "Hi", "completion": "Hello"},
        {"prompt": [USER], "chosen": [ANSWER], "rejected": [{**ANSWER, "content": "No"}]},
        {"chosen": [USER, ANSWER], "rejected": [USER, {**ANSWER, "content": "No"}]},
    ],
    "sharegpt": [{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}],
    "alpaca": [{"instruction": "Hi", "input": "", "output": "Hello"}],
    "csv": [{"text": "Hi", "category": "Hello"}, {"question": "Hi", "answer": "Hello"}, {"0": "Hi", "1": "Hello"}],
    "argilla": [{"fields": {"text": "Hi"}, "suggestions": {"label": {"value": "Hello"}}}],
    "trajectories": [{"traj": [USER, ANSWER], "reward": 1.0, "task_id": 3, "trial": 0}],
}


@pytest.mark.parametrize(("format", "record"), [(format, record) for format, rows in SHAPES.items() for record in rows])
def test_a_row_is_recognised_and_teaches_its_answer(format: str, record: dict[str, Any]) -> None:
    assert detect(record) == format
    (taught,) = read(format, record).taught
    assert [turn["content"] for turn in taught.asked] == ["Hi"] and taught.answer["content"] == "Hello"


def test_what_nobody_knows_is_not_recognised() -> None:
    assert detect({"a": 1, "b": 2}) == "" and detect({}) == ""


@given(
    st.sampled_from([name for name in FORMATS if name != PARQUET]), st.dictionaries(st.text(max_size=3), json_values, max_size=3)
)
def test_any_row_teaches_something_or_says_why_not(format: str, record: dict[str, Any]) -> None:
    for shape in [{}, *SHAPES.get(format, ())]:
        damaged = {**shape, **{key: next(iter(record.values()), None) for key in list(shape)[:1]}, **record}
        try:
            assert read_row(format, damaged, {}).taught
        except LineError as error:
            assert error.reason


def test_each_answer_of_a_conversation_is_learnt_unless_its_weight_is_0() -> None:
    turns = [USER, ANSWER, USER, {**ANSWER, "content": "2", "weight": 0}, USER, {**ANSWER, "content": "3", "weight": 1}]
    row = read("openai", {"messages": turns, "parallel_tool_calls": False})
    assert [(len(taught.asked), taught.answer["content"]) for taught in row.taught] == [(1, "Hello"), (5, "3")]
    assert row.parallel_tool_calls is False
    assert not any("weight" in turn for taught in row.taught for turn in (*taught.asked, taught.answer))
    assert (
        refused("openai", {"messages": [USER, {**ANSWER, "weight": 0}]}) == "has no answer of the assistant that is to be learnt"
    )


@pytest.mark.parametrize(
    ("format", "record", "reason"),
    [
        ("openai", {"messages": "nonsense"}, "has no answer of the assistant"),
        ("openai", {"messages": [USER, {"role": "assistant"}]}, "no message with role and content"),
        ("openai", {"messages": [{"role": "wizard", "content": "x"}, ANSWER]}, "a message of role 'wizard'"),
        ("openai", {"messages": [{"role": "user", "content": 7}, ANSWER]}, "neither text nor a list of parts"),
        ("openai", {"messages": [USER, ANSWER], "tools": ["x"]}, "its tools are not a list of objects"),
        ("openai", {"messages": [USER, {**ANSWER, "tool_calls": [{}]}]}, "a call of a tool without a name"),
        ("trl", {"prompt": [], "completion": "x"}, "has no prompt"),
        ("trl", {"prompt": "x", "chosen": "y", "rejected": "y"}, "its two answers are the same"),
        ("trl", {"chosen": [USER], "rejected": [ANSWER]}, "neither a prompt nor two conversations"),
        ("trl", {"prompt": "x", "chosen": [ANSWER, USER], "rejected": "y"}, "its chosen answer has 2 turns"),
        ("sharegpt", {"conversations": [{"from": "cat", "value": "x"}]}, "a turn from 'cat'"),
        ("sharegpt", {"conversations": [{"from": "human"}]}, "a turn from human without text"),
        ("sharegpt", {"conversations": [{"from": "function_call", "value": "x"}]}, "a function_call that is not JSON"),
        ("alpaca", {"output": "x"}, "neither instruction nor input"),
        ("alpaca", {"instruction": "x", "output": 3}, "no text for the assistant"),
        ("csv", {"text": "x", "other": "y"}, "no column with the answer"),
        ("csv", {"text": "", "label": "y"}, "its question is empty"),
        ("csv", {"text": "x", "label": float("nan")}, "its answer is nan, which is no value"),
        ("csv", {"text": float("inf"), "label": "y"}, "its question is inf, which is no value"),
        ("argilla", {"fields": {"a": "x", "b": "y"}}, "neither messages_json, nor a chat, nor a single text"),
        ("argilla", {"fields": {"a": "x"}, "suggestions": {}}, "has 0 questions"),
        ("bfcl", {"id": "a", "question": [[USER]], "function": [], "ground_truth": 5}, "the calls that answer 'a' are not in"),
        ("bfcl", {"id": "a", "question": [[USER]], "function": []}, "the calls that answer 'a' are not in the files"),
    ],
)
def test_a_row_that_teaches_nothing_says_why(format: str, record: dict[str, Any], reason: str) -> None:
    assert reason in refused(format, record)


@pytest.mark.parametrize(("label", "taught"), [(1.0, "1"), (-3.0, "-3"), (0.5, "0.5"), (7, "7"), (1e300, "1e+300")])
def test_a_whole_number_is_taught_without_the_point_that_a_table_with_gaps_gave_it(label: float, taught: str) -> None:
    assert read("csv", {"text": "x", "label": label}).taught[0].answer["content"] == taught


def test_a_row_whose_answers_would_fill_the_store_is_refused_and_one_answer_of_it_is_not() -> None:
    talk = [turn for n in range(2_000) for turn in (USER, {"role": "assistant", "content": f"{n} " * 200})]
    record = {"messages": talk}
    reason = refused("openai", record)
    assert (
        reason.startswith("teaches 2000 answers which, each with all before it, are 1,784 MB; a row")
        and "may teach 67 MB" in reason
    )
    (taught,) = read("openai", {"messages": [{**turn, "weight": 0} for turn in talk[:-1]] + talk[-1:]}).taught
    assert len(taught.asked) == 3_999
    tool = {"type": "function", "function": {"name": "a", "description": "x" * 400_000}}
    assert "teaches 200 answers" in refused("openai", {"messages": [USER, ANSWER] * 200, "tools": [tool]})
    assert len(read("openai", {"messages": [USER, ANSWER] * 100, "tools": [tool]}).taught) == 100


def test_calls_of_sharegpt_are_answered_in_their_order() -> None:
    row = read(
        "sharegpt",
        {
            "system": "Be brief.",
            "conversations": [
                {"from": "human", "value": "Compare"},
                {"from": "gpt", "value": "I look."},
                {"from": "function_call", "value": '[{"name": "a", "arguments": {"x": 1}}, {"name": "b", "arguments": "{}"}]'},
                {"from": "observation", "value": "A"},
                {"from": "observation", "value": "B"},
                {"from": "gpt", "value": "Done"},
            ],
            "tools": '[{"name": "a", "description": "", "parameters": {}}]',
        },
    )
    first, last = row.taught
    assert [turn["role"] for turn in first.asked] == ["system", "user"]
    assert first.answer["content"] == "I look." and len(first.answer["tool_calls"]) == 2
    ids = [call["id"] for call in first.answer["tool_calls"]]
    assert [turn["tool_call_id"] for turn in last.asked[-2:]] == ids and len(set(ids)) == 2
    assert row.tools[0]["function"]["name"] == "a"


def test_a_person_goes_before_a_suggestion() -> None:
    record = {
        "fields": {"text": "Hi"},
        "suggestions": {"answer": {"value": "guessed", "score": None, "agent": "m"}},
        "responses": {"answer": [{"value": "meant", "user_id": "u"}]},
    }
    assert read("argilla", record).taught[0].answer["content"] == "meant"


def test_an_answer_that_was_corrected_in_a_spreadsheet_is_taken() -> None:
    record = {"input": "Hi", "answer": "'=right", "messages_json": '[{"role":"user","content":"Hi"}]', "tools_json": ""}
    (taught,) = read("csv", record).taught
    assert taught.answer == {"role": "assistant", "content": "=right"}


def test_a_row_says_its_split_its_terms_and_its_scores() -> None:
    row = read("openai", {"messages": [USER, ANSWER], "split": "validation", "reward": 1, "metadata": {"license": "CC-BY-4.0"}})
    assert (row.split, row.terms, row.scores) == ("val", "CC-BY-4.0", {"reward": 1.0})
    assert read("openai", {"messages": [USER, ANSWER], "score": True}).scores == {}


@pytest.mark.parametrize(
    ("text", "split"), [("oos_train", "train"), ("test-00000-of-00001", "test"), ("dev", "val"), ("fold 3", "fold 3"), ("", "")]
)
def test_names_of_splits_are_understood(text: str, split: str) -> None:
    assert split_name(text) == split


def test_gold_calls_of_bfcl_take_the_first_value_and_leave_out_what_may_be_missing() -> None:
    function = {
        "name": "spotify.play",
        "description": "Plays",
        "parameters": {
            "type": "dict",
            "properties": {
                "artist": {"type": "string"}, "loud": {"type": "float", "default": "dict"},
                "type": {"type": "tuple", "items": {"type": "any"}}, "speed": {"type": "integer"},
            },
            "required": ["artist", "speed"],
        },
    }  # fmt: skip
    record = {"id": "a", "question": [[USER]], "function": [function]}
    gold = [{"spotify.play": {"artist": ["Ada", "ADA"], "loud": ["", 0.5], "type": [[{"x": [1, 2]}]], "speed": ["", 3]}}]
    row = read_row("bfcl", record, {"a": gold})
    (call,) = row.taught[0].answer["tool_calls"]
    assert call["function"] == {"name": "spotify_play", "arguments": '{"artist":"Ada","type":[{"x":1}],"speed":3}'}
    schema = row.tools[0]["function"]["parameters"]
    assert schema["type"] == "object" and schema["properties"]["loud"] == {"type": "number", "default": "dict"}
    assert schema["properties"]["type"] == {"type": "array", "items": {"type": "string"}}
    with pytest.raises(LineError) as skipped:
        read_row("bfcl", {"id": "a", "ground_truth": gold}, {})
    assert not skipped.value.is_bad
