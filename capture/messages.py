"""Messages of an exchange as pure values, in one canonical chat form for every provider."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model asked for; `arguments` is the JSON text as it was sent."""

    name: str
    arguments: str
    id: str = ""
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: `role` is system, user, assistant or tool; `text` joins its text parts with newlines.

    `other_parts` names parts that are not text (image, audio, document), in order.
    """

    role: str
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    other_parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider reported them; `source` is reported or missing. A provider's 0 is 0."""

    tokens_in: int | None
    tokens_out: int | None
    source: str
