from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.cleaning.schemas import breaks

PLACE = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["c", "f"]}, "days": {"type": "integer", "maximum": 9}},
    "required": ["city"],
    "additionalProperties": False,
}
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
words = st.sampled_from(
    ["type", "enum", "const", "items", "properties", "required", "anyOf", "not", "$ref", "uniqueItems", "$id"]
)


@pytest.mark.parametrize(
    ("value", "is_broken"),
    [
        ({"city": "Rome"}, False),
        ({"city": "Rome", "unit": "c", "days": 9}, False),
        ({}, True),
        ({"city": 5}, True),
        ({"city": "Rome", "unit": "kelvin"}, True),
        ({"city": "Rome", "days": 10}, True),
        ({"city": "Rome", "planet": "Mars"}, True),
        ([], True),
    ],
)
def test_a_value_follows_its_schema_or_breaks_it(value: object, is_broken: bool) -> None:
    assert breaks(json.dumps(PLACE), value) is is_broken


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strng"},
        {"type": "STRING"},
        {"required": "city"},
        {"$ref": "https://schemas.example/place.json"},
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"type": "string", "pattern": "("},
        {"patternProperties": {"(a+)+$": False}},
        {"enum": 5},
    ],
)
def test_a_schema_that_is_broken_or_cannot_be_judged_condemns_nothing(schema: object) -> None:
    assert not breaks(json.dumps(schema), {"a": 1})


def test_a_schema_that_is_no_json_condemns_nothing() -> None:
    assert not breaks("{", 1)
    assert not breaks('{"properties":{"a":' * 3_000 + "{}" + "}}" * 3_000, {"a": 1})


def test_schemas_of_older_drafts_and_of_openapi_are_read_as_they_are_meant() -> None:
    old = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "items": [{"$ref": "#/definitions/n"}],
        "definitions": {"n": {"type": "number"}},
    }
    assert breaks(json.dumps(old), ["no"])
    assert not breaks(json.dumps(old), [1, "yes"])
    assert not breaks(json.dumps({"type": "string", "nullable": True}), None)
    assert breaks(json.dumps({"type": "string"}), None)
    assert breaks(json.dumps({"uniqueItems": True}), [{"a": 1, "b": 2}, {"b": 2, "a": 1}])


def hostile() -> list[tuple[str, dict[str, Any], object]]:
    doubling = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n - 1}"}] * 2} for n in range(1, 40)}
    return [
        ("an expression that backtracks", {"pattern": "(a+)+$"}, "a" * 60 + "b"),
        ("references that double", {"$defs": {"d0": {}, **doubling}, "$ref": "#/$defs/d39"}, "x"),
        ("many different objects", {"uniqueItems": True}, [{"a": n} for n in range(2_000)]),
    ]


@pytest.mark.parametrize(("what", "schema", "value"), hostile())
def test_a_hostile_schema_takes_no_longer_than_others(what: str, schema: dict[str, Any], value: object) -> None:
    start = time.process_time()
    assert not breaks(json.dumps(schema), value)
    assert time.process_time() - start < 5, what


@pytest.fixture
def restless_threads() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless_threads")
def test_an_answer_breaks_its_schema_however_many_threads_judge_others_by_the_same() -> None:
    schema = json.dumps({"type": "array", "items": {"type": "integer"}})
    long = [*range(7_000), "seven thousand"]
    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(lambda _: breaks(schema, long), range(20)))


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(words, values | st.dictionaries(words, values, max_size=3), max_size=4), values)
def test_any_schema_gives_a_verdict_on_any_value(schema: dict[str, Any], value: object) -> None:
    assert breaks(json.dumps(schema), value) in (True, False)
