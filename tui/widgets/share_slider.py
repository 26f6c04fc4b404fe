"""The share between baseline and candidate as a line of text: numbers first, the bar second."""

from __future__ import annotations

from tui.words import share

_MIN_BAR = 5


def slider(baseline: str, candidate: str, share_bp: int, width: int) -> str:
    """` baseline NAME 75% [======|===] 25% NAME`, in at most `width` cells; `share_bp` is the candidate's."""
    left, right = f" baseline {baseline} {share(10_000 - share_bp)} [", f"] {share(share_bp)} {candidate}"
    cells = max(width - len(left) - len(right) - 2, _MIN_BAR)
    at = round((10_000 - share_bp) * cells / 10_000)
    return f"{left}{'=' * at}|{'=' * (cells - at)}{right}"


def staged_line(share_bp: int, staged_bp: int, width: int) -> str:
    """What is staged, in words; where nothing is, how to stage."""
    if share_bp == staged_bp:
        return " h/l moves 1%, H/L 10%"
    return f" staged, not live yet: {share(share_bp)} -> {share(staged_bp)}   enter applies, esc drops"
