"""Which headers are kept: an allow-list, so that no credential can reach the store."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

_STORED = frozenset(
    (
        "accept",
        "content-type",
        "content-encoding",
        "content-length",
        "transfer-encoding",
        "user-agent",
        "date",
        "retry-after",
        "traceparent",
        "request-id",
        "x-request-id",
        "x-should-retry",
        "openai-beta",
        "openai-model",
        "openai-version",
        "openai-processing-ms",
        "anthropic-version",
        "anthropic-beta",
    )
)
_STORED_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-", "x-stainless-")
LONGEST_KEPT = 1_000


def for_store(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The headers that are kept, with lower-case names; of a repeated header the last."""
    return {name.lower(): value[:LONGEST_KEPT] for name, value in headers if is_kept(name)}


@lru_cache(1024)
def is_kept(name: str) -> bool:
    """Whether a header of this name may be kept."""
    name = name.lower()
    return name in _STORED or name.startswith(_STORED_PREFIXES)
