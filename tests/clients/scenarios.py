"""What every client does, and what must then be true: of what its app got, and of what the store keeps.

The programs in `programs/` work through the scenarios and tell what they got; one run of a program serves all its tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from capture.exchange import CLIENT_CLOSED, COMPLETE, Exchange
from tests.clients.house import House

QUESTION = "Grüße aus 東京 👩‍🚀 today"
ECHO = f"You wrote: {QUESTION}"
TOOL_ECHO = "The tool says: 4 degrees"
PLACE = {"city": "東京", "people": 1}
"""What the scripted provider makes of the question for a schema with a city and a number."""


@dataclass(frozen=True, slots=True)
class Client:
    """A library as one kind of app uses it: the path it must end up at and the protocol we must know it by.

    `is_typed` says that its answers are values of a schema; `shows_retry_after` that its errors show the response's headers.
    """

    name: str
    program: str
    path: str = "/v1/chat/completions"
    protocol: str = "openai"
    is_typed: bool = False
    shows_retry_after: bool = True


Told = Mapping[str, Any]


def chat(client: Client, told: Told, house: House) -> None:
    """A whole answer arrives, and is stored as one."""
    exchange = _stored(client, "chat", house)
    assert told["text"] == ECHO
    assert (exchange.status, exchange.state, exchange.is_stream) == (200, COMPLETE, False)
    assert exchange.output_text == ECHO
    assert told["tokens"] == _tokens(exchange)
    (head,) = house.arrived_of(f"{client.name}/chat")
    assert not [name for name, _ in head.headers if name.startswith("x-potstill")], "our headers stay with us"
    assert "sk-" in head.header("authorization") + head.header("x-api-key"), "the app's key passes through"


def stream(client: Client, told: Told, house: House) -> None:
    """A stream arrives piece by piece, and is stored as the answer that it was."""
    exchange = _stored(client, "stream", house)
    assert told["pieces"] > 4
    assert (exchange.status, exchange.state, exchange.is_stream) == (200, COMPLETE, True)
    if client.is_typed:
        assert told["found"] == PLACE
        return
    assert told["text"] == exchange.output_text == ECHO
    assert "tokens" not in told or told["tokens"] == _tokens(exchange)


def tools(client: Client, told: Told, house: House) -> None:
    """A tool is called as the model asks, and its result goes back: two exchanges, both stored."""
    if client.is_typed:
        assert told["found"] == PLACE
        assert _stored(client, "tools", house).finish_reason == "tool_calls"
        return
    called, answered = house.stored(_filter(client, "tools"), count=2)
    assert told["called"] == ["get_weather", {"city": "Oslo"}]
    assert told["text"] == answered.output_text == TOOL_ECHO
    assert called.state == answered.state == COMPLETE


def error(client: Client, told: Told, house: House) -> None:
    """A provider's 429 is the library's own error, with retry-after, and stored with its status; nothing was tried again."""
    exchange = _stored(client, "error", house)
    assert told["status"] == exchange.status == 429
    assert "429" in told["message"] or "Rate limit" in told["message"]
    assert not client.shows_retry_after or told["retry_after"] == "7"
    assert exchange.state == COMPLETE and exchange.error_message


def refusal(client: Client, told: Told, house: House) -> None:
    """A refusal of ours is the library's own error too, tells why, and never reached the provider."""
    assert told["status"] == 400
    assert "a task name has" in told["message"]
    assert not house.arrived_of(f"{client.name}/refusal")


def cancel(client: Client, told: Told, house: House) -> None:
    """Who leaves a stream ends it for the provider too; what had come is stored as an answer that was left."""
    exchange = _stored(client, "cancel", house)
    assert (exchange.status, exchange.state, exchange.is_stream) == (200, CLIENT_CLOSED, True)
    assert told["text"] and exchange.output_text.startswith(told["text"])


SCENARIOS: tuple[Callable[[Client, Told, House], None], ...] = (chat, stream, tools, error, refusal, cancel)


def _filter(client: Client, scenario: str) -> str:
    return f"task:{client.name} tag.scenario:{scenario}"


def _stored(client: Client, scenario: str, house: House) -> Exchange:
    """The one exchange of a scenario, after a look at what is true of all."""
    (exchange,) = house.stored(_filter(client, scenario))
    assert (exchange.path, exchange.protocol) == (client.path, client.protocol)
    assert exchange.session_name == exchange.unit == f"{client.name} {scenario}"
    assert exchange.upstream == ("responses" if client.path == "/v1/responses" else client.protocol)
    return exchange


def _tokens(exchange: Exchange) -> int:
    return (exchange.tokens_in or 0) + (exchange.tokens_out or 0)
