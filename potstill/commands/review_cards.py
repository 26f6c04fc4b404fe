"""A review card as text for people, for the commands of `potstill review`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from capture.messages import Message, ToolCall
from capture.offered import Tool
from potstill.output import Output, counted, one_line

if TYPE_CHECKING:
    from curate.reviewing.review import ReviewCard

_SIDES = 10
_WIDTH = 140


def show_card(card: ReviewCard, output: Output) -> None:
    """The card with its prompt, tools and target; what speaks for a look; other answers to the same question."""
    output.heading(f"{card.exchange_id}   {card.split or card.reason}   {card.note}".rstrip())
    show_prompt(card.messages, card.tools, output)
    source = "" if card.target_source == "answer" else f" ({card.target_source})"
    for line in said_lines(f"target{source}", Message("assistant", card.target, card.calls)):
        output.say(line)
    for side in card.sides[:_SIDES]:
        output.say(f"also answered, {counted(side.count, 'exchange')}: {one_line_of(side.target, side.calls)}")
    if len(card.sides) > _SIDES:
        output.say(f"and {counted(len(card.sides) - _SIDES, 'more answer')}")
    if card.stands_for > 1:
        output.say(f"stands for {counted(card.stands_for, 'exchange')}")
    if card.alike:
        output.say(f"{counted(card.alike, 'look-alike')}: potstill review bulk accept {card.task} {card.exchange_id}")


def show_prompt(messages: Iterable[Message], tools: Sequence[Tool], output: Output) -> None:
    """The messages, each with its role, and the names of the tools on offer."""
    for message in messages:
        name = f"{message.role} (answers {message.tool_call_id})" if message.tool_call_id else message.role
        for line in said_lines(name, message):
            output.say(line)
    if tools:
        output.say(f"tools: {', '.join(tool.name for tool in tools)}")


def said_lines(name: str, message: Message) -> list[str]:
    """What `message` says after `name`, and each of its calls on a line of its own."""
    lines = [f"{name}: {message.text}"] if message.text or not message.tool_calls else [f"{name}:"]
    return [*lines, *(f"  -> {call.name}({call.arguments})" for call in message.tool_calls)]


def one_line_of(text: str, calls: Sequence[ToolCall]) -> str:
    """A target on one line."""
    said = [text] * bool(text) + [f"-> {call.name}({call.arguments})" for call in calls]
    return one_line("  ".join(said), _WIDTH)
