"""Takes secrets out of bodies before the store: keys and tokens with a form of their own, replaced by [redacted:kind]."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ahocorasick_rs import BytesAhoCorasick, MatchKind

_KEY = r"PRIVATE KEY(?: BLOCK)?-----"
_WORD = r"[A-Za-z0-9_-]"
# Kind, the words that each of its secrets starts with, and what follows them. Most bodies hold none of the words, and
# one look for all of them is a hundred times faster than looking for a pattern.
_KINDS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("private-key", ("-----BEGIN ",), rf"(?:[A-Z]+ )*{_KEY}.{{1,16384}}?-----END (?:[A-Z]+ )*{_KEY}"),
    ("anthropic-key", ("sk-ant-",), rf"{_WORD}{{16,}}"),
    ("openai-key", ("sk-",), rf"(?:proj-|svcacct-|admin-|or-v1-)?(?=[A-Za-z_-]*\d){_WORD}{{20,}}"),
    ("stripe-key", ("sk_live_", "sk_test_", "rk_live_", "rk_test_"), r"[A-Za-z0-9]{16,}"),
    ("github-token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"[A-Za-z0-9]{36,}"),
    ("github-token", ("github_pat_",), r"[A-Za-z0-9_]{22,}"),
    ("gitlab-token", ("glpat-",), rf"{_WORD}{{20,}}"),
    ("slack-token", ("xoxa-", "xoxb-", "xoxe-", "xoxo-", "xoxp-", "xoxr-", "xoxs-"), r"[A-Za-z0-9-]{10,}"),
    ("google-key", ("AIza",), rf"{_WORD}{{35}}"),
    ("aws-key", ("AKIA", "ASIA"), r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    ("huggingface-token", ("hf_",), r"[A-Za-z]{30,}"),
    ("jwt", ("eyJ",), rf"{_WORD}{{10,}}\.eyJ{_WORD}{{10,}}\.{_WORD}{{10,}}"),
    ("xai-key", ("xai-",), r"(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{20,}"),
    ("groq-key", ("gsk_",), r"[A-Za-z0-9]{20,}"),
    ("potstill-key", ("ps-",), rf"[0-9a-z]{{12}}-{_WORD}{{43}}"),
    ("bearer-token", ("Bearer ", "bearer "), r"(?=[A-Za-z_.+/=~-]*\d)[A-Za-z0-9_.+/=~-]{20,}"),
)


# Where a word begins: not after a character of a word, unless that one ends an escape (JSON's \n, \u000a, an address's %20).
_BEFORE = (
    r"(?<![A-Za-z0-9_]{start})",
    r"(?<=\\[bfnrt]{start})",
    r"(?<=\\u[0-9A-Fa-f]{{4}}{start})",
    r"(?<=%[0-9A-Fa-f]{{2}}{start})",
)


def _pattern(start: str, rest: str) -> re.Pattern[bytes]:
    """`start` at the beginning of a word, then `rest`. The literal comes first, so that the search can skip to it."""
    before = "|".join(form.format(start=start) for form in _BEFORE)
    return re.compile(f"{start}(?:{before}){rest}".encode(), re.DOTALL)


_STARTS = [
    (start.encode(), _pattern(start, rest), f"{start if kind == 'bearer-token' else ''}[redacted:{kind}]".encode())
    for kind, starts, rest in _KINDS
    for start in starts
]
# Leftmost matching lets the library look for all starts at once with vector instructions, twenty times faster than otherwise.
_any_start = BytesAhoCorasick([start for start, _, _ in _STARTS], matchkind=MatchKind.LeftmostFirst)


@dataclass(frozen=True, slots=True)
class Redacted:
    """`data` without its secrets, and how many were taken out; the very same bytes when there were none."""

    data: bytes
    count: int


def redact(data: bytes) -> Redacted:
    """Replaces every secret in `data` (UTF-8 or anything that holds ASCII as it is)."""
    if not _any_start.find_matches_as_indexes(data):
        return Redacted(data, 0)
    total = 0
    for start, pattern, mark in _STARTS:
        if start in data:
            data, count = pattern.subn(mark, data)
            total += count
    return Redacted(data, total)


def redact_text(text: str) -> tuple[str, int]:
    """`text` without its secrets, and how many were taken out."""
    found = redact(text.encode("utf-8", "replace"))
    return (found.data.decode("utf-8"), found.count) if found.count else (text, 0)
