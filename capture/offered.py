"""What a request offers beside its messages: the tools that a model may call, and the schema that its answer must follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from capture.encoding import decode
from capture.loose_json import as_list, as_object, as_text, compact, parse


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; `parameters` is its JSON schema as canonical JSON text, '' when it has none."""

    name: str
    description: str = ""
    parameters: str = ""


@dataclass(frozen=True, slots=True)
class Offered:
    """Tools in their order; `answer_schema` is JSON text, '' for a free answer. `wants_json`: any JSON, without a schema."""

    tools: tuple[Tool, ...] = ()
    answer_schema: str = ""
    wants_json: bool = False


NOTHING = Offered()


def read_offered(request_body: bytes, content_encoding: str = "") -> Offered:
    """What a request of OpenAI Chat, OpenAI Responses or Anthropic Messages offers; nothing where the body cannot be read.

    Built-in tools of a provider (web search and the like) have no schema and are named by their type.
    """
    try:
        request = as_object(parse(decode(request_body, content_encoding).data))
    except ValueError:
        return NOTHING
    given = [*as_list(request.get("tools")), *as_list(request.get("functions"))]
    form = as_object(request.get("response_format")) or as_object(as_object(request.get("text")).get("format"))
    form = form or as_object(as_object(request.get("output_config")).get("format")) or as_object(request.get("output_format"))
    schema = as_object(as_object(form.get("json_schema")).get("schema")) or as_object(form.get("schema"))
    tools = tuple(tool for tool in map(_tool, map(as_object, given)) if tool.name)
    return Offered(tools, _canonical(schema) if schema else "", as_text(form.get("type")) == "json_object")


def tool_as_openai(tool: Tool) -> dict[str, Any]:
    """`tool` in the form of OpenAI Chat, as trainers read it too."""
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters:
        function["parameters"] = parse(tool.parameters.encode())
    return {"type": "function", "function": function}


def tool_from_openai(given: Mapping[str, Any]) -> Tool:
    """The tool that `tool_as_openai` wrote."""
    return _tool(as_object(given))


def _tool(given: Mapping[str, Any]) -> Tool:
    function = as_object(given.get("function")) or as_object(given.get("custom")) or given
    schema = function.get("parameters", function.get("input_schema"))
    name = as_text(function.get("name")) or as_text(given.get("type"))
    return Tool(name, as_text(function.get("description")), _canonical(schema) if isinstance(schema, dict) else "")


def _canonical(schema: object) -> str:
    return compact(_sorted(schema))


def _sorted(value: object) -> object:
    """Keys in order, so that the same schema from two clients is the same text; the order of lists is theirs."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(each) for each in value] if isinstance(value, list) else value
