"""What the scripted provider answers, apart from any family's shape: pure and deterministic."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b, shake_256
from typing import Any

from proxy.provider_script import Script
from proxy.ticket_teacher import teacher_answer
from proxy.tickets import task_of

_PIECE = re.compile(r"\s*\w{1,6}|\s*[^\w\s]{1,3}|\s+")
_ECHO_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the request offers; `schema` is the JSON schema of its arguments."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """A request in one form for both families.

    `tool_choice` is auto, none, any or the name of a tool; `tool_result` is the text of the tool results that the conversation
    ends with. Token counts are our own estimate, as all counts of this provider.
    """

    model: str
    system: str
    user_text: str
    tool_result: str | None
    tools: tuple[Tool, ...]
    tool_choice: str
    max_tokens: int | None
    is_stream: bool
    wants_usage: bool
    choices: int
    tokens_in: int


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One use of a tool: `arguments` is JSON text."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Answer:
    """`pieces` joined are the text; `finish` is stop, length, refusal or tools."""

    pieces: tuple[str, ...]
    tool_uses: tuple[ToolUse, ...]
    finish: str
    tokens_out: int

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)


def pieces_of(text: str) -> list[str]:
    """`text` cut as a tokenizer might cut it; joined, the pieces are `text`."""
    return _PIECE.findall(text)


def count_tokens(text: str) -> int:
    """About as many tokens as a real tokenizer finds."""
    return len(pieces_of(text))


def answer(ask: Ask, script: Script, nonce: str, error_share: float) -> Answer:
    """The answer to `ask`: a tool use where one is asked for, the teacher's answer to a ticket, an echo to anything else.

    A text longer than `ask.max_tokens` is cut there and finishes with `length`, unless the script gave the text or its size.
    """
    uses = _tool_uses(ask, script)
    text = script.text if script.text is not None else _text(ask, uses, nonce, error_share)
    if script.body_bytes:
        missing = script.body_bytes - len(text.encode())
        text += ("wort für wort " * (missing // 15 + 1)).encode()[: max(0, missing)].decode(errors="ignore")
    pieces = pieces_of(text)
    finish = "tools" if uses else "stop"
    is_scripted = script.text is not None or script.body_bytes > 0
    if ask.max_tokens is not None and len(pieces) > ask.max_tokens and not is_scripted:
        pieces, uses, finish = pieces[: ask.max_tokens], (), "length"
    tokens_out = len(pieces) + sum(count_tokens(use.name + use.arguments) for use in uses)
    return Answer(tuple(pieces), uses, script.finish or finish, tokens_out)


def _text(ask: Ask, uses: Sequence[ToolUse], nonce: str, error_share: float) -> str:
    if uses:
        return "I look that up."
    if ask.tool_result is not None:
        return f"The tool says: {ask.tool_result[:_ECHO_CHARACTERS]}"
    task = task_of(ask.system)
    if task is not None:
        return teacher_answer(ask.user_text, task.name, nonce, error_share)
    return f"You wrote: {ask.user_text[:_ECHO_CHARACTERS]}"


def _tool_uses(ask: Ask, script: Script) -> tuple[ToolUse, ...]:
    """Every tool that the choice demands, else every tool that the last message of the user names, in its order there."""
    if not ask.tools or ask.tool_choice == "none":
        return ()
    prompt = ask.user_text.lower()
    named = {tool.name: _first_mention(tool.name, prompt) for tool in ask.tools}
    chosen = sorted((tool for tool in ask.tools if named[tool.name] >= 0), key=lambda tool: named[tool.name])
    if ask.tool_choice not in ("auto", "any"):
        chosen = [tool for tool in ask.tools if tool.name == ask.tool_choice]
    elif ask.tool_result is not None and not script.tools:
        return ()
    elif not chosen and (ask.tool_choice == "any" or script.tools):
        chosen = list(ask.tools[:1])
    return tuple(ToolUse(tool.name, json.dumps(_example(tool.schema, ask.user_text), ensure_ascii=False)) for tool in chosen)


def _first_mention(name: str, prompt: str) -> int:
    places = [prompt.find(form) for form in (name.lower(), name.lower().replace("_", " "))]
    return min((place for place in places if place >= 0), default=-1)


def _example(schema: Mapping[str, Any], prompt: str, name: str = "") -> Any:
    """A value that fits the JSON `schema`, taken from `prompt` where it can be."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        options = schema["enum"]
        mentioned = [option for option in options if str(option).lower() in prompt.lower()]
        return (mentioned or options)[0]
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object" or "properties" in schema:
        return {key: _example(each, prompt, key) for key, each in schema.get("properties", {}).items()}
    if kind == "array":
        return [_example(schema.get("items", {}), prompt, name)]
    if kind in ("integer", "number"):
        numbers = re.findall(r"\d+", prompt)
        return int(numbers[0]) if numbers else 1
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    words = re.findall(r"(?<=[\w,:] )[^\W\d_a-z]\w+", prompt) or re.findall(r"\w{4,}", prompt) or [name or "text"]
    return words[-1]


def request_hash(ask: Ask) -> bytes:
    """Equal for requests that ask the same, whatever their model and form."""
    return blake2b(f"{ask.system}\x1f{ask.user_text}\x1f{ask.tool_result}".encode(), digest_size=8).digest()


def embed(text: str, dimensions: int) -> list[float]:
    """A unit vector for `text`, made of one fixed vector per word: texts that share words are near each other."""
    total = [0.0] * dimensions
    for word in re.findall(r"\w+|[^\w\s]", text.lower()) or [""]:
        for at, byte in enumerate(shake_256(word.encode()).digest(dimensions)):
            total[at] += byte - 127.5
    norm = sum(each * each for each in total) ** 0.5
    return list(struct.unpack(f"<{dimensions}f", struct.pack(f"<{dimensions}f", *(each / norm for each in total))))
