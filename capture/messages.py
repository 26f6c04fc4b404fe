"""Messages of an exchange as pure values, in one canonical chat form for every provider."""

from __future__ import annotations

from dataclasses import dataclass

REPORTED, ESTIMATED, MISSING = "reported", "estimated", "missing"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model asked for; `arguments` is the JSON text as it was sent, free text for a custom tool.

    `is_complete` is False when the arguments break off.
    """

    name: str
    arguments: str
    id: str = ""
    is_complete: bool = True
    is_custom: bool = False


@dataclass(frozen=True, slots=True)
class Media:
    """Where a part that is not text can be had: `kind` is image, audio, document or video.

    `reference` is its URL as sent, `file:` and the provider's file id, or for inline data the content hash of the
    decoded bytes, which is the same in every protocol.
    """

    kind: str
    reference: str
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: `role` is system, user, assistant or tool; `text` joins its text parts with newlines.

    `other_parts` names parts that are not text (image, audio, document, refusal), in order; `media` says where those can be
    had that are referred to or came inline. `reasoning` is what a model thought before it spoke, and no part of what it
    said. `refusal` holds the words of a refusal, which are the `text` too when nothing else was said. `tool_call_id` says
    which call a tool message answers.
    """

    role: str
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    other_parts: tuple[str, ...] = ()
    reasoning: str = ""
    refusal: str = ""
    media: tuple[Media, ...] = ()
    tool_call_id: str = ""

    @property
    def said(self) -> str:
        """The text, and each tool call on a line of its own with its arguments; ids of calls do not count."""
        return "\n".join([self.text, *(f"{call.name} {call.arguments}" for call in self.tool_calls)])


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of an exchange. `source` is reported (by the provider), estimated or missing. A provider's 0 is 0.

    `tokens_cached` and `tokens_cache_written` are parts of `tokens_in`, `tokens_reasoning` is a part of `tokens_out`.
    """

    tokens_in: int | None
    tokens_out: int | None
    source: str
    tokens_cached: int = 0
    tokens_cache_written: int = 0
    tokens_reasoning: int = 0
