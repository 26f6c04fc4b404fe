"""Writes a stream of chat chunks down as Anthropic's events. Pure: chunks in, bytes out.

Blocks come one after another, each started, filled and stopped, whatever order the provider's pieces come in: fragments of
a second tool call wait until the first is complete, so that no two calls ever run into each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

THINKING, TEXT, TOOL = "thinking", "text", "tool_use"
_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


@dataclass(slots=True)
class _Call:
    """A tool call as far as it is known: `told` of its `arguments` have been written."""

    id: str
    name: str
    arguments: str = ""
    told: int = 0

    @property
    def is_complete(self) -> bool:
        """True when the arguments are JSON already."""
        try:
            msgspec.json.decode(self.arguments)
        except msgspec.DecodeError:
            return False
        return True


@dataclass(slots=True)
class MessagesStream:
    """One answer. `names` gives tools back the names that the provider could not take."""

    message_id: str
    model: str
    names: Mapping[str, str] = field(default_factory=dict)
    _out: list[bytes] = field(default_factory=list)
    _number: int = -1
    _open: str = ""
    _thought: str = ""
    _calls: dict[int, _Call] = field(default_factory=dict)
    _live: _Call | None = None
    _waiting: list[_Call] = field(default_factory=list)
    _stop_reason: str = ""
    _usage: dict[str, int] = field(default_factory=lambda: {"input_tokens": 0, "output_tokens": 0})
    _is_begun: bool = False

    def feed(self, chunk: Mapping[str, Any]) -> bytes:
        """The events that this chunk makes; may be none."""
        self._begin()
        for choice in chunk.get("choices") or ():
            self._delta(choice.get("delta") or {})
            self._stop_reason = _STOP_REASONS.get(choice.get("finish_reason") or "", self._stop_reason)
        if chunk.get("usage"):
            self._usage = _usage(chunk["usage"])
        return self._taken()

    def end(self) -> bytes:
        """The events that close the answer."""
        self._begin()
        self._close()
        delta = {"stop_reason": self._stop_reason or "end_turn", "stop_sequence": None}
        self._event("message_delta", {"delta": delta, "usage": self._usage})
        self._event("message_stop", {})
        return self._taken()

    def _begin(self) -> None:
        if self._is_begun:
            return
        self._is_begun = True
        message: dict[str, Any] = {"id": self.message_id, "type": "message", "role": "assistant", "content": []}
        message |= {"model": self.model, "stop_reason": None, "stop_sequence": None, "usage": dict(self._usage)}
        self._event("message_start", {"message": message})

    def _delta(self, delta: Mapping[str, Any]) -> None:
        blocks = [block for block in delta.get("thinking_blocks") or () if isinstance(block, Mapping)]
        for block in blocks:
            self._think(block)
        if not blocks and delta.get("reasoning_content"):
            self._think({"thinking": delta["reasoning_content"]})
        for text in (delta.get("content"), delta.get("refusal")):
            if text:
                self._start(TEXT, {"type": "text", "text": ""})
                self._fill({"type": "text_delta", "text": text})
        for call in delta.get("tool_calls") or ():
            self._call(call)

    def _think(self, block: Mapping[str, Any]) -> None:
        if block.get("type") == "redacted_thinking":
            self._close()
            self._start("redacted_thinking", {"type": "redacted_thinking", "data": block.get("data", "")})
            self._close()
            return
        text, signature = block.get("thinking") or "", block.get("signature") or ""
        if not text and not signature:
            return
        self._start(THINKING, {"type": "thinking", "thinking": "", "signature": ""})
        if text and not (signature and text == self._thought):  # some say it all again when they sign it
            self._thought += text
            self._fill({"type": "thinking_delta", "thinking": text})
        if signature:
            self._fill({"type": "signature_delta", "signature": signature})

    def _call(self, fragment: Mapping[str, Any]) -> None:
        index, function = fragment.get("index") or 0, fragment.get("function") or {}
        known, given = self._calls.get(index), fragment.get("id") or ""
        if known is None or (given and given != known.id):
            name = function.get("name") or ""
            known = _Call(given or f"toolu_{self.message_id}_{len(self._calls)}", self.names.get(name, name))
            self._calls[index] = known
            self._waiting.append(known)
        known.arguments += function.get("arguments") or ""
        self._tell_calls(is_last=False)

    def _tell_calls(self, *, is_last: bool) -> None:
        """Writes what may be written of the calls: all of the live one, and the next when it is complete or nothing follows."""
        while True:
            if self._live is None:
                if not self._waiting:
                    return
                self._live = self._waiting.pop(0)
                self._start(TOOL, {"type": "tool_use", "id": self._live.id, "name": self._live.name, "input": {}})
            live = self._live
            if live.told < len(live.arguments):
                self._fill({"type": "input_json_delta", "partial_json": live.arguments[live.told :]})
                live.told = len(live.arguments)
            if not is_last and not (self._waiting and live.is_complete):
                return
            self._stop_block()
            self._live = None

    def _start(self, kind: str, block: Mapping[str, Any]) -> None:
        if self._open == kind and kind != TOOL:
            return
        if kind != TOOL:
            self._close()
        elif self._open:
            self._stop_block()
        self._number += 1
        self._open = kind
        self._thought = ""
        self._event("content_block_start", {"index": self._number, "content_block": block})

    def _fill(self, delta: Mapping[str, Any]) -> None:
        self._event("content_block_delta", {"index": self._number, "delta": delta})

    def _close(self) -> None:
        """Stops what is open; of tool calls, all that are known."""
        if self._live is not None or self._waiting:
            self._tell_calls(is_last=True)
        if self._open:
            self._stop_block()

    def _stop_block(self) -> None:
        self._event("content_block_stop", {"index": self._number})
        self._open = ""

    def _event(self, kind: str, data: Mapping[str, Any]) -> None:
        self._out.append(b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode({"type": kind, **data}) + b"\n\n")

    def _taken(self) -> bytes:
        taken = b"".join(self._out)
        self._out.clear()
        return taken


def _usage(found: Mapping[str, Any]) -> dict[str, int]:
    """Anthropic counts what was read from a cache, or written to one, apart from the other tokens of the prompt."""
    details = found.get("prompt_tokens_details") or {}
    read = int(details.get("cached_tokens") or found.get("cache_read_input_tokens") or 0)
    written = int(found.get("cache_creation_input_tokens") or 0)
    usage = {
        "input_tokens": max(0, int(found.get("prompt_tokens") or 0) - read - written),
        "output_tokens": int(found.get("completion_tokens") or 0),
    }
    if read or written:
        usage |= {"cache_creation_input_tokens": written, "cache_read_input_tokens": read}
    return usage
