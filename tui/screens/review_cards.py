"""What Review shows of a card and of the person's speed: pure functions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from rich.cells import cell_len

from capture.messages import Message
from tui.screens.traffic_rows import said
from tui.text import ELLIPSIS, cut, one_line

_MAX_TARGETS = 9
_TARGET_CELLS = 40
_COVERED = 0.6
_SYSTEM_LINES = 2
_SYSTEM_CHARACTERS = 100
_ONE_PAIR = re.compile(r'\s*\{\s*"(?P<key>[^"\\]*)"\s*:\s*"(?P<value>[^"\\]+)"\s*\}\s*')
_WORTH_FOLDING = 60


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


def prompt_blocks(messages: Sequence[Message], *, is_whole: bool) -> list[tuple[str, str]]:
    """Role and text of each message; a long system message is folded unless `is_whole`, and says by how much."""
    return [
        (message.role, said(message) if is_whole or message.role != "system" else _folded(said(message))) for message in messages
    ]


def _folded(text: str) -> str:
    lines = text.split("\n")
    shown = "\n".join(lines[:_SYSTEM_LINES])[:_SYSTEM_CHARACTERS]
    hidden = len(text) - len(shown)
    return f"{shown}{ELLIPSIS} ({hidden:,} more characters, [z] shows them)" if hidden > _WORTH_FOLDING else text
