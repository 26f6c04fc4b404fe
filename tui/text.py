"""Captured text made fit for a screen: whatever was sent, it cannot move the cursor, hide words or become markup.

Control characters are shown as their pictures, marks that turn or hide text by their number, and every cut is marked.
The result is plain text for `rich.segment.Segment` or `textual.content.Content`; it is never parsed as markup.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from rich.cells import cell_len

ELLIPSIS = "…"
NEWLINE = "⏎"
MAX_SHOWN = 200_000
"""Characters of one text that a screen lays out; more is cut with a line that says how much."""

_DROPPED = frozenset("\u00ad\u200b\u200c\u200d\u2060\ufeff\ufe0e\ufe0f")
_JOINED = re.compile("[\U0001f3fb-\U0001f3ff\U0001f1e6-\U0001f1ff]")
_COMBINING_RUN = re.compile(
    r"([\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{2})[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)


@lru_cache(maxsize=4096)
def _shown(character: str) -> str:
    code = ord(character)
    if character in _DROPPED:
        return ""
    if character == "\t":
        return "    "
    if character in "\u2028\u2029\x0b\x0c\x85":
        return "\n"
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"
    if unicodedata.category(character) == "Zs":
        return " "
    return f"<{code:04x}>"


_STRANGE = re.compile(r"[^\x20-\x7e\n]")


def safe(text: str) -> str:
    """`text` with nothing in it that a terminal would obey; newlines stay."""
    text = text.replace("\r\n", "\n")
    if not text.isascii():
        text = _COMBINING_RUN.sub(r"\1", _JOINED.sub("", text))
    return _STRANGE.sub(_replace, text)


def _replace(match: re.Match[str]) -> str:
    character = match.group()
    if character.isprintable() and character not in _DROPPED:
        return character
    return _shown(character)


def one_line(text: str, cells: int) -> str:
    """`text` on one line of at most `cells` cells; line ends are shown, a cut is marked with an ellipsis."""
    if cells <= 0:
        return ""
    head = safe(text[: cells * 4 + 8]).strip().replace("\n", NEWLINE)
    return cut(head, cells, is_longer=len(text) > cells * 4 + 8)


def cut(line: str, cells: int, is_longer: bool = False) -> str:
    """Safe `line` in at most `cells` cells, with an ellipsis where something is missing."""
    if not is_longer and cell_len(line) <= cells:
        return line
    return _prefix(line, cells - 1) + ELLIPSIS


def fit(line: str, cells: int, ends: str = "") -> str:
    """Safe `line` in exactly `cells` cells: filled up with blanks, or cut, with `ends` instead of an ellipsis if given."""
    if cells <= 0:
        return ""
    if cell_len(line) > cells:
        line = _prefix(line, cells - 1) + (ends or ELLIPSIS)
    return line + " " * (cells - cell_len(line))


def pad(text: str, cells: int, is_right: bool = False) -> str:
    """`text` on one line in exactly `cells` cells, blanks on the right, or on the left with `is_right`."""
    line = one_line(text, cells)
    blanks = " " * (cells - cell_len(line))
    return blanks + line if is_right else line + blanks


def wrap(text: str, cells: int, max_lines: int = 0) -> list[str]:
    """`text` as lines of at most `cells` cells, broken at blanks where there are any.

    With `max_lines`, the rest is dropped and the last line says so. Text beyond MAX_SHOWN characters is never laid out.
    """
    cells = max(cells, 2)
    limit = min(MAX_SHOWN, (max_lines + 1) * cells * 2) if max_lines else MAX_SHOWN
    lines: list[str] = []
    for line in safe(text[:limit]).split("\n"):
        lines.extend(_broken(line, cells))
        if max_lines and len(lines) > max_lines:
            break
    hidden = len(text) - limit
    if max_lines and (len(lines) > max_lines or hidden > 0):
        lines = lines[:max_lines]
        lines[-1] = cut(lines[-1], cells, is_longer=True)
    elif hidden > 0:
        lines.append(cut(f"{ELLIPSIS} {hidden:,} more characters", cells))
    return lines


def _broken(line: str, cells: int) -> list[str]:
    lines = []
    while len(line) > cells or cell_len(line) > cells:
        head = line[:cells] if line[:cells].isascii() else _prefix(line, cells)
        at_blank = len(head) if line[len(head) : len(head) + 1] == " " else head.rfind(" ")
        if at_blank > len(head) // 2:
            head = line[:at_blank]
        head = head or line[:1]
        lines.append(head)
        line = line[len(head) :].lstrip(" ")
    lines.append(line)
    return lines


def _prefix(line: str, cells: int) -> str:
    kept = line[:cells]
    while kept and cell_len(kept) > cells:
        kept = kept[: max(len(kept) - max(1, (cell_len(kept) - cells) // 2), 0)]
    return kept


def encodable(text: str) -> str:
    """`text` as it is, with lone surrogates replaced so that it can be written as UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")
