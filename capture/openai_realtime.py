"""OpenAI Realtime sessions, and Responses over a WebSocket, from their transcript: the conversation up to the last response.

What a session said is one chat: its items and earlier responses are the turns that were asked, the last response is the answer.
Usage is the sum over all responses. Both spellings of the events are read, that of the beta and that since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from capture import openai_responses
from capture.answer import NO_USAGE, Answer, error_text, usage_of
from capture.loose_json import as_count, as_list, as_object, as_text, compact, parse, whole
from capture.messages import REPORTED, Message, Usage
from capture.responses_stream import ENDINGS, Stream
from capture.transcript import CLIENT, CLOSE, SERVER, TEXT, Said, write_message

_DONE = "response.done"
# Steps of a response as the Responses API calls them; the beta of the Realtime API said "text" for "output_text".
_SPOKEN = {
    "response.text": "response.output_text",
    "response.audio_transcript": "response.output_text",
    "response.output_audio_transcript": "response.output_text",
}
_ECHOES = ("conversation.item.created", "conversation.item.added", "conversation.item.done", "conversation.item.retrieved")
_TRANSCRIBED = "conversation.item.input_audio_transcription"
_DELETED = "conversation.item.deleted"
_AUDIO = ("audio", "input_audio", "output_audio")


@dataclass(slots=True)
class _Item:
    """Something that the app, or the audio it sent, put into the conversation."""

    value: dict[str, Any]
    is_from_client: bool = False
    is_deleted: bool = False
    transcripts: dict[int, list[str]] = field(default_factory=dict)

    def said(self) -> Mapping[str, Any]:
        """The item with its audio as the words that it was heard as."""
        parts = as_list(self.value.get("content"))
        heard = {number: {"type": "input_audio", "transcript": "".join(texts)} for number, texts in self.transcripts.items()}
        return _with_words({**self.value, "content": [heard.get(number, part) for number, part in enumerate(parts)]})


@dataclass(slots=True)
class _Response:
    """A response from its first event to its last; `asked` is what the app gave for it alone."""

    asked: tuple[Message, ...] = ()
    stream: Stream = field(default_factory=Stream)
    is_ended: bool = False

    @property
    def id(self) -> str:
        return as_text(self.stream.response.get("id"))

    def output(self) -> list[dict[str, Any]]:
        """Its items so far."""
        return [_with_words(as_object(item)) for item in self.stream.items()]

    def read(self) -> Answer:
        """What it says so far."""
        answer = openai_responses.read_whole({**_as_response(self.stream.response), "output": self.output()})
        return replace(answer, is_terminal=self.is_ended, error=self.stream.error or answer.error)


class _Session:
    """What the messages read so far say."""

    def __init__(self) -> None:
        self.instructions = self.model = self.error = ""
        self.is_awaited = False
        """Whether the app asked for a response that has not begun."""
        self.is_readable = True
        self.turns: list[_Item | _Response] = []
        self._asked: tuple[Message, ...] = ()
        self._items: dict[str, _Item] = {}
        self._nameless: list[_Item] = []

    def responses(self) -> list[_Response]:
        return [turn for turn in self.turns if isinstance(turn, _Response)]

    def read(self, said: Said) -> None:
        """Takes in one message; audio and whatever is no JSON object says nothing here."""
        if said.kind == CLOSE:
            return
        try:
            body = as_object(parse(said.data))
        except ValueError:
            self.is_readable = self.is_readable and said.kind != TEXT
            return
        kind = as_text(body.get("type"))
        if said.side == CLIENT:
            self._read_client(kind, body)
        else:
            self._read_server(kind, body)

    def _read_client(self, kind: str, body: Mapping[str, Any]) -> None:
        if kind == "session.update":
            self.instructions = as_text(as_object(body.get("session")).get("instructions")) or self.instructions
        elif kind == "conversation.item.create":
            self._add(as_object(body.get("item")), is_from_client=True)
        elif kind == "response.create":
            given = body.get("response") if isinstance(body.get("response"), dict) else body
            self.is_awaited = True
            self._asked += self._without_known(openai_responses.asked(given))

    def _read_server(self, kind: str, body: Mapping[str, Any]) -> None:
        if kind in ("session.created", "session.updated"):
            self.model = as_text(as_object(body.get("session")).get("model")) or self.model
        elif kind in _ECHOES:
            self._echo(as_object(body.get("item")))
        elif kind.startswith(_TRANSCRIBED):
            self._hear(kind.rpartition(".")[2], body)
        elif kind == _DELETED:
            if (item := self._items.get(as_text(body.get("item_id")))) is not None:
                item.is_deleted = True
        elif kind == "error":
            self._read_error(body)
        elif kind.startswith("response."):
            self._respond(kind, body)

    def _read_error(self, body: Mapping[str, Any]) -> None:
        """Counts when it took the place of a response: the API also tells an app so of messages that it can do without."""
        responses = self.responses()
        if self.is_awaited or not responses or not responses[-1].is_ended:
            self.error = error_text(body.get("error")) or error_text(body)
        self.is_awaited = False

    def _respond(self, kind: str, body: Mapping[str, Any]) -> None:
        response = self._response(kind, body)
        name, _, step = kind.rpartition(".")
        if name in _SPOKEN:
            kind, body = f"{_SPOKEN[name]}.{step}", {**body, "text": body.get("text", body.get("transcript"))}
        response.stream.read(ENDINGS[0] if kind == _DONE else kind, body)
        if kind == _DONE or kind in ENDINGS:
            response.is_ended = True
            self.error = ""

    def _response(self, kind: str, body: Mapping[str, Any]) -> _Response:
        """The response that an event belongs to, by its id; else the last, which is the only one at work."""
        known = self.responses()
        id = as_text(body.get("response_id")) or as_text(as_object(body.get("response")).get("id"))
        for each in reversed(known):
            if id and each.id == id:
                return each
        if known and not known[-1].is_ended and (not id or not known[-1].id):
            return known[-1]
        found = _Response(self._asked)
        self._asked, self.is_awaited = (), False
        self.turns.append(found)
        if id:
            found.stream.response = {"id": id}
        return found

    def _echo(self, item: Mapping[str, Any]) -> None:
        """The server's word for an item; one that the app sent without an id gets it now, and keeps what the app said."""
        id = as_text(item.get("id"))
        known = self._items.get(id) or next((each for each in self._nameless if _is_same(each.value, item)), None)
        if known is None:
            self._add(item)
            return
        if known in self._nameless:
            self._nameless.remove(known)
            known.value["id"] = id
            self._items[id] = known
        elif not known.is_from_client:
            known.value = {**known.value, **item}

    def _add(self, item: Mapping[str, Any], *, is_from_client: bool = False) -> None:
        added = _Item(dict(item), is_from_client)
        self.turns.append(added)
        if id := as_text(item.get("id")):
            self._items[id] = added
        else:
            self._nameless.append(added)

    def _hear(self, step: str, body: Mapping[str, Any]) -> None:
        item = self._items.get(as_text(body.get("item_id")))
        if item is None:
            return
        heard = item.transcripts.setdefault(as_count(body.get("content_index")) or 0, [])
        if step == "delta":
            heard.append(as_text(body.get("delta")))
        elif step == "completed":
            heard[:] = [as_text(body.get("transcript"))]

    def _without_known(self, asked: tuple[Message, ...]) -> tuple[Message, ...]:
        """`asked` without references to responses that this transcript has."""
        known = {f"previous_response:{each.id}" for each in self.responses() if each.id}
        return tuple(message for message in asked if not (message.other_parts and known.issuperset(message.other_parts)))


