"""Demonstrations: answers as they should have been, from the shapes in which apps write them to one canonical message."""

from __future__ import annotations

from typing import Any, NoReturn

from capture.errors import FeedbackError
from capture.loose_json import compact, parse, whole
from capture.messages import Message, ToolCall


def make_demonstration(value: object) -> Message:
    """The answer in `value`: a text, a message with content and tool_calls, or a list of content blocks; FeedbackError."""
    message: dict[str, Any] = value if isinstance(value, dict) else {"content": value}
    kept = {key: item for key, item in message.items() if item is not None and item != []}  # as SDKs dump messages
    if unknown := [key for key in kept if key not in ("role", "content", "tool_calls", "refusal")]:
        refuse(
            f"The demonstration has a field {whole(unknown[0])[:100]!r}.",
            "Give a text, or a message with content and tool_calls; write an answer that is JSON as a text.",
        )
    if kept.get("role", "assistant") != "assistant":
        refuse("The demonstration is not an assistant's message.", "Give the answer as it should have been.")
    text, blocks = _content(kept.get("content", ""))
    calls = kept.get("tool_calls", [])
    if not isinstance(calls, list):
        refuse("tool_calls is not a list.", "Give a list of calls.")
    if not text and isinstance(refusal := kept.get("refusal"), str):
        text = refusal
    found = Message("assistant", whole(text), tuple(_call(call) for call in (*blocks, *calls)))
    if not found.text.strip() and not found.tool_calls:
        refuse("The demonstration is empty.", "Give the answer as it should have been.")
    return found


def read_message(text: str) -> Message:
    """The answer that a demonstration's `text` holds; ValueError when it holds none."""
    body = parse(text.encode("utf-8", "replace"))
    try:
        calls = [(call["function"]["name"], call["function"]["arguments"], call["id"]) for call in body.get("tool_calls", ())]
        said = body["content"]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("not a demonstration") from error
    if not isinstance(said, str) or not all(isinstance(part, str) for call in calls for part in call):
        raise ValueError("not a demonstration")
    return Message("assistant", said, tuple(ToolCall(*call) for call in calls))


def write_message(message: Message) -> str:
    """`message` as the text of a demonstration: an assistant's message in OpenAI's form, as JSON."""
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in message.tool_calls
    ]
    return compact({"role": "assistant", "content": message.text, **({"tool_calls": calls} if calls else {})})


def refuse(what: str, next_step: str) -> NoReturn:
    """Raises FeedbackError."""
    raise FeedbackError(what, next_step)


def _content(content: object) -> tuple[str, list[object]]:
    """The text of a content, and the blocks of it that call tools."""
    if isinstance(content, str):
        return content, []
    texts: list[str] = []
    calls: list[object] = []
    for given in content if isinstance(content, list) else [content]:
        block: dict[str, Any] = given if isinstance(given, dict) else {}
        kind = block.get("type")
        if kind in ("text", "output_text") and isinstance(block.get("text"), str):
            texts.append(block["text"])
        elif kind in ("tool_use", "tool_call"):
            calls.append(block)
        else:
            refuse("The demonstration's content has a part that is neither text nor a call of a tool.", "Leave it out.")
    return "\n".join(texts), calls


def _call(call: object) -> ToolCall:
    """A call as OpenAI, Anthropic or TensorZero write it; the arguments must be a JSON object."""
    outer: dict[str, Any] = call if isinstance(call, dict) else {}
    inner = outer["function"] if isinstance(outer.get("function"), dict) else outer
    name, id = inner.get("name"), outer.get("id") or ""
    arguments = inner.get("arguments", inner.get("input"))
    if not isinstance(name, str) or not name or not isinstance(id, str):
        refuse("A call of a tool in the demonstration has no name.", 'Give {"function": {"name": ..., "arguments": ...}}.')
    text = arguments if isinstance(arguments, str) else compact_json(arguments, "arguments")
    try:
        is_object = isinstance(parse(text.encode("utf-8", "replace")), dict)
    except ValueError:
        is_object = False
    if not is_object:
        refuse(f"The arguments of {whole(name)[:100]!r} in the demonstration are not a JSON object.", "Mend them.")
    return ToolCall(whole(name), whole(text), whole(id))


def compact_json(value: object, what: str) -> str:
    """`value` as JSON; FeedbackError, naming `what`, when it is nested too deep."""
    try:
        return compact(value)
    except RecursionError:
        refuse(f"{what} is nested too deep.", "Flatten it.")
