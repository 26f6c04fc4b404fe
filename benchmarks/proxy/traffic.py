"""The requests of every scenario, as they go over the wire; all contestants get the same."""

from __future__ import annotations

import json
from collections.abc import Mapping

from benchmarks.payloads import BURST_EVENTS, NO_ID, PATH, TASK, prose

JSON, MANY, BURST, PACED, BIG, TLS = "json", "many", "burst", "paced", "big", "tls"
SLOW, BODY = "slow", "body"
STREAMED = (BURST, PACED, SLOW)
EVENTS: Mapping[str, int] = {BURST: BURST_EVENTS, PACED: 50, SLOW: 50}
"""Events of a streamed answer; the last carries [DONE] behind it."""
PACE_S: Mapping[str, float] = {PACED: 0.005, SLOW: 0.02}
"""Seconds between two events."""
FIRST_S = 0.02
"""Seconds until the first event of a paced answer."""
_USERS, _MANY_USERS = 300, 5_000
_BIG_TURNS, _BIG_CHARACTERS = 220, 420
_USUAL_CHARACTERS = 640


def users_of(scenario: str) -> int:
    """How many users there are, whose requests differ in a header. Potstill knows the heads of some hundred requests again."""
    return _MANY_USERS if scenario == MANY else _USERS


def model_of(scenario: str) -> str:
    """The model that is asked for; LiteLLM, and Potstill for TLS, choose the upstream by it."""
    return f"bench-{scenario}"


def key_of(scenario: str) -> str:
    """The client's key, by which the upstream knows what to answer."""
    return f"sk-bench-{scenario}"


def body_template(scenario: str) -> bytes:
    """A body of 0.9 KB, or 100 KB when it is big, with a place for the number that makes it unlike any other."""
    system = "You answer customers of a web shop in a few short sentences."
    messages = [{"role": "system", "content": system}]
    if scenario == BIG:
        roles = ("user", "assistant")
        messages += [{"role": roles[turn % 2], "content": prose(turn, _BIG_CHARACTERS)} for turn in range(_BIG_TURNS)]
    messages.append({"role": "user", "content": f"{NO_ID.decode()} {prose(0, _USUAL_CHARACTERS)}"})
    body: dict[str, object] = {"model": model_of(scenario), "messages": messages, "temperature": 0, "max_tokens": 200}
    if scenario in STREAMED:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(body).encode()


def headers(scenario: str, user: int) -> dict[str, str]:
    """The headers of OpenAI's SDK, and a task and a user for Potstill; neither Host nor length.

    Without Accept-Encoding, as LiteLLM would compress its answers, which costs it time.
    """
    return {
        "Connection": "keep-alive",
        "Accept": "application/json",
        "Content-Type": "application/json",
        "User-Agent": "OpenAI/Python 2.0.0",
        "X-Stainless-Lang": "python",
        "X-Stainless-Package-Version": "2.0.0",
        "X-Stainless-OS": "Linux",
        "X-Stainless-Arch": "x64",
        "X-Stainless-Runtime": "CPython",
        "X-Stainless-Runtime-Version": "3.11",
        "x-stainless-retry-count": "0",
        "x-stainless-read-timeout": "600",
        "Authorization": f"Bearer {key_of(scenario)}",
        "x-potstill-task": TASK,
        "x-potstill-user": f"user_{user % users_of(scenario):04d}",
    }


def head(port: int, scenario: str, user: int, extra: Mapping[str, str], length: int) -> bytes:
    """Request line and headers up to the body; `extra` are headers that the contestant needs."""
    found = {"Host": f"127.0.0.1:{port}", **headers(scenario, user), **extra, "Content-Length": str(length)}
    return (f"POST {PATH} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in found.items()) + "\r\n").encode()


def request(port: int, scenario: str, number: int, extra: Mapping[str, str]) -> bytes:
    """A whole request; no two numbers give the same."""
    body = body_template(scenario).replace(NO_ID, b"%012d" % number)
    return head(port, scenario, number, extra, len(body)) + body


def is_whole_answer(scenario: str, body: bytes) -> bool:
    """True for the upstream's answer when all of it is there; some contestants leave out one or two events."""
    if scenario in STREAMED:
        return body.count(b"data: {") >= EVENTS[scenario] - 3 and b"data: [DONE]" in body[-64:]
    return b"chat.completion" in body
