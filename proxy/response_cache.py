"""Answers that are given again to the very same request: exact, in memory, for tasks that ask for it, off by default.

Nothing is shared between credentials, and only whole answers with a 2xx status are kept: a stream must have said by itself
that it is over. What a client gets again is byte for byte the body that the first one got.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from capture import clock
from proxy.headers import CREDENTIALS, Passed
from proxy.keys.settings import CacheSettings
from proxy.keys.virtual_key import allows
from proxy.reading import Asked
from proxy.route import RAW

_FRESH = re.compile(r"(?i)(?:\A|[,\s])no-(?:cache|store)(?:\Z|[,\s=;])")
_OFF = ("false", "0", "no")
_HELICONE = "helicone-cache-enabled"
_TOLD = ("accept", "accept-encoding", "content-type", "content-encoding", "openai-organization", "openai-project", "openai-beta")
_TOLD_PREFIX = "anthropic-"
_OVERHEAD = 1_000
_LAST_EVENT = re.compile(rb"(?:\A|[\r\n])event:[ ]?([a-z_.]+)")
_LAST_EVENTS = (b"message_stop", b"response.completed")
_DONE = re.compile(rb"(?:\A|[\r\n])data:[ ]?\[DONE\]\s*\Z")


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """A whole answer: its headers as a client gets them and as they are stored, and who gave it."""

    status: int
    reason: str
    passed: Passed
    upstream: str
    model: str
    body: bytes


class ResponseCache:
    """The answers of one relay worker. At most `max_mib` of them: what was not asked for the longest time goes first."""

    def __init__(self, settings: CacheSettings) -> None:
        self.settings = settings
        self.hits = 0
        self.held = 0
        """Bytes that the answers take."""
        self._most = settings.max_mib * 2**20
        self._largest = min(settings.max_entry_kib * 1024, self._most)
        self._kept: OrderedDict[bytes, tuple[int, KeptAnswer]] = OrderedDict()

    def place_of(self, asked: Asked, key_id: str) -> bytes | None:
        """Where the answer to `asked` is kept, made with virtual key `key_id`; None when it is neither kept nor given again."""
        route = asked.route
        if route is None or route.protocol == RAW or asked.method != "POST" or not self.settings.tasks:
            return None
        if not allows(self.settings.tasks, asked.identity.task) or _wants_fresh(asked.headers):
            return None
        told = [
            f"{name}: {value}"
            for name, value in sorted((name.lower(), value) for name, value in asked.headers.items())
            if name in _TOLD or name.startswith(_TOLD_PREFIX) or (name in CREDENTIALS and not key_id)
        ]
        parts = (key_id, asked.identity.task, asked.method, route.upstream.name, route.url, *told)
        digest = sha256()
        for part in parts:
            data = part.encode("utf-8", "surrogateescape")
            digest.update(len(data).to_bytes(8, "big") + data)
        digest.update(asked.body)
        return digest.digest()

    def look(self, asked: Asked, key_id: str) -> KeptAnswer | Collector | None:
        """The answer to `asked`, else what gathers it; None when it is neither kept nor given again."""
        place = self.place_of(asked, key_id)
        if place is None:
            return None
        return self.find(place) or Collector(self, place, self._largest)

    def find(self, place: bytes) -> KeptAnswer | None:
        """The answer that is kept there and not too old."""
        found = self._kept.get(place)
        if found is None:
            return None
        if clock.monotonic_ns() >= found[0]:
            self._drop(place)
            return None
        self._kept.move_to_end(place)
        self.hits += 1
        return found[1]

    def keep(self, place: bytes, answer: KeptAnswer) -> None:
        """Keeps a whole answer for `ttl_s`, and lets older ones go for it."""
        size = len(answer.body) + _OVERHEAD
        if len(answer.body) > self._largest or size > self._most or not _is_whole(answer):
            return
        self._drop(place)
        self._kept[place] = (clock.monotonic_ns() + int(self.settings.ttl_s * 1e9), answer)
        self.held += size
        while self.held > self._most:
            self._drop(next(iter(self._kept)))

    def _drop(self, place: bytes) -> None:
        found = self._kept.pop(place, None)
        if found is not None:
            self.held -= len(found[1].body) + _OVERHEAD


class Collector:
    """Gathers an answer on its way to a client, up to the largest that is kept."""

    def __init__(self, cache: ResponseCache, place: bytes, largest: int) -> None:
        self._cache, self._place, self._room = cache, place, largest
        self._pieces: list[bytes] = []

    def add(self, data: bytes) -> None:
        """The next bytes of the body."""
        self._room -= len(data)
        if self._room >= 0:
            self._pieces.append(data)
        else:
            self._pieces.clear()

    def finish(self, status: int, reason: str, passed: Passed, upstream: str, model: str) -> None:
        """The answer reached its end: it is kept if it may be."""
        if self._room >= 0 and 200 <= status < 300:
            body = b"".join(self._pieces)
            self._cache.keep(self._place, KeptAnswer(status, reason, passed, upstream, model, body))


def _wants_fresh(headers: Mapping[str, str]) -> bool:
    """Whether a client wants an answer of its own."""
    control = headers.get("cache-control")
    if control is not None and _FRESH.search(control):
        return True
    wish = headers.get(_HELICONE)
    return wish is not None and wish.strip().lower() in _OFF


def _is_whole(answer: KeptAnswer) -> bool:
    """Whether an answer whose bytes all came is one to give again; a stream that nobody can read is not."""
    if not answer.passed.is_stream:
        return bool(answer.body)
    if answer.passed.is_encoded:
        return False
    if _DONE.search(answer.body[-256:]):
        return True
    events = _LAST_EVENT.findall(answer.body)
    return bool(events) and events[-1] in _LAST_EVENTS and answer.body.endswith((b"\n\n", b"\r\n\r\n"))
