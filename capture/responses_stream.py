"""Collects the items of a streamed Responses answer from its events, as far as they came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from capture.answer import error_text
from capture.loose_json import as_count, as_list, as_object, as_text

ENDINGS = ("response.completed", "response.failed", "response.incomplete", "response.cancelled")
# The response of a failure told by whoever stands between, such as a relay whose upstream broke off; a provider's has more.
_BARE_FAILURE = {"status", "error"}
# Event without its step: the kind of its item, the item's list of parts, the kind of part, and the key of the part's text.
_PARTS = {
    "response.output_text": ("message", "content", "output_text", "text"),
    "response.refusal": ("message", "content", "refusal", "refusal"),
    "response.reasoning_text": ("reasoning", "content", "reasoning_text", "text"),
    "response.reasoning_summary_text": ("reasoning", "summary", "summary_text", "text"),
}
_ARGUMENTS = {
    "response.function_call_arguments": ("function_call", "arguments"),
    "response.custom_tool_call_input": ("custom_tool_call", "input"),
}


@dataclass(slots=True)
class _Part:
    kind: str
    key: str
    text: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Item:
    """An item as it was added, the deltas to it, and the whole of it once it is done."""

    start: Mapping[str, Any]
    done: Mapping[str, Any] | None = None
    parts: dict[tuple[str, int], _Part] = field(default_factory=dict)
    arguments: dict[str, list[str]] = field(default_factory=dict)

    def value(self) -> Mapping[str, Any]:
        if self.done is not None:
            return self.done
        said: dict[str, Any] = {}
        for (place, _), part in sorted(self.parts.items()):
            said.setdefault(place, []).append({"type": part.kind, part.key: "".join(part.text)})
        return {**self.start, **said, **{key: "".join(texts) for key, texts in self.arguments.items()}}


class Stream:
    """What the events read so far say.

    `response` is the provider's latest view of the whole, `is_ended` whether the last event was among them. Items are known
    by their id; by their place in the output where a delta's id is new, since some gateways make up ids event by event.
    """

    def __init__(self) -> None:
        self.response: Mapping[str, Any] = {}
        self.is_ended = False
        self.error = ""
        self._items: list[_Item] = []
        self._by_id: dict[str, _Item] = {}
        self._by_place: dict[int, _Item] = {}

    def items(self) -> list[Any]:
        """The output that the last event gave, else what came until then."""
        final = as_list(self.response.get("output"))
        return final if final and (self.is_ended or not self._items) else [item.value() for item in self._items]

    def read(self, kind: str, body: Mapping[str, Any]) -> None:
        """Takes in one event."""
        name, _, step = kind.rpartition(".")
        if name in _PARTS:
            self._read_part(_PARTS[name], step, body)
        elif kind == "response.failed" and as_object(body.get("response")).keys() <= _BARE_FAILURE:
            self.error = self.error or error_text(as_object(body.get("response")).get("error")) or "failed"
        elif isinstance(body.get("response"), dict):
            self.response = as_object(body["response"]) or self.response
            self.is_ended = self.is_ended or kind in ENDINGS
        elif kind == "response.output_item.added":
            self._add(body, as_object(body.get("item")))
        elif kind == "response.output_item.done":
            item = as_object(body.get("item"))
            self._find(body, item, as_text(item.get("type"))).done = item
        elif name in _ARGUMENTS:
            item_kind, key = _ARGUMENTS[name]
            texts = self._find(body, {}, item_kind).arguments
            _take(texts.setdefault(key, []), step, body, key)
        elif kind == "error" or body.get("error"):
            self.error = self.error or error_text(body.get("error")) or error_text(body) or "error"

    def _read_part(self, form: tuple[str, str, str, str], step: str, body: Mapping[str, Any]) -> None:
        item_kind, place, part_kind, key = form
        index = as_count(body.get("summary_index" if place == "summary" else "content_index")) or 0
        parts = self._find(body, {}, item_kind).parts
        part = parts.get((place, index))
        if part is None:
            part = parts[place, index] = _Part(part_kind, key)
        _take(part.text, step, body, key)

    def _find(self, body: Mapping[str, Any], item: Mapping[str, Any], kind: str) -> _Item:
        """The item that an event is about; a new one where no event has added it."""
        id = as_text(body.get("item_id")) or as_text(item.get("id"))
        place = as_count(body.get("output_index"))
        known = self._by_id.get(id) if id else None
        known = known or (self._by_place.get(place) if place is not None else self._last(kind) if not id else None)
        return known or self._add(body, item or {"type": kind, "id": id})

    def _last(self, kind: str) -> _Item | None:
        last = self._items[-1] if self._items else None
        return last if last is not None and last.done is None and last.start.get("type") == kind else None

    def _add(self, body: Mapping[str, Any], start: Mapping[str, Any]) -> _Item:
        item = _Item(start)
        self._items.append(item)
        place, id = as_count(body.get("output_index")), as_text(start.get("id"))
        if place is not None:
            self._by_place[place] = item
        if id:
            self._by_id[id] = item
        return item


def _take(texts: list[str], step: str, body: Mapping[str, Any], key: str) -> None:
    """A delta adds to the text, and the event that ends it has the whole."""
    if step == "delta":
        texts.append(as_text(body.get("delta")))
    elif step == "done" and isinstance(body.get(key), str):
        texts[:] = [body[key]]
