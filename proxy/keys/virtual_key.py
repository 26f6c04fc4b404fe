"""Virtual keys: `ps-<id>-<43 characters>`, known by their hash alone. Pure.

The hash is HMAC-SHA256 with a pepper that is not in the store; it is compared in constant time.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from proxy.credentials import ID_LETTERS, START
from proxy.keys.limits import NO_LIMITS, Limits

RELAY, READ, LABEL, ADMIN = "relay", "read", "label", "admin"
SCOPES = (RELAY, READ, LABEL, ADMIN)
"""What a key may do: relay, read the store, leave feedback, use the admin listener. Only relay and label are asked for yet."""

_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class VirtualKey:
    """A key as the store has it. Times are UTC microseconds, 0 for never; empty lists allow everything.

    `tasks`, `models` and `upstreams` are names with * for any text. After a rotation the key from before, whose hash is
    `previous_hash`, counts until `previous_until_us`.
    """

    id: str
    name: str
    hash: str
    scopes: tuple[str, ...] = (RELAY,)
    tasks: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    upstreams: tuple[str, ...] = ()
    limits: Limits = NO_LIMITS
    who: str = ""
    created_us: int = 0
    expires_us: int = 0
    revoked_us: int = 0
    previous_hash: str = ""
    previous_until_us: int = 0

    def state(self, now_us: int) -> str:
        """active, expired or revoked."""
        if self.revoked_us:
            return "revoked"
        return "expired" if self.expires_us and now_us >= self.expires_us else "active"


def new_key(id: str = "") -> tuple[str, str]:
    """A fresh key and its id; with the id given, another secret for it."""
    id = id or "".join(secrets.choice(_LETTERS) for _ in range(ID_LETTERS))
    return f"{START}{id}-{secrets.token_urlsafe(_SECRET_BYTES)}", id


def hash_key(pepper: bytes, key: str) -> str:
    """What the store keeps of `key`, in hex."""
    return hmac.digest(pepper, key.encode(), "sha256").hex()


def matches(pepper: bytes, key: str, known: VirtualKey, now_us: int) -> bool:
    """Whether `key` is `known`, or was until a rotation that is not long ago."""
    found = hash_key(pepper, key)
    is_same = hmac.compare_digest(found, known.hash)
    was_same = hmac.compare_digest(found, known.previous_hash)
    return is_same or (was_same and now_us < known.previous_until_us)


def allows(patterns: Iterable[str], name: str) -> bool:
    """Whether `name` is one of `patterns`; no pattern at all allows everything."""
    patterns = tuple(patterns)
    return not patterns or any(fnmatchcase(name, _plain(pattern)) for pattern in patterns)


def _plain(pattern: str) -> str:
    """`pattern` with * alone as its wildcard."""
    return pattern.replace("[", "[[]").replace("?", "[?]")
