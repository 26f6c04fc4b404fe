"""Takes secrets out of bodies before the store: keys and tokens with a form of their own, replaced by [redacted:kind]."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PATTERNS: tuple[tuple[str, str], ...] = (
    (
        "private-key",
        r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----.{1,16384}?-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----",
    ),
    ("anthropic-key", r"\bsk-ant-[A-Za-z0-9_-]{16,}"),
    ("openai-key", r"\bsk-(?:proj-|svcacct-|admin-|or-v1-)?(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{20,}"),
    ("stripe-key", r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    ("github-token", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})"),
    ("gitlab-token", r"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("slack-token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    ("google-key", r"\bAIza[A-Za-z0-9_-]{35}"),
    ("aws-key", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    ("huggingface-token", r"\bhf_[A-Za-z]{30,}"),
    ("jwt", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    ("bearer-token", r"(?<=\bBearer )(?=[A-Za-z_.+/=~-]*\d)[A-Za-z0-9_.+/=~-]{20,}"),
)
_ALL = re.compile("|".join(f"(?P<k{number}>{pattern})" for number, (_, pattern) in enumerate(_PATTERNS)).encode(), re.DOTALL)


@dataclass(frozen=True, slots=True)
class Redacted:
    """`data` without its secrets, and how many were taken out; the very same bytes when there were none."""

    data: bytes
    count: int


def redact(data: bytes) -> Redacted:
    """Replaces every secret in `data` (UTF-8 or anything that holds ASCII as it is)."""
    clean, count = _ALL.subn(_mark, data)
    return Redacted(clean, count) if count else Redacted(data, 0)


def redact_text(text: str) -> tuple[str, int]:
    """`text` without its secrets, and how many were taken out."""
    found = redact(text.encode("utf-8", "replace"))
    return (found.data.decode("utf-8"), found.count) if found.count else (text, 0)


def _mark(match: re.Match[bytes]) -> bytes:
    kind = _PATTERNS[int((match.lastgroup or "k0")[1:])][0]
    return f"[redacted:{kind}]".encode()
