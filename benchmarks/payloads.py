"""Requests and answers of the size and shape that an app and OpenAI exchange. Every answer has an id of its own."""

from __future__ import annotations

import json
from itertools import cycle, islice

BURST_EVENTS = 100
PATH = "/v1/chat/completions"
TASK = "bench"
_TEXT = (
    "the parcel was sent on Monday and the tracking page shows it in the depot near your town please allow two more working days "
    "for the delivery and write to us again with the order number if it has not come by then so that we can send another one"
)
_WORDS = _TEXT.split()
NO_ID = b"000000000000"
"""Stands for the number of a request or an answer in its template."""
_FRAME = {
    "id": "chatcmpl-bench" + NO_ID.decode(),
    "created": 1_760_000_000,
    "model": "gpt-4o-mini-2024-07-18",
    "service_tier": "default",
    "system_fingerprint": "fp_0123456789",
}


def prose(start: int, characters: int) -> str:
    """About `characters` of plain text, different for most values of `start`."""
    words = islice(cycle(_WORDS), start % len(_WORDS), None)
    text = f"{start:06d}"
    while len(text) < characters:
        text += " " + next(words)
    return text


def request_body(number: int, *, is_stream: bool, characters: int = 720) -> bytes:
    """A chat request of about 0.9 KB when `characters` is left as it is; no two numbers give the same."""
    system = "You answer customers of a web shop in a few short sentences."
    messages = [{"role": "system", "content": system}, {"role": "user", "content": prose(number, characters - len(system))}]
    body: dict[str, object] = {"model": "gpt-4o-mini", "messages": messages, "temperature": 0, "max_tokens": 200}
    return json.dumps(body | ({"stream": True} if is_stream else {})).encode()


def answer_template(characters: int = 700) -> bytes:
    """A whole answer of about 1.2 KB when `characters` is left as it is; `numbered` gives it its id."""
    message: dict[str, object] = {"role": "assistant", "content": prose(0, characters), "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    details = {"prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}}
    usage = {"prompt_tokens": 170, "completion_tokens": 150, "total_tokens": 320, **details}
    return json.dumps(_FRAME | {"object": "chat.completion", "choices": [choice], "usage": usage}).encode()


def event_templates(count: int) -> list[bytes]:
    """A streamed answer as `count` events of about 0.3 KB, the last with [DONE] behind it; `numbered` gives them their id."""
    words = list(islice(cycle(_WORDS), count - 2))
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": f" {word}"}, None) for word in words]
    deltas.append(({}, "stop"))
    events = []
    for delta, finish in deltas:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk = _FRAME | {"object": "chat.completion.chunk", "choices": [choice], "usage": None}
        events.append(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    events[-1] += b"data: [DONE]\n\n"
    return events


def numbered(template: bytes, number: int) -> bytes:
    """`template` with the id of answer `number`; as long as before."""
    return template.replace(NO_ID, b"%012d" % number)


def chunk(data: bytes) -> bytes:
    """`data` as one piece of a chunked HTTP body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