def read_session(messages: Iterable[Said]) -> tuple[tuple[Message, ...], Answer]:
    """What was asked until the last response, and that response; a session without one has no answer and cost nothing."""
    session = _Session()
    for said in messages:
        session.read(said)
    responses = session.responses()
    answers = [response.read() for response in responses]
    asked = [Message("system", whole(session.instructions))] if session.instructions else []
    asked += _asked(session.turns, {id(response): answer for response, answer in zip(responses, answers, strict=True)})
    last = answers[-1] if answers else Answer(usage=Usage(0, 0, REPORTED))
    is_over = all(response.is_ended for response in responses) and not session.is_awaited
    return tuple(asked), replace(
        last,
        model=last.model or whole(session.model),
        usage=_total([answer.usage for answer in answers]) if answers else last.usage,
        is_terminal=is_over,
        error=last.error or session.error,
        is_readable=session.is_readable,
    )


def write_session(asked: Iterable[Message], answer: Message, model: str, finish_reason: str, usage: Usage) -> bytes:
    """A transcript that says the same in as few messages as it takes."""
    events: list[tuple[str, dict[str, Any]]] = [(SERVER, {"type": "session.created", "session": {"model": model}})]
    for message in asked:
        events += [(CLIENT, {"type": "conversation.item.create", "item": item}) for item in _items_of(message)]
    response = openai_responses.write_whole(answer, finish_reason, usage)
    events.append((SERVER, {"type": _DONE, "response": {"id": "resp", **response}}))
    return b"".join(write_message(side, True, compact(event).encode("utf-8", "replace"), 0) for side, event in events)


