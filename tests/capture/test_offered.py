"""What requests of three protocols offer: tools and schemas, in one form."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.offered import NOTHING, Tool, read_offered, tool_as_openai, tool_from_openai

SCHEMA = {"type": "object", "properties": {"to": {"type": "string"}}}
WORDS = '{"properties":{"to":{"type":"string"}},"type":"object"}'
BOOK = Tool("book", "Books.", WORDS)


@pytest.mark.parametrize(
    "body",
    [
        {"tools": [{"type": "function", "function": {"name": "book", "description": "Books.", "parameters": SCHEMA}}]},
        {"functions": [{"name": "book", "description": "Books.", "parameters": SCHEMA}]},
        {"tools": [{"type": "function", "name": "book", "description": "Books.", "parameters": SCHEMA}]},
        {"tools": [{"name": "book", "description": "Books.", "input_schema": dict(reversed(SCHEMA.items()))}]},
    ],
    ids=["openai", "legacy functions", "responses", "anthropic"],
)
def test_the_same_tool_is_the_same_in_every_protocol(body: dict[str, Any]) -> None:
    assert read_offered(json.dumps(body).encode()).tools == (BOOK,)


@pytest.mark.parametrize(
    "body",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}},
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    ],
    ids=["openai", "responses", "anthropic"],
)
def test_the_schema_of_the_answer_is_found(body: dict[str, Any]) -> None:
    assert read_offered(json.dumps(body).encode()).answer_schema == WORDS


def test_json_without_a_schema_and_built_in_tools_are_seen_in_an_encoded_body() -> None:
    body = {"response_format": {"type": "json_object"}, "tools": [{"type": "web_search"}]}
    found = read_offered(gzip.compress(json.dumps(body).encode()), "gzip")
    assert (found.wants_json, found.answer_schema, found.tools) == (True, "", (Tool("web_search"),))


def test_a_tool_comes_back_from_the_form_it_is_written_in() -> None:
    assert tool_from_openai(tool_as_openai(BOOK)) == BOOK
    assert tool_from_openai(tool_as_openai(Tool("ping"))) == Tool("ping")


@given(st.binary(max_size=40) | st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(("tools", "functions", "text", "format", "response_format", "schema", "name", "parameters")), inner,
)).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_body_gives_tools_with_names_or_nothing(body: bytes) -> None:
    found = read_offered(body)
    assert all(tool.name for tool in found.tools)
    assert found == NOTHING or body.strip()
