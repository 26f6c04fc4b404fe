"""What Review shows of a card and of the person's speed: pure functions."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.cells import cell_len

from capture.messages import Message, ToolCall
from capture.offered import Tool
from tui.screens.traffic_rows import said
from tui.text import ELLIPSIS, cut, one_line
from tui.words import count

if TYPE_CHECKING:
    from curate.reviewing.review import ReviewCard

_MAX_TARGETS = 9
_TARGET_CELLS = 40
_COVERED = 0.6
_SYSTEM_LINES = 2
_SYSTEM_CHARACTERS = 100
_ONE_PAIR = re.compile(r'\s*\{\s*"(?P<key>[^"\\]*)"\s*:\s*"(?P<value>[^"\\]+)"\s*\}\s*')
_WORTH_FOLDING = 60
_NAMES = 200
_SHORT_CALL, _LONGEST_PARSED = 60, 20_000
_MOST_SIDES = 20
_SOURCES = {"edit": "edited", "demonstration": "shown by a user", "relabel": "another teacher's", "import": "imported"}


def frequent_targets(targets: Iterable[str]) -> tuple[str, ...]:
    """The targets that digits pick, most frequent first.

    None unless at most nine short answers make up most of `targets`: only a task with closed answers has them.
    """
    counts = Counter(targets)
    short = [
        (target, n)
        for target, n in counts.most_common()
        if n > 1 and target and "\n" not in target and len(target) <= _TARGET_CELLS
    ]
    chosen = short[:_MAX_TARGETS]
    if not chosen or sum(n for _, n in chosen) < _COVERED * counts.total():
        return ()
    return tuple(sorted(target for target, _ in chosen))


def targets_lines(targets: Sequence[str], width: int, most: int) -> list[str]:
    """` [1] billing  [2] urgent`, in at most `most` lines of `width` cells; JSON objects of one key show their value."""
    lines = [""]
    for place, words in enumerate(_short(targets), 1):
        more = f" [{place}] {one_line(words, _TARGET_CELLS)} "
        if cell_len(lines[-1]) + cell_len(more) <= width:
            lines[-1] += more
        elif len(lines) < most:
            lines.append(more)
        else:
            lines[-1] = cut(lines[-1], width, is_longer=True)
            break
    return lines


def _short(targets: Sequence[str]) -> list[str]:
    pairs = [_ONE_PAIR.fullmatch(target) for target in targets]
    is_alike = all(pairs) and len({pair["key"] for pair in pairs if pair}) == 1
    return [pair["value"] for pair in pairs if pair] if is_alike else list(targets)


def progress_line(task: str, done: int, waiting: int, width: int) -> str:
    """` triage  [#####-----] 118 of 159`; the bar takes the room there is."""
    total = done + waiting
    left, right = f" {one_line(task, max(width // 3, 8))}  [", f"] {done:,} of {total:,}"
    cells = max(min(width - len(left) - len(right) - 1, 40), 4)
    filled = round(cells * done / total) if total else 0
    return f"{left}{'#' * filled}{'-' * (cells - filled)}{right}"


def speed_line(moments_us: Sequence[int], waiting: int) -> str:
    """How fast verdicts came since the first one of this session, and about how long the rest takes."""
    if len(moments_us) < 2 or moments_us[-1] <= moments_us[0]:
        return f" {waiting:,} left"
    per_minute = (len(moments_us) - 1) / ((moments_us[-1] - moments_us[0]) / 60_000_000)
    minutes = waiting / per_minute
    rest = f"about {minutes:.0f} min" if minutes >= 1 else "less than a minute"
    return f" {waiting:,} left, {rest}   {per_minute:.1f} examples/min"


def prompt_blocks(messages: Sequence[Message], tools: Sequence[Tool] = (), *, is_whole: bool) -> list[tuple[str, str]]:
    """Role and text of each message, then the tools on offer.

    A long system message is folded unless `is_whole`, and says by how much; of tools only the names are shown then.
    """
    blocks = [(message.role, _folded(message.text) if _is_folded(message, is_whole) else words(message)) for message in messages]
    if tools and is_whole:
        blocks += [("tool on", f"{tool.name}  {tool.description}\n{tool.parameters}".rstrip()) for tool in tools]
    elif tools:
        names = ", ".join(tool.name for tool in tools)
        blocks.append(("tools", names if len(names) <= _NAMES else f"{names[:_NAMES]}{ELLIPSIS} ({len(tools)}, [z] shows them)"))
    return blocks


def _is_folded(message: Message, is_whole: bool) -> bool:
    return message.role == "system" and not message.tool_calls and not is_whole


def words(message: Message) -> str:
    """What a message says; the arguments of a call one below the other when they are long."""
    said_text = said(replace(message, tool_calls=()))
    return "\n".join([said_text] * bool(said_text) + [call_words(call) for call in message.tool_calls])


def call_words(call: ToolCall) -> str:
    """A call as `-> name({...})`, or with an argument per line when that is long; what cannot be parsed stays as it is."""
    plain = f"-> {call.name}({call.arguments})"
    if not _SHORT_CALL < len(call.arguments) <= _LONGEST_PARSED:
        return plain
    try:
        pairs = json.loads(call.arguments, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return plain
    if not isinstance(pairs, _Pairs):
        return plain
    return "\n".join([f"-> {call.name}", *(f"   {name}: {_value(value)}" for name, value in pairs.each)])


class _Pairs:
    """An object as it was written: every name, also one that comes twice."""

    def __init__(self, each: list[tuple[str, object]]) -> None:
        self.each = each


def _value(value: object) -> str:
    if isinstance(value, _Pairs):
        return "{" + ", ".join(f"{json.dumps(name, ensure_ascii=False)}: {_value(each)}" for name, each in value.each) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False)


def output_blocks(card: ReviewCard) -> list[tuple[str, str]]:
    """The target, and the other answers to the same question with how many exchanges gave them."""
    target = words(card.answer)
    if not card.sides:
        return [("", target)]
    sides = [
        (f"also {count(side.count)}x", words(Message("assistant", side.target, side.calls))) for side in card.sides[:_MOST_SIDES]
    ]
    rest = len(card.sides) - len(sides)
    return [("target", target), *sides, *([("", f"and {rest:,} more answers")] if rest else [])]


def where_line(card: ReviewCard) -> str:
    """Whose target it is, where the last build put the example, how many exchanges it stands for, and its look-alikes."""
    parts = [f"target ({_SOURCES[card.target_source]})" if card.target_source in _SOURCES else "target"]
    parts.append(f"dropped by the last build: {card.reason}" if card.reason else f"in split {card.split}")
    if card.stands_for > 1:
        parts.append(f"stands for {card.stands_for:,}")
    if card.alike:
        parts.append(f"{card.alike:,} {'looks' if card.alike == 1 else 'look'} alike [b]")
    return ", ".join(parts)


def _folded(text: str) -> str:
    lines = text.split("\n")
    shown = "\n".join(lines[:_SYSTEM_LINES])[:_SYSTEM_CHARACTERS]
    hidden = len(text) - len(shown)
    return f"{shown}{ELLIPSIS} ({hidden:,} more characters, [z] shows them)" if hidden > _WORTH_FOLDING else text