def _asked(turns: Iterable[_Item | _Response], answers: Mapping[int, Answer]) -> list[Message]:
    """The turns before the last response. What a response made is its own turn, whoever repeats it."""
    turns = list(turns)
    responses = [turn for turn in turns if isinstance(turn, _Response)]
    made = {as_text(item.get("id")) for response in responses for item in response.output()} - {""}
    asked: list[Message] = []
    run: list[Mapping[str, Any]] = []
    for turn in turns:
        if isinstance(turn, _Item):
            if not turn.is_deleted and as_text(turn.value.get("id")) not in made:
                run.append(turn.said())
            continue
        asked += [*openai_responses.asked({"input": run}), *turn.asked]
        run = []
        if turn is responses[-1]:
            return asked
        if (message := answers[id(turn)].message) is not None:
            asked.append(message)
    return [*asked, *openai_responses.asked({"input": run})]


def _items_of(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [{"type": "function_call_output", "call_id": message.tool_call_id, "output": message.text}]
    if message.role == "assistant":
        output: list[dict[str, Any]] = openai_responses.write_whole(message, "completed", NO_USAGE)["output"]
        return output
    return [{"type": "message", "role": message.role, "content": [{"type": "input_text", "text": message.text}]}]


def _total(usages: Iterable[Usage]) -> Usage:
    """The sum; missing where one of them is."""
    usages = list(usages)
    if any(usage.source != REPORTED for usage in usages):
        return NO_USAGE
    return usage_of(
        sum(usage.tokens_in or 0 for usage in usages),
        sum(usage.tokens_out or 0 for usage in usages),
        sum(usage.tokens_cached for usage in usages),
        sum(usage.tokens_cache_written for usage in usages),
        sum(usage.tokens_reasoning for usage in usages),
    )


def _as_response(response: Mapping[str, Any]) -> dict[str, Any]:
    """A response of the Realtime API with the names of the Responses API."""
    details, usage = as_object(response.get("status_details")), as_object(response.get("usage"))
    found = dict(response)
    if details:
        found["incomplete_details"] = {"reason": details.get("reason")}
        found["error"] = details.get("error")
    if usage:
        renamed = {f"{side}_tokens_details": usage.get(f"{side}_token_details") for side in ("input", "output")}
        found["usage"] = {**{key: value for key, value in renamed.items() if value}, **usage}
    return found


def _with_words(item: Mapping[str, Any]) -> dict[str, Any]:
    """`item` with audio as the words that it was heard or said as."""
    content = [_as_text(as_object(part)) for part in as_list(item.get("content"))]
    return {**item, "content": content} if content else dict(item)


def _as_text(part: dict[str, Any]) -> dict[str, Any]:
    is_heard = as_text(part.get("type")) in _AUDIO and part.get("transcript")
    return {"type": "output_text", "text": as_text(part.get("transcript"))} if is_heard else part


def _is_same(sent: Mapping[str, Any], echoed: Mapping[str, Any]) -> bool:
    return all(sent.get(key) == echoed.get(key) for key in ("type", "role", "call_id"))
