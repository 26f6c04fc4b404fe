"""OpenAI embeddings: what was embedded. The vectors are no answer in words and stay in the stored body."""

from __future__ import annotations

import msgspec

from capture.answer import NO_USAGE, Answer, error_text, openai_usage, usage_of
from capture.loose_json import as_object, as_text, parse, whole
from capture.messages import Message, Usage
from capture.openai_chat import asked_texts


class _Body(msgspec.Struct):
    """Leaves out the vectors, which are nearly all of it."""

    data: msgspec.Raw
    model: str = ""
    usage: dict[str, object] | None = None
    error: None = None


_body = msgspec.json.Decoder(_Body)


def asked(request: object) -> tuple[Message, ...]:
    """The inputs, each as a turn of the user."""
    return asked_texts(as_object(request).get("input"))


def read_whole(body: bytes) -> Answer:
    """A response: terminal when it is a whole JSON object; ValueError when it is not JSON."""
    try:
        found = _body.decode(body)
        return Answer(model=found.model, usage=_usage(found.usage), is_terminal=True)
    except (ValueError, RecursionError):
        response = parse(body)
    is_terminal = isinstance(response, dict)
    response = as_object(response)
    error = error_text(response.get("error"))
    return Answer(None, whole(as_text(response.get("model"))), "", _usage(response.get("usage")), is_terminal, error)


def _usage(usage: object) -> Usage:
    """Embeddings have no output, which counts as 0 tokens and not as unknown."""
    found = openai_usage(as_object(usage))
    return NO_USAGE if found.tokens_in is None else usage_of(found.tokens_in, found.tokens_out or 0, found.tokens_cached)
